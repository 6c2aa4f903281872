"""Routing in a whole simulation: cascades, what routers are told and when, the router's own time, stale loads."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from cluster_cases import EXACT, SCORE_ROUTERS, TICK_S, cluster_of, one_replica, traffic, two_model_table
from invariants import check_all

from analysis.inter_token import inter_token_latencies
from analysis.replica_load import replica_load
from analysis.result_files import PROMPT_COLUMNS, REQUEST_COLUMNS, write_requests_csv, write_requests_parquet
from analysis.summary import summarise
from latency_models.errors import InputError
from sim.cluster import simulate
from sim.cluster_spec import PolicySpec, RunSpec
from sim.prompt_table import PromptTable
from sim.prompts import PromptSpec
from sim.results import Status
from sim.routing.policies import MODEL_ROUTERS, Decision
from sim.stage import StageSpec
from sim.workload import RequestSpec


def table(outcomes=((0.0, 1.0), (1.0, 1.0)), predicted=((0.3, 0.8), (0.6, 0.7))):
    """Prompt 0 is hard: the first model fails.  Answers have 3 tokens by a, 5 by b."""
    return PromptTable(
        models=("a", "b"),
        predicted=np.array(predicted),
        outcomes=None if outcomes is None else np.array(outcomes),
        output_tokens=np.array([[3.0, 5.0], [3.0, 5.0]]),
    )


def two_models(router, *, prompts=None, options=None, models=None, **changes):
    prompts = PromptSpec(table=table(), lengths="table") if prompts is None else prompts
    models = models or {}
    return cluster_of(
        one_replica(name="a", step_time=EXACT, **models),
        one_replica(name="b", step_time=EXACT, **models),
        router=PolicySpec(kind=router, options=options or {}),
        prompts=prompts,
        **changes,
    )


def asked(*prompts, gap_s=10.0, **fields):
    return [RequestSpec(number * gap_s, 10, 1, prompt=prompt, **fields) for number, prompt in enumerate(prompts)]


CASCADE = {"threshold": 0.5, "informed": 1.0}


# ---------------------------------------------------------------------- cascades


def test_a_cascade_asks_the_next_model_after_a_whole_answer():
    cluster = two_models("cascade", options=CASCADE)
    result = simulate(cluster, traffic(asked(0, 1)), RunSpec())
    requests = result.requests
    check_all(result, cluster, asked(0, 1))
    assert requests.model.tolist() == [1, 0]
    assert requests.stages.tolist() == [2, 1]
    assert requests.output_tokens.tolist() == [5, 3]
    # Three steps at a, then five at b; the user's first token is the first of b.
    assert requests.first_token_s[0] == pytest.approx(4 * TICK_S)
    assert requests.finish_s[0] == pytest.approx(8 * TICK_S)
    assert requests.queued_s[0] == pytest.approx(3 * TICK_S)
    (answer,) = result.rejected_answers.tolist()
    assert answer == pytest.approx([0, 0, 0, 0.0, 0.0, TICK_S, 3 * TICK_S, 3])


def test_the_work_of_a_rejected_answer_stays_in_the_load():
    result = simulate(two_models("cascade", options=CASCADE), traffic(asked(0, 0)), RunSpec())
    assert result.busy_s == pytest.approx([6 * TICK_S, 10 * TICK_S])
    assert replica_load(result, 0).mean_running == pytest.approx(6 * TICK_S / result.end_s)
    summary = summarise(result)
    assert summary["by_model"]["a"]["requests"]["total"] == 0
    assert summary["overall"]["rejected_answers"] == 2
    assert summary["overall"]["quality"]["achieved"] == 1.0
    # Latencies between tokens are those of the answers that users got.
    assert inter_token_latencies(result).overall.count == 8


def test_the_request_table_has_prompts_and_scores(tmp_path):
    requests = [*asked(0, 1), RequestSpec(20.0, 9999, 1, prompt=0)]
    cluster = two_models("cascade", options=CASCADE, oversized="reject")
    result = simulate(cluster, traffic(requests), RunSpec())
    write_requests_csv(tmp_path / "requests.csv", result)
    with (tmp_path / "requests.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == REQUEST_COLUMNS + PROMPT_COLUMNS
    found = [tuple(row[name] for name in ("model", *PROMPT_COLUMNS)) for row in rows]
    assert found == [("b", "0", "0.8", "1", "2"), ("a", "1", "0.6", "1", "1"), ("a", "0", "0.3", "", "1")]
    parquet = pytest.importorskip("pyarrow.parquet")
    write_requests_parquet(tmp_path / "requests.parquet", result)
    columns = parquet.read_table(tmp_path / "requests.parquet").to_pydict()
    assert columns["outcome"] == [1.0, 1.0, None]
    assert columns["predicted_score"] == [0.8, 0.6, 0.3]
    assert columns["stages"] == [2, 1, 1]


def test_a_scorer_that_knows_nothing_goes_by_the_prediction():
    uninformed = {"threshold": 0.5, "informed": 0.0}
    prompts = PromptSpec(table=table(outcomes=((1.0, 1.0), (0.0, 0.0))), lengths="table")
    result = simulate(two_models("cascade", options=uninformed, prompts=prompts), traffic(asked(0, 1)), RunSpec())
    assert result.requests.stages.tolist() == [2, 1]


def test_a_better_informed_scorer_knows_all_that_the_other_knows():
    requests = asked(*[0] * 300)
    # The prediction is good enough; only who knows the outcome asks on.
    prompts = PromptSpec(table=table(predicted=((0.7, 0.8), (0.7, 0.8))), lengths="table")

    def escalated(informed):
        options = {"threshold": 0.5, "informed": informed}
        result = simulate(two_models("cascade", options=options, prompts=prompts), traffic(requests), RunSpec())
        return set(np.flatnonzero(result.requests.stages == 2).tolist())

    less, more = escalated(0.3), escalated(0.6)
    assert less < more
    assert len(less) == pytest.approx(90, abs=4 * (300 * 0.21) ** 0.5)
    assert escalated(1.0) == set(range(300))


def test_the_patience_of_the_user_spans_all_stages():
    deadline = [RequestSpec(0.0, 10, 1, prompt=0, deadline_s=5.5 * TICK_S)]
    result = simulate(two_models("cascade", options=CASCADE), traffic(deadline), RunSpec())
    assert Status(result.requests.status[0]) == Status.TIMED_OUT
    assert result.requests.finish_s[0] == 5.5 * TICK_S
    # It was over before the second model was asked.
    deadline = [RequestSpec(0.0, 10, 1, prompt=0, deadline_s=2.5 * TICK_S)]
    result = simulate(two_models("cascade", options=CASCADE), traffic(deadline), RunSpec())
    assert (Status(result.requests.status[0]), result.requests.stages[0]) == (Status.TIMED_OUT, 1)


def test_the_end_of_the_run_between_two_stages():
    cluster = two_models("cascade", options=CASCADE, router_stage=StageSpec(per_request_s=1.0))
    result = simulate(cluster, traffic(asked(0)), RunSpec(until_s=1.5))
    check_all(result, cluster, asked(0))
    requests = result.requests
    assert (requests.model[0], requests.replica[0], requests.stages[0]) == (-1, -1, 1)
    assert Status(requests.status[0]) == Status.UNFINISHED
    assert summarise(result)["overall"]["requests"]["unfinished"] == 1


def test_follow_ups_wait_for_the_accepted_answer():
    class User:
        def chunks(self):
            from sim.workload import RequestChunk

            yield RequestChunk([0.0], [10], [1], request_id=["first"], prompt=[0])

        def follow_ups(self, request_id, ended_s):
            return [RequestSpec(ended_s, 10, 1, "second", prompt=1)] if request_id == "first" else []

    result = simulate(two_models("cascade", options=CASCADE), User(), RunSpec())
    assert result.requests.arrival_s[1] == result.requests.finish_s[0] == pytest.approx(8 * TICK_S)


def test_an_informed_scorer_needs_outcomes():
    prompts = PromptSpec(table=table(outcomes=None))
    with pytest.raises(InputError, match="no outcomes to recognise; add a prompts section whose table has outcomes"):
        simulate(two_models("cascade", options=CASCADE, prompts=prompts), traffic(asked(0)), RunSpec())


# ---------------------------------------------------------------------- feedback


class Listening:
    """Sends everything to one model and writes down what it hears."""

    def __init__(self, model=0):
        self.model = model
        self.heard = []

    def route(self, request, loads):
        self.heard.append(("route", request.row, request.now_s, sum(loads[self.model].requests)))
        return Decision(self.model, "always")

    def on_first_token(self, feedback):
        self.heard.append(("first", feedback.row, feedback.now_s, feedback.output_tokens))
        assert feedback.status is None

    def on_end(self, feedback):
        self.heard.append(("end", feedback.row, feedback.now_s, feedback.output_tokens, feedback.status))


@pytest.fixture
def registered():
    """Registers routers for the test, and takes them away again."""
    names = []

    def register(name, factory):
        MODEL_ROUTERS.register(name)(factory)
        names.append(name)

    yield register
    for name in names:
        del MODEL_ROUTERS._built_in[name]


@pytest.mark.parametrize("mode", ["macro", "reference"])
def test_routers_hear_of_first_tokens_and_ends_when_they_happen(registered, mode):
    router = Listening()
    registered("listening", lambda context, options: router)
    requests = [RequestSpec(0.0, 10, 3), RequestSpec(1.5 * TICK_S, 10, 3)]
    cluster = two_models("listening", prompts=PromptSpec(table=table(), lengths="workload"))
    result = simulate(cluster, traffic(requests), RunSpec(mode=mode))
    check_all(result, cluster, requests)
    heard = [(what, row, time_s / TICK_S, *more) for what, row, time_s, *more in router.heard]
    assert heard == [
        ("route", 0, 0.0, 0),
        ("first", 0, 1.0, 1),
        ("route", 1, 1.5, 1),
        ("first", 1, 3.0, 1),
        ("end", 0, 3.0, 3, Status.FINISHED),
        ("end", 1, 5.0, 3, Status.FINISHED),
    ]


def test_routers_hear_of_requests_that_were_not_answered(registered):
    router = Listening()
    registered("listening", lambda context, options: router)
    requests = [RequestSpec(0.0, 10, 300, deadline_s=2.5 * TICK_S), RequestSpec(0.0, 10_000, 1)]
    cluster = two_models("listening", prompts=PromptSpec(table=table(), lengths="workload"), oversized="reject")
    simulate(cluster, traffic(requests), RunSpec())
    ends = {row: (status, tokens) for what, row, _, tokens, *(status,) in (e for e in router.heard if e[0] == "end")}
    assert ends[1] == (Status.REJECTED, 0)
    assert ends[0][0] == Status.TIMED_OUT


def test_routers_that_hear_nothing_leave_the_engines_alone():
    cluster = two_models("round-robin")
    from sim.cluster import Cluster
    from sim.workload import OpenTraffic

    built = Cluster(cluster, OpenTraffic([]), RunSpec(), None)
    assert all(replica.engine.on_first_token is None for replica in built.replicas)


# ---------------------------------------------------------------------- the router's own time, and old news


def test_the_router_is_a_stage_before_routing():
    stage = StageSpec(workers=1, per_request_s=0.5, per_token_s=0.05)
    cluster = two_models("price", router_stage=stage)
    requests = asked(0, 1, gap_s=0.25)
    result = simulate(cluster, traffic(requests), RunSpec())
    check_all(result, cluster, requests)
    # 0.5 s and 10 tokens: one second each, one after the other.
    assert result.requests.queued_s == pytest.approx([1.0, 2.0])
    assert result.requests.first_token_s == pytest.approx([1.0 + TICK_S, 2.0 + TICK_S])
    assert result.requests.arrival_s.tolist() == [0.0, 0.25]


def test_a_request_may_be_given_up_before_it_is_routed():
    stage = StageSpec(per_request_s=1.0)
    requests = [RequestSpec(0.0, 10, 1, prompt=0, deadline_s=0.5), RequestSpec(0.0, 10, 1, prompt=0)]
    cluster = two_models("price", router_stage=stage)
    result = simulate(cluster, traffic(requests), RunSpec())
    check_all(result, cluster, requests)
    assert [Status(status) for status in result.requests.status] == [Status.TIMED_OUT, Status.FINISHED]
    assert result.requests.finish_s[0] == 0.5
    assert (result.requests.model[0], result.requests.stages[0]) == (-1, 0)


def test_stale_loads_show_the_router_what_was(registered):
    router = Listening()
    registered("listening", lambda context, options: router)
    requests = [RequestSpec(time_s, 10, 1000) for time_s in (0.0, 0.01, 0.04, 0.05, 0.06, 0.1)]
    prompts = PromptSpec(table=table(), lengths="workload")
    simulate(two_models("listening", prompts=prompts, router_staleness_s=0.05), traffic(requests), RunSpec())
    assert [entry[3] for entry in router.heard if entry[0] == "route"] == [0, 0, 0, 3, 3, 5]


def test_stale_loads_of_the_balancer_are_not_those_of_the_router(registered):
    router = Listening()
    registered("listening", lambda context, options: router)
    requests = [RequestSpec(0.01 * number, 10, 1000) for number in range(4)]
    prompts = PromptSpec(table=table(), lengths="workload")
    simulate(two_models("listening", prompts=prompts, models={"staleness_s": 9.0}), traffic(requests), RunSpec())
    assert [entry[3] for entry in router.heard if entry[0] == "route"] == [0, 1, 2, 3]


# ---------------------------------------------------------------------- common random numbers


def test_all_policies_get_the_same_arrivals_and_prompts():
    requests = [RequestSpec(0.03 * number, 10, 5) for number in range(200)]
    prompts = PromptSpec(table=two_model_table(), lengths="table", score_noise=0.1)
    found = [
        simulate(replace(two_models("random", prompts=prompts), router=policy), traffic(requests), RunSpec(seed=3))
        for policy in SCORE_ROUTERS
    ]
    for result in found:
        np.testing.assert_array_equal(result.requests.prompt, found[0].requests.prompt)
        np.testing.assert_array_equal(result.requests.arrival_s, found[0].requests.arrival_s)
    quality = [summarise(result)["overall"]["quality"]["achieved"] for result in found]
    oracle = [policy.kind for policy in SCORE_ROUTERS].index("oracle")
    assert quality[oracle] == max(quality)


def test_bad_router_settings_are_refused():
    with pytest.raises(InputError, match=r"router.staleness_s is -1"):
        two_models("price", router_staleness_s=-1.0)
    with pytest.raises(InputError, match="ttft_limit_s is 0"):
        two_models("price", ttft_limit_s=0.0)
