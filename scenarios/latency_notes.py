"""What a user should know about the latency models of a scenario before believing its results."""

from __future__ import annotations

from latency_models.fits.model_files import range_notes
from latency_models.sections.file import FileLatency
from sim.settings import EngineSettings


def latency_notes(latency: object, settings: EngineSettings) -> list[str]:
    """Sentences on a ``latency:`` section and on the sections inside it.

    Parameters
    ----------
    latency : object
        The validated section.
    settings : EngineSettings
        Of the engine that it times; its limits are held against the range that a calibrated model was measured in.
    """
    notes: list[str] = []
    own = getattr(latency, "notes", None)
    if callable(own):
        notes += own()
    limits = {
        "tokens": settings.max_num_batched_tokens,
        "sequences": settings.max_num_seqs,
        "context_per_sequence": settings.max_model_len,
    }
    while latency is not None:
        if isinstance(latency, FileLatency):
            notes += range_notes(latency.read(), limits)
        latency = getattr(latency, "base", None)
    return list(dict.fromkeys(notes))
