"""Small problems with queue-like curves, for tests of methods that try many setups."""

import numpy as np

from latency_models.curves.load_latency import Configuration, LoadLatencyCurve
from optimizer.problem import LoadCase, ModelOptions, Option, Problem, SloTarget
from sim.prompt_table import PromptTable

WEIGHTS_GB = (14.5, 26.0, 68.8)


def queue_curve(model, tp, compute_share, base_s, capacity, replicas=1, points=12):
    """Mean TTFT as of M/M/1, up to 97 % of the capacity in requests/s."""
    rates = np.linspace(0.0, 0.97 * capacity, points)
    return LoadLatencyCurve(
        configuration=Configuration(model=model, tp=tp, compute_share=compute_share, replicas=replicas),
        rates_per_s=tuple(rates.tolist()),
        statistics={"ttft_mean_s": tuple((base_s / (1.0 - rates / capacity)).tolist())},
    )


def option(number, weights_gb, tp, share, replicas=1):
    """Model ``number`` is twice as slow as the one before; half the compute is more than half the speed."""
    speed = tp**0.8 * (0.2 + 0.8 * share) * replicas
    curve = queue_curve(f"m{number}", tp, share, 0.033 * 2**number / speed, 60.0 / 1.8**number * speed, replicas)
    return Option(tp=tp, compute_share=share, replicas=replicas, memory_share=(weights_gb / tp + 3) / 72, curve=curve)


def setups_problem(
    *, gpus=4, load=50.0, target_s=0.3, packing="memory", prompts=300, shares=(0.4, 0.7, 1.0), tps=(1, 2, 4), **changes
):
    """Three models of the publication's sizes; the larger one is, the better it answers."""
    scores = np.random.default_rng(3).beta(2, 2, (prompts, 3)) * np.array([0.6, 0.8, 1.0])
    values = {
        "gpus": gpus,
        "models": tuple(
            ModelOptions(
                name=f"m{number}",
                options=tuple(option(number, weights, tp, share) for tp in tps for share in shares),
            )
            for number, weights in enumerate(WEIGHTS_GB)
        ),
        "table": PromptTable(models=("m0", "m1", "m2"), predicted=scores),
        "loads": (LoadCase(rate_per_s=load),),
        "slos": (SloTarget(metric="ttft", target_s=target_s),),
        "packing": packing,
    }
    return Problem(**{**values, **changes})
