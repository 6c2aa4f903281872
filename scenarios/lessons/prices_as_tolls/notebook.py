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
"""Prices as tolls: Pigou, Braess, and a router that charges (the lesson as a notebook)."""

# %% [markdown]
# # Prices as tolls
#
# Five requests a second choose between a shared replica (0.2 s of service, one at a time) and a remote service that
# always takes 1 s.

# %%
import math

import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt

from analysis.queueing.single_server import mm1
from analysis.statistics import Interval
from scenarios.lessons.notebook_setting import replications, show_picture
from scenarios.lessons.prices_as_tolls.experiment import STAGES, optimizers_routing, selfish, staged
from scenarios.theory.evidence import Row, check_rows, mean_over
from scenarios.theory.stationary import stationary_runs

sns.set_theme(style="whitegrid", palette="colorblind")
REPLICATIONS = replications(5)


def mean_latency(*overrides: str) -> Interval:
    """Mean latency with its interval."""
    runs = stationary_runs("scenario.yaml", overrides, replications=REPLICATIONS)
    return mean_over(runs, lambda run: run.sojourn_s.mean())


def shared_s(rate: float) -> float:
    """Mean latency of the shared replica."""
    return mm1(rate, 0.2).mean_sojourn_s if rate else 0.2


def marginal_s(rate: float) -> float:
    """By how much one more request per second there raises the total of all latencies."""
    return 0.2 / (1 - 0.2 * rate) ** 2


# %% [markdown]
# ## What users see, and what they cost
#
# A user sees the latency (blue). One more request costs all together the marginal latency (orange). Users go on until
# blue reaches the remote second; a planner stops when orange does. The distance at that rate is the toll.

# %%
SELFISH, BEST = 4.0, (1 - math.sqrt(0.2)) / 0.2
TOLL_S = marginal_s(BEST) - shared_s(BEST)
rates = np.linspace(0, 4.2, 100)
figure, axes = plt.subplots(figsize=(7, 4.2))
axes.plot(rates, [shared_s(rate) for rate in rates], label="latency: what a user sees")
axes.plot(rates, [marginal_s(rate) for rate in rates], "--", label="marginal latency: what one more costs all")
axes.axhline(1.0, color="0.4", label="remote service")
axes.annotate("", (BEST, 1.0), (BEST, shared_s(BEST)), arrowprops={"arrowstyle": "<->", "color": "black"})
axes.text(BEST + 0.07, 0.75, f"toll {1000 * TOLL_S:.0f} ms", va="center")
axes.plot([SELFISH, BEST], [1.0, 1.0], "ko")
axes.annotate("users stop here", (SELFISH, 1.0), (3.05, 1.25), arrowprops={"arrowstyle": "-", "color": "0.5"})
axes.set(xlim=(0, 4.2), ylim=(0, 1.6), xlabel="requests per second at the shared replica", ylabel="seconds")
axes.legend(loc="upper left")
show_picture(figure, "toll")

# %% [markdown]
# ## Any share, simulated
#
# The mean over everybody, for fixed shares at the shared replica. Theory is the line.

# %%
SHARES = [0.2, BEST / 5, 0.8]


def mean_of_both_s(rate: float) -> float:
    """Mean latency over both routes."""
    return (rate * shared_s(rate) + (5 - rate) * 1.0) / 5


by_share = {
    share: mean_latency(
        f"routing={{kind: fractions, fractions: {{shared: {share}, remote: {1 - share}}}, variant: random}}"
    )
    for share in SHARES
}
free, charged = mean_latency(selfish(0.0)), mean_latency(selfish(TOLL_S))
figure, axes = plt.subplots(figsize=(7, 4))
axes.plot(rates / 5, [mean_of_both_s(rate) for rate in rates], color="0.4", label="theory")
axes.errorbar(
    SHARES,
    [found.estimate for found in by_share.values()],
    yerr=[found.half_width for found in by_share.values()],
    fmt="o",
    capsize=3,
    label="simulated, fixed share",
)
axes.axhline(free.estimate, color=sns.color_palette()[1], linestyle="--", label="users who choose")
axes.axhline(
    charged.estimate, color=sns.color_palette()[2], linestyle=":", linewidth=3, label="users who choose and pay"
)
axes.set(xlabel="share of the requests at the shared replica", ylabel="mean latency of all (s)", ylim=(0.5, 1.3))
axes.legend(loc="upper left", fontsize=9)
show_picture(figure, "shares")

# %% [markdown]
# ## The optimizer charges the same
#
# Its prices, divided by what a second of the target is worth, are seconds: own latency plus toll.

# %%
routing = optimizers_routing()
rate = 5 * routing.fractions[0]
prices_s = [price / routing.beta[0] for price in routing.prices]
print(f"shared replica: {rate:.2f} requests/s, price {prices_s[0]:.3f} s")
print(f"  latency {shared_s(rate):.3f} s + toll {marginal_s(rate) - shared_s(rate):.3f} s = {marginal_s(rate):.3f} s")
print(f"remote service: price {prices_s[1]:.3f} s = latency 1 s + no toll")

# %% [markdown]
# ## Braess: a route too many
#
# Draft and check, each shared or remote. First two routes, then a third that uses both shared replicas.

# %%
before = mean_latency(*STAGES, staged(0.5, 0.5, 0.0))
after = mean_latency(*STAGES, staged(0.0, 0.0, 1.0))
labels = ["two routes", "a third route,\nall take it"]
theory = [shared_s(1.95) + 1, 2 * shared_s(3.9)]
figure, axes = plt.subplots(figsize=(5, 4))
axes.bar(labels, [before.estimate, after.estimate], yerr=[before.half_width, after.half_width], capsize=4, width=0.5)
axes.plot(labels, theory, "kD", label="theory")
axes.set(ylabel="mean latency of everybody (s)", ylim=(0, 2.6))
axes.legend(loc="upper left")
show_picture(figure, "braess")

# %% [markdown]
# ## What must hold

# %%
rows = [
    Row(quantity="selfish shares", unit="s", theory=1.0, simulated=by_share[0.8]),
    Row(quantity="best shares", unit="s", theory=mean_of_both_s(BEST), simulated=by_share[BEST / 5]),
    Row(quantity="users who choose", unit="s", theory=1.0, tolerance=0.1, simulated=free),
    Row(quantity="users who pay", unit="s", theory=mean_of_both_s(BEST), tolerance=0.1, simulated=charged),
    Row(quantity="two routes", unit="s", theory=theory[0], tolerance=0.01, simulated=before),
    Row(quantity="three routes", unit="s", theory=theory[1], tolerance=0.03, simulated=after),
]
check_rows(rows)
assert charged.estimate < 0.9 * free.estimate, "the toll should make everybody faster"
assert after.estimate > 1.15 * before.estimate, "the third route should make everybody slower"
assert abs(prices_s[0] - marginal_s(rate)) < 0.01, "the optimizer's price is the marginal latency"
assert abs(prices_s[1] - 1.0) < 0.01, "and without a queue the latency itself"
print("theory and simulation are where they should be")
