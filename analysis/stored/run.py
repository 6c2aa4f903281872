"""A run directory, read back: summary, scenario, cluster, and tables of requests and samples.

Tables are read when they are first asked for, and kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.estimates import Estimate, estimate_of
from analysis.slo import Slo
from analysis.stored.json_files import RUN_SCHEMA_VERSION, check_keys, check_version, read_object
from analysis.stored.tables import read_table
from latency_models.errors import InputError, invalid
from latency_models.yaml_files import read_yaml

if TYPE_CHECKING:
    import pandas as pd

_REQUEST_TEXTS = ("model", "replica", "class", "status")
_REQUEST_NUMBERS = (
    "arrival_s", "prompt_tokens", "output_tokens", "generated_tokens", "queue_s", "ttft_s", "tpot_s", "e2e_s",
    "preemptions", "predicted_score", "outcome",
)  # fmt: skip
_OF_PROMPTS = ("predicted_score", "outcome")
_SAMPLE_NUMBERS = ("time_s", "running", "waiting", "kv_used_frac", "busy")
_NEEDED = ("summary.json", "cluster.json", "scenario.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A time in which a replica was down."""

    replica: str
    from_s: float
    to_s: float
    """Its return, or the end of the simulation."""


class StoredRun:
    """One run directory.

    Attributes
    ----------
    path : Path
        The folder.
    name : str
        What to call it beside other runs: the scenario's name, with the folder's where
        :func:`analysis.stored.results.read_results` found several of that name.
    manifest, summary, scenario, cluster : dict
        As stored; ``scenario`` is the resolved scenario file, ``cluster`` says what ran where (see
        :func:`analysis.stored.cluster.cluster_json`).
    plan : dict or None
        The plan that was deployed, if one was.
    promise : list of dict
        What that plan promised next to what came out; empty without a plan.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not (path / "manifest.json").is_file():
            raise InputError(
                f"{path} is no run directory: it has no manifest.json; give a folder that `routerwise run` wrote"
            )
        self.manifest = read_object(path / "manifest.json")
        check_version(path, self.manifest, RUN_SCHEMA_VERSION)
        check_keys(path / "manifest.json", self.manifest, ("replications", "warmup_s"))
        for name in _NEEDED:
            if not (path / name).is_file():
                raise InputError(
                    f"{path} is not a complete run directory: {name} is missing; simulate the scenario again"
                )
        self.summary = read_object(path / "summary.json")
        self.cluster = read_object(path / "cluster.json")
        check_keys(path / "summary.json", self.summary, ("slo", "overall", "by_model", "by_class", "replicas"))
        check_keys(path / "cluster.json", self.cluster, ("gpus", "router", "replicas"))
        self.scenario: dict[str, Any] = read_yaml(path / "scenario.yaml", "scenario")
        check_keys(path / "scenario.yaml", self.scenario, ("name", "gpus", "models"))
        self.plan = read_object(path / "plan.json") if (path / "plan.json").is_file() else None
        promise = read_object(path / "promise.json") if (path / "promise.json").is_file() else {"figures": []}
        check_keys(path / "promise.json", promise, ("figures",))
        self.promise: list[dict[str, Any]] = promise["figures"]
        self.name = str(self.scenario["name"])
        self._timeseries: dict[int, pd.DataFrame] = {}

    @property
    def models(self) -> list[str]:
        """Names of the models, in the scenario's order."""
        return list(self.summary["by_model"])

    @property
    def used_models(self) -> list[str]:
        """Names of the models that got requests."""
        return [name for name in self.models if self.number("by_model", name, "requests", "total") > 0]

    @property
    def classes(self) -> list[str]:
        """Names of the request classes."""
        return list(self.summary["by_class"])

    @property
    def slo(self) -> Slo | None:
        """The limits that the run was held against."""
        text = self.summary["slo"]
        return None if text is None else Slo.parse(text)

    @property
    def replications(self) -> int:
        """How many there are.

        Raises
        ------
        InputError
            The manifest has something else there.
        """
        found = self.manifest["replications"]
        if not isinstance(found, int) or found < 1:
            path = self.path / "manifest.json"
            raise invalid(
                f"replications in {path}", found, "a whole number, at least 1", "Simulate the scenario again."
            )
        return found

    @property
    def warmup_s(self) -> tuple[float, ...]:
        """Seconds left out at the start of each replication.

        Raises
        ------
        InputError
            The manifest has something else there.
        """
        found = self.manifest["warmup_s"]
        numbers = isinstance(found, list) and all(isinstance(one, int | float) and one >= 0 for one in found)
        if not numbers or len(found) != self.replications:
            allowed = f"{self.replications} numbers, at least 0"
            path = self.path / "manifest.json"
            raise invalid(f"warmup_s in {path}", found, allowed, "Simulate the scenario again.")
        return tuple(found)

    def estimate(self, *keys: str) -> Estimate | None:
        """A figure of the summary by its keys; ``None`` if it has none there.

        Examples
        --------
        ``run.estimate("by_model", "chat", "ttft_s", "p95")``
        """
        return estimate_of(self._found(keys))

    def estimates(self, *keys: str) -> dict[str, Estimate]:
        """All figures in a part of the summary by its keys, without those that are not known."""
        found = {name: self.estimate(*keys, name) for name in self.entry(*keys)}
        return {name: estimate for name, estimate in found.items() if estimate is not None}

    def traffic_share(self, model: str) -> float | None:
        """Share of the requests that a model got; ``None`` without requests, and of another run's model."""
        total = self.number("overall", "requests", "total")
        return self.number("by_model", model, "requests", "total") / total if model in self.models and total else None

    def entry(self, *keys: str) -> Mapping[str, Any]:
        """A part of the summary by its keys; empty if it has none there."""
        found = self._found(keys)
        return found if isinstance(found, Mapping) else {}

    def _found(self, keys: Sequence[str]) -> Any:
        found: Any = self.summary
        for key in keys:
            if not isinstance(found, Mapping) or key not in found:
                return None
            found = found[key]
        return found

    def number(self, *keys: str) -> float:
        """Value of a figure that is always there.

        Raises
        ------
        InputError
            The summary has no such figure.
        """
        found = self.estimate(*keys)
        if found is None:
            raise InputError(
                f"{self.path / 'summary.json'} has no figure {'.'.join(keys)}; simulate the scenario again"
            )
        return found.value

    @cached_property
    def requests(self) -> pd.DataFrame:
        """Requests of all replications, those of the warm-up left out.

        Columns as in ``requests.csv``, of which names are categories; besides, ``replication``.  ``session`` and
        identifiers are left out.
        """
        if not any(self.warmup_s):
            return self._every_request
        table = self._every_request
        # A warm-up that was detected ends with an arrival, which the table has rounded to nine decimals.
        return table[table["arrival_s"] >= table["replication"].map(dict(enumerate(self.warmup_s))) - 5e-10]

    def requests_of(self, replication: int) -> pd.DataFrame:
        """Requests of one replication, warm-up included, with the columns of :attr:`requests`."""
        self._folder(replication)
        table = self._every_request
        return table if self.replications == 1 else table[table["replication"] == replication]

    @cached_property
    def _every_request(self) -> pd.DataFrame:
        import pandas as pd

        parts = [_read_requests(folder).assign(replication=number) for number, folder in enumerate(self._folders())]
        if len(parts) == 1:
            return parts[0]
        # Replications may have different names in them, of which together no category would be left.
        return pd.concat(parts, ignore_index=True).astype(dict.fromkeys(_REQUEST_TEXTS, "category"))

    def outages(self, replication: int = 0) -> list[Outage]:
        """When replicas were down in one replication."""
        path = self._folder(replication) / "outages.csv"
        if not path.is_file():
            return []
        table = read_table(path, texts=("replica",), numbers=("from_s", "to_s"))
        return [
            Outage(replica=str(replica), from_s=from_s, to_s=to_s)
            for replica, from_s, to_s in zip(table["replica"], table["from_s"], table["to_s"], strict=True)
        ]

    def timeseries(self, replication: int = 0) -> pd.DataFrame:
        """Samples of one replication, warm-up included, with the columns of ``timeseries.csv``."""
        if replication not in self._timeseries:
            path = _existing(self._folder(replication), ("timeseries.csv",))
            self._timeseries[replication] = read_table(path, texts=("model", "replica"), numbers=_SAMPLE_NUMBERS)
        return self._timeseries[replication]

    def _folders(self) -> Iterator[Path]:
        for number in range(self.replications):
            yield self._folder(number)

    def _folder(self, replication: int) -> Path:
        if not 0 <= replication < self.replications:
            raise invalid("replication", replication, f"0 to {self.replications - 1}, those of {self.path}")
        return self.path if self.replications == 1 else self.path / f"replication-{replication}"


def _existing(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"{folder} is not complete: {' or '.join(names)} is missing; simulate the scenario again")


def _read_requests(folder: Path) -> pd.DataFrame:
    path = _existing(folder, ("requests.csv", "requests.parquet"))
    return read_table(path, texts=_REQUEST_TEXTS, numbers=_REQUEST_NUMBERS, optional=_OF_PROMPTS)
