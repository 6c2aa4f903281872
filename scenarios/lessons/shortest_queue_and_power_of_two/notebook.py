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
"""Shortest queue, two choices, and old news (the lesson as a notebook)."""

# %% [markdown]
# # Shortest queue, two choices, and old news
#
# Twelve replicas, each running one request at a time for 1 s on average, each busy for 75 % of its time. The gateway
# sends a request to a random one, to the better of two, or to the shortest queue of all.

# %%
import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt

from analysis.queueing.choices import at_least_in_queue, power_of_choices, shortest_queue_bounds
from analysis.queueing.single_server import mm1
from analysis.queueing.state_dependent import state_dependent
from analysis.statistics import Interval
from scenarios.lessons.notebook_setting import replications, show_picture
from scenarios.theory.evidence import Row, check_rows, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs

sns.set_theme(style="whitegrid", palette="colorblind")
REPLICATIONS = replications(7)
RULES = {"random": "random", "power-of-two": "better of two", "least-requests": "shortest of all"}


def runs_with(rule: str, staleness_s: float = 0.0, *more: str) -> list[StationaryRun]:
    """Replications with a balancer whose view of the queues may be so old."""
    balancer = f"models.server.balancer={{kind: {rule}, staleness_s: {staleness_s}}}"
    return stationary_runs("scenario.yaml", [*more, balancer], replications=REPLICATIONS)


def mean_time(runs: list[StationaryRun]) -> Interval:
    """Mean seconds from arrival to the last token."""
    return mean_over(runs, lambda run: run.sojourn_s.mean())


fresh = {rule: runs_with(rule) for rule in RULES}

# %% [markdown]
# ## Long queues vanish doubly exponentially
#
# The share of replicas with at least k requests. Points: simulated. Lines: $0.75^k$ and $0.75^{2^k - 1}$, the limit of
# many replicas; with twelve, the far tail is heavier than that.

# %%
LONGEST = 8


def share_with_at_least(run: StationaryRun, number: int) -> float:
    """Share of replicas and samples with so many requests."""
    samples = run.result.samples
    samples = samples[samples[:, 0] >= run.arrival_s[0]]
    return float((samples[:, 2] + samples[:, 3] >= number).mean())


figure, axes = plt.subplots(figsize=(7, 4))
numbers = range(1, LONGEST + 1)
for (rule, label), marker in zip(RULES.items(), "osD", strict=True):
    shares = [np.mean([share_with_at_least(run, number) for run in fresh[rule]]) for number in numbers]
    axes.plot(numbers, np.where(np.array(shares) > 0, shares, np.nan), marker=marker, linestyle="none", label=label)
for choices, style in ((1, "-"), (2, "--")):
    theory = [at_least_in_queue(0.75, 1.0, choices, k) for k in numbers]
    axes.plot(numbers, theory, style, color="0.4", label=f"theory, {choices} choice{'s' if choices > 1 else ''}")
axes.set(yscale="log", ylim=(3e-7, 1.5), xlabel="requests at a replica, at least", ylabel="share of the replicas")
axes.legend(loc="lower left")
show_picture(figure, "queues")

# %% [markdown]
# ## Old news
#
# The same rules when the gateway's view of the queues is up to so many seconds old. The dice do not care.

# %%
AGES_S = [0.0, 2.0, 10.0]
stale = {
    rule: [fresh[rule], *(runs_with(rule, age) for age in AGES_S[1:])] for rule in ("power-of-two", "least-requests")
}
figure, axes = plt.subplots(figsize=(7, 4))
axes.axhline(mm1(0.75, 1.0).mean_sojourn_s, color="0.4", label="random, whatever the age (theory)")
for rule, found in stale.items():
    means = [mean_time(runs) for runs in found]
    line = axes.errorbar(
        AGES_S,
        [mean.estimate for mean in means],
        yerr=[[mean.estimate - mean.low for mean in means], [mean.high - mean.estimate for mean in means]],
        marker="o",
        capsize=3,
        label=RULES[rule],
    )
axes.set(xlabel="age that the view of the queues may reach (s)", ylabel="mean time of a request (s)", ylim=(0, None))
axes.legend(loc="upper left")
show_picture(figure, "old-news")

# %% [markdown]
# ## Replicas that batch
#
# Eight engines whose step takes 20 ms and one more for each sequence, at half of what they can do. There is no queue to
# choose: who comes makes everybody a little slower.

# %%
BATCHING = (
    "gpus.count=8",
    "models.server.replicas=8",
    "models.server.latency={kind: linear, base_s: 0.02, per_sequence_s: 0.001}",
    "models.server.engine.max_num_seqs=256",
    "workload.arrivals.rate_per_s=80",
    "workload.requests=4000",
    "workload.lengths={prompt: {kind: constant, tokens: 1}, output: {kind: geometric, mean: 50}}",
)
batching = {rule: runs_with(rule, 0.0, *BATCHING) for rule in RULES}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
for axes, by_rule, title in ((left, fresh, "one request at a time"), (right, batching, "batching engines")):
    heights = [mean_time(by_rule[rule]).estimate for rule in RULES]
    sns.barplot(x=list(RULES.values()), y=heights, ax=axes, color=sns.color_palette()[0])
    axes.set(title=title, ylabel="mean time of a request (s)")
    axes.tick_params(axis="x", labelsize=9)
show_picture(figure, "batching")

# %% [markdown]
# ## What must hold

# %%
spread = state_dependent(10.0, lambda n: n / (50 * (0.02 + 0.001 * n))).mean_sojourn_s
rows = [
    Row(quantity="random", unit="s", theory=mm1(0.75, 1.0).mean_sojourn_s, simulated=mean_time(fresh["random"])),
    Row(
        quantity="better of two",
        unit="s",
        theory=power_of_choices(0.75, 1.0, 2).mean_sojourn_s,
        tolerance=0.1,
        simulated=mean_time(fresh["power-of-two"]),
    ),
    Row(
        quantity="shortest queue, a little above one queue for all",
        unit="s",
        theory=shortest_queue_bounds(9.0, 1.0, 12).low_s,
        tolerance=0.25,
        simulated=mean_time(fresh["least-requests"]),
    ),
    Row(quantity="batching, random", unit="s", theory=spread, tolerance=0.02, simulated=mean_time(batching["random"])),
]
check_rows(rows)
fresh_s = {rule: mean_time(runs).estimate for rule, runs in fresh.items()}
old_s = {rule: mean_time(found[-1]).estimate for rule, found in stale.items()}
even_s = {rule: mean_time(runs).estimate for rule, runs in batching.items()}
assert fresh_s["least-requests"] < fresh_s["power-of-two"] < 0.6 * fresh_s["random"], "more information, less waiting"
assert old_s["least-requests"] > 1.3 * fresh_s["random"], "a herd on old news is worse than dice"
assert old_s["power-of-two"] < fresh_s["random"], "two choices on old news still beat dice"
assert even_s["random"] < 1.15 * even_s["least-requests"], "engines that batch hardly care"
print("theory and simulation are where they should be")
