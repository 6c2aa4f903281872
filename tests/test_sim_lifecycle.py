"""One request at a time through a cluster: tiny logs with one step a second, by hand."""

import math

import numpy as np
import pytest
from cluster_cases import cluster_of, one_replica, traffic

from latency_models.errors import InputError
from latency_models.laws.linear import LinearStepTime
from sim.cluster import simulate
from sim.cluster_spec import AdmissionLimit, ModelSpec, ReplicaSpec, RunSpec, SpeedChange
from sim.results import Status
from sim.settings import EngineSettings
from sim.stage import StageSpec
from sim.vllm.step_timer import EngineOverhead
from sim.workload import RequestSpec

SECOND = LinearStepTime(base_s=1.0)
"""Every step takes a second."""

BOTH_MODES = pytest.mark.parametrize("mode", ["macro", "reference"])
NAN = math.nan


def run(*requests, seats=8, mode="macro", until_s=math.inf, slowdown=1.0, changes=(), oversized="error", **options):
    """Simulate requests (arrival, prompt, output, and more fields by name) on one replica."""
    run_options = {name: options.pop(name) for name in ("sample_interval_s", "max_samples") if name in options}
    settings = EngineSettings(max_num_seqs=seats, **options.pop("settings", {}))
    replica = ReplicaSpec(gpus=(0,), settings=settings, slowdown=slowdown)
    model = ModelSpec(name="m", step_time=SECOND, replicas=(replica,), **options)
    speed_changes = tuple(SpeedChange(at_s=at_s, model=0, replica=0, slowdown=factor) for at_s, factor in changes)
    cluster = cluster_of(model, speed_changes=speed_changes, oversized=oversized)
    return simulate(cluster, traffic(list(requests)), RunSpec(mode=mode, until_s=until_s, **run_options))


def row(result, number):
    """(status, tokens, scheduled, first token, last token, finish) of a request."""
    columns = result.requests
    times = (columns.scheduled_s, columns.first_token_s, columns.last_token_s, columns.finish_s)
    return (
        Status(columns.status[number]),
        int(columns.generated_tokens[number]),
        *(float(time[number]) for time in times),
    )


def assert_row(result, number, *expected):
    np.testing.assert_equal(row(result, number), expected)


def log(result, replica=0):
    return np.concatenate(list(result.runs[replica].chunks())).tolist()


# ---------------------------------------------------------------------- finishing


@BOTH_MODES
def test_a_request_gets_a_token_a_step(mode):
    result = run(RequestSpec(0.25, 10, 4), mode=mode)
    assert_row(result, 0, Status.FINISHED, 4, 0.25, 1.25, 4.25, 4.25)
    assert log(result) == [[0.25, 1.0, 0.0, 1, 1, 10, 1], [1.25, 1.0, 0.0, 3, 1, 1, 1]]
    assert result.busy_s.tolist() == [4.0]
    assert result.end_s == 4.25


@BOTH_MODES
def test_an_arrival_waits_for_the_end_of_the_step(mode):
    result = run(RequestSpec(0.0, 10, 4), RequestSpec(1.5, 10, 1), RequestSpec(3.0, 10, 1), mode=mode)
    assert_row(result, 0, Status.FINISHED, 4, 0.0, 1.0, 4.0, 4.0)
    assert_row(result, 1, Status.FINISHED, 1, 2.0, 3.0, 3.0, 3.0)
    # One that arrives with the end of a step is in the next.
    assert_row(result, 2, Status.FINISHED, 1, 3.0, 4.0, 4.0, 4.0)


@BOTH_MODES
def test_asynchronous_scheduling_lets_an_arrival_wait_one_step_more(mode):
    settings = {"async_scheduling": True}
    result = run(RequestSpec(0.0, 10, 6), RequestSpec(1.5, 10, 1), settings=settings, mode=mode)
    assert_row(result, 0, Status.FINISHED, 6, 0.0, 1.0, 6.0, 6.0)
    assert row(result, 1)[3] == 4.0


def test_output_is_cut_at_the_longest_sequence():
    result = run(RequestSpec(0.0, 10, 100), settings={"max_model_len": 14})
    assert_row(result, 0, Status.FINISHED, 4, 0.0, 1.0, 4.0, 4.0)
    assert result.requests.output_tokens.tolist() == [100]


@BOTH_MODES
@pytest.mark.parametrize(("asynchronous", "step_s"), [(False, 1.25), (True, 1.0)])
def test_cpu_overhead_is_added_or_hidden(asynchronous, step_s, mode):
    result = run(
        RequestSpec(0.0, 10, 4),
        overhead=EngineOverhead(step_s=0.25),
        settings={"async_scheduling": asynchronous},
        mode=mode,
    )
    assert row(result, 0)[4] == 4 * step_s


def test_a_cpu_slower_than_the_gpu_sets_the_pace_of_asynchronous_steps():
    result = run(
        RequestSpec(0.0, 10, 4),
        overhead=EngineOverhead(step_s=0.5, per_sequence_s=1.0),
        settings={"async_scheduling": True},
    )
    assert row(result, 0)[4] == 6.0


# ---------------------------------------------------------------------- speed


@BOTH_MODES
def test_a_change_of_speed_retimes_the_run_in_flight(mode):
    # Half of step 2 is left at 1.5 and takes a second; at 4.0 a quarter of step 3 is left.
    result = run(RequestSpec(0.0, 10, 4), changes=[(1.5, 2.0), (4.0, 1.0)], mode=mode)
    assert_row(result, 0, Status.FINISHED, 4, 0.0, 1.0, 5.25, 5.25)
    assert [(start_s, first_s, steps) for start_s, first_s, _, steps, *_ in log(result)] == [
        (0.0, 1.0, 1), (1.0, 1.5, 1), (2.5, 1.75, 1), (4.25, 1.0, 1),
    ]  # fmt: skip


@BOTH_MODES
def test_a_change_of_speed_multiplies_with_the_replicas_own_slowdown(mode):
    result = run(RequestSpec(0.0, 10, 3), slowdown=2.0, changes=[(3.0, 2.0)], mode=mode)
    # Steps of 2 s; the second is half done at 3, the rest takes 2 s; then 4 s.
    assert row(result, 0)[4] == 9.0


@BOTH_MODES
def test_a_change_of_speed_on_an_idle_replica_counts_from_its_next_step(mode):
    result = run(RequestSpec(0.0, 10, 1), RequestSpec(5.0, 10, 2), changes=[(3.0, 2.0)], mode=mode)
    assert_row(result, 1, Status.FINISHED, 2, 5.0, 7.0, 9.0, 9.0)


@BOTH_MODES
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_change_of_speed_exactly_between_two_steps_counts_for_the_next(mode, asynchronous):
    settings = {"async_scheduling": asynchronous}
    result = run(RequestSpec(0.0, 10, 4), changes=[(2.0, 3.0)], settings=settings, mode=mode)
    assert_row(result, 0, Status.FINISHED, 4, 0.0, 1.0, 8.0, 8.0)
    durations = [first_s for _, first_s, _, steps, *_ in log(result) for _ in range(int(steps))]
    assert durations == [1.0, 1.0, 3.0, 3.0]


@BOTH_MODES
def test_a_change_of_speed_in_the_moment_of_the_start(mode):
    result = run(RequestSpec(1.0, 10, 2), changes=[(1.0, 2.0)], mode=mode)
    assert_row(result, 0, Status.FINISHED, 2, 1.0, 3.0, 5.0, 5.0)


def test_a_change_of_speed_is_for_one_replica():
    replica = ReplicaSpec(gpus=(0,), settings=EngineSettings())
    model = ModelSpec(name="m", step_time=SECOND, replicas=(replica, replica))
    cluster = cluster_of(model, speed_changes=(SpeedChange(at_s=0.0, model=0, replica=1, slowdown=2.0),))
    result = simulate(cluster, traffic([RequestSpec(0.0, 10, 3), RequestSpec(0.0, 10, 3)]), RunSpec())
    assert result.requests.finish_s.tolist() == [3.0, 6.0]


@BOTH_MODES
@pytest.mark.parametrize("patience", [{}, {"cancel_after_s": 2.25}])
def test_a_token_before_a_change_of_speed_keeps_its_time(mode, patience):
    result = run(RequestSpec(0.0, 10, 9, **patience), changes=[(1.5, 4.0)], until_s=2.5, mode=mode)
    assert (row(result, 0)[1], row(result, 0)[3:5]) == (1, (1.0, 1.0))
    # The rest of step 2 takes a quarter of a second, step 3 half a second; it ends with the client's patience.
    faster = run(RequestSpec(0.0, 10, 9, **patience), changes=[(1.5, 0.5)], until_s=2.5, mode=mode)
    assert (row(faster, 0)[1], row(faster, 0)[4]) == ((2, 1.75) if patience else (3, 2.25))


# ---------------------------------------------------------------------- giving up


@BOTH_MODES
@pytest.mark.parametrize(
    ("patience", "status", "end_s"),
    [
        ({"deadline_s": 2.5}, Status.TIMED_OUT, 2.5),
        ({"cancel_after_s": 2.5}, Status.ABORTED, 2.5),
        ({"deadline_s": 2.5, "cancel_after_s": 2.75}, Status.TIMED_OUT, 2.5),
        ({"deadline_s": 2.75, "cancel_after_s": 2.25}, Status.ABORTED, 2.25),
    ],
)
def test_patience_ends_during_a_step(patience, status, end_s, mode):
    waiting = RequestSpec(0.5, 10, 1)
    result = run(RequestSpec(0.0, 10, 9, **patience), waiting, seats=1, mode=mode)
    assert_row(result, 0, status, 2, 0.0, 1.0, 2.0, end_s)
    # The engine lets go of it at the end of the step.
    assert_row(result, 1, Status.FINISHED, 1, 3.0, 4.0, 4.0, 4.0)


@BOTH_MODES
def test_patience_that_ends_with_a_step_ends_before_its_token(mode):
    result = run(RequestSpec(0.0, 10, 9, deadline_s=3.0), RequestSpec(0.0, 10, 9, cancel_after_s=1.0), mode=mode)
    assert_row(result, 0, Status.TIMED_OUT, 2, 0.0, 1.0, 2.0, 3.0)
    assert_row(result, 1, Status.ABORTED, 0, 0.0, NAN, NAN, 1.0)


@BOTH_MODES
def test_patience_that_ends_before_the_first_token(mode):
    result = run(RequestSpec(0.0, 10, 9, deadline_s=0.5), mode=mode)
    assert_row(result, 0, Status.TIMED_OUT, 0, 0.0, NAN, NAN, 0.5)


@BOTH_MODES
def test_patience_that_ends_in_the_queue(mode):
    result = run(RequestSpec(0.0, 10, 4), RequestSpec(0.0, 10, 4, cancel_after_s=1.5), seats=1, mode=mode)
    assert_row(result, 0, Status.FINISHED, 4, 0.0, 1.0, 4.0, 4.0)
    assert_row(result, 1, Status.ABORTED, 0, NAN, NAN, NAN, 1.5)


def test_patience_that_outlasts_the_request_changes_nothing():
    result = run(RequestSpec(0.0, 10, 4, deadline_s=4.5, cancel_after_s=5.0))
    assert_row(result, 0, Status.FINISHED, 4, 0.0, 1.0, 4.0, 4.0)


@BOTH_MODES
def test_an_aborted_request_frees_its_blocks(mode):
    requests = [RequestSpec(0.0, 60, 4, cancel_after_s=1.5), RequestSpec(1.0, 60, 2)]
    settings = {"num_gpu_blocks": 5, "enable_prefix_caching": False}
    result = run(*requests, settings=settings, mode=mode)
    assert_row(result, 1, Status.FINISHED, 2, 2.0, 3.0, 4.0, 4.0)
    assert log(result)[-1][6] == 4


# ---------------------------------------------------------------------- turned away


def test_a_full_queue_turns_requests_away():
    result = run(
        RequestSpec(0.0, 10, 4), RequestSpec(0.1, 10, 1), RequestSpec(0.2, 10, 1), RequestSpec(4.5, 10, 1),
        seats=1, admission=AdmissionLimit(max_queue_requests=1),
    )  # fmt: skip
    assert_row(result, 2, Status.REJECTED, 0, NAN, NAN, NAN, 0.2)
    assert [row(result, number)[0] for number in (0, 1, 3)] == [Status.FINISHED] * 3


def test_too_many_tokens_in_the_queue_turn_requests_away():
    requests = [RequestSpec(0.0, 10, 4), *(RequestSpec(0.1 * number, 10, 1) for number in range(1, 4))]
    result = run(*requests, seats=1, admission=AdmissionLimit(max_queue_tokens=20))
    assert result.requests.status.tolist() == [Status.FINISHED] * 3 + [Status.REJECTED]
    small = run(*requests[:3], RequestSpec(0.3, 1, 1), seats=1, admission=AdmissionLimit(max_queue_tokens=21))
    assert small.requests.status.tolist() == [Status.FINISHED] * 4


@pytest.mark.parametrize(
    ("request_", "settings", "message"),
    [
        (RequestSpec(0.0, 64, 1), {"max_model_len": 64}, "prompt tokens of request 0 is 64; allowed: less than .*64"),
        (
            RequestSpec(0.0, 40, 26),
            {"num_gpu_blocks": 5},
            "prompt and output tokens of request 0 is 66; allowed: at most 65",
        ),
    ],
)
def test_a_request_that_never_fits_is_an_error_or_rejected(request_, settings, message):
    with pytest.raises(InputError, match=message):
        run(request_, settings=settings)
    result = run(request_, RequestSpec(0.0, 10, 1), settings=settings, oversized="reject")
    assert_row(result, 0, Status.REJECTED, 0, NAN, NAN, NAN, 0.0)
    assert row(result, 1)[0] == Status.FINISHED


@pytest.mark.parametrize(
    ("request_", "settings"),
    [
        (RequestSpec(0.0, 63, 1), {"max_model_len": 64}),
        (RequestSpec(0.0, 40, 25), {"num_gpu_blocks": 5}),
        (RequestSpec(0.0, 60, 500), {"num_gpu_blocks": 5, "max_model_len": 65}),
    ],
)
def test_the_largest_request_that_fits_is_served(request_, settings):
    assert row(run(request_, settings=settings), 0)[0] == Status.FINISHED


# ---------------------------------------------------------------------- the end


@BOTH_MODES
def test_what_is_left_at_the_end_is_unfinished(mode):
    result = run(
        RequestSpec(0.0, 10, 9), RequestSpec(1.0, 10, 9), RequestSpec(9.0, 1, 1), seats=1, until_s=3.5, mode=mode
    )
    assert len(result.requests) == 2
    assert_row(result, 0, Status.UNFINISHED, 3, 0.0, 1.0, 3.0, NAN)
    assert_row(result, 1, Status.UNFINISHED, 0, NAN, NAN, NAN, NAN)
    assert result.end_s == 3.5
    assert result.busy_s.tolist() == [3.5]
    assert sum(steps for _, _, _, steps, *_ in log(result)) == 3


@BOTH_MODES
def test_what_is_with_the_detokeniser_at_the_end_has_its_tokens(mode):
    result = run(RequestSpec(0.0, 10, 3), detokenise=StageSpec(per_request_s=2.0), until_s=4.0, mode=mode)
    assert_row(result, 0, Status.UNFINISHED, 3, 0.0, 1.0, 3.0, NAN)


# ---------------------------------------------------------------------- stages


def test_requests_pass_the_api_server_and_the_detokeniser():
    result = run(
        RequestSpec(0.0, 10, 2),
        RequestSpec(0.0, 20, 2),
        api_server=StageSpec(per_request_s=0.5, per_token_s=0.05),
        detokenise=StageSpec(per_request_s=0.25, per_token_s=0.125),
    )
    assert result.requests.queued_s.tolist() == [1.0, 2.5]
    assert_row(result, 0, Status.FINISHED, 2, 1.0, 2.0, 3.0, 3.5)
    assert_row(result, 1, Status.FINISHED, 2, 3.0, 4.0, 5.0, 5.5)


def test_patience_that_ends_in_the_api_server():
    result = run(RequestSpec(0.0, 10, 2, deadline_s=1.5), api_server=StageSpec(per_request_s=2.0))
    assert_row(result, 0, Status.TIMED_OUT, 0, NAN, NAN, NAN, 1.5)
    assert np.isnan(result.requests.queued_s[0])
    assert list(result.runs[0].chunks()) == []


def test_patience_that_ends_in_the_detokeniser():
    result = run(RequestSpec(0.0, 10, 2, cancel_after_s=2.5), detokenise=StageSpec(per_request_s=2.0))
    assert_row(result, 0, Status.ABORTED, 2, 0.0, 1.0, 2.0, 2.5)


# ---------------------------------------------------------------------- samples


def test_samples_show_the_live_state():
    result = run(
        RequestSpec(0.0, 16, 3), RequestSpec(0.0, 16, 3), RequestSpec(7.25, 16, 1), seats=1, sample_interval_s=0.5
    )
    by_time = {sample[0]: sample[2:].tolist() for sample in result.samples}
    total = EngineSettings().usable_blocks
    assert by_time[0.5] == [1, 1, 1, total, 1.0]
    # In its second step it holds a second block.
    assert by_time[1.5] == [1, 1, 2, total, 1.0]
    assert by_time[3.5] == [1, 0, 1, total, 1.0]
    assert by_time[6.5] == [0, 0, 0, total, 0.0]
    assert by_time[7.5] == [1, 0, 1, total, 0.5]
    assert result.samples[:, 0].tolist() == [0.5 * number for number in range(len(result.samples))]


def test_samples_are_thinned_and_stay_equally_spaced():
    result = run(RequestSpec(0.0, 10, 40), sample_interval_s=1.0, max_samples=4)
    times_s = result.samples[:, 0]
    assert 2 <= len(times_s) <= 4
    assert len(set(np.diff(times_s))) == 1
    assert np.diff(times_s)[0] in (8.0, 16.0)
    assert (result.samples[1:, 6] == 1.0).all()


def test_nothing_arrives():
    result = run()
    assert len(result.requests) == 0
    assert result.busy_s.tolist() == [0.0]
    assert result.classes == ("default",)


def test_two_models_have_replicas_of_their_own():
    cluster = cluster_of(
        one_replica(step_time=SECOND, name="a"), one_replica(step_time=LinearStepTime(base_s=2.0), name="b")
    )
    result = simulate(cluster, traffic([RequestSpec(0.0, 10, 2), RequestSpec(0.0, 10, 2)]), RunSpec())
    assert result.models == ("a", "b")
    assert [replica.name for replica in result.replicas] == ["a/0", "b/0"]
    assert [replica.gpus for replica in result.replicas] == [(0,), (1,)]
    assert result.requests.model.tolist() == result.requests.replica.tolist() == [0, 1]
    assert result.requests.finish_s.tolist() == [2.0, 4.0]
