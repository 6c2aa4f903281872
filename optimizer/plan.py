"""A plan: what is deployed where, how requests are routed, what was promised, and where that comes from.

It is the one thing that optimizer, simulator and exporters exchange, as JSON; written by hand or by :func:`make_plan`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from latency_models.errors import InputError, invalid
from latency_models.sections.base import refuse_in_pydantic
from optimizer.delays.delay_curves import statistic_at
from optimizer.problem import LEFT_OUT, Metric, Option, Problem, Statistic
from optimizer.realise import realise
from optimizer.routing import LoadRouting
from optimizer.search import Optimum
from optimizer.setups.setup_search import SetupSolution
from sim.settings import EngineSettings

_Count = Annotated[int, Field(ge=1, strict=True)]
_Index = Annotated[int, Field(ge=0, strict=True)]
_Share = Annotated[float, Field(gt=0, le=1)]
_Fraction = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]
_NonNegative = Annotated[float, Field(ge=0)]
_NonEmpty = Field(min_length=1)
_ROUNDING = 1e-6
_PROMISED = tuple(f"{metric}_{name}_s" for metric in ("ttft", "tpot", "e2e") for name in ("mean", "p90", "p95", "p99"))


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class PlannedModel(_Part):
    """One model that runs.  Shard number k of a replica is on the k-th of its GPUs."""

    tp: _Count
    """Shards of each replica."""
    compute_share: _Share
    """MPS share of each of its GPUs."""
    memory_share: _Share
    """Share of the memory that engines may take on each of them."""
    replicas: Annotated[tuple[tuple[_Index, ...], ...], _NonEmpty]
    """GPUs of each replica."""
    engine: dict[str, Any] | None = None
    """Settings of the engine, named as vLLM names them, if they are known."""

    @model_validator(mode="after")
    def _every_replica_has_its_shards(self) -> PlannedModel:
        for gpus in self.replicas:
            if len(gpus) != self.tp:
                raise ValueError(
                    f"replica on GPUs {list(gpus)}; allowed: {self.tp} GPUs, one per shard of tp {self.tp}"
                )
        shards = [gpu for gpus in self.replicas for gpu in gpus]
        if len(set(shards)) < len(shards):
            raise ValueError(f"shards on GPUs {shards}; allowed: each GPU once per model")
        if self.engine is not None:
            refuse_in_pydantic(lambda: EngineSettings.from_mapping(self.engine or {}))
        return self


class PlannedRouting(_Part):
    """Routing at one load: each prompt goes to the model with the highest score minus price.

    Only differences of prices matter; those of a solution count from the cheapest model.  Prompts for which models are
    tied are split so that the fractions hold.
    """

    rate_per_s: _NonNegative
    """The load that it is for."""
    weight: _Share = 1.0
    """How much the load counts."""
    policy: Literal["price"] = "price"
    """The rule above."""
    prices: dict[str, float]
    """By model."""
    fractions: dict[str, _Fraction]
    """Share of the requests by model."""


class PromisedSlo(_Part):
    """One target at one load."""

    metric: Metric
    """Which latency."""
    statistic: Statistic
    """Mean or percentile of it."""
    model: str | None = None
    """Whose requests; none: all."""
    target_s: _Positive
    """Its limit."""
    value: _NonNegative
    """The mean in seconds, or for a percentile of all requests the share that is late; see ``limit``."""
    limit: _Positive
    """What the value had to stay below."""
    beta: _NonNegative
    """Score for each unit more of the limit."""
    score_per_s: _NonNegative
    """Score for each second more of the target, for small changes."""


class PromisedLoad(_Part):
    """What one load was promised."""

    rate_per_s: _NonNegative
    """Requests per second."""
    score: _Fraction
    """Mean predicted score."""
    outcome: _Fraction | None = None
    """Mean true outcome of the same assignment of the prompt table's prompts, if the table has outcomes."""
    latency_s: dict[str, dict[str, _NonNegative]]
    """By model with traffic and statistic, at its share of the load."""
    slos: tuple[PromisedSlo, ...]
    """The targets at this load."""


class Promise(_Part):
    """What the plan was chosen for."""

    score: _Fraction
    """Mean predicted score over the loads, by their weights."""
    bound: float | None
    """No plan of the problem has a higher score; none if that was not shown."""
    gap: _NonNegative | None
    """Bound less score: what any other plan could gain at most."""
    loads: tuple[PromisedLoad, ...]
    """By load."""


class PlannedGpus(_Part):
    """The GPUs of the plan."""

    count: _Count
    """How many."""
    usable_memory_gib: _Positive | None = None
    """Memory of each that engines may take together."""


class Plan(_Part):
    """A deployment with its routing."""

    schema_version: Literal[1] = 1
    """Of this format."""
    name: str
    """Of the plan."""
    gpus: PlannedGpus
    """The cluster."""
    models: Annotated[dict[str, PlannedModel], _NonEmpty]
    """What runs, by name."""
    left_out: tuple[str, ...] = ()
    """Models of the problem that do not run."""
    packing: Literal["compute", "memory"] = "compute"
    """What the shards on a GPU may not exceed."""
    routing: Annotated[tuple[PlannedRouting, ...], _NonEmpty]
    promise: Promise | None = None
    """What the optimizer promised; none in a plan by hand."""
    provenance: dict[str, str] = Field(default_factory=dict)
    """Where the inputs came from."""

    @model_validator(mode="after")
    def _fits_together(self) -> Plan:
        for name, model in self.models.items():
            highest = max(gpu for gpus in model.replicas for gpu in gpus)
            if highest >= self.gpus.count:
                raise ValueError(f"models.{name} is on GPU {highest}; allowed: 0 to {self.gpus.count - 1}")
        both = sorted(set(self.models) & set(self.left_out))
        if both:
            raise ValueError(f"left_out names {both[0]!r}, which is among the models")
        self._check_gpus("memory_share")
        if self.packing == "compute":
            self._check_gpus("compute_share")
        for routing in self.routing:
            for field, values in (("prices", routing.prices), ("fractions", routing.fractions)):
                if set(values) != set(self.models):
                    raise ValueError(
                        f"routing.{field} is of {sorted(values)}; allowed: the models, {sorted(self.models)}"
                    )
            total = math.fsum(routing.fractions.values())
            if abs(total - 1.0) > _ROUNDING:
                raise ValueError(f"routing.fractions sum to {total:g}; allowed: 1")
        weight = math.fsum(routing.weight for routing in self.routing)
        if abs(weight - 1.0) > _ROUNDING:
            raise ValueError(f"weights of the routings sum to {weight:g}; allowed: 1")
        rates = [routing.rate_per_s for routing in self.routing]
        if len(set(rates)) < len(rates):
            raise ValueError(f"routings are for the loads {rates} requests/s; allowed: each load once")
        self._check_promise()
        return self

    def _check_promise(self) -> None:
        for load in () if self.promise is None else self.promise.loads:
            for name in (*load.latency_s, *(slo.model for slo in load.slos if slo.model is not None)):
                if name not in self.models:
                    raise ValueError(f"promise.loads names model {name!r}; allowed: {sorted(self.models)}")
            unknown = sorted({name for latency in load.latency_s.values() for name in latency} - set(_PROMISED))
            if unknown:
                raise ValueError(f"promise.loads has a latency {unknown[0]!r}; allowed: {', '.join(_PROMISED)}")

    def _check_gpus(self, field: str) -> None:
        for gpu in sorted({gpu for model in self.models.values() for gpus in model.replicas for gpu in gpus}):
            on_it = [model for model in self.models.values() if any(gpu in gpus for gpus in model.replicas)]
            total = math.fsum(getattr(model, field) for model in on_it)
            if total > 1.0 + _ROUNDING:
                raise ValueError(f"{field} on GPU {gpu} sums to {total:g}; allowed: up to 1")

    def to_json(self) -> str:
        """JSON text that :func:`read_plan` reads."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n"


def read_plan(path: Path) -> Plan:
    """Read and check a plan.

    Parameters
    ----------
    path : Path
        JSON file.

    Raises
    ------
    InputError
        The file cannot be read or is no plan; the first fault is named by its key.
    """
    if not path.is_file():
        raise invalid(
            "plan", str(path), "a JSON file that `routerwise optimize --out` or `routerwise plan --out` wrote"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read plan {path}: {error}") from None
    try:
        return Plan.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"plan {path}: {_fault(error.errors(include_url=False)[0])}") from None


def _fault(found: Mapping[str, Any]) -> str:
    """A fault that pydantic found: the key, its value, what is allowed."""
    where = ".".join(str(part) for part in found["loc"]) or "the plan"
    if found["type"] == "missing":
        return f"{where} is missing"
    if found["type"] == "extra_forbidden":
        return f"{where} is no key of a plan; leave it out, or correct its spelling"
    if found["type"] == "too_short":
        return f"{where} is empty; allowed: at least one entry"
    message = str(found["msg"])
    if not message.startswith("Input should be "):
        return f"{where}: {message.removeprefix('Value error, ')}"
    value = found["input"]
    shown = "wrong" if isinstance(value, Mapping | list) else repr(value)
    return f"{where} is {shown}; allowed: {message.removeprefix('Input should be ')}"


def make_plan(
    problem: Problem,
    optimum: Optimum,
    *,
    name: str,
    usable_memory_gib: float | None = None,
    engines: Mapping[str, Mapping[int, Mapping[str, Any]]] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> Plan:
    """The plan of the best setup that was found.

    Parameters
    ----------
    problem, optimum : Problem, Optimum
        What was asked, and what was found.
    name : str
        Of the plan.
    usable_memory_gib : float, optional
        Memory of each GPU that engines may take together.
    engines : mapping of str to mapping of int to mapping, optional
        Engine settings by model and tp.
    provenance : mapping of str to str, optional
        Where the inputs come from.

    Raises
    ------
    InputError
        Nothing was found.
    """
    best = optimum.best
    if best is None:
        raise InputError("there is no plan: no setup was found that keeps the SLOs")
    used = [index for index, option in enumerate(best.setup) if option != LEFT_OUT]
    names = [model.name for model in problem.models]
    bounded = math.isfinite(optimum.bound)
    return Plan(
        name=name,
        gpus=PlannedGpus(count=problem.gpus, usable_memory_gib=usable_memory_gib),
        models={
            names[index]: _planned(
                chosen(problem, best, index), best.gpus[index], (engines or {}).get(names[index], {})
            )
            for index in used
        },
        left_out=tuple(names[index] for index in range(len(names)) if index not in used),
        packing=problem.packing,
        routing=tuple(_routing(load, names, used) for load in best.routing.loads),
        promise=Promise(
            score=_as_score(best.routing.score),
            bound=optimum.bound if bounded else None,
            gap=optimum.gap if bounded else None,
            loads=tuple(_promised(problem, best, load, used) for load in best.routing.loads),
        ),
        provenance=dict(provenance or {}),
    )


def chosen(problem: Problem, solution: SetupSolution, model: int) -> Option:
    """The option that a model has in a solution."""
    return problem.models[model].options[solution.setup[model]]


def promised_latency_s(option: Option, rate_per_s: float) -> dict[str, float]:
    """Latencies of a model at its load, of those statistics that its curve has."""
    return {name: statistic_at(option.curve, rate_per_s, name) for name in _PROMISED if name in option.curve.statistics}


def _planned(option: Option, gpus: Sequence[int], engine_by_tp: Mapping[int, Mapping[str, Any]]) -> PlannedModel:
    engine = engine_by_tp.get(option.tp)
    return PlannedModel(
        tp=option.tp,
        compute_share=option.compute_share,
        memory_share=option.memory_share,
        replicas=tuple(tuple(gpus[first : first + option.tp]) for first in range(0, option.shards, option.tp)),
        engine=None if engine is None else dict(engine),
    )


def _routing(load: LoadRouting, names: Sequence[str], used: Sequence[int]) -> PlannedRouting:
    total = math.fsum(load.fractions[index] for index in used)
    # Only differences of prices matter.
    lowest = min(load.prices[index] for index in used)
    return PlannedRouting(
        rate_per_s=load.load.rate_per_s,
        weight=load.load.weight,
        prices={names[index]: load.prices[index] - lowest for index in used},
        # A linear programme's fractions may miss 1, and 0, by its rounding.
        fractions={names[index]: min(1.0, max(0.0, load.fractions[index] / total)) for index in used},
    )


def _as_score(value: float) -> float:
    """Without what the rounding of a linear programme adds to 0 or 1."""
    return min(1.0, max(0.0, value))


def _outcome(problem: Problem, routing: PlannedRouting) -> float | None:
    if problem.table.outcomes is None:
        return None
    used = problem.table.select(tuple(routing.fractions))
    assert used.outcomes is not None
    model = realise(used.predicted, list(routing.fractions.values()), list(routing.prices.values()))
    return float(used.outcomes[range(len(model)), model].mean())


def _promised(problem: Problem, best: SetupSolution, load: LoadRouting, used: Sequence[int]) -> PromisedLoad:
    rate = load.load.rate_per_s
    return PromisedLoad(
        rate_per_s=rate,
        score=_as_score(load.score),
        outcome=_outcome(problem, _routing(load, [model.name for model in problem.models], used)),
        latency_s={
            problem.models[index].name: promised_latency_s(chosen(problem, best, index), rate * load.fractions[index])
            for index in used
            if load.fractions[index] > 0.0
        },
        slos=tuple(
            PromisedSlo(
                metric=outcome.slo.metric,
                statistic=outcome.slo.statistic,
                model=outcome.slo.model,
                target_s=outcome.slo.target_s,
                value=outcome.value,
                limit=outcome.limit,
                beta=max(0.0, outcome.beta),
                score_per_s=max(0.0, outcome.score_per_s),
            )
            for outcome in load.slos
            # A model that is left out has no requests that could be late.
            if outcome.slo.model is None or outcome.slo.model in {problem.models[index].name for index in used}
        ),
    )
