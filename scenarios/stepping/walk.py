"""Walking through the steps of one replica while its whole cluster is simulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from latency_models.errors import InputError, check_finite, unknown_name
from scenarios.replicated import PreparedScenario
from scenarios.schema import Scenario
from scenarios.stepping.step_view import StepView
from scenarios.stepping.step_watcher import StepWatcher
from scenarios.workloads.build import build_traffic
from sim.cluster import Cluster
from sim.random_streams import seed_sequence


def walk_steps(
    scenario: Scenario, see: Callable[[StepView], bool], *, replica: str | None = None, from_s: float = 0.0
) -> int:
    """Simulate a scenario, one event per engine step, and show the steps of one replica as they end.

    The simulation is the first replication of ``routerwise run`` and gives the same results as it.

    Parameters
    ----------
    scenario : Scenario
        What to simulate.
    see : callable
        Gets every step; says whether to go on.
    replica : str, optional
        Whose steps, ``model/number``; default: the first replica's.
    from_s : float
        Begin with the first step that is scheduled then or later, seconds.

    Returns
    -------
    int
        How many steps were shown.

    Raises
    ------
    InputError
        There is no such replica, it computes nothing from then on, or the scenario contradicts itself.
    """
    check_finite("--from", from_s)
    prepared = PreparedScenario.of(scenario)
    run = replace(scenario.run_spec(0, shared_content=prepared.workload.shares_content), mode="reference")
    traffic = build_traffic(scenario.workload, seed_sequence(scenario.seed, 0, "workload"), Path())
    cluster = Cluster(prepared.cluster, traffic, run, None)
    by_name = {one.name: one for one in cluster.replicas}
    name = cluster.replicas[0].name if replica is None else replica
    if name not in by_name:
        raise unknown_name("replica", name, by_name)
    shown = 0
    goes_on = True

    def show(view: StepView) -> None:
        nonlocal shown, goes_on
        if goes_on:
            shown += 1
            goes_on = see(view)
            if not goes_on:
                cluster.clock.stop()

    watcher = StepWatcher(by_name[name].engine, name, show, from_s=from_s)
    end_s = cluster.simulate().end_s
    watcher.hand_over()
    if not shown:
        since = f" from {from_s:g} s on" if from_s else ""
        ways = ["choose an earlier --from"] if from_s else []
        if len(by_name) > 1:
            ways.append(f"choose another one with --replica ({', '.join(by_name)})")
        ways = ways or ["let it run longer"]
        raise InputError(
            f"replica {name} computes no step{since}, and the run ends at {end_s:g} s; {', or '.join(ways)}"
        )
    return shown
