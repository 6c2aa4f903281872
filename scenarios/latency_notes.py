"""What a user should know about the latency models of a scenario before believing its results."""

from __future__ import annotations

from latency_models.config import LatencyConfig
from latency_models.fits.model_files import range_notes
from latency_models.sections.file import FileLatency
from sim.settings import EngineSettings


def latency_notes(latency: LatencyConfig, settings: EngineSettings) -> list[str]:
    """Sentences on a ``latency:`` section and on the sections inside it.

    Parameters
    ----------
    latency : LatencyConfig
        The validated section.
    settings : EngineSettings
        Of the engine that it times; its limits are held against the range that a calibrated model was measured in.
    """
    notes = list(latency.notes())
    limits = {
        "tokens": settings.max_num_batched_tokens,
        "sequences": settings.max_num_seqs,
        "context_per_sequence": settings.max_model_len,
    }
    inner: object = latency
    while inner is not None:
        if isinstance(inner, FileLatency):
            notes += range_notes(inner.read(), limits)
        inner = getattr(inner, "base", None)
    return list(dict.fromkeys(notes))
