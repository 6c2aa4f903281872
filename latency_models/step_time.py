"""What a step-time model answers: how long one iteration of the engine takes.

The unit of simulation is a step (DESIGN: one engine step, not one token).  A model is pure: same batch, same time.
"""

from __future__ import annotations

from typing import Protocol

from latency_models.registry import Registry

UNLIMITED_STEPS = 1 << 60
"""Number of steps returned by :meth:`StepTimeModel.decode_run` when the law has no breakpoint ahead."""


class StepTimeModel(Protocol):
    """Duration of engine steps, in seconds."""

    def step_s(
        self,
        tokens: int,
        prefill_seqs: int,
        prefill_context: int,
        prefill_work: float,
        decode_seqs: int,
        decode_context: int,
        sampled: int,
        longest: int = 0,
    ) -> float:
        """Duration of one step that contains at least one prefill chunk.

        Parameters
        ----------
        tokens : int
            Tokens computed in the step: all prefill chunks plus one for each decoding sequence.
        prefill_seqs : int
            Sequences that compute a prefill chunk.
        prefill_context : int
            Sum over those of the context after the chunk (tokens computed before + tokens of the chunk).
        prefill_work : float
            Sum over those of n * (c + n / 2), query-key pairs of a chunk of n tokens behind c computed ones.
        decode_seqs : int
            Sequences that compute one token.
        decode_context : int
            Sum over those of the context including that token.
        sampled : int
            Sequences that emit a token (all decodes, and the prefills that end in this step).
        longest : int
            Longest context of a decoding sequence, including that token; 0 if not known, when contexts count as equal.
            It is known if the model has an attribute ``uses_longest_context`` that is true.
        """
        ...

    def decode_run(self, seqs: int, context: int, longest: int = 0) -> tuple[float, float, int]:
        """Law of a run of decode-only steps of an unchanged batch.

        Parameters
        ----------
        seqs : int
            Decoding sequences, each computing one token per step.
        context : int
            Sum of their contexts in the first step, each including the token of that step.
        longest : int
            Longest of these, which grows by 1 a step; 0 as for :meth:`step_s`.

        Returns
        -------
        first_s : float
            Duration of the first step.
        growth_s : float
            What each further step takes more than the one before (the context grows by ``seqs`` a step).
        steps : int
            For how many steps this law holds exactly: at least 1, up to the next breakpoint of the model.
        """
        ...


STEP_TIME_MODELS: Registry[type] = Registry("latency model", "routerwise.step_time_models")
