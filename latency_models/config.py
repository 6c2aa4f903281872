"""The ``latency:`` section of a scenario: its schema, and the step-time model that it describes.

``kind`` chooses the model.  The built-in kinds are checked field by field; any other kind is looked up among the
registered plug-ins, whose class gets the section's other keys as keyword arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from latency_models.errors import InputError, unknown_name
from latency_models.linear import LinearStepTime
from latency_models.piecewise import DecodeRow, PiecewiseStepTime, PrefillTable
from latency_models.step_time import STEP_TIME_MODELS, StepTimeModel

Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
# Strict, as pydantic would otherwise take true for 1 and "8" for 8.
Count = Annotated[int, Field(ge=1, strict=True)]
Tokens = Annotated[int, Field(ge=0, strict=True)]


class _Section(BaseModel):
    """A part of the schema: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LinearLatency(_Section):
    """Coefficients of the linear law, in seconds; see :class:`latency_models.linear.LinearStepTime`."""

    kind: Literal["linear"]
    base_s: Seconds = Field(default=0.0, description="Seconds of every step.")
    per_token_s: Seconds = Field(default=0.0, description="Seconds per token computed, prefill or decode.")
    per_sequence_s: Seconds = Field(default=0.0, description="Seconds per scheduled sequence.")
    per_context_token_s: Seconds = Field(
        default=0.0, description="Seconds per token of context after the step, over all scheduled sequences."
    )
    per_prefill_pair_s: Seconds = Field(default=0.0, description="Seconds per query-key pair of the prefill chunks.")
    per_sample_s: Seconds = Field(default=0.0, description="Seconds per sequence that emits a token.")

    @model_validator(mode="after")
    def _takes_time(self) -> LinearLatency:
        _refuse_in_pydantic(self.build)
        return self

    def build(self) -> StepTimeModel:
        """The step-time model."""
        return LinearStepTime(**self.model_dump(exclude={"kind"}))


class DecodeRowConfig(_Section):
    """Decode steps measured at one batch size."""

    batch: Count = Field(description="Decoding sequences.")
    context_tokens: tuple[Tokens, ...] = Field(min_length=2, description="Total context of the batch, ascending.")
    step_s: tuple[PositiveSeconds, ...] = Field(min_length=2, description="Duration of the step at each point.")


class PrefillTableConfig(_Section):
    """Steps measured with prefill only."""

    tokens: tuple[Tokens, ...] = Field(min_length=2, description="Prefill tokens of the step, ascending.")
    step_s: tuple[PositiveSeconds, ...] = Field(min_length=2, description="Duration of the step at each point.")


class PiecewiseLatency(_Section):
    """Tables of measured step times; see :class:`latency_models.piecewise.PiecewiseStepTime`."""

    kind: Literal["piecewise"]
    decode: tuple[DecodeRowConfig, ...] = Field(min_length=1, description="One row per batch size, ascending.")
    prefill: PrefillTableConfig
    shared_s: Seconds | None = Field(
        default=None,
        description="Seconds that both tables contain and a mixed step pays once; default: the smallest decode time.",
    )
    extrapolate: bool = Field(default=False, description="Prolong the nearest cell outside the tables.")
    pad_batch_to: tuple[Count, ...] = Field(
        default=(), description="Sizes that a decode-only batch is padded up to (CUDA graphs), ascending."
    )

    @model_validator(mode="after")
    def _tables_agree(self) -> PiecewiseLatency:
        _refuse_in_pydantic(self.build)
        return self

    def build(self) -> StepTimeModel:
        """The step-time model."""
        return PiecewiseStepTime(
            decode=tuple(
                DecodeRow(batch=row.batch, context_tokens=row.context_tokens, step_s=row.step_s) for row in self.decode
            ),
            prefill=PrefillTable(tokens=self.prefill.tokens, step_s=self.prefill.step_s),
            shared_s=self.shared_s,
            extrapolate=self.extrapolate,
            pad_batch_to=self.pad_batch_to,
        )


class PluginLatency(BaseModel):
    """A registered model of a third party: every key besides ``kind`` is an argument of its class."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = Field(description="Name of the plug-in, in the entry-point group routerwise.step_time_models.")

    @model_validator(mode="after")
    def _exists_and_takes_its_options(self) -> PluginLatency:
        _refuse_in_pydantic(self.build)
        return self

    def build(self) -> StepTimeModel:
        """The step-time model; an unknown name or option is an InputError."""
        if self.kind not in STEP_TIME_MODELS.names():
            raise unknown_name(STEP_TIME_MODELS.kind, self.kind, STEP_TIME_MODELS.names())
        plugin = STEP_TIME_MODELS.get(self.kind)
        options: dict[str, Any] = dict(self.model_extra or {})
        try:
            inspect.signature(plugin).bind(**options)
        except TypeError as error:
            raise InputError(
                f"latency model {self.kind!r} does not take these options: {error}; "
                f"allowed: {inspect.signature(plugin)}"
            ) from error
        model = plugin(**options)
        for method in ("step_s", "decode_run"):
            if not callable(getattr(model, method, None)):
                raise InputError(
                    f"latency model {self.kind!r} has no method {method}; allowed: classes with step_s and decode_run. "
                    "Ask whoever provides the plug-in"
                )
        return cast(StepTimeModel, model)


_BUILT_IN = ("linear", "piecewise")


def _kind_of(section: object) -> str | None:
    """Which part of the union a section belongs to; without a ``kind`` there is none."""
    kind = section.get("kind") if isinstance(section, dict) else getattr(section, "kind", None)
    if not isinstance(kind, str):
        return None
    return kind if kind in _BUILT_IN else "plugin"


LatencyConfig = Annotated[
    Annotated[LinearLatency, Tag("linear")]
    | Annotated[PiecewiseLatency, Tag("piecewise")]
    | Annotated[PluginLatency, Tag("plugin")],
    Discriminator(
        _kind_of,
        custom_error_type="latency_kind",
        custom_error_message="the key 'kind' must name a latency model: linear, piecewise or a plug-in",
    ),
]
"""Type of the ``latency:`` section, for use as a field of a pydantic model."""


def build_step_time(config: LinearLatency | PiecewiseLatency | PluginLatency) -> StepTimeModel:
    """Build the step-time model that a ``latency:`` section describes.

    Parameters
    ----------
    config : LinearLatency or PiecewiseLatency or PluginLatency
        The section, already validated.

    Returns
    -------
    StepTimeModel
        A pure model; replicas may share it.

    Raises
    ------
    InputError
        If a plug-in refuses its options.
    """
    return config.build()


def _refuse_in_pydantic(build: Callable[[], StepTimeModel]) -> None:
    """Turn our error into the kind that pydantic reports together with the place of the section."""
    try:
        build()
    except InputError as error:
        raise ValueError(str(error)) from error
