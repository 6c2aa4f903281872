"""Cost per request in the process: of each load, by number of requests, by length of the answers, by engine mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.figures import Figure, Target
from benchmarks.loads import LOADS, Load, Mode, generated, long_output_load, replayed, streamed
from benchmarks.yardstick import Timing, beside_yardstick
from sim.results import SimulationResult

FLAT = Target(at_most=1.3)
PER_REQUEST = "timeouts per request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Timing of a load and what the simulation was like."""

    timing: Timing
    requests: int
    events: int
    preemptions: int

    @property
    def timeouts(self) -> float:
        """Cost of a request in timeouts."""
        return self.timing.timeouts(self.requests)

    @property
    def detail(self) -> str:
        """The figures behind the ratio."""
        each_s = self.timing.best_s(self.requests)
        parts = [
            f"{self.requests:,} requests",
            f"{1 / each_s:,.0f} requests/s",
            f"{self.events / self.requests:.2f} events per request",
        ]
        if self.preemptions:
            parts.append(f"{self.preemptions / self.requests:.2f} preemptions per request")
        return ", ".join(parts)


def measure(
    load: Load, *, repeats: int, requests: int | None = None, mode: Mode = "macro", ready: bool = False
) -> Measured:
    """Time a load, generation of its traffic included unless it is ``ready`` beforehand."""
    config = load.config(requests)
    chunks = generated(config) if ready else []
    results: list[SimulationResult] = []

    def work() -> None:
        results[:] = [load.run(replayed(chunks) if ready else streamed(config), config, mode)]

    timing = beside_yardstick([work] * repeats)
    result = results[0]
    return Measured(
        timing=timing,
        requests=len(result.requests),
        events=result.events,
        preemptions=int(result.requests.preemptions.sum()),
    )


def load_figures(*, repeats: int, requests: int | None) -> Iterator[Figure]:
    """Cost per request of every load, with its traffic generated on the way, and ready beforehand."""
    section = "cost per request"
    for load in LOADS:
        measured = measure(load, repeats=repeats, requests=requests)
        yield Figure(
            section=section,
            case=load.name,
            quantity=PER_REQUEST,
            value=measured.timeouts,
            target=load.target,
            detail=measured.detail,
        )
        if load.open_loop:
            ready = measure(load, repeats=repeats, requests=requests, ready=True)
            yield Figure(
                section=section,
                case=load.name,
                quantity=f"{PER_REQUEST}, traffic ready",
                value=ready.timeouts,
                detail=f"{1 / ready.timing.best_s(ready.requests):,.0f} requests/s",
            )


def flatness(costs: list[float]) -> float:
    """How many times as much the dearest costs as the cheapest.

    Raises
    ------
    ValueError
        If there is no cost, or one is not above zero.
    """
    if not costs or min(costs) <= 0:
        raise ValueError("flatness needs costs above zero")
    return max(costs) / min(costs)


def _flat(section: str, case: str, steps: list[tuple[str, Callable[[], Measured]]]) -> Iterator[Figure]:
    """Cost at each step, then the ratio of the dearest to the cheapest."""
    costs: list[float] = []
    for name, run in steps:
        measured = run()
        costs.append(measured.timeouts)
        yield Figure(
            section=section, case=f"{case}: {name}", quantity=PER_REQUEST, value=costs[-1], detail=measured.detail
        )
    yield Figure(section=section, case=case, quantity="dearest / cheapest", value=flatness(costs), target=FLAT)


def size_figures(sizes: tuple[int, ...], *, repeats: int) -> Iterator[Figure]:
    """Chat from few to many requests; short runs are repeated more often, since a disturbance weighs more in them."""

    def at(size: int) -> Callable[[], Measured]:
        return lambda: measure(LOADS[0], repeats=max(1, min(repeats * sizes[-1] // size, 3 * repeats)), requests=size)

    yield from _flat("flatness", "chat by number of requests", [(f"{size:,}", at(size)) for size in sizes])


def length_figures(requests: int, *, repeats: int) -> Iterator[Figure]:
    """Mean answers of 64, 512 and 4,096 tokens at equal utilisation.

    Arrivals and finishes that fall into one step share its event.  The busier the replica, the more do so, and with
    short answers, where requests follow each other faster, most: at a high utilisation those are cheaper still.
    """

    def at(tokens: int, utilisation: float) -> Callable[[], Measured]:
        return lambda: measure(long_output_load(tokens, utilisation, requests), repeats=repeats)

    for utilisation in (0.2, 0.75):
        steps = [(f"{tokens:,}", at(tokens, utilisation)) for tokens in (64, 512, 4096)]
        yield from _flat("flatness", f"output tokens at {utilisation:.0%} utilisation", steps)


def mode_figures(scale: float, *, repeats: int) -> Iterator[Figure]:
    """How many times as fast macro-stepping is as one event per step; both give the same results."""
    chat, light = LOADS[0], LOADS[2]
    loads = ((chat, 5000), (light, 500), (long_output_load(4096, 0.2, 500), 500))
    for load, requests in loads:
        size = max(50, int(requests * scale))
        macro = measure(load, repeats=repeats, requests=size)
        reference = measure(load, repeats=repeats, requests=size, mode="reference")
        yield Figure(
            section="macro-stepping",
            case=load.name,
            quantity="times as fast as reference",
            value=reference.timeouts / macro.timeouts,
            detail=f"{macro.events / size:.2f} and {reference.events / size:.2f} events per request, "
            f"{macro.timeouts:.0f} and {reference.timeouts:.0f} timeouts",
        )
