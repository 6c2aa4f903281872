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
"""Utilisation and the knee: how full is full? (the lesson as a notebook)."""

# %% [markdown]
# # Utilisation and the knee: how full is full?
#
# Two fleets run at 90 % load. At one, four of five requests wait; at the other, less than a third. And a GPU that is
# busy all the time may be half empty.

# %%
import math

import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt

from analysis.queueing.many_servers import erlang_c, mmc
from analysis.queueing.staffing import halfin_whitt_probability, staffing_for_wait_probability
from analysis.queueing.state_dependent import state_dependent
from scenarios.lessons.notebook_setting import replications, show_picture
from scenarios.theory.evidence import Row, check_rows, mean_over
from scenarios.theory.stationary import StationaryRun, stationary_runs

sns.set_theme(style="whitegrid", palette="colorblind")
REPLICATIONS = replications(8)
SERVICE_S, STEP_S = 4.0, 0.02


def engine(seats: int, load: float) -> list[StationaryRun]:
    """Runs of the engine with so many seats, each at that load."""
    settings = [
        f"models.server.engine.max_num_seqs={seats}",
        f"workload.arrivals.rate_per_s={load * seats / SERVICE_S}",
        "workload.requests=1500",
    ]
    return stationary_runs("scenario.yaml", settings, replications=REPLICATIONS)


# %% [markdown]
# ## The hockey stick, for pools of three sizes
#
# The step time does not depend on the batch, so every seat of the engine is a server: M/M/c. Waits are in units of one
# service, 4 s.

# %%
pools = {4: (0.5, 0.8, 0.9), 16: (0.5, 0.8, 0.9), 64: (0.8, 0.9)}
runs = {(seats, load): engine(seats, load) for seats, loads in pools.items() for load in loads}
waits = {case: mean_over(found, lambda run: run.wait_s.mean()) for case, found in runs.items()}

figure, axes = plt.subplots(figsize=(7, 4.5))
fine = np.linspace(0.3, 0.96, 120)
for color, (seats, loads) in zip(sns.color_palette(), pools.items(), strict=False):
    theory = [mmc(load * seats / SERVICE_S, SERVICE_S, seats).mean_wait_s / SERVICE_S for load in fine]
    axes.plot(100 * fine, theory, color=color, label=f"{seats} seats")
    for load in loads:
        found = waits[seats, load]
        axes.errorbar(
            100 * load,
            found.estimate / SERVICE_S,
            yerr=found.half_width / SERVICE_S,
            color=color,
            marker="o",
            capsize=4,
        )
axes.set(xlabel="load (%)", ylabel="mean wait / service", ylim=(0, 4), title="Lines: Erlang C. Points: simulation")
axes.legend()
show_picture(figure, "knee")

# %% [markdown]
# ## Square-root staffing
#
# How many seats so that at most one request in five waits? Headroom grows with the root of the load, so a large pool
# runs fuller at the same service.

# %%
sizes = (1, 2, 4, 9, 16, 36, 64, 144, 256, 576)
staffed = [staffing_for_wait_probability(load / SERVICE_S, SERVICE_S, 0.2) for load in sizes]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
left.plot(sizes, [found.exact_servers - found.offered_load for found in staffed], "o", label="Erlang C")
left.plot(sizes, [found.headroom * math.sqrt(found.offered_load) for found in staffed], label="1.06 x root of the load")
left.set(xlabel="offered load (seats)", ylabel="seats beyond the load")
left.legend()
right.plot(sizes, [100 * found.utilisation for found in staffed], "o-")
right.set(xlabel="offered load (seats)", ylabel="load of each seat (%)", ylim=(0, 100))
show_picture(figure, "staffing")

# %% [markdown]
# ## A busy GPU that is half empty
#
# The share of time that the GPU computes anything, beside the share of seats that are taken.

# %%
light = {load: engine(16, load) for load in (0.05, 0.2)} | {load: runs[16, load] for load in (0.5, 0.8, 0.9)}
busy = {load: mean_over(found, lambda run: 100 * run.busy_share) for load, found in light.items()}
taken = {load: mean_over(found, lambda run: 100 * run.running.mean() / 16) for load, found in light.items()}
figure, axes = plt.subplots(figsize=(6.5, 4))
fine = np.linspace(0.005, 0.95, 100)
theory = [state_dependent(load * 16 / SERVICE_S, lambda n: n / SERVICE_S, seats=16).utilisation for load in fine]
axes.plot(100 * fine, 100 * np.array(theory), color="0.6", label="theory")
axes.plot(100 * fine, 100 * fine, color="0.6")
axes.plot([100 * load for load in busy], [found.estimate for found in busy.values()], "o", label="GPU busy")
axes.plot([100 * load for load in taken], [found.estimate for found in taken.values()], "s", label="seats taken")
axes.set(xlabel="load (%)", ylabel="share (%)", ylim=(0, 105))
axes.legend()
show_picture(figure, "busy")

# %% [markdown]
# ## What must hold

# %%
rows = [
    Row(
        quantity=f"mean wait, {seats} seats, load {load}",
        unit="s",
        theory=(wait := mmc(load * seats / SERVICE_S, SERVICE_S, seats).mean_wait_s),
        simulated=waits[seats, load],
        tolerance=0.01 + STEP_S / wait,
    )
    for seats, load in runs
]
rows += [
    Row(
        quantity=f"share that waits, {seats} seats, load 0.8",
        unit="%",
        theory=100 * erlang_c(0.8 * seats, seats),
        simulated=mean_over(runs[seats, 0.8], lambda run: 100 * (run.wait_s > 1.5 * STEP_S).mean()),
        tolerance=0.02,
    )
    for seats in (4, 16)
]
rows += [
    Row(quantity=f"seats taken at load {load}", unit="%", theory=100 * load, simulated=taken[load], tolerance=0.01)
    for load in (0.2, 0.5)
]
rows.append(
    Row(quantity="GPU busy at load 0.5, if busy were load", unit="%", theory=50.0, simulated=busy[0.5], claim="differs")
)
check_rows(rows)
assert busy[0.5].estimate > 99, "half full, the GPU should hardly ever rest"
rule = 100 * halfin_whitt_probability((43 - 36) / 6)
assert abs(rule - 100 * erlang_c(36, 43)) < 3, "the square-root rule should be near Erlang C"
print("theory and simulation are where they should be")
