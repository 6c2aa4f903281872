"""Profiling: curves of all configurations, their runs spread over processes and remembered from earlier calls."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from latency_models.curves.load_latency import LoadLatencyCurve
from latency_models.errors import check_count
from scenarios.profiles.cache import ResultCache, code_digest, content_key
from scenarios.profiles.configurations import ProfiledConfiguration, configurations_of
from scenarios.profiles.curve import CurveStudy, study_curve
from scenarios.profiles.offered_load import Load
from scenarios.profiles.replication import RunFigures, run_at
from scenarios.profiles.schema import ProfileSpec
from scenarios.schema import Scenario
from scenarios.worker_processes import worker_processes


@dataclass(slots=True)
class Progress:
    """How far a profile has come; the number of runs is not known before a curve is finished."""

    curves: int
    curves_done: int = 0
    runs_wanted: int = 0
    runs_done: int = 0
    runs_from_cache: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """How to run a profile; nothing here changes its results."""

    jobs: int = 1
    """Processes."""
    cache_dir: Path | None = None
    """Where runs are remembered; ``None``: nowhere."""

    def __post_init__(self) -> None:
        check_count("jobs", self.jobs)


def run_profile(
    spec: ProfileSpec, options: ProfileOptions, report: Callable[[Progress], None] | None = None
) -> list[LoadLatencyCurve]:
    """Measure the curves of a profile by simulation.

    Parameters
    ----------
    spec : ProfileSpec
        What to profile.
    options : ProfileOptions
        How.
    report : callable, optional
        Called whenever a run has ended.

    Returns
    -------
    list of LoadLatencyCurve
        One for each configuration, in the order of the file; the same for any number of jobs.

    Raises
    ------
    InputError
        The profile contradicts itself or describes what no curve can be made of.
    """
    profiled = configurations_of(spec)
    with worker_processes(options.jobs) as executor:
        return _Profiler(spec, profiled, options, executor, report).curves()


class _Study:
    """One curve in the making."""

    def __init__(self, profiled: ProfiledConfiguration, generator: CurveStudy) -> None:
        self.scenario = profiled.scenario.model_dump(mode="json", by_alias=True, exclude_none=True)
        self.generator = generator
        self.runs: list[list[RunFigures | None]] = []
        self.missing = 0
        self.curve: LoadLatencyCurve | None = None


class _Profiler:
    """Hands the loads that the studies ask for to the processes, and the results back."""

    def __init__(
        self,
        spec: ProfileSpec,
        profiled: list[ProfiledConfiguration],
        options: ProfileOptions,
        executor: Executor,
        report: Callable[[Progress], None] | None,
    ) -> None:
        self._profile = spec.profile
        self._cache_dir = options.cache_dir
        self._cache = ResultCache(options.cache_dir)
        self._executor = executor
        self._report = report
        self._waiting: dict[Future[dict[str, Any]], tuple[_Study, int, int]] = {}
        self._studies = [_Study(entry, study_curve(entry, spec.profile, _provenance(spec))) for entry in profiled]
        self._progress = Progress(curves=len(profiled))

    def curves(self) -> list[LoadLatencyCurve]:
        for study in self._studies:
            self._advance(study, None)
        while self._waiting:
            done, _ = wait(self._waiting, return_when=FIRST_COMPLETED)
            for future in done:
                study, load, replication = self._waiting.pop(future)
                self._deliver(study, load, replication, future.result())
                if not study.missing:
                    self._advance(study, study.runs)
        return [study.curve for study in self._studies if study.curve is not None]

    def _advance(self, study: _Study, runs: list[list[RunFigures | None]] | None) -> None:
        """Let a study ask for its next loads; those that are all remembered are answered at once."""
        answer: Any = runs
        while True:
            try:
                loads = study.generator.send(answer)
            except StopIteration as finished:
                study.curve = finished.value
                self._progress.curves_done += 1
                self._tell()
                return
            self._start(study, loads)
            if study.missing:
                return
            answer = study.runs

    def _start(self, study: _Study, loads: list[Load]) -> None:
        replications = self._profile.replications
        study.runs = [[None] * replications for _ in loads]
        study.missing = len(loads) * replications
        self._progress.runs_wanted += study.missing
        for index, load in enumerate(loads):
            for replication in range(replications):
                job = {
                    "scenario": study.scenario,
                    "load": asdict(load),
                    "replication": replication,
                    "percentiles": list(self._profile.percentiles),
                }
                key = content_key(job)
                known = self._cache.get(key)
                if known is not None:
                    self._progress.runs_from_cache += 1
                    self._deliver(study, index, replication, known)
                    continue
                future = self._executor.submit(_run, json.dumps(job), key, self._cache_dir)
                self._waiting[future] = (study, index, replication)

    def _deliver(self, study: _Study, load: int, replication: int, values: dict[str, Any]) -> None:
        study.runs[load][replication] = RunFigures.from_dict(values)
        study.missing -= 1
        self._progress.runs_done += 1
        self._tell()

    def _tell(self) -> None:
        if self._report is not None:
            self._report(self._progress)


def _provenance(spec: ProfileSpec) -> dict[str, Any]:
    return {
        "source": "simulation",
        "profile": spec.name,
        "seed": spec.seed,
        "replications": spec.profile.replications,
        "requests": spec.profile.requests,
        "confidence": 0.95,
        "workload": spec.workload.model_dump(mode="json", by_alias=True, exclude_none=True),
        "routerwise": version("routerwise"),
        "code": code_digest()[:16],
    }


def _run(job_json: str, key: str, cache_dir: Path | None) -> dict[str, Any]:
    """Simulate one run, in whatever process, and remember it there, so that Ctrl-C loses nothing that has ended."""
    job = json.loads(job_json)
    scenario = _scenario(json.dumps(job["scenario"]))
    figures = run_at(scenario, Load(**job["load"]), job["replication"], job["percentiles"]).as_dict()
    ResultCache(cache_dir).put(key, figures)
    return figures


@lru_cache(maxsize=64)
def _scenario(scenario_json: str) -> Scenario:
    """Validating a scenario with large tables takes longer than a run."""
    return Scenario.model_validate_json(scenario_json)
