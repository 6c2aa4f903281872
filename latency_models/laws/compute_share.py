"""A shard on part of a GPU's multiprocessors (SMs), as NVIDIA MPS caps it: what slows down, and by how much.

- What computes follows the share: prefill of more than a few tokens.
- What reads memory saturates early, as few SMs draw most of the bandwidth: decode.
- What waits for the host's launches or for a collective does not slow down at all: small models, much parallelism.

A model offers ``at_share`` if it knows which of its terms is which (:class:`Shareable`).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from latency_models.errors import InputError, check_finite, invalid
from latency_models.step_time import StepTimeModel

MEASURED_FROM = 0.3
"""Smallest share in the measurements behind these laws (MuxServe, A100: 30 to 100 %)."""

BANDWIDTH_HALF_SHARE = 0.24
"""Share at which the bandwidth is half of what very many SMs would draw; see :func:`bandwidth_factor`.  Fitted with the
``steps`` law to all steps of MuxServe's LLaMA 7B, 13B and 65B on A100-80GB (:mod:`latency_models.fits.steps_fit`)."""


@runtime_checkable
class Shareable(Protocol):
    """A step-time model that can tell how it runs on part of a GPU."""

    def at_share(self, share: float) -> StepTimeModel:
        """The model when each shard gets this share of its GPU's SMs, instead of whatever share it has now."""
        ...


def at_share(model: StepTimeModel, share: float) -> StepTimeModel:
    """The step-time model of a replica whose shards get a share of their GPUs' SMs.

    Parameters
    ----------
    model : StepTimeModel
        Any model; on the whole GPU it is returned as it is if it knows nothing of shares.
    share : float
        Share of the SMs, in (0, 1].

    Raises
    ------
    InputError
        The share is out of range, or the model cannot tell.
    """
    check_share("share", share)
    if isinstance(model, Shareable):
        return model.at_share(share)
    if share == 1.0:
        return model
    raise InputError(
        f"share is {share:g}, but {type(model).__name__} cannot tell how it slows down; allowed: 1 with this model. "
        "Use the kind steps, linear or roofline, or measure at that share and leave the share out"
    )


def check_share(field: str, share: float) -> float:
    """Return a share of a GPU if it is in (0, 1]; raise :class:`InputError` otherwise."""
    if check_finite(field, share, exclusive=True) > 1.0:
        raise invalid(field, share, "a share, > 0 and <= 1", "Divide a percentage by 100")
    return float(share)


def share_notes(share: float) -> tuple[str, ...]:
    """What a user must know about a share: whether it lies below all measurements."""
    if share >= MEASURED_FROM:
        return ()
    return (
        f"compute share {share:g} is extrapolated: the laws were measured from {MEASURED_FROM:g} to 1 of the "
        "multiprocessors",
    )


def multiprocessors(sms: int, share: float) -> int:
    """SMs that a share of ``sms`` gives: whole ones, at least one."""
    return max(int(share * sms + 1e-9), 1)


def bandwidth_factor(share: float, half_share: float = BANDWIDTH_HALF_SHARE) -> float:
    """Memory bandwidth at a share over that of the whole GPU, 1 for the whole.

    Parameters
    ----------
    share : float
        Share of the SMs, in (0, 1].
    half_share : float
        h in ``share / (share + h) * (1 + h)``: each SM keeps a bounded number of bytes in flight, so that bandwidth
        grows with the SMs until the memory's own limit.
    """
    return share / (share + half_share) * (1.0 + half_share)
