"""What prompts of a recorded load have in common beyond what its log says: prefixes by phase, chat templates."""

import csv

import pytest
import yaml

from latency_models.errors import InputError
from scenarios.measurements.conversations import ConversationTraffic
from scenarios.measurements.logs import read_log
from scenarios.measurements.measurement_files import load_measurement
from scenarios.measurements.replay import replay

SERVER = {
    "source": "made up",
    "model": "toy",
    "gpu": "none",
    "engine_version": "vLLM 0.19.0",
    "latency": {"kind": "linear", "base_s": 0.01, "per_token_s": 1e-3},
    "engine": {"num_gpu_blocks": 2000, "async_scheduling": False},
}
PHASES = {
    "kind": "requests",
    "path": "log.csv",
    "columns": {"arrival": "at_s", "prompt_tokens": "in", "output_tokens": "out", "ttft": "ttft_s"},
    "shared_prefix_tokens": 320,
    "new_prefix_rows": [2, 4],
}
TURNS = {
    "kind": "conversations",
    "path": "log.csv",
    "columns": {
        "client": "client",
        "conversation": "conversation",
        "arrival": "at_s",
        "prompt_tokens": "in",
        "output_tokens": "out",
        "e2e": "e2e_s",
    },
}


def measurement(folder, log, rows):
    with (folder / "log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump(SERVER | {"log": log}))
    return load_measurement(str(path))


def phases(folder, **changes):
    rows = [{"at_s": 10.0 * row, "in": 400, "out": 2, "ttft_s": 0.1} for row in range(6)]
    return measurement(folder, PHASES | changes, rows)


def ttfts(made):
    return replay(made, read_log(made.log)).predicted["ttft"].tolist()


def test_the_first_request_of_a_phase_finds_no_prefix_in_the_cache(tmp_path):
    whole, rest = 0.01 + 0.4, 0.01 + 0.08
    assert ttfts(phases(tmp_path)) == pytest.approx([whole, rest, whole, rest, whole, rest])
    assert ttfts(phases(tmp_path, new_prefix_rows=[])) == pytest.approx([whole, *5 * [rest]])


def test_a_new_prefix_must_begin_inside_the_log(tmp_path):
    with pytest.raises(InputError, match=r"new_prefix_rows is 6; allowed: rows of the log, which has 6"):
        ttfts(phases(tmp_path, new_prefix_rows=[2, 6]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared_prefix_tokens": 0}, "new_prefix_rows has no effect without shared_prefix_tokens"),
        ({"new_prefix_rows": [4, 2]}, "must rise"),
        ({"new_prefix_rows": [2, 2]}, "must rise"),
        ({"new_prefix_rows": [-1]}, "new_prefix_rows"),
    ],
)
def test_wrong_rows_of_new_prefixes_are_named(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        phases(tmp_path, **changes)


def turns(folder, **changes):
    rows = [
        {"client": 1, "conversation": "a", "at_s": 0.0, "in": 50, "out": 20, "e2e_s": 1.0},
        {"client": 2, "conversation": "b", "at_s": 0.5, "in": 7, "out": 5, "e2e_s": 1.0},
        {"client": 1, "conversation": "a", "at_s": 2.0, "in": 90, "out": 10, "e2e_s": 1.0},
        {"client": 1, "conversation": "a", "at_s": 4.0, "in": 130, "out": 10, "e2e_s": 1.0},
    ]
    return measurement(folder, TURNS | changes, rows)


def requests_of(made):
    """Every request, the first turns before those that follow."""
    section = made.log
    traffic = ConversationTraffic(
        read_log(section),
        reuse_answers=section.reuse_answers,
        template_tokens=section.template_tokens,
        template_tokens_per_message=section.template_tokens_per_message,
    )
    found = [spec for chunk in traffic.chunks() for spec in chunk.specs()]
    for spec in found:
        found += traffic.follow_ups(spec.request_id, 100.0)
    return {int(spec.request_id): spec for spec in found}


def test_a_chat_template_lengthens_prompts_by_their_messages(tmp_path):
    specs = requests_of(turns(tmp_path, template_tokens=30, template_tokens_per_message=5))
    # One message, then two more of each earlier turn.
    lengths = [specs[row].prompt_tokens for row in range(4)]
    assert lengths == [50 + 35, 7 + 35, 90 + 45, 130 + 55]
    for row, earlier in ((2, 0), (3, 2)):
        history = (*specs[earlier].content, (f"out:{earlier}", specs[earlier].output_tokens))
        assert specs[row].content[: len(history)] == history
        assert sum(tokens for _, tokens in specs[row].content) == specs[row].prompt_tokens


def test_without_a_template_prompts_are_as_long_as_logged(tmp_path):
    assert [requests_of(turns(tmp_path))[row].prompt_tokens for row in range(4)] == [50, 7, 90, 130]


def test_the_replay_uses_the_template(tmp_path):
    plain, chat = (turns(tmp_path, template_tokens=tokens) for tokens in (0, 100))
    assert ttfts(chat)[1] == pytest.approx(ttfts(plain)[1] + 0.1)
