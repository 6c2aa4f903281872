# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---
"""Tails: percentiles do not add (the lesson as a notebook)."""

# %% [markdown]
# # Tails: percentiles do not add
#
# Calls of 0.2 s of work at an engine that runs one at a time and is busy for 70 % of its time. Latency is exponential
# with a mean of 0.667 s, and one call in a hundred takes longer than 3.07 s.

# %%
import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from scipy.stats import gamma

from analysis.queueing.single_server import mm1_sojourn_quantile_s
from analysis.statistics import Interval, quantile_interval
from scenarios.lessons.notebook_setting import replications, show_picture
from scenarios.theory.evidence import Row, check_rows, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs
from sim.results import Floats

sns.set_theme(style="whitegrid", palette="colorblind")
REPLICATIONS = replications(8)
P99_S = mm1_sojourn_quantile_s(3.5, 0.2, 0.99)
MEAN_S = 0.2 / 0.3
runs = stationary_runs("scenario.yaml", replications=REPLICATIONS)


def grouped(run: StationaryRun, size: int) -> Floats:
    """Latencies in random groups, one row each: calls that know nothing of each other."""
    shuffled = np.random.default_rng(0).permutation(run.sojourn_s)
    return shuffled[: len(shuffled) // size * size].reshape(-1, size)


# %% [markdown]
# ## Fan-out and calls in a row
#
# The share of answers that take longer than the time on the axis: for one call, for two in a row, and for the
# slowest of ten at once. The dotted line is the P99 of one call.

# %%
figure, axes = plt.subplots(figsize=(7.5, 4.2))
cases = {
    "one call": [run.sojourn_s for run in runs],
    "two in a row": [grouped(run, 2).sum(axis=1) for run in runs],
    "slowest of ten": [grouped(run, 10).max(axis=1) for run in runs],
}
for (label, found), style in zip(cases.items(), ("-", "--", "-."), strict=True):
    times = np.sort(np.concatenate(found))
    axes.plot(times, 1 - np.arange(len(times)) / len(times), style, label=label, linewidth=2)
axes.axvline(P99_S, color="0.3", linestyle=":")
axes.set(xlim=(0, 8), yscale="log", ylim=(1e-3, 1.2), xlabel="latency (s)", ylabel="share that takes longer")
axes.set_yticks([1, 0.1, 0.01, 0.001], ["100 %", "10 %", "1 %", "0.1 %"])
axes.legend()
show_picture(figure, "fan-out")

# %% [markdown]
# ## How sure is a P99?
#
# Every 900 requests in a row somebody computes the P99 and an interval that would hold it in 95 % of all cases, if
# requests were independent. The line is the truth.

# %%
WINDOW = 900
windows = [
    run.sojourn_s[start : start + WINDOW]
    for run in runs
    for start in range(0, len(run.sojourn_s) - WINDOW + 1, WINDOW)
]  # fmt: skip
intervals = [quantile_interval(window, 0.99, confidence=0.95) for window in windows]
covered = np.array([interval.contains(P99_S) for interval in intervals])
figure, axes = plt.subplots(figsize=(8, 3.8))
for number, (interval, hit) in enumerate(zip(intervals[:30], covered, strict=False)):
    colour = sns.color_palette()[0 if hit else 3]
    axes.plot([number, number], [interval.low, min(interval.high, 12)], color=colour, linewidth=2)
    axes.plot(number, interval.estimate, "o" if hit else "x", color=colour)
axes.axhline(P99_S, color="0.3", label="true P99")
axes.set(xlabel="window of 900 requests in a row (crosses: the interval misses)", ylabel="P99 and its interval (s)")
axes.legend(loc="upper right")
show_picture(figure, "how-sure")
print(f"{covered.mean():.0%} of {len(covered)} intervals hold the P99; 95 % should")

# %% [markdown]
# ## What the mean hides
#
# An engine that all present share. Answers of 200 tokens each, or of 200 on average with a coefficient of variation
# of 3.

# %%
SHARED = (
    "models.server.latency={kind: linear, base_s: 0, per_sequence_s: 1.0e-3}",
    "models.server.engine.max_num_seqs=512",
    "workload.requests=3000",
)
LENGTHS = {"all equal": "{kind: constant, tokens: 200}", "CV 3": "{kind: lognormal, mean: 200, cv: 3, maximum: 90000}"}
shared = {
    label: stationary_runs(
        "scenario.yaml",
        [*SHARED, f"workload.lengths={{prompt: {{kind: constant, tokens: 1}}, output: {output}}}"],
        replications=REPLICATIONS,
    )
    for label, output in LENGTHS.items()
}
statistics = {"median": 0.5, "mean": None, "P99": 0.99}


def statistic(found: list[StationaryRun], quantile: float | None) -> Interval:
    """A quantile, or the mean, over replications."""
    return mean_over(
        found, lambda run: run.sojourn_s.mean() if quantile is None else np.quantile(run.sojourn_s, quantile)
    )


figure, axes = plt.subplots(figsize=(7, 4))
for shift, (label, found) in zip((-0.2, 0.2), shared.items(), strict=True):
    values = [statistic(found, quantile).estimate for quantile in statistics.values()]
    bars = axes.bar(np.arange(3) + shift, values, width=0.38, label=f"answers: {label}")
    axes.bar_label(bars, fmt="%.2f s", fontsize=9)
axes.set(ylabel="latency (s)")
axes.set_xticks(range(3), list(statistics))
axes.legend()
show_picture(figure, "means-hide")

# %% [markdown]
# ## What must hold

# %%
in_a_row = mean_over(runs, lambda run: np.quantile(grouped(run, 2).sum(axis=1), 0.99))
rows = [
    Row(
        quantity="P99 of one call",
        unit="s",
        theory=P99_S,
        simulated=mean_over(runs, lambda run: np.quantile(run.sojourn_s, 0.99)),
    ),
    Row(
        quantity="answers of ten calls later than that",
        unit="",
        theory=1 - 0.99**10,
        simulated=mean_over(runs, lambda run: (grouped(run, 10).max(axis=1) > P99_S).mean()),
    ),
    Row(
        quantity="P99 of two in a row", unit="s", theory=float(gamma.ppf(0.99, 2)) * MEAN_S, simulated=in_a_row
    ),
    Row(quantity="sum of the P99s", unit="s", theory=2 * P99_S, claim="differs", tolerance=0.05, simulated=in_a_row),
    *(
        Row(quantity=f"mean, {label}", unit="s", theory=MEAN_S, tolerance=0.03, simulated=statistic(found, None))
        for label, found in shared.items()
    ),
]  # fmt: skip
check_rows(rows)
assert covered.mean() < 0.85, "requests in a row are not independent"
tails_s = {label: statistic(found, 0.99).estimate for label, found in shared.items()}
assert tails_s["CV 3"] > 1.8 * tails_s["all equal"], "the same mean, another tail"
print("theory and simulation are where they should be")
