"""The file of ``routerwise profile``: a scenario with a ``profile:`` section."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from latency_models.config import LatencyConfig
from scenarios.scenario_files import load_as
from scenarios.schema import Scenario

Count = Annotated[int, Field(ge=1, strict=True)]
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Percentile = Annotated[float, Field(ge=1, lt=100)]
_NonEmpty = Field(min_length=1)


class ProfileSection(BaseModel):
    """Which configurations to profile, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    models: Annotated[tuple[str, ...], _NonEmpty] | None = None
    """Models of the scenario to profile, each alone; default: all."""
    tp: Annotated[tuple[Count, ...], _NonEmpty] | None = None
    """Tensor-parallel degrees; default: each model's own."""
    compute_shares: Annotated[tuple[Share, ...], _NonEmpty] = (1.0,)
    """Shares of each GPU's compute units."""
    replicas: Annotated[tuple[Count, ...], _NonEmpty] = (1,)
    """Numbers of replicas behind the model's balancer."""
    latency_by_tp: dict[str, dict[Count, LatencyConfig]] = Field(default_factory=dict)
    """By model and tp: the latency section at a degree other than the model's own."""
    num_gpu_blocks_by_tp: dict[str, dict[Count, Count]] = Field(default_factory=dict)
    """By model and tp: KV blocks at a degree other than the model's own, where ``engine.num_gpu_blocks`` is given."""
    rates: Literal["auto"] | Annotated[tuple[Rate, ...], _NonEmpty] = "auto"
    """Offered loads in requests/s; ``auto`` places them where the curves bend."""
    points: Annotated[int, Field(ge=4, le=200, strict=True)] = 12
    """Loads of a curve with ``rates: auto``, the limit of no load included."""
    replications: Annotated[int, Field(ge=3, le=1000, strict=True)] = 5
    """Independent repetitions at each load."""
    requests: Annotated[int, Field(ge=100, le=10_000_000, strict=True)] = 3000
    """Requests of each replication, for each replica; 2 to 8 times as many when the stability limit is looked for."""
    min_duration_s: Annotated[float, Field(ge=0)] | None = None
    """Send more requests if these take less time; default: 20 cycles of ``mmpp2`` arrivals, otherwise 0."""
    percentiles: Annotated[tuple[Percentile, ...], _NonEmpty] = (50.0, 90.0, 95.0, 99.0)
    """Of TTFT, TPOT and E2E, in per cent: 99, not 0.99."""

    @field_validator("rates", mode="before")
    @classmethod
    def _rates_are_loads(cls, given: Any) -> Any:
        # The schema's own words for a wrong number in a list would be that only 'auto' is allowed.
        if given == "auto" or (isinstance(given, list | tuple) and given and all(map(_is_load, given))):
            return given
        raise ValueError(
            f"{given!r}; allowed: auto, or a list of loads above 0 in requests/s, such as [1, 2.5, 4]. "
            "The limit of no load is measured in any case"
        )

    @field_validator("percentiles", mode="before")
    @classmethod
    def _percentiles_are_in_per_cent(cls, given: Any) -> Any:
        shares = [value for value in given if _is_load(value) and value < 1] if isinstance(given, list | tuple) else []
        if shares:
            raise ValueError(
                f"{shares[0]!r}; allowed: 1 <= percentile < 100. They are in per cent: is {100 * shares[0]:g} meant?"
            )
        return given

    @model_validator(mode="after")
    def _lists_hold_each_value_once(self) -> ProfileSection:
        for name in ("models", "tp", "compute_shares", "replicas", "rates", "percentiles"):
            values = getattr(self, name)
            if isinstance(values, tuple) and len(set(values)) < len(values):
                raise ValueError(f"{name} is {list(values)}; allowed: each value once")
        if self.rates != "auto" and "points" in self.model_fields_set:
            raise ValueError("points has no effect with a list of rates; leave it out")
        return self


def _is_load(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


class ProfileSpec(Scenario):
    """A scenario whose models are profiled.  Its ``slo`` and most of its ``run`` section say nothing about that."""

    profile: ProfileSection = ProfileSection()


def load_profile(name: str, overrides: Sequence[str] = ()) -> ProfileSpec:
    """Read, resolve and validate a profile file; a scenario without a ``profile`` section has all its defaults.

    Parameters
    ----------
    name : str
        Path of a YAML file, or name of a library scenario.
    overrides : sequence of str
        ``a.b=value`` assignments, applied last; the value is YAML.

    Raises
    ------
    InputError
        The file cannot be read or does not follow the schema; every fault is named by its key.
    """
    return load_as(ProfileSpec, name, overrides)
