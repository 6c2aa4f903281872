"""Wrong settings and cluster descriptions are refused by name, value and what is allowed."""

import math
import re
from dataclasses import fields, replace

import pytest
from cluster_cases import EXACT, cluster_of, one_replica

from latency_models.errors import InputError
from sim.cluster_spec import AdmissionLimit, ClusterSpec, ModelSpec, PolicySpec, ReplicaSpec, RunSpec, SpeedChange
from sim.settings import EngineSettings
from sim.vllm.step_timer import EngineOverhead

NAN, INF = math.nan, math.inf
NOT_COUNTS = [0, -1, 1.5, True, NAN, INF, "8", None]


def refused(name, value):
    return pytest.raises(InputError, match=rf"{re.escape(name)} is {re.escape(repr(value))}; allowed: ")


# ---------------------------------------------------------------------- engine settings


def test_defaults_are_those_of_vllms_scheduler():
    settings = EngineSettings()
    assert (settings.max_num_seqs, settings.max_num_batched_tokens, settings.max_model_len) == (256, 2048, 8192)
    assert (settings.block_size, settings.num_gpu_blocks, settings.usable_blocks) == (16, 4096, 4095)
    assert settings.seat_limit == 256
    assert EngineSettings(max_num_active_seqs=3).seat_limit == 3
    assert settings.safe_tokens == 8192
    assert EngineSettings(num_gpu_blocks=11).safe_tokens == 160


@pytest.mark.parametrize("name", ["max_num_seqs", "max_num_batched_tokens", "max_model_len", "block_size"])
@pytest.mark.parametrize("value", NOT_COUNTS)
def test_counts_are_checked(name, value):
    with refused(f"engine.{name}", value):
        EngineSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("num_gpu_blocks", value) for value in (1, *NOT_COUNTS)),
        *(("max_num_active_seqs", value) for value in NOT_COUNTS if value is not None),
        *(("long_prefill_token_threshold", value) for value in (-1, 0.5, True, NAN, INF)),
        *(("watermark", value) for value in (-0.01, 1.0, 1.5, NAN, INF)),
    ],
)
def test_the_other_numbers_are_checked(name, value):
    with refused(f"engine.{name}", value):
        EngineSettings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "nearest"), [("scheduler", "vllm-v2", "vllm-v1"), ("scheduling_policy", "prioriti", "priority")]
)
def test_an_unknown_choice_suggests_the_nearest(name, value, nearest):
    with pytest.raises(InputError, match=f"unknown engine.{name} '{value}'; did you mean '{nearest}'"):
        EngineSettings(**{name: value})


def test_without_chunking_a_prompt_must_fit_into_a_step():
    with refused("engine.max_num_batched_tokens", 2048):
        EngineSettings(enable_chunked_prefill=False)
    EngineSettings(enable_chunked_prefill=False, max_num_batched_tokens=8192)


V0 = {
    "scheduler": "vllm-v0",
    "enable_prefix_caching": False,
    "enable_chunked_prefill": False,
    "max_num_batched_tokens": 8192,
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("enable_prefix_caching", True),
        ("async_scheduling", True),
        ("enable_chunked_prefill", True),
        ("scheduling_policy", "priority"),
        ("long_prefill_token_threshold", 5),
        ("max_num_active_seqs", 5),
    ],
)
def test_the_older_scheduler_refuses_what_it_does_not_have(name, value):
    EngineSettings(**V0)
    with pytest.raises(InputError, match=f"engine.{name} is {value!r}; allowed: .* with scheduler vllm-v0"):
        EngineSettings(**{**V0, name: value})


def test_settings_from_a_mapping_know_their_keys():
    values = {"max_num_seqs": 4, "watermark": 0.01}
    assert EngineSettings.from_mapping(values) == EngineSettings(**values)
    with pytest.raises(InputError, match="unknown engine setting 'max_num_sequences'; did you mean 'max_num_seqs'"):
        EngineSettings.from_mapping({"max_num_sequences": 4})


def test_specs_are_frozen_and_slotted():
    spec = cluster_of(one_replica())
    for one in (EngineSettings(), spec, spec.models[0], spec.models[0].replicas[0], spec.router, RunSpec()):
        assert not hasattr(one, "__dict__")
        with pytest.raises(AttributeError):
            setattr(one, fields(one)[0].name, 1)


# ---------------------------------------------------------------------- clusters


def replica(*gpus, **options):
    return ReplicaSpec(gpus=gpus, settings=EngineSettings(), **options)


def model(*replicas, name="m", **options):
    return ModelSpec(name=name, step_time=EXACT, replicas=replicas, **options)


def cluster(*models, gpus=2, **options):
    return ClusterSpec(gpus=gpus, models=models, router=PolicySpec(kind="round-robin"), **options)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: replica(), "replica.gpus is []; allowed: at least one GPU"),
        (lambda: replica(1, 1), "replica.gpus is [1, 1]; allowed: different GPUs"),
        (lambda: model(), "models.m.replicas is []; allowed: at least one replica"),
        (lambda: cluster(), "models is []; allowed: at least one model"),
        (lambda: cluster(model(replica(2))), "models.m.replicas[0].gpus is 2; allowed: GPU numbers 0 to 1"),
        (lambda: cluster(model(replica(-1))), "models.m.replicas[0].gpus is -1; allowed: GPU numbers 0 to 1"),
        (
            lambda: cluster(model(replica(0, memory_share=0.2), replica(1, 0, memory_share=0.2))),
            "models.m.replicas[1].gpus is 0; allowed: a GPU without another shard of the same model",
        ),
        (
            lambda: cluster(model(replica(1, memory_share=0.7)), model(replica(1, memory_share=0.4), name="n")),
            "sum of memory_share on GPU 1 is 1.1; allowed: at most 1",
        ),
    ],
)
def test_impossible_clusters_are_refused(build, message):
    with pytest.raises(InputError, match=re.escape(message)):
        build()


def test_models_may_share_gpus_as_long_as_memory_lasts():
    shared = cluster(
        model(replica(0, 1, memory_share=0.5)), model(replica(1, 0, memory_share=0.3), name="n"),
        model(replica(1, memory_share=0.2), name="o"),
    )  # fmt: skip
    assert len(shared.models) == 3


@pytest.mark.parametrize("value", NOT_COUNTS)
def test_the_number_of_gpus_is_checked(value):
    with refused("gpus.count", value):
        cluster(model(replica(0)), gpus=value)


@pytest.mark.parametrize("value", [0, -1.0, NAN, INF])
def test_slowdowns_are_checked(value):
    with refused("replica.slowdown", value):
        replica(0, slowdown=value)
    with refused("speed_changes.slowdown", value):
        SpeedChange(at_s=0.0, model=0, replica=0, slowdown=value)


@pytest.mark.parametrize("value", [0, -0.5, 1.01, NAN, INF])
def test_memory_shares_are_checked(value):
    with refused("replica.memory_share", value):
        replica(0, memory_share=value)


@pytest.mark.parametrize("value", [-0.1, NAN, INF])
def test_times_are_checked(value):
    with refused("models.m.staleness_s", value):
        model(replica(0), staleness_s=value)
    with refused("cpu_overhead_s", value):
        EngineOverhead(step_s=value)
    with refused("cpu_per_sequence_s", value):
        EngineOverhead(per_sequence_s=value)
    with refused("speed_changes.at_s", value):
        SpeedChange(at_s=value, model=0, replica=0, slowdown=1.0)


@pytest.mark.parametrize("name", ["max_queue_requests", "max_queue_tokens"])
@pytest.mark.parametrize("value", [value for value in NOT_COUNTS if value is not None])
def test_admission_limits_are_checked(name, value):
    with refused(f"admission.{name}", value):
        AdmissionLimit(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("seed", value) for value in (-1, 0.5, NAN, INF)),
        *(("sample_interval_s", value) for value in (0, -1.0, NAN, INF)),
        *(("until_s", value) for value in (0, -1.0, NAN)),
    ],
)
def test_runs_are_checked(name, value):
    with refused(name, value):
        RunSpec(**{name: value})


def test_a_run_may_be_endless():
    assert replace(RunSpec(until_s=5.0), until_s=INF).until_s == INF
