"""``latency: {kind: <a third party's>, ...}``."""

from __future__ import annotations

import inspect
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from latency_models.errors import InputError, unknown_name
from latency_models.sections.base import BUILT_IN, refuse_in_pydantic
from latency_models.step_time import STEP_TIME_MODELS, StepTimeModel


class PluginLatency(BaseModel):
    """A registered model of a third party: every key besides ``kind`` is an argument of its class."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str = Field(description="Name of the plug-in, in the entry-point group routerwise.step_time_models.")

    @model_validator(mode="after")
    def _exists_and_takes_its_options(self) -> PluginLatency:
        refuse_in_pydantic(self.build)
        return self

    def notes(self) -> tuple[str, ...]:
        """A plug-in's model speaks for itself."""
        return ()

    def at_tp(self, tp: int) -> None:
        """A plug-in's options have no degree of parallelism that is known here."""

    def build(self) -> StepTimeModel:
        """The step-time model; an unknown name or option is an InputError."""
        if self.kind not in STEP_TIME_MODELS.names():
            raise unknown_name(STEP_TIME_MODELS.kind, self.kind, {*BUILT_IN, *STEP_TIME_MODELS.names()})
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
