"""The figures of a run as tables, by model, class and replica, and those of several runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis.estimates import Estimate
from analysis.findings.finding import overlap
from analysis.reports.tables import Cell, PageTable, figure_cell, heading
from analysis.stored.run import StoredRun
from analysis.wording import COUNT, DOLLARS, MILLISECONDS, RATE, SCORE, SECONDS, SHARE, Unit, bare

_Keys = tuple[str, ...]

_FIGURES: tuple[tuple[str, _Keys, Unit], ...] = (
    ("requests", ("requests", "total"), COUNT),
    ("answered", ("requests", "finished"), COUNT),
    ("offered/s", ("offered_per_s",), RATE),
    ("kept limits", ("slo_attainment",), SHARE),
    ("TTFT mean", ("ttft_s", "mean"), MILLISECONDS),
    ("TTFT P95", ("ttft_s", "p95"), MILLISECONDS),
    ("TTFT P99", ("ttft_s", "p99"), MILLISECONDS),
    ("TPOT mean", ("tpot_s", "mean"), MILLISECONDS),
    ("TPOT P95", ("tpot_s", "p95"), MILLISECONDS),
    ("ITL P99", ("itl_s", "p99"), MILLISECONDS),
    ("E2E mean", ("e2e_s", "mean"), SECONDS),
    ("E2E P95", ("e2e_s", "p95"), SECONDS),
    ("score, predicted", ("quality", "predicted"), SCORE),
    ("score, achieved", ("quality", "achieved"), SCORE),
)
_WHOLE_RUN: tuple[tuple[str, _Keys, Unit], ...] = (
    ("utilisation", ("cluster", "utilisation"), SHARE),
    ("KV memory in use", ("cluster", "mean_kv_used_frac"), SHARE),
    ("preempted requests", ("overall", "preempted_requests"), COUNT),
    ("cost per million output tokens", ("cost", "per_million_output_tokens_usd"), DOLLARS),
    ("cost per 1,000 good answers", ("cost", "per_1000_good_usd"), DOLLARS),
)
_BY_LIMITS: tuple[_Keys, ...] = (("overall", "slo_attainment"), ("cost", "per_1000_good_usd"))
"""Figures that cannot be compared between runs with different limits."""
_REPLICA: tuple[tuple[str, str, Unit], ...] = (
    ("utilisation", "utilisation", SHARE),
    ("batch", "mean_batch_size", COUNT),
    ("running", "mean_running", COUNT),
    ("waiting", "mean_waiting", COUNT),
    ("most waiting", "max_waiting", COUNT),
    ("KV in use", "mean_kv_used_frac", SHARE),
    ("down", "down_s", SECONDS),
)


def run_tables(run: StoredRun) -> Iterator[PageTable]:
    """Tables by model, by class, by both, and by replica; those with a single row only if nothing else shows it."""
    models: dict[str, _Keys] = {name: ("by_model", name) for name in run.used_models}
    classes: dict[str, _Keys] = {name: ("by_class", name) for name in run.classes}
    everything: dict[str, _Keys] = {"all": ("overall",)}
    yield _table(run, "By model", models | everything if len(models) != 1 else models)
    if len(classes) > 1:
        yield _table(run, "By class", classes | everything)
    if len(classes) > 1 and len(models) > 1:
        pairs: dict[str, _Keys] = {
            f"{model}, {name}": ("by_model_and_class", model, name)
            for model in models
            for name in classes
            if run.estimate("by_model_and_class", model, name, "requests", "total") is not None
        }
        yield _table(run, "By model and class", pairs)
    yield _replica_table(run)


def side_by_side(runs: Sequence[StoredRun]) -> PageTable:
    """Figures of several runs; below each of the second and later ones, its difference from the first.

    A difference stands out where the intervals are apart.  Where they overlap it may still be real, as runs that had
    the same random numbers differ by less than either of them varies.
    """
    first, *others = runs
    same_limits = len({run.summary["slo"] for run in runs}) == 1
    rows = []
    figures = (*((words, ("overall", *keys), unit) for words, keys, unit in _FIGURES), *_WHOLE_RUN)
    for words, keys, unit in figures:
        estimates = [run.estimate(*keys) for run in runs]
        if all(estimate is None for estimate in estimates):
            continue
        base = estimates[0] if same_limits or keys not in _BY_LIMITS else None
        cells = [_compared(base, estimate, unit) for estimate in estimates[1:]]
        rows.append((Cell(text=heading(words, unit)), figure_cell(estimates[0], unit), *cells))
    own = "" if same_limits else " The runs have limits of their own: what depends on them is not compared."
    return PageTable(
        columns=("", first.name, *(run.name for run in others)),
        rows=tuple(rows),
        note=f"Below the figures of later runs: the difference from {first.name}, and whether the confidence intervals "
        "overlap. Where they do, nothing was shown; where a run has one replication, it has no interval."
        f"{own}",
    )


def _compared(base: Estimate | None, estimate: Estimate | None, unit: Unit) -> Cell:
    cell = figure_cell(estimate, unit)
    if base is None or estimate is None:
        return cell
    change = estimate.value - base.value
    overlapping = overlap(base, estimate)
    relation = {None: "", True: ", overlap", False: ", apart"}[overlapping]
    difference = "the same" if change == 0 else bare(Estimate(value=change), replace(unit, digits=2), signed=True)[0]
    return replace(
        cell,
        below=(*cell.below, difference + (relation if change else "")),
        stands_out=overlapping is False,
    )


def _table(run: StoredRun, title: str, groups: dict[str, _Keys]) -> PageTable:
    """A column for each group; figures that no group has are left out."""
    rows = []
    for words, keys, unit in _FIGURES:
        cells = [figure_cell(run.estimate(*group, *keys), unit) for group in groups.values()]
        if any(cell.text for cell in cells):
            rows.append((Cell(text=heading(words, unit)), *cells))
    return PageTable(title=title, columns=("", *groups), rows=tuple(rows))


def _replica_table(run: StoredRun) -> PageTable:
    where = {replica["name"]: replica for replica in run.cluster["replicas"]}
    rows = []
    for name in run.summary["replicas"]:
        gpus = ", ".join(map(str, where[name]["gpus"])) if name in where else ""
        share = Estimate(value=where[name]["compute_share"]) if name in where else None
        figures = [run.estimate("replicas", name, key) for _, key, _ in _REPLICA]
        cells = [figure_cell(found, unit) for found, (_, _, unit) in zip(figures, _REPLICA, strict=True)]
        rows.append((Cell(text=name), Cell(text=gpus), figure_cell(share, SHARE), *cells))
    columns = ("replica", "GPUs", "compute share (%)", *(heading(words, unit) for words, _, unit in _REPLICA))
    return PageTable(title="By replica", columns=columns, rows=tuple(rows))
