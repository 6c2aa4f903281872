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
"""Little's law: count requests, get the latency (the lesson as a notebook)."""

# %% [markdown]
# # Little's law: count requests, get the latency
#
# A dashboard shows 20 requests in flight and 2.5 arrivals per second, and nothing else. What is the mean latency?
#
# We watch one simulated chat server in two ways that know nothing of each other: samples of its counters, and the log
# of its requests.

# %%
import seaborn as sns
from matplotlib import pyplot as plt

from scenarios.lessons.notebook_setting import replications, show_picture
from scenarios.theory.evidence import Row, check_rows, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs

sns.set_theme(style="whitegrid", palette="colorblind")
REPLICATIONS = replications(8)
runs = stationary_runs("scenario.yaml", replications=REPLICATIONS)

# %% [markdown]
# ## The picture that is the proof
#
# A request that stays three seconds lifts the curve of "requests present" by one for three seconds. So the area under
# the curve is the sum of all stays: seconds of requests, counted down the columns or along the rows.

# %%
first = runs[0]
requests = first.result.requests
figure, (below, above) = plt.subplots(2, 1, figsize=(8, 6), sharex=True)
begin_s, end_s = 300.0, 330.0
inside = (requests.arrival_s < end_s) & (requests.finish_s > begin_s)
below.hlines(range(inside.sum()), requests.arrival_s[inside], requests.finish_s[inside], linewidth=2)
below.set(ylabel="request", title="Each line is a request, from its arrival to its last token")
samples = first.result.samples
above.step(samples[:, 0], samples[:, 2] + samples[:, 3], where="post")
above.set(xlim=(begin_s, end_s), ylim=(0, None), xlabel="time (s)", ylabel="requests present")
show_picture(figure, "present")

# %% [markdown]
# ## Both sides, measured
#
# The rate is 2.8 requests per second by the scenario file. From the log: how long requests stay. From the counters: how
# many are there.

# %%
stay = mean_over(runs, lambda run: run.sojourn_s.mean())
present = mean_over(runs, lambda run: run.in_system.mean())
print(f"rate x W = 2.8 x {stay.estimate:.2f} s = {2.8 * stay.estimate:.1f} requests")
print(f"       L = {present.estimate:.1f} requests, 99 % interval {present.low:.1f} to {present.high:.1f}")

# %% [markdown]
# The same in every replication, not only on average: the law holds for each run, up to what the edges cut off.

# %%
figure, axes = plt.subplots(figsize=(5, 5))
by_log = [run.rate_per_s * run.sojourn_s.mean() for run in runs]
by_counters = [run.in_system.mean() for run in runs]
axes.axline((0, 0), slope=1, color="0.6", linewidth=1)
sns.scatterplot(x=by_log, y=by_counters, ax=axes, s=60)
low, high = 0.95 * min(by_log + by_counters), 1.05 * max(by_log + by_counters)
axes.set(
    xlim=(low, high), ylim=(low, high), xlabel="rate x W, from the log", ylabel="L, from the counters",
    title="One point for each replication",
)  # fmt: skip
show_picture(figure, "both-sides")

# %% [markdown]
# ## A closed loop cannot overload
#
# Now users who wait for their answer. Give the server more and more of them: throughput stops growing, latency grows
# in proportion, and "users = throughput x latency" holds at every point. Fixed concurrency measures a load that the
# server chose.

# %%
users = [4, 16, 32, 64]
loops = {
    number: stationary_runs(
        "scenario.yaml",
        [
            f"workload={{kind: closed-loop, users: {number}, think_time_s: {{kind: constant, value_s: 0}}, "
            "lengths: {prompt: {kind: constant, tokens: 500}, output: {kind: geometric, mean: 200}}, "
            f"requests: {25 * number + 200}}}",
            "run.warmup=0",
        ],
        replications=REPLICATIONS,
    )
    for number in users
}
throughput = {number: mean_over(found, lambda run: run.rate_per_s) for number, found in loops.items()}
latency = {number: mean_over(found, lambda run: run.sojourn_s.mean()) for number, found in loops.items()}
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
left.plot(users, [throughput[number].estimate for number in users], marker="o")
left.set(xlabel="users", ylabel="throughput (requests/s)", ylim=(0, None))
right.plot(users, [latency[number].estimate for number in users], marker="o")
right.set(xlabel="users", ylabel="mean latency (s)", ylim=(0, None))
show_picture(figure, "closed-loop")

# %% [markdown]
# ## What must hold
#
# Theory and simulation agree where they should, and differ where the queue grows without end.

# %%
overload = stationary_runs(
    "scenario.yaml",
    ["workload.arrivals.rate_per_s=6", "run.until_s=300", "run.warmup=0"],
    replications=REPLICATIONS,
)


def answered_mean_s(run: StationaryRun) -> float:
    """Mean stay of those that were answered before the clock stopped."""
    stays = run.sojourn_s
    return float(stays[stays == stays].mean())


rows = [
    Row(
        quantity="L / (rate x W)",
        unit="",
        theory=1.0,
        simulated=mean_over(runs, lambda run: run.in_system.mean() / (run.rate_per_s * run.sojourn_s.mean())),
    ),
    *(
        Row(
            quantity=f"throughput x latency, {number} users",
            unit="users",
            theory=float(number),
            tolerance=0.02,  # at the edges of a run not all users are inside
            simulated=mean_over(loops[number], lambda run: run.rate_per_s * run.sojourn_s.mean()),
        )
        for number in users
    ),
    Row(
        quantity="L / (rate x W) in an overload, answered requests only",
        unit="",
        theory=1.0,
        claim="differs",
        simulated=mean_over(overload, lambda run: run.in_system.mean() / (run.rate_per_s * answered_mean_s(run))),
    ),
]
check_rows(rows)
assert throughput[64].estimate < 1.5 * throughput[32].estimate, "throughput should have stopped growing"
assert latency[64].estimate > 1.5 * latency[32].estimate, "latency should grow with the users"
print("theory and simulation are where they should be")
