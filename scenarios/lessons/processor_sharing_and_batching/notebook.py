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
"""Processor sharing and batching: why continuous batching is not M/M/1 (the lesson as a notebook)."""

# %% [markdown]
# # Processor sharing and batching: why continuous batching is not M/M/1
#
# The GPU of a decode engine is busy 89 % of the time at half a request per second. How many can it take?
#
# A step with $n$ sequences takes $a + b n$ with $a$ = 20 ms and $b$ = 1 ms; answers have $g$ = 200 tokens on average.

# %%
from itertools import pairwise

import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt

from analysis.queueing.single_server import mg1_processor_sharing
from analysis.queueing.state_dependent import batching_engine
from scenarios.lessons.notebook_setting import replications, show_picture
from scenarios.theory.evidence import Row, check_rows, mean_over
from scenarios.theory.stationary import stationary_runs

sns.set_theme(style="whitegrid", palette="colorblind")
REPLICATIONS = replications(8)
TOKENS, BASE_S, PER_SEQUENCE_S = 200, 0.02, 0.001
ALONE_S = TOKENS * (BASE_S + PER_SEQUENCE_S)
print(f"alone a request takes {ALONE_S:.1f} s; 1 / {ALONE_S:.1f} s = {1 / ALONE_S:.2f} requests/s")

# %% [markdown]
# ## Raise the rate, far beyond one over the time alone

# %%
rates = (0.1, 0.5, 1.0, 2.0, 3.0, 4.0)
runs = {
    rate: stationary_runs(
        "scenario.yaml",
        [f"workload.arrivals.rate_per_s={rate}", f"workload.requests={400 if rate < 2 else 1200}"],
        replications=REPLICATIONS,
    )
    for rate in rates
}
times = {rate: mean_over(found, lambda run: run.sojourn_s.mean()) for rate, found in runs.items()}
busy = {rate: mean_over(found, lambda run: 100 * run.busy_share) for rate, found in runs.items()}

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
fine = np.linspace(0.05, 4.4, 100)
left.plot(
    fine, [batching_engine(rate, TOKENS, BASE_S, PER_SEQUENCE_S).mean_sojourn_s for rate in fine], label="batching"
)
wrong = np.linspace(0.01, 0.22, 50)
left.plot(
    wrong, [mg1_processor_sharing(rate, ALONE_S).mean_sojourn_s for rate in wrong], "--", label="time alone as load"
)
for rate, found in times.items():
    left.errorbar(rate, found.estimate, yerr=found.half_width, color="0.2", marker="o", capsize=3)
left.set(xlabel="requests/s", ylabel="mean time in the engine (s)", ylim=(0, 45))
left.legend()
right.plot(
    fine, [100 * batching_engine(rate, TOKENS, BASE_S, PER_SEQUENCE_S).utilisation for rate in fine], label="busy"
)
right.plot(fine, 100 * fine * TOKENS * PER_SEQUENCE_S, "--", label="load")
for rate, found in busy.items():
    right.errorbar(rate, found.estimate, yerr=found.half_width, color="0.2", marker="o", capsize=3)
right.set(xlabel="requests/s", ylabel="share (%)", ylim=(0, 105))
right.legend()
show_picture(figure, "rate")

# %% [markdown]
# The solid lines are theory in closed form, the points are the engine. The GPU is busy nearly all the time from one
# request per second on, and the engine has four fifths of its capacity left.
#
# ## How many are in the batch
#
# The number present is negative binomial. Samples at 3 requests per second:

# %%
present = np.concatenate([run.in_system for run in runs[3.0]])
load = 3.0 * TOKENS * PER_SEQUENCE_S
numbers = np.arange(0, 120)
logs = np.concatenate([[0], np.cumsum(np.log(load * (1 + BASE_S / PER_SEQUENCE_S / numbers[1:])))])
weights = np.exp(logs) * (1 - load) ** (1 + BASE_S / PER_SEQUENCE_S)
figure, axes = plt.subplots(figsize=(7, 4))
sns.histplot(
    x=present, bins=np.arange(-0.5, 100), stat="probability", ax=axes, alpha=0.4, label="samples", element="step"
)
axes.plot(numbers, weights, color="0.2", label="theory")
axes.set(xlabel="sequences in the batch", ylabel="probability", xlim=(0, 100))
axes.legend()
show_picture(figure, "batch")

# %% [markdown]
# ## Insensitive
#
# The variance of the service time ruled the wait at a server that takes one request at a time. Here it does not matter
# to the mean at all, and short and long answers are slowed down alike.

# %%
answers = {
    "equal": "{kind: constant, tokens: 200}",
    "geometric": "{kind: geometric, mean: 200}",
    "lognormal": "{kind: lognormal, mean: 200, cv: 1.5, maximum: 99000}",
}
shaped = {
    name: stationary_runs("scenario.yaml", [f"workload.lengths.output={lengths}"], replications=REPLICATIONS)
    for name, lengths in answers.items()
}
by_shape = {name: mean_over(found, lambda run: run.sojourn_s.mean()) for name, found in shaped.items()}
for name, found in by_shape.items():
    print(f"{name:10} answers: mean time {found.estimate:5.2f} s, 99 % interval {found.low:.2f} to {found.high:.2f}")

figure, axes = plt.subplots(figsize=(7, 4))
edges = np.array([20, 40, 80, 160, 320, 640, 1280])
tokens = np.concatenate([run.output_tokens for run in shaped["lognormal"]])
per_token_ms = 1000 * np.concatenate([run.sojourn_s / run.output_tokens for run in shaped["lognormal"]])
middle = np.sqrt(edges[:-1] * edges[1:])
means = [per_token_ms[(tokens >= low) & (tokens < high)].mean() for low, high in pairwise(edges)]
axes.plot(middle, means, "o-", label="simulated")
axes.axhline(1000 * (BASE_S + PER_SEQUENCE_S) / (1 - load), color="0.4", linestyle="--", label="theory")
axes.set(xscale="log", xlabel="tokens of the answer", ylabel="time per token (ms)", ylim=(0, 70))
axes.set_xticks(edges, [str(edge) for edge in edges])
axes.minorticks_off()
axes.legend()
show_picture(figure, "slowdown")

# %% [markdown]
# ## What must hold

# %%
rows = [
    Row(
        quantity=f"mean time at {rate}/s",
        unit="s",
        theory=batching_engine(rate, TOKENS, BASE_S, PER_SEQUENCE_S).mean_sojourn_s,
        simulated=found,
        tolerance=0.02,
    )
    for rate, found in times.items()
]
rows += [
    Row(
        quantity=f"mean time at 3/s, {name} answers",
        unit="s",
        theory=batching_engine(3.0, TOKENS, BASE_S, PER_SEQUENCE_S).mean_sojourn_s,
        simulated=found,
        tolerance=0.02,
    )
    for name, found in by_shape.items()
]
rows.append(
    Row(
        quantity="mean time at 0.1/s with the time alone as service",
        unit="s",
        theory=mg1_processor_sharing(0.1, ALONE_S).mean_sojourn_s,
        simulated=times[0.1],
        claim="differs",
    )
)
check_rows(rows)
assert busy[1.0].estimate > 98, "at a fifth of its capacity the GPU should be busy all the time"
assert max(means) < 1.25 * min(means), "short and long answers should be slowed down alike"
print("theory and simulation are where they should be")
