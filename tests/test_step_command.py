"""`routerwise step`: what it says of a step, against hand-made cases and recorded runs of vLLM's own scheduler."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from cluster_cases import EXACT, TICK_S, cluster_of, one_replica, traffic
from fixtures_vllm import FIXTURES, TIME_TOLERANCE_S, case_names, read_recording
from rich.console import Console

from latency_models.errors import InputError
from scenarios.commands.step import _ask_steps as ask_steps
from scenarios.replicated import PreparedScenario, simulate_replication
from scenarios.scenario_files import load_scenario
from scenarios.stepping.drawing import bar, draw_skipped, draw_step
from scenarios.stepping.pace import Pace
from scenarios.stepping.step_watcher import StepWatcher
from scenarios.stepping.walk import walk_steps
from sim.cluster import Cluster
from sim.cluster_spec import RunSpec
from sim.settings import EngineSettings
from sim.workload import RequestSpec

ROOT = Path(__file__).parents[1]


def request(name, prompt, output=2, *, at=0.0, priority=0, content=None, **more):
    return RequestSpec(at, prompt, output, request_id=name, priority=priority, content=content, **more)


def steps_of(requests, *, step_time=EXACT, **settings):
    """All steps of one replica, every one lasting a tick."""
    engine = EngineSettings(max_model_len=settings.pop("max_model_len", 1000), **settings)
    spec = cluster_of(one_replica(engine, step_time))
    cluster = Cluster(spec, traffic(requests), RunSpec(mode="reference"), None)
    seen = []
    watcher = StepWatcher(cluster.replicas[0].engine, "m/0", seen.append)
    cluster.simulate()
    watcher.hand_over()
    return seen


def waits(view):
    return [(one.request, one.lack, one.why) for one in view.waiting]


def picture(view, width=120):
    console = Console(file=StringIO(), width=width, highlight=False)
    draw_step(console, view)
    return console.file.getvalue()


# ---------------------------------------------------------------------- why somebody waits


def test_no_token_budget_left_names_the_long_prompt():
    first, second, *_ = steps_of([request("long", 200), request("short", 10)], max_num_batched_tokens=64)
    assert waits(first) == [
        ("short", "token budget", "no token budget left: of 64, 64 by the prompt of request long")
    ]  # fmt: skip
    assert (first.tokens, first.token_budget) == (64, 64)
    (entry,) = first.batch
    assert (entry.kind, entry.before, entry.target, entry.output, entry.entered) == ("prefill", 0, 200, 0, "admitted")
    assert (second.batch[0].before, second.batch[0].entered) == (64, "")


def test_the_budget_says_what_decodes_and_other_prompts_took():
    steps = steps_of(
        [
            request("a", 4, 9),
            request("b", 150, at=TICK_S / 2),
            request("c", 30, at=TICK_S / 2),
            request("d", 9, at=1.5 * TICK_S),
        ],
        max_num_batched_tokens=100,
    )
    assert waits(steps[1])[0][2] == "no token budget left: of 100, 1 by decodes, 99 by the prompt of request b"
    # b's last 51 tokens, then c, then d to the end of the budget.
    assert waits(steps[2]) == []
    assert [(one.request, one.tokens) for one in steps[2].batch] == [("a", 1), ("b", 51), ("c", 30), ("d", 9)]


def test_a_prompt_that_may_not_be_cut_waits_for_a_step_with_room():
    first, *_ = steps_of(
        [request("a", 40), request("b", 41)], max_num_batched_tokens=64, max_model_len=64, enable_chunked_prefill=False
    )
    assert waits(first) == [
        ("b", "whole prompt", "its 41 tokens must fit into one step, and 24 of the token budget are left")
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["max_num_seqs", "max_num_active_seqs"])
def test_no_seat(name):
    first, *_ = steps_of([request("a", 4), request("b", 4), request("c", 4)], **{name: 1})
    assert (first.seats, first.running) == (1, 1)
    assert waits(first) == [
        ("b", "seat", f"no seat: 1 running, as many as {name} allows"),
        ("c", "queue", "behind request b, which nobody overtakes"),
    ]


def test_blocks_for_the_whole_sequence():
    # Ten blocks of four tokens: a holds five of them.
    first, *_ = steps_of(
        [request("a", 20), request("b", 24)], block_size=4, num_gpu_blocks=11, max_num_batched_tokens=32
    )
    assert (first.blocks_total, first.blocks_used) == (10, 5)
    assert waits(first) == [
        ("b", "blocks of the sequence", "no free KV blocks: all its tokens need 6, 5 are left for it")
    ]  # fmt: skip


def test_blocks_for_the_next_chunk_beside_a_watermark():
    first, *_ = steps_of(
        [request("a", 20), request("b", 18)],
        block_size=4,
        num_gpu_blocks=11,
        max_num_batched_tokens=37,
        watermark=0.1,
        scheduler_reserve_full_isl=False,
    )
    assert waits(first) == [
        ("b", "KV blocks", "no free KV blocks: its next chunk needs 5, 4 are left for it beside the 1 of the watermark")
    ]


def test_a_preemption_names_who_needed_the_blocks_and_what_is_lost():
    # Both prompts fill their blocks; the first answer token of each needs one more, and there is one.
    steps = steps_of(
        [request("a", 8, 6), request("b", 8, 6), request("c", 8, at=TICK_S / 2)],
        block_size=4, num_gpu_blocks=6, enable_prefix_caching=False,
    )  # fmt: skip
    (preemption,) = steps[1].preempted
    assert (preemption.request, preemption.beneficiary) == ("b", "b")
    assert preemption.lost_tokens == 9
    assert waits(steps[1]) == [
        ("b", "preemption", "a step that preempts admits nobody"),
        ("c", "queue", "behind request b, which nobody overtakes"),
    ]
    assert [one.preempted for one in steps[1].waiting] == [True, False]
    assert [one.waited_s for one in steps[1].waiting] == pytest.approx([0, TICK_S / 2]), "b's wait begins again"
    resumed = next(view for view in steps if view.admitted and view.admitted[0].entered == "resumed")
    assert resumed.admitted[0].request == "b"
    assert (resumed.admitted[0].tokens, resumed.admitted[0].output) == (9, 2)


def test_the_victim_gives_its_block_to_somebody_else():
    steps = steps_of(
        [request("a", 8, 6), request("b", 6, 6)], block_size=4, num_gpu_blocks=5, enable_prefix_caching=False
    )
    (preemption,) = next(view for view in steps if view.preempted).preempted
    assert (preemption.request, preemption.beneficiary) == ("b", "a")
    assert preemption.why == "no KV block was left for request a"


def test_a_prefix_hit_is_shown_where_it_is_found():
    system = (("system", 32),)
    steps = steps_of(
        [request("a", 40, 1, content=(*system, ("a", 8))), request("b", 40, 1, at=1.0, content=(*system, ("b", 8)))]
    )  # fmt: skip
    (entry,) = steps[1].admitted
    assert (entry.request, entry.cached_tokens, entry.before, entry.tokens) == ("b", 32, 32, 8)
    assert "40 of 40 computed, 32 of them from the prefix cache, output 1" in picture(steps[1])


# ---------------------------------------------------------------------- who runs and gets nothing


def test_the_last_token_on_the_way_under_asynchronous_scheduling():
    steps = steps_of([request("a", 4, 2), request("b", 4, 4)], async_scheduling=True)
    (left_out,) = steps[2].left_out
    assert left_out.request == "a"
    assert "last token" in left_out.why
    assert [view.finished for view in steps] == [(), ("a",), (), ("b",)]
    assert steps[1].scheduled_s < steps[1].start_s


def test_an_older_engine_does_not_decode_beside_prompts():
    steps = steps_of(
        [request("a", 4, 5), request("b", 4, at=TICK_S / 2)],
        scheduler="vllm-v0", enable_prefix_caching=False, enable_chunked_prefill=False, max_num_batched_tokens=1000,
    )  # fmt: skip
    (left_out,) = steps[1].left_out
    assert (left_out.request, steps[1].batch[0].request) == ("a", "b")
    assert "nobody decodes in a step that computes prompts" in left_out.why


def test_priorities_order_the_queue_and_the_urgent_one_waits_when_another_preempts_itself():
    steps = steps_of(
        [request("late", 8, 6, priority=5), request("urgent", 6, 6), request("later", 8, priority=9, at=TICK_S / 2)],
        scheduling_policy="priority", block_size=4, num_gpu_blocks=5,
    )  # fmt: skip
    victim = next(view for view in steps if view.preempted)
    assert [one.request for one in victim.preempted] == ["late"]
    assert [one.request for one in victim.waiting] == ["late", "later"]


def test_a_cancelled_request_leaves_between_steps():
    steps = steps_of([request("a", 4, 50, cancel_after_s=2.5 * TICK_S), request("b", 4, 8)])
    assert [view.number for view in steps if view.cancelled] == [2]
    assert steps[2].cancelled == ("a",)
    assert "cancelled a" in picture(steps[2])


# ---------------------------------------------------------------------- against vLLM's own scheduler


RECORDED = [name for name in case_names(FIXTURES) if name.startswith("micro_")] + [
    "fuzz2000", "fuzz2002", "fuzz2003", "fuzz2005", "fuzz2027",
]  # fmt: skip


@pytest.mark.parametrize("name", RECORDED)
def test_the_view_says_what_vllm_recorded(name):
    recording = read_recording(FIXTURES, name)
    settings = recording.settings
    model = one_replica(settings, recording.step_time)
    cluster = Cluster(cluster_of(model), traffic(recording.requests), RunSpec(mode="reference"), None)
    engine = cluster.replicas[0].engine
    engine._idle_sleep_s = recording.idle_sleep_s
    seen = []
    watcher = StepWatcher(engine, "m/0", seen.append)
    cluster.simulate()
    watcher.hand_over()
    assert len(seen) == len(recording.step_rows) > 0
    for view, row in zip(seen, recording.step_rows, strict=True):
        assert recorded_figures(view) == {key: row[key] for key in recorded_figures(view)}, (name, view.number)
        for column, value in (("t_sched", view.scheduled_s), ("t_start", view.start_s), ("t_end", view.end_s)):
            assert value == pytest.approx(float(row[column]), abs=TIME_TOLERANCE_S)
        assert bool(view.waiting) == (row["waiting"] != "0")
        assert view.running == len(view.batch) + len(view.left_out)
        check_refusal(view, settings)


def recorded_figures(view):
    """The columns of a recording that a view has, too."""
    kinds = {"prefill": lambda entry: "P" if entry.output else "p", "decode": lambda entry: "d"}
    return {
        "step": str(view.number),
        "n_tokens": str(view.tokens),
        "running": str(view.running),
        "waiting": str(len(view.waiting)),
        "blocks_used": str(view.blocks_used),
        "blocks_free": str(view.blocks_total - view.blocks_used),
        "new": " ".join(entry.request for entry in view.batch if entry.entered == "admitted"),
        "resumed": " ".join(entry.request for entry in view.batch if entry.entered == "resumed"),
        "preempted": " ".join(one.request for one in view.preempted),
        "finished": " ".join(view.finished),
        "items": ";".join(
            f"{entry.request}:{entry.tokens}:{entry.before}:{kinds[entry.kind](entry)}" for entry in view.batch
        ),
    }


def check_refusal(view, settings):
    """What the head of the queue is said to lack is lacking, by the figures of vLLM's own step."""
    if not view.waiting:
        return
    head, *others = view.waiting
    assert all(one.lack == "queue" for one in others)
    left = view.token_budget - view.tokens
    lacking = {
        "token budget": left == 0,
        "whole prompt": not settings.enable_chunked_prefill and head.tokens > left,
        "seat": view.running >= view.seats,
        "preemption": bool(view.preempted),
    }
    if head.lack in lacking:
        assert lacking[head.lack], (view.number, head)
    elif not settings.enable_prefix_caching:
        # Blocks: nothing else stood in the way, and the sequence is longer than what is free.
        assert left > 0
        assert view.running < view.seats
        assert not view.preempted
        free = (view.blocks_total - view.blocks_used) * settings.block_size
        chunk = min(head.tokens, left) if head.lack == "KV blocks" else head.tokens
        assert chunk > free - settings.watermark_blocks * settings.block_size - settings.block_size


# ---------------------------------------------------------------------- a scenario


@pytest.mark.parametrize(
    ("name", "overrides"),
    [("mm1", ["workload.requests=40"]), ("kv-pressure", ["workload.duration_s=20"])],
)
def test_walking_changes_nothing(name, overrides):
    scenario = load_scenario(name, overrides)
    seen = []
    assert walk_steps(scenario, lambda view: seen.append(view) is None) == len(seen)
    assert [view.number for view in seen] == list(range(len(seen)))
    result = simulate_replication(PreparedScenario.of(scenario), 0)
    finish_s = {request: view.end_s for view in seen for request in view.finished}
    assert [finish_s[str(row)] for row in range(len(result.requests))] == list(result.requests.finish_s)


def test_a_walk_ends_when_told_and_begins_when_told():
    scenario = load_scenario("mm1", ["workload.requests=40"])
    seen = []
    walk_steps(scenario, lambda view: seen.append(view) is None, from_s=20.0)
    assert seen[0].scheduled_s >= 20.0 > 0
    assert seen[0].number > 0
    few = []
    assert walk_steps(scenario, lambda view: few.append(view) is None and len(few) < 3, from_s=20.0) == 3
    assert few == seen[:3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replica": "server/1"}, "unknown replica 'server/1'; did you mean 'server/0'"),
        (
            {"from_s": 1e9},
            "server/0 computes no step from 1e+09 s on, and the run ends at 17.3869 s; choose an earlier --from",
        ),
        ({"from_s": -1.0}, "--from is -1.0; allowed: a finite number >= 0"),
        ({"from_s": float("nan")}, "--from is nan"),
        ({"from_s": float("inf")}, "--from is inf"),
    ],
)
def test_walks_that_cannot_be(options, message):
    with pytest.raises(InputError) as error:
        walk_steps(load_scenario("mm1", ["workload.requests=5"]), lambda view: True, **options)
    assert message in str(error.value)


# ---------------------------------------------------------------------- the picture


def test_the_picture_can_be_read_without_colour():
    first, *_ = steps_of([request("long", 200), request("short", 10)], max_num_batched_tokens=64)
    text = picture(first)
    assert "\x1b" not in text
    assert text.splitlines()[0] == "m/0  step 0  0.0000 s to 0.0156 s, 15.62 ms"
    for part in ("64 of 64", "0 left of the budget", "64 of 200 computed", "admitted  long", "waiting", "10 tokens"):
        assert part in text
    assert max(map(len, text.splitlines())) <= 120


def test_a_crowd_is_counted():
    many = [request(f"r{number}", 4, 9) for number in range(40)]
    steps = steps_of(many, max_num_seqs=30)
    text = picture(steps[1])
    assert "and 20 more  decode  20 tokens" in text
    assert "10 more" not in text
    assert steps[1].waiting[-1].request == "r39"
    admitted = next(line for line in picture(steps[0]).splitlines() if "admitted" in line)
    assert admitted.endswith("r9 and 20 more")


@pytest.mark.parametrize(("used", "filled"), [(0, 0), (1, 1), (500, 12), (999, 23), (1000, 24), (1200, 24)])
def test_a_bar_shows_more_than_nothing_and_less_than_all(used, filled):
    assert bar(used, 1000, unicode=False) == "#" * filled + "." * (24 - filled)


def test_passed_steps_are_one_line():
    steps = steps_of([request("a", 4, 3), request("b", 4, 2)])
    console = Console(file=StringIO(), width=100, highlight=False)
    draw_skipped(console, [])
    draw_skipped(console, steps)
    assert console.file.getvalue() == "... 3 steps passed: 2 admitted, 2 finished, 0 preempted\n\n"


# ---------------------------------------------------------------------- keys


def shown_with(keys, views, numbers=()):
    """Numbers of the steps that are shown to somebody who presses these keys."""
    pressed, counts = iter(keys), iter(numbers)
    pace = Pace(lambda: next(pressed), lambda: next(counts))
    shown = []
    for view in views:
        if pace.shows(view):
            shown.append(view.number)
            if not pace.goes_on():
                break
    return shown


def test_keys_set_the_pace():
    views = steps_of([request("a", 4, 8), request("b", 4, 4, at=2.5 * TICK_S)])
    assert [view.number for view in views if view.is_eventful] == [0, 3, 6, 7]
    assert shown_with("\r \nq", views) == [0, 1, 2, 3]
    assert shown_with("fxFq", views) == [0, 3, 6]
    assert shown_with("n\rq", views, [4]) == [0, 4, 5]
    assert shown_with(["n", "n", "\r", ""], views, [None, 2]) == [0, 2, 3]
    assert shown_with(["\r\r\r", "\x1b[A", "\x1b"], views) == [0, 1]


# ---------------------------------------------------------------------- the command


QUICK = ("mm1", "--set", "workload.requests=30")


def test_without_a_terminal_it_prints_some_steps_and_ends(routerwise):
    status, out, err = routerwise("step", *QUICK, "--steps", 3)
    assert (status, err) == (0, "")
    assert out.count("server/0  step ") == 3
    status, out, _ = routerwise("step", *QUICK)
    assert out.count("server/0  step ") == 10


def test_json_has_the_steps(routerwise):
    status, out, _ = routerwise("step", *QUICK, "--steps", 2, "--seed", 5, "--json")
    values = json.loads(out)
    assert status == 0
    assert (values["scenario"], values["replica"]) == ("mm1", "server/0")
    assert [step["number"] for step in values["steps"]] == [0, 1]
    assert values["steps"][0]["batch"][0]["kind"] == "prefill"
    other = json.loads(routerwise("step", *QUICK, "--steps", 2, "--json")[1])
    assert other["steps"][0]["start_s"] != values["steps"][0]["start_s"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-scenario",),
        (*QUICK, "--replica", "server/9"),
        (*QUICK, "--from", "-1"),
        (*QUICK, "--from", "nan"),
        (*QUICK, "--set", "workload.requestz=1"),
    ],
)
def test_mistakes_are_one_line(routerwise, arguments):
    status, out, err = routerwise("step", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("typed", ["²", "0", "-1", "1.5", "two"])
def test_what_is_no_number_of_steps_is_refused(typed, monkeypatch, capsys):
    monkeypatch.setattr("click.prompt", lambda *_, **__: typed)
    assert ask_steps() is None
    assert "allowed: a whole number, at least 1" in capsys.readouterr().out


def on_a_terminal(arguments, keys, number=""):
    """Run the command on a terminal, press a key after each help line, and return status and what it showed."""
    code = "import sys; from scenarios.cli import main; main(sys.argv[1:])"
    main_end, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code, "step", *arguments],
        stdin=end, stdout=end, stderr=end, cwd=ROOT, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        start_new_session=True, preexec_fn=_take_terminal,
    )  # fmt: skip
    os.close(end)
    shown, waiting, deadline = "", list(keys), time.monotonic() + 20
    answered = 0
    while time.monotonic() < deadline:
        if not select.select([main_end], [], [], 0.2)[0]:
            if process.poll() is not None:
                break
            continue
        try:
            shown += os.read(main_end, 65536).decode()
        except OSError:
            break
        while waiting and shown.count("q quit") > answered:
            answered += 1
            time.sleep(0.1)
            os.write(main_end, waiting.pop(0).encode())
        if number and "[10]:" in shown:
            os.write(main_end, number.encode())
            number = ""
    os.close(main_end)
    return process.wait(timeout=5), re.sub("\x1b\\[[0-9;]*m", "", shown)


def _take_terminal():
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_on_a_terminal_it_waits_for_keys():
    status, shown = on_a_terminal(QUICK, ["\r", "n", "q"], number="4\r")
    assert status == 0, shown
    assert [f"step {number} " in shown for number in range(7)] == [True, True, False, False, False, True, False]
    assert "3 steps passed" in shown
    assert "6 steps" in shown


def test_ctrl_c_ends_it_cleanly():
    status, shown = on_a_terminal(QUICK, ["\x03"])
    assert status == 130
    assert "interrupted" in shown
    assert "Traceback" not in shown
