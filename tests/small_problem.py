"""A small problem file with measured curves and a prompt table, for tests that change one thing of it."""

import copy

import numpy as np
import yaml

VALUES = {
    "gpus": {"count": 2, "memory_gib": 80, "usable": 0.9},
    "models": {
        "small": {"memory": {"weights_gib": 14, "kv_gib": 5}},
        "large": {"memory": {"per_shard_gib": {1: 70, 2: 37}}, "optional": True},
    },
    "curves": {"path": "curves.csv"},
    "prompts": {"path": "prompts.csv"},
    "loads": 20,
    "slos": [{"metric": "ttft", "target_ms": 100}],
}


def curve_rows(model, base_ms, capacity, tps=(1, 2), shares=(0.5, 1.0)):
    """TTFT as of M/M/1 at six loads, for each tp and share."""
    rows = []
    for tp in tps:
        for share in shares:
            speed = tp**0.8 * (0.2 + 0.8 * share)
            for load in (0.0, 0.3, 0.6, 0.8, 0.9, 0.97):
                ttft = base_ms / speed / (1.0 - load)
                rows.append([model, tp, share, load * capacity * speed, ttft, 3.0 * ttft])
    return rows


def write_problem(folder, change=None, rows=None, prompts=None):
    """Write the three files; ``change`` gets the values of the problem file and may alter them."""
    rows = curve_rows("small", 20, 30) + curve_rows("large", 60, 10) if rows is None else rows
    lines = ["model,tp,compute_share,rate_per_s,ttft_mean_ms,ttft_p95_ms", *(",".join(map(str, row)) for row in rows)]
    (folder / "curves.csv").write_text("\n".join(lines) + "\n")
    if prompts is None:
        scores = np.random.default_rng(1).beta(2, 2, (200, 2)) * (0.7, 1.0)
        prompts = "prompt_id,predicted.small,predicted.large,outcome.small,outcome.large\n" + "".join(
            f"p{i},{small:.4f},{large:.4f},{int(small > 0.4)},{int(large > 0.4)}\n"
            for i, (small, large) in enumerate(scores)
        )
    (folder / "prompts.csv").write_text(prompts)
    values = copy.deepcopy(VALUES)
    if change is not None:
        change(values)
    path = folder / "problem.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path
