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
"""Burstiness: the same mean rate, nineteen times the wait (the lesson as a notebook)."""

# %% [markdown]
# # Burstiness: the same mean rate, nineteen times the wait
#
# One prefill worker, 0.15 s for a prompt, three streams of requests with the same mean rate of 4 per second.

# %%
import math

import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt

from analysis.queueing.bursts import TwoStateArrivals, index_of_dispersion, two_state_m_1
from analysis.queueing.single_server import mm1
from analysis.queueing.variability import gamma_m_1, kingman
from scenarios.lessons.notebook_setting import replications, show_picture
from scenarios.theory.evidence import Row, check_rows, mean_over
from scenarios.theory.stationary import stationary_runs

sns.set_theme(style="whitegrid", palette="colorblind")
REPLICATIONS = replications(8)
STREAMS = {
    "Poisson": "{kind: poisson, rate_per_s: 4}",
    "clumped gaps": "{kind: gamma, rate_per_s: 4, cv: 2}",
    "rate bursts": "{kind: mmpp2, rates_per_s: [2, 12], sojourns_s: [20, 5]}",
}
runs = {
    name: stationary_runs(
        "scenario.yaml", [f"workload.arrivals={arrivals}", "workload.requests=5000"], replications=REPLICATIONS
    )
    for name, arrivals in STREAMS.items()
}

# %% [markdown]
# ## They look alike from afar
#
# Arrivals in every ten seconds. The mean is the same; a daily average sees no difference.

# %%
figure, axes = plt.subplots(len(runs), 1, figsize=(8, 6), sharex=True, sharey=True)
for panel, (name, found) in zip(axes, runs.items(), strict=True):
    first = found[0].arrival_s
    counts, edges = np.histogram(first, np.arange(first[0], first[0] + 600, 10))
    panel.step(edges[:-1] - edges[0], counts / 10, where="post")
    panel.axhline(4, color="0.5", linewidth=1)
    panel.set(ylabel="requests/s", title=name)
axes[-1].set(xlabel="time (s)", ylim=(0, None))
show_picture(figure, "arrivals")

# %% [markdown]
# ## The waits do not

# %%
waits = {name: mean_over(found, lambda run: run.wait_s.mean()) for name, found in runs.items()}
for name, wait in waits.items():
    print(f"{name:13} mean wait {wait.estimate:5.2f} s  (99 % interval {wait.low:.2f} to {wait.high:.2f})")

# %% [markdown]
# ## The index of dispersion tells
#
# Variance over mean of the counts in windows, for windows of growing length. The line is the formula for rate bursts.

# %%
windows = np.geomspace(0.2, 50, 12)
bursts = TwoStateArrivals(rates_per_s=(2, 12), sojourns_s=(20, 5))
figure, axes = plt.subplots(figsize=(7, 4.5))
for name, found in runs.items():
    measured = [
        np.mean(
            [
                index_of_dispersion(
                    np.histogram(run.arrival_s, np.arange(run.arrival_s[0], run.arrival_s[-1], window))[0]
                )
                for run in found
            ]
        )
        for window in windows
    ]
    axes.plot(windows, measured, "o", label=name)
axes.plot(windows, [bursts.dispersion(window) for window in windows], color="0.4", label="theory, rate bursts")
axes.set(xscale="log", yscale="log", xlabel="window (s)", ylabel="index of dispersion")
axes.set_xticks([0.2, 1, 10, 50], ["0.2", "1", "10", "50"])
axes.set_yticks([1, 3, 10, 30], ["1", "3", "10", "30"])
axes.legend()
show_picture(figure, "dispersion")

# %% [markdown]
# ## Kingman's formula, fed with the right figure and with the wrong one

# %%
by_gaps = kingman(4, 0.15, arrival_cv2=bursts.gap_cv2, service_cv2=1).mean_wait_s
by_windows = kingman(4, 0.15, arrival_cv2=bursts.dispersion(math.inf), service_cv2=1).mean_wait_s
exact = two_state_m_1(bursts, 0.15).mean_wait_s
print(f"variation of the gaps {bursts.gap_cv2:.2f}: Kingman promises {by_gaps:.2f} s")
print(f"dispersion of long windows {bursts.dispersion(math.inf):.0f}: Kingman promises {by_windows:.2f} s")
print(f"exact: {exact:.2f} s, simulated: {waits['rate bursts'].estimate:.2f} s")

# %% [markdown]
# How long bursts last decides. Shorten them, all rates the same:

# %%
lasting = np.geomspace(0.1, 60, 60)
figure, axes = plt.subplots(figsize=(7, 4))
theory = [
    two_state_m_1(TwoStateArrivals(rates_per_s=(2, 12), sojourns_s=(4 * last, last)), 0.15).mean_wait_s
    for last in lasting
]
axes.plot(lasting, theory, label="exact")
axes.axhline(mm1(4, 0.15).mean_wait_s, color="0.5", linestyle="--", label="Poisson")
axes.errorbar(
    5, waits["rate bursts"].estimate, yerr=waits["rate bursts"].half_width, marker="o", capsize=4, label="simulated"
)
axes.set(xscale="log", yscale="log", xlabel="mean length of a burst (s)", ylabel="mean wait (s)")
axes.set_xticks([0.1, 1, 10, 60], ["0.1", "1", "10", "60"])
axes.set_yticks([0.2, 1, 5, 20], ["0.2", "1", "5", "20"])
axes.legend()
show_picture(figure, "length-of-bursts")

# %% [markdown]
# ## What must hold

# %%
rows = [
    Row(
        quantity="mean wait, Poisson",
        unit="s",
        theory=mm1(4, 0.15).mean_wait_s,
        simulated=waits["Poisson"],
        tolerance=0.01,
    ),
    Row(
        quantity="mean wait, clumped gaps",
        unit="s",
        theory=gamma_m_1(4, 0.15, arrival_cv2=4).mean_wait_s,
        simulated=waits["clumped gaps"],
        tolerance=0.01,
    ),
    Row(quantity="mean wait, rate bursts", unit="s", theory=exact, simulated=waits["rate bursts"], tolerance=0.01),
    Row(
        quantity="mean wait, clumped gaps, if they were Poisson",
        unit="s",
        theory=mm1(4, 0.15).mean_wait_s,
        simulated=waits["clumped gaps"],
        claim="differs",
    ),
]
check_rows(rows)
assert waits["rate bursts"].estimate > 5 * by_gaps, "the gaps' variation should be far from telling"
assert waits["rate bursts"].estimate > 3 * waits["clumped gaps"].estimate, "rate bursts should wait longest"
print("theory and simulation are where they should be")
