"""Contention models on their own, what steps demand, the section of scenario files, and MuxServe's runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_models.catalogue.architectures import find_architecture
from latency_models.catalogue.gpus import find_gpu
from latency_models.catalogue.model_work import ModelWork
from latency_models.errors import InputError, RouterwiseError
from latency_models.laws.corrected import CorrectedStepTime
from latency_models.laws.linear import LinearStepTime
from latency_models.laws.roofline import RooflineStepTime
from latency_models.laws.steps import StepsStepTime
from latency_models.step_work import step_work_of
from scenarios.contention_section import contention_notes
from scenarios.measurements.colocation import RESULTS, comparison, read_results, window_of
from scenarios.scenario_files import load_scenario
from sim.cluster_spec import ReplicaSpec
from sim.request import Request
from sim.settings import EngineSettings
from sim.sharing.contention import (
    CONTENTION_MODELS,
    BandwidthContention,
    CappedContention,
    Demand,
    checked_slowdowns,
    contention_model,
)
from sim.sharing.step_demand import StepDemands
from sim.vllm.step import Step
from sim.workload import RequestSpec

DECODE = Demand(sms=1.0, compute=0.0, memory=0.9, bandwidth=0.7)
PREFILL = Demand(sms=1.0, compute=0.7, memory=0.2, bandwidth=0.7)
A100 = find_gpu("a100-80gb")
LLAMA = StepsStepTime(architecture=find_architecture("llama-7b"), gpu=A100)
ROOFLINE = RooflineStepTime(gpu=A100, work=ModelWork.of(find_architecture("llama-7b")))

shares = st.floats(0.0, 1.0)


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    compute = draw(shares)
    return Demand(draw(st.floats(0.1, 1.0)), compute, draw(st.floats(0.0, 1.0 - compute)), draw(shares))


# ---------------------------------------------------------------------- the models


def test_caps_share_the_multiprocessors_in_proportion():
    assert CappedContention().slowdowns([DECODE, PREFILL]) == [2.0, 2.0]
    halves = [DECODE._replace(sms=0.5)] * 2
    assert CappedContention().slowdowns(halves) == [1.0, 1.0]
    assert CappedContention().slowdowns([*halves, DECODE._replace(sms=0.25)]) == [1.25] * 3


def test_bandwidth_of_steps_that_always_wait_for_memory_is_shared():
    """Two that always draw all of it take twice as long; with half of it each, nobody notices."""
    model = BandwidthContention(reach=0.8)
    greedy = Demand(sms=0.5, compute=0.0, memory=1.0, bandwidth=0.8)
    assert model.slowdowns([greedy] * 2) == pytest.approx([2.0, 2.0])
    assert model.slowdowns([greedy] * 3) == pytest.approx([3.0] * 3)
    assert model.slowdowns([greedy._replace(bandwidth=0.4)] * 2) == [1.0, 1.0]


def test_multiprocessors_of_steps_that_always_compute_are_shared():
    busy = Demand(sms=0.8, compute=1.0, memory=0.0, bandwidth=0.7)
    assert BandwidthContention().slowdowns([busy] * 2) == pytest.approx([1.6, 1.6])


def test_prefill_and_decode_disturb_each_other_less_than_their_like():
    model = BandwidthContention()
    both = model.slowdowns([DECODE, PREFILL])
    assert both[0] < model.slowdowns([DECODE, DECODE])[0]
    assert both[1] < model.slowdowns([PREFILL, PREFILL])[0]


def test_steps_that_wait_for_the_host_are_slowed_down_little():
    small = DECODE._replace(memory=0.2)
    assert 1.0 < BandwidthContention().slowdowns([small] * 2)[0] < 1.03


def test_two_that_collide_now_and_then():
    """Each is bound by memory for half its time alone; a collision doubles that time: worked out by hand."""
    half = Demand(sms=0.1, compute=0.0, memory=0.5, bandwidth=1.0)
    slowdown = BandwidthContention(reach=1.0).slowdowns([half, half])[0]
    # s = 1 + p / 2 with p, the neighbour's part of time in memory, = (1 + p) / 2 / s; so p^2 + p - 1 = 0.
    assert slowdown == pytest.approx(1 + (np.sqrt(5) - 1) / 4, rel=1e-6)


def test_a_mean_of_ones_that_rounds_below_one_speeds_nobody_up():
    memory = [0.0, 1.0, 0.609375, 0.33092784617080917, 0.5]
    bandwidth = [1.0, 1.0, 0.0, 0.0, 0.0]
    tenants = [Demand(sms=1.0, compute=0.0, memory=m, bandwidth=b) for m, b in zip(memory, bandwidth, strict=True)]
    assert min(checked_slowdowns(BandwidthContention(), tenants)) == 1.0


@given(st.lists(demands(), min_size=1, max_size=5))
def test_nobody_gains_and_no_more_is_given_out_than_there_is(tenants):
    for model in (CappedContention(), BandwidthContention()):
        slowdowns = checked_slowdowns(model, tenants)
        assert all(slowdown >= 1.0 for slowdown in slowdowns)
    busy = sum(tenant.compute * tenant.sms / slowdown for tenant, slowdown in zip(tenants, slowdowns, strict=True))
    drawn = sum(
        tenant.memory * tenant.bandwidth / slowdown for tenant, slowdown in zip(tenants, slowdowns, strict=True)
    )
    assert busy <= 1.005
    assert drawn <= max(BandwidthContention().reach, *(tenant.bandwidth for tenant in tenants)) + 0.005


def bound_by_memory(demand: Demand) -> Demand:
    return demand._replace(compute=0.0)


@given(st.lists(demands().map(bound_by_memory), min_size=1, max_size=4), demands().map(bound_by_memory))
def test_one_neighbour_more_makes_nobody_faster(tenants, newcomer):
    """Among those that want the same; one who keeps others from computing leaves more bandwidth to the rest."""
    for model in (CappedContention(), BandwidthContention()):
        before = model.slowdowns(tenants)
        after = model.slowdowns([*tenants, newcomer])[:-1]
        assert all(later >= earlier - 5e-3 for earlier, later in zip(before, after, strict=True))


@given(demands())
def test_a_tenant_alone_is_not_slowed_down(tenant):
    for model in (CappedContention(), BandwidthContention()):
        assert model.slowdowns([tenant]) == [1.0]


def test_the_order_of_tenants_does_not_matter():
    tenants = [DECODE, PREFILL, DECODE._replace(memory=0.4)]
    slowdowns = BandwidthContention().slowdowns(tenants)
    assert BandwidthContention().slowdowns(tenants[::-1]) == pytest.approx(slowdowns[::-1], rel=1e-6)


def test_many_tenants_are_no_trouble():
    tenants = [DECODE._replace(memory=0.3 + 0.02 * number, bandwidth=0.3 + 0.013 * number) for number in range(16)]
    assert all(2.0 < slowdown < 16.0 for slowdown in BandwidthContention().slowdowns(tenants))


class TooFast:
    def slowdowns(self, tenants):
        return [0.5] * len(tenants)


class Forgetful:
    def slowdowns(self, tenants):
        return [1.0]


@pytest.mark.parametrize("model", [TooFast(), Forgetful()])
def test_a_third_party_model_that_breaks_the_rules_is_named(model):
    with pytest.raises(RouterwiseError, match=f"{type(model).__name__} gives .* for 2 tenants"):
        checked_slowdowns(model, [DECODE, DECODE])


# ---------------------------------------------------------------------- names and options


@pytest.mark.parametrize("reach", [0.0, -1.0, 1.2, float("nan"), float("inf"), True, "most"])
def test_a_reach_that_is_no_share_is_refused(reach):
    with pytest.raises(InputError, match=r"contention\.reach is"):
        BandwidthContention(reach=reach)


def test_models_by_name():
    assert contention_model("isolated", {}) is None
    assert contention_model("bandwidth", {"reach": 0.5}) == BandwidthContention(reach=0.5)
    assert CONTENTION_MODELS.names() == ["bandwidth", "capped"]
    with pytest.raises(InputError, match=r"did you mean 'bandwidth'.*isolated, the default"):
        contention_model("bandwith", {})
    with pytest.raises(InputError, match=r"contention\.reach is 0\.5; allowed: options of capped: none"):
        contention_model("capped", {"reach": 0.5})
    with pytest.raises(InputError, match="options of isolated: none"):
        contention_model("isolated", {"reach": 0.5})


def test_the_section_of_a_scenario():
    assert load_scenario("mps-pair").cluster().contention == BandwidthContention()
    assert load_scenario("mps-pair", ["contention=capped"]).cluster().contention == CappedContention()
    assert load_scenario("mps-pair", ["contention=isolated"]).cluster().contention is None
    assert load_scenario("demo").cluster().contention is None
    with pytest.raises(InputError, match=r"mps-pair\.yaml: contention: .*reach is 7"):
        load_scenario("mps-pair", ["contention={kind: bandwidth, reach: 7}"])


def test_the_cap_of_a_replica_is_that_of_its_latency_section():
    one = load_scenario("mps-pair").cluster().models[0].replicas[0]
    assert one.compute_share == 0.6
    own = "models.small-7b.replicas=[{gpus: [0], compute_share: 0.4}]"
    assert load_scenario("demo", [own]).cluster().models[0].replicas[0].compute_share == 0.4
    with pytest.raises(InputError, match=r"compute_share is 0\.4; allowed: nothing, or .* 0\.6"):
        load_scenario("mps-pair", ["models.one.replicas.0.compute_share=0.4"]).cluster()
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="compute_share"):
            ReplicaSpec(gpus=(0,), settings=EngineSettings(), compute_share=share)


def notes_of(name: str, *overrides: str) -> tuple[str, ...]:
    return contention_notes(load_scenario(name, overrides).cluster())


def test_users_are_told_of_neighbours_that_nobody_takes_notice_of():
    assert notes_of("mps-pair") == notes_of("demo") == ()
    assert "share a GPU (0) do not slow each other down" in notes_of("mps-pair", "contention=isolated")[0]
    assert "contention has no effect" in notes_of("demo", "contention=capped")[0]


# ---------------------------------------------------------------------- what steps demand


@pytest.mark.parametrize("law", [LLAMA, LLAMA.at_share(0.3), ROOFLINE])
def test_the_work_of_a_step_fits_into_its_time(law):
    for batch in (
        (512, 1, 512, 512 * 256.0, 0, 0, 1),
        (40, 1, 8, 32.0, 32, 32_000, 33),
        (64, 0, 0, 0.0, 64, 60_000, 64),
    ):
        whole_s = law.step_s(*batch) if batch[1] else law.decode_run(batch[4], batch[5])[0]
        work = law.step_work(*batch)
        assert 0.5 * whole_s < work.compute_s + work.memory_s <= whole_s * (1 + 1e-9)
        assert 0.0 < work.bandwidth <= 1.0
        assert work.sms == law.compute_share


@pytest.mark.parametrize("law", [LLAMA, ROOFLINE])
def test_prefill_computes_and_decode_reads(law):
    prefill = law.step_work(2048, 1, 2048, 2048 * 1024.0, 0, 0, 1)
    decode = law.step_work(16, 0, 0, 0.0, 16, 8000, 16)
    assert prefill.compute_s > 2 * prefill.memory_s
    assert decode.memory_s > 10 * decode.compute_s


def test_a_corrected_law_scales_the_work_of_its_base():
    batch = (16, 0, 0, 0.0, 16, 8000, 16)
    base, corrected = LLAMA.step_work(*batch), CorrectedStepTime(base=LLAMA, factor=2.0).step_work(*batch)
    assert corrected.memory_s == 2 * base.memory_s
    assert corrected.bandwidth == base.bandwidth
    unknowing = CorrectedStepTime(base=LinearStepTime(base_s=0.01))
    assert step_work_of(unknowing, *batch) is None
    assert step_work_of(unknowing.base, *batch) is None


def decode_step(seqs: int, context: int, first_s: float) -> Step:
    return Step(0, seqs, context, first_s, 0.0, 1)


def prefill_step(tokens: int, first_s: float) -> Step:
    step = Step(0, 0, 0, first_s, 0.0, 1)
    step.prefills = [(Request(0, RequestSpec(0.0, tokens, 5), 0.0, 8192, "r"), tokens, 0, True)]
    step.tokens, step.sequences = tokens, 1
    return step


def test_demands_of_a_law_that_can_tell():
    demands = StepDemands(LLAMA.at_share(0.5), cap=0.5)
    decode = demands.of(decode_step(16, 8000, LLAMA.at_share(0.5).decode_run(16, 8000)[0]))
    prefill = demands.of(prefill_step(2048, LLAMA.at_share(0.5).step_s(2048, 1, 2048, 2048 * 1024.0, 0, 0, 1)))
    assert decode.memory > 0.8 > 0.1 > decode.compute
    assert prefill.compute > 0.6 > 0.4 > prefill.memory
    assert decode.sms == prefill.sms == 0.5
    # A CPU that takes as long again as the GPU halves what the step demands.
    slower = demands.of(decode_step(16, 8000, 2 * LLAMA.at_share(0.5).decode_run(16, 8000)[0]))
    assert slower.memory == pytest.approx(decode.memory / 2, abs=1 / 32)


def test_noise_that_shortens_a_step_leaves_shares():
    demand = StepDemands(LLAMA, cap=1.0).of(decode_step(16, 8000, 1e-4))
    assert demand.compute + demand.memory <= 1.0


def test_demands_of_a_law_that_cannot_tell():
    demands = StepDemands(LinearStepTime(base_s=0.01), cap=0.3)
    decode, prefill = demands.of(decode_step(4, 100, 0.01)), demands.of(prefill_step(100, 0.01))
    assert decode.memory > decode.compute
    assert prefill.compute > prefill.memory
    assert decode.sms == 0.3
    assert decode.bandwidth < StepDemands(LinearStepTime(base_s=0.01), cap=1.0).of(decode_step(4, 100, 0.01)).bandwidth


def test_equal_demands_are_one_object():
    demands = StepDemands(LLAMA, cap=1.0)
    step_s = LLAMA.decode_run(16, 8000)[0]
    assert demands.of(decode_step(16, 8000, step_s)) is demands.of(decode_step(16, 8001, step_s))


# ---------------------------------------------------------------------- MuxServe's runs


def test_muxserve_the_same_scheme_wins(data_root):
    """16 LLMs on 32 A100: throughput and time per token over those of GPUs of their own, measured and simulated."""
    table = comparison(data_root / RESULTS, "condense1200")
    flexsm, temporal = table["measured: flexsm"], table["measured: temporal"]
    isolated, bandwidth, capped, sliced = (
        table[f"simulated: {name}"]
        for name in ("flexsm, isolated", "flexsm, bandwidth", "flexsm, capped", "temporal, capped")
    )
    # MPS beats GPUs of one's own, which beat time slicing, in both; time per token goes the other way round.
    assert flexsm[0] > 1.0 > temporal[0]
    assert isolated[0] > bandwidth[0] > capped[0] > 1.0 > sliced[0]
    assert temporal[1] > flexsm[1] > 1.0
    assert sliced[1] > capped[1] > bandwidth[1] > isolated[1]
    # Both kinds promise too much, but less than to take no notice of neighbours; capped is the closer one.
    assert flexsm[0] < capped[0] < flexsm[0] * 1.1
    assert flexsm[1] * 0.85 < capped[1] < flexsm[1]


def test_muxserve_workloads_by_name(data_root):
    served, measured = read_results(data_root / RESULTS, "condense500")
    assert len(served) == 16
    assert sum(each.requests for each in served.values()) == 4089
    assert set(measured) == {"spatial", "flexsm", "temporal"}
    with pytest.raises(InputError, match="did you mean 'condense500'"):
        read_results(data_root / RESULTS, "condense50")


@pytest.mark.parametrize("name", ["condense", "condense0", "500", "condense-5", "expand500"])
def test_a_workload_of_another_name_has_no_known_speed(name):
    with pytest.raises(InputError, match="allowed: condense and"):
        window_of(name)
