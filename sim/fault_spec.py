"""What fails in a cluster and when, how long that lasts, and what becomes of the requests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from latency_models.errors import InputError, check_count, check_finite, invalid, unknown_name

LostRequests = Literal["retry", "reroute", "fail"]
"""What becomes of a request that loses its replica or finds none: another replica of its model answers it from the
start, and if none is up it waits for one (``retry``); the same, but another model answers if none is up (``reroute``);
or it ends as failed (``fail``)."""


MOST_RETRIES = 3
"""Default of :attr:`FaultSpec.most_retries`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """A replica, or a GPU with all replicas that have a shard on it, is lost at a given time.

    Parameters
    ----------
    at_s : float
        When.
    model, replica : int, optional
        The replica, by index of its model and within it; or
    gpu : int, optional
        the GPU.
    restart_s : float, optional
        Seconds until what was lost starts again, before the model is loaded; infinity: never.  Default: that of the
        :class:`FaultSpec`.
    """

    at_s: float
    model: int | None = None
    replica: int = 0
    gpu: int | None = None
    restart_s: float | None = None

    def __post_init__(self) -> None:
        check_finite("faults.crashes.at_s", self.at_s)
        if (self.model is None) == (self.gpu is None):
            raise InputError("a crash is of a replica (model, replica) or of a gpu; give one of model and gpu")
        check_count("faults.crashes.model", self.model or 0, minimum=0)
        check_count("faults.crashes.replica", self.replica, minimum=0)
        check_count("faults.crashes.gpu", self.gpu or 0, minimum=0)
        _check_restart("faults.crashes.restart_s", self.restart_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomCrashes:
    """Each GPU, or each replica, fails by itself after an exponential time of being up.

    Parameters
    ----------
    each : {"gpu", "replica"}
        What fails.
    mean_time_between_s : float
        Mean seconds from when it is up until it fails.
    model : int, optional
        Only replicas of this model.
    restart_s : float, optional
        As of :class:`Crash`, but finite.
    """

    each: Literal["gpu", "replica"]
    mean_time_between_s: float
    model: int | None = None
    restart_s: float | None = None

    def __post_init__(self) -> None:
        if self.each not in ("gpu", "replica"):
            raise unknown_name("faults.random_crashes.each", str(self.each), ("gpu", "replica"))
        check_finite("faults.random_crashes.mean_time_between_s", self.mean_time_between_s, exclusive=True)
        if self.restart_s is not None:
            check_finite("faults.random_crashes.restart_s", self.restart_s)
        if self.model is not None:
            check_count("faults.random_crashes.model", self.model, minimum=0)
            if self.each == "gpu":
                raise InputError("faults.random_crashes: model goes with each: replica; leave it out, or change each")


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpec:
    """All faults of a run.

    Parameters
    ----------
    load_s : tuple of float
        Seconds that a replica of each model takes to load it before it answers: after every restart, and with a cold
        start.
    restart_s : float
        Seconds from a crash until the loading begins.
    crashes : tuple of Crash
        At given times.
    random_crashes : tuple of RandomCrashes
        At random times, each GPU and replica with a random stream of its own.
    cold_models : tuple of int
        Models whose replicas begin to load at time 0; those of others are up from the start.
    lost_requests : {"retry", "reroute", "fail"}
        See :data:`LostRequests`.
    most_retries : int
        How often a request is started again after it lost its replica; then it has failed.
    """

    load_s: tuple[float, ...]
    restart_s: float = 0.0
    crashes: tuple[Crash, ...] = ()
    random_crashes: tuple[RandomCrashes, ...] = ()
    cold_models: tuple[int, ...] = ()
    lost_requests: LostRequests = "retry"
    most_retries: int = MOST_RETRIES

    def __post_init__(self) -> None:
        for load_s in self.load_s:
            check_finite("faults.load_s", load_s)
        _check_restart("faults.restart_s", self.restart_s)
        if self.random_crashes and math.isinf(self.restart_s):
            raise invalid("faults.restart_s", self.restart_s, "a finite number of seconds with random_crashes")
        if self.lost_requests not in get_args(LostRequests):
            raise unknown_name("faults.lost_requests", str(self.lost_requests), get_args(LostRequests))
        check_count("faults.most_retries", self.most_retries, minimum=0)

    def check(self, replicas: tuple[int, ...], gpus: int) -> None:
        """Raise :class:`InputError` unless all that fails exists.

        Parameters
        ----------
        replicas : tuple of int
            Number of replicas of each model.
        gpus : int
            GPUs of the cluster.
        """
        models = len(replicas)
        if len(self.load_s) != models:
            raise invalid("faults.load_s", self.load_s, f"{models} numbers, one per model")
        of_crashes = [crash.model for crash in self.crashes]
        named = [*self.cold_models, *of_crashes, *(rule.model for rule in self.random_crashes)]
        for model in named:
            if model is not None and not 0 <= model < models:
                raise invalid("faults: model", model, f"0 to {models - 1}, a model's index")
        for crash in self.crashes:
            if crash.gpu is not None and crash.gpu >= gpus:
                raise invalid("faults.crashes.gpu", crash.gpu, f"0 to {gpus - 1}")
            if crash.model is not None and crash.replica >= replicas[crash.model]:
                allowed = f"0 to {replicas[crash.model] - 1}, a replica of the model"
                raise invalid("faults.crashes.replica", crash.replica, allowed)


def _check_restart(field: str, restart_s: float | None) -> None:
    if restart_s is not None and not restart_s >= 0:
        raise invalid(field, restart_s, "seconds >= 0, or infinity if it never restarts")
