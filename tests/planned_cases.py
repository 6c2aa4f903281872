"""A small scenario with a prompt table, a queue of known waiting times, and plans for both."""

import copy

import numpy as np
import yaml

from optimizer.plan import Plan
from scenarios.scenario_files import load_scenario

SERVICE_S, RATE_PER_S = 0.1, 5.0
MD1_TTFT_S = SERVICE_S + 0.5 * SERVICE_S / (2 * (1 - 0.5))
"""Mean time to first token of an M/D/1 queue at 50 % load whose answers are one token: service and mean wait."""

QUEUE = {
    "name": "queue",
    "models": {
        "server": {
            "latency": {"kind": "linear", "base_s": SERVICE_S},
            "engine": {"num_gpu_blocks": 5000, "max_num_seqs": 1, "async_scheduling": False},
        }
    },
    "workload": {
        "kind": "synthetic",
        "arrivals": {"kind": "poisson", "rate_per_s": RATE_PER_S},
        "lengths": {"prompt": {"kind": "constant", "tokens": 10}, "output": {"kind": "constant", "tokens": 1}},
        "requests": 2000,
    },
    "run": {"warmup": 5},
}

PRICE, FRACTION = 0.2, 0.4
"""Of the large model; it answers the prompts whose score it raises by more."""

_MODEL = {
    "latency": {"kind": "linear", "base_s": 0.01, "per_sequence_s": 0.001},
    "engine": {"num_gpu_blocks": 5000, "max_num_seqs": 64},
}
PAIR = {
    "name": "pair",
    "gpus": {"count": 2},
    "models": {"small": _MODEL, "large": _MODEL},
    "routing": "round-robin",
    "prompts": {"table": {"path": "prompts.csv"}, "lengths": "table"},
    "workload": {
        "kind": "synthetic",
        "arrivals": {"kind": "poisson", "rate_per_s": 20},
        "lengths": {"prompt": {"kind": "constant", "tokens": 10}, "output": {"kind": "constant", "tokens": 10}},
        "requests": 300,
    },
    "run": {"warmup": 1},
}


def queue(folder, change=None):
    """The queue as a scenario; ``change`` gets its values and may alter them."""
    return load_scenario(str(queue_file(folder, change)))


def queue_file(folder, change=None):
    return _write(folder / "queue.yaml", QUEUE, change)


def queue_plan(target_s=0.2, *, metric="ttft", statistic="mean", promised_s=MD1_TTFT_S, rate_per_s=RATE_PER_S):
    """A plan for the queue, with one SLO."""
    late_share = None if statistic == "mean" else round(1 - int(statistic[1:]) / 100, 10)
    return Plan.model_validate(
        {
            "name": "one",
            "gpus": {"count": 1},
            "models": {"server": {"tp": 1, "compute_share": 1.0, "memory_share": 1.0, "replicas": [[0]]}},
            "routing": [{"rate_per_s": rate_per_s, "prices": {"server": 0.0}, "fractions": {"server": 1.0}}],
            "promise": _promise(
                rate_per_s,
                {"server": {f"{metric}_{statistic}_s": promised_s}},
                {"metric": metric, "statistic": statistic, "target_s": target_s, "value": promised_s}
                | {"limit": target_s if late_share is None else late_share},
            ),
        }
    )


def pair(folder, change=None):
    """Two models that route by score; see :func:`queue`."""
    return load_scenario(str(pair_file(folder, change)))


def pair_file(folder, change=None):
    write_prompts(folder / "prompts.csv")
    return _write(folder / "pair.yaml", PAIR, change)


def pair_plan(target_s=1.0, change=None):
    """A plan for the pair whose prices and fractions agree, one GPU for each model."""
    one = {"tp": 1, "compute_share": 1.0, "memory_share": 1.0}
    values = {
        "name": "both",
        "gpus": {"count": 2},
        "models": {"small": {**one, "replicas": [[0]]}, "large": {**one, "replicas": [[1]]}},
        "routing": [
            {
                "rate_per_s": 20.0,
                "prices": {"small": 0.0, "large": PRICE},
                "fractions": {"small": 1 - FRACTION, "large": FRACTION},
            }
        ],
        "promise": _promise(
            20.0,
            {"small": {"ttft_mean_s": 0.02}, "large": {"ttft_mean_s": 0.02}},
            {"metric": "ttft", "statistic": "mean", "target_s": target_s, "value": 0.02, "limit": target_s},
        ),
    }
    if change is not None:
        change(values)
    return Plan.model_validate(values)


def write_prompts(path, prompts=100):
    """Predictions, outcomes that are half of them, and lengths that are long where the large model is better."""
    rng = np.random.default_rng(1)
    small = rng.uniform(0.2, 0.5, prompts)
    gain = np.where(np.arange(prompts) < FRACTION * prompts, 0.4, 0.1)
    tokens = np.where(gain > PRICE, 30, 6)
    lines = ["prompt_id," + ",".join(f"{what}.{m}" for what in _COLUMNS for m in ("small", "large"))]
    for i in range(prompts):
        scores = (small[i], small[i] + gain[i])
        values = [*scores, *(0.5 * score for score in scores), tokens[i], tokens[i]]
        lines.append(f"p{i}," + ",".join(f"{value:.6f}" for value in values))
    path.write_text("\n".join(lines) + "\n")


_COLUMNS = ("predicted", "outcome", "output_tokens")


def _promise(rate_per_s, latency_s, slo):
    load = {
        "rate_per_s": rate_per_s,
        "score": 0.5,
        "outcome": 0.25,
        "latency_s": latency_s,
        "slos": [{**slo, "beta": 0.0, "score_per_s": 0.0}],
    }
    return {"score": 0.5, "bound": None, "gap": None, "loads": [load]}


def _write(path, values, change):
    values = copy.deepcopy(values)
    if change is not None:
        change(values)
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path
