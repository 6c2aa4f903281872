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
"""KV memory, the real number of servers (the lesson as a notebook)."""

# %% [markdown]
# # KV memory, the real number of servers
#
# An engine with 256 seats. Each request holds about 510 KV blocks for 4 s, and there are 5,300. Steps always take
# 20 ms: nothing but memory makes anybody wait.

# %%
import seaborn as sns
from matplotlib import pyplot as plt

from analysis.queueing.many_servers import erlang_c, mmc
from scenarios.lessons.notebook_setting import replications, show_picture
from scenarios.theory.evidence import Row, check_rows, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs

sns.set_theme(style="whitegrid", palette="colorblind")
REPLICATIONS = replications(8)


def runs_with(*overrides: str) -> list[StationaryRun]:
    """Replications of the scenario with some keys changed."""
    return stationary_runs("scenario.yaml", overrides, replications=REPLICATIONS)


# %% [markdown]
# ## Blocks in, servers out
#
# Give the engine more and more blocks. Points: the share of requests that wait. Line: Erlang C with as many servers as
# requests fit.

# %%
FITTING = [10, 12, 14]
by_fitting = {fitting: runs_with(f"models.server.engine.num_gpu_blocks={530 * fitting + 1}") for fitting in FITTING}
waits = {
    fitting: mean_over(runs, lambda run: (run.wait_s > 0.0202).mean()) for fitting, runs in by_fitting.items()
}  # fmt: skip
figure, axes = plt.subplots(figsize=(7, 4))
servers = range(9, 17)
axes.plot(servers, [100 * erlang_c(8.0, number) for number in servers], color="0.4", label="Erlang C, offered load 8")
axes.errorbar(
    FITTING,
    [100 * found.estimate for found in waits.values()],
    yerr=[100 * found.half_width for found in waits.values()],
    fmt="o",
    capsize=3,
    label="simulated, 256 seats",
)
axes.set(xlabel="requests that fit into the KV blocks", ylabel="requests that wait (%)", ylim=(0, None))
axes.legend()
show_picture(figure, "servers")

# %% [markdown]
# ## Requests that grow
#
# Chats enter with 160 tokens (10 blocks) and grow by 400 on average. 1,000 blocks. The memory fills up as Little's law
# says, and preemptions begin long before it is full on average.

# %%
RATES = [2.0, 2.5, 3.0, 4.5]
HELD = (160 + 400) / 16 + 0.5
CHATS = (
    "workload.lengths={prompt: {kind: constant, tokens: 160}, output: {kind: geometric, mean: 400}}",
    "models.server.engine.num_gpu_blocks=1001",
    "workload.requests=1200",
)


def used_blocks(run: StationaryRun) -> float:
    """Mean number of KV blocks in use."""
    samples = run.result.samples
    kept = (samples[:, 0] >= run.arrival_s[0]) & (samples[:, 0] <= run.arrival_s[-1])
    return float(samples[kept, 4].mean())


def preemptions(run: StationaryRun) -> float:
    """How often a request was preempted, on average."""
    return float(run.result.requests.preemptions[run.rows].mean())


chats = {rate: runs_with(*CHATS, f"workload.arrivals.rate_per_s={rate}") for rate in RATES}
few_seats = {
    rate: runs_with(*CHATS, "models.server.engine.max_num_seqs=24", f"workload.arrivals.rate_per_s={rate}")
    for rate in RATES
}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
full_at = 1000 / (8 * HELD)
left.plot(
    [RATES[0], full_at, RATES[-1]], [RATES[0] * 8 * HELD, 1000, 1000], color="0.4", label="Little's law, at most all"
)
left.plot(RATES, [mean_over(chats[rate], used_blocks).estimate for rate in RATES], "o", label="simulated")
left.set(xlabel="chats per second", ylabel="KV blocks in use, of 1,000", ylim=(0, 1050))
left.legend(loc="lower right")
for found, label, style in ((chats, "256 seats", "o-"), (few_seats, "24 seats", "s--")):
    right.plot(RATES, [mean_over(found[rate], preemptions).estimate for rate in RATES], style, label=label)
right.set(xlabel="chats per second", ylabel="preemptions per chat", ylim=(0, None))
right.legend()
show_picture(figure, "growing")

# %% [markdown]
# ## What must hold

# %%
rows = [
    Row(
        quantity=f"requests that wait, {fitting} fit",
        unit="",
        theory=erlang_c(8.0, fitting),
        tolerance=0.05,
        simulated=waits[fitting],
    )
    for fitting in (10, 12)
]
rows += [
    Row(
        quantity="mean wait, 10 fit",
        unit="s",
        theory=mmc(2.0, 4.0, 10).mean_wait_s,
        tolerance=0.03,
        simulated=mean_over(by_fitting[10], lambda run: run.wait_s.mean()),
    ),
    Row(
        quantity="requests that wait, if the seats counted",
        unit="",
        theory=erlang_c(8.0, 256),
        claim="differs",
        simulated=waits[10],
    ),
    Row(
        quantity="KV blocks in use at 2 chats/s",
        unit="blocks",
        theory=2 * 8 * HELD,
        tolerance=0.02,
        simulated=mean_over(chats[2.0], used_blocks),
    ),
    Row(
        quantity="chats that run in an overload",
        unit="chats",
        theory=1000 / HELD,
        tolerance=0.04,
        simulated=mean_over(chats[4.5], lambda run: run.running.mean()),
    ),
]
check_rows(rows)
often = {rate: mean_over(runs, preemptions).estimate for rate, runs in chats.items()}
assert often[2.0] < 0.2 < 0.3 < often[3.0] < 1 < often[4.5], "the cliff lies between 57 % and 85 % of the blocks"
assert mean_over(few_seats[3.0], preemptions).estimate < 0.7 * often[3.0], "fewer seats, fewer preemptions"
print("theory and simulation are where they should be")
