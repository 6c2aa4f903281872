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
"""From M/M/1 to M/G/1: why averages mislead (the lesson as a notebook)."""

# %% [markdown]
# # From M/M/1 to M/G/1: why averages mislead
#
# Two prefill workers: same GPU, same mean prompt, same load of 60 %. At one, requests wait three times as long as at
# the other. Which number did the dashboard not show?

# %%
import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt

from analysis.queueing.single_server import mg1
from scenarios.lessons.notebook_setting import replications, show_picture
from scenarios.theory.evidence import Row, check_rows, mean_over
from scenarios.theory.stationary import stationary_runs

sns.set_theme(style="whitegrid", palette="colorblind")
REPLICATIONS = replications(8)
PROMPTS = {
    "one length": (0.0, "{kind: constant, tokens: 2000}"),
    "exponential": (1.0, "{kind: geometric, mean: 2000}"),
    "lognormal, c = 1.5": (1.5**2, "{kind: lognormal, mean: 2000, cv: 1.5, maximum: 990000}"),
}

# %% [markdown]
# ## Three workers, one mean
#
# Each runs at several loads. All take 0.2 s for a prompt on average; only the spread of the prompts differs.

# %%
loads = (0.3, 0.6, 0.8)
runs = {
    (name, load): stationary_runs(
        "scenario.yaml",
        [f"workload.lengths.prompt={lengths}", f"workload.arrivals.rate_per_s={load / 0.2}", "workload.requests=2500"],
        replications=REPLICATIONS,
    )
    for name, (_, lengths) in PROMPTS.items()
    for load in loads
}
waits = {case: mean_over(found, lambda run: run.wait_s.mean()) for case, found in runs.items()}

# %%
figure, axes = plt.subplots(figsize=(7, 4.5))
fine = np.linspace(0.05, 0.86, 100)
for color, (name, (cv2, _)) in zip(sns.color_palette(), PROMPTS.items(), strict=False):
    theory = [mg1(load / 0.2, 0.2, service_cv2=cv2).mean_wait_s for load in fine]
    axes.plot(fine, theory, color=color, label=name)
    for load in loads:
        found = waits[name, load]
        axes.errorbar(load, found.estimate, yerr=found.half_width, color=color, marker="o", capsize=4)
axes.set(xlabel="load", ylabel="mean wait (s)", ylim=(0, None), title="Lines: Pollaczek-Khinchine. Points: simulation")
axes.legend(title="prompts")
show_picture(figure, "waits")

# %% [markdown]
# ## What an arrival finds
#
# Whoever arrives at a busy worker finds some prompt in service. Which one? Compare the services that arrivals *find*
# with those that requests *have*.

# %%
found_s, had_s = [], []
for run in runs["lognormal, c = 1.5", 0.6]:
    begin_s = run.arrival_s + run.wait_s
    end_s = run.arrival_s + run.sojourn_s
    current = np.searchsorted(begin_s, run.arrival_s) - 1
    busy = (current >= 0) & (end_s[current] > run.arrival_s)
    found_s.append((end_s - begin_s)[current[busy]])
    had_s.append(end_s - begin_s)

figure, axes = plt.subplots(figsize=(7, 4))
bins = np.geomspace(0.005, 20, 50)
for values, label in ((np.concatenate(had_s), "of all requests"), (np.concatenate(found_s), "found by an arrival")):
    sns.histplot(x=values, bins=bins, stat="probability", element="step", alpha=0.3, label=label, ax=axes)
    print(f"mean service {label}: {values.mean():.2f} s")
axes.set(xscale="log", xlabel="service time (s)", ylabel="share", title="The inspection paradox")
axes.legend()
show_picture(figure, "found")

# %% [markdown]
# ## Nobody experiences the mean
#
# The distribution of the wait at 60 % load with lognormal prompts: most requests wait little, a few wait very long, and
# the mean lies where almost nobody is.

# %%
pooled = np.concatenate([run.wait_s for run in runs["lognormal, c = 1.5", 0.6]])
figure, axes = plt.subplots(figsize=(7, 4))
sns.ecdfplot(x=pooled, ax=axes)
axes.axvline(pooled.mean(), color="0.4", linestyle="--")
axes.annotate(" mean", (pooled.mean(), 0.05), color="0.3")
axes.set(xlabel="wait (s)", ylabel="share of requests that wait less", xlim=(0, np.quantile(pooled, 0.99)))
show_picture(figure, "distribution")
print(f"median {np.median(pooled):.2f} s, mean {pooled.mean():.2f} s, P99 {np.quantile(pooled, 0.99):.1f} s")

# %% [markdown]
# ## What must hold

# %%
rows = [
    Row(
        quantity=f"mean wait, {name}, load {load}",
        unit="s",
        theory=mg1(load / 0.2, 0.2, service_cv2=cv2).mean_wait_s,
        simulated=waits[name, load],
        tolerance=0.01,
    )
    for name, (cv2, _) in PROMPTS.items()
    for load in loads
]
rows.append(
    Row(
        quantity="the wait of prompts of one length by the formula of M/M/1",
        unit="s",
        theory=mg1(3.0, 0.2, service_cv2=1.0).mean_wait_s,
        simulated=waits["one length", 0.6],
        claim="differs",
    )
)
check_rows(rows)
ratio = np.concatenate(found_s).mean() / np.concatenate(had_s).mean()
assert 2.6 < ratio < 3.9, "arrivals should find services 1 + c^2 = 3.25 times as long as the mean"
assert np.median(pooled) < 0.4 * pooled.mean(), "the median should lie far below the mean"
print("theory and simulation are where they should be")
