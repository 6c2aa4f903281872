"""Executors for simulations: worker processes that Ctrl-C ends cleanly, or this process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from typing import Any

from latency_models.errors import check_count

_TERMINATED = 143
"""What a shell reports of a process that was asked to end."""


@contextmanager
def worker_processes(jobs: int) -> Iterator[Executor]:
    """An executor with so many processes; one job at a time needs none but this.

    Ctrl-C ends what they are doing; jobs that have not begun are dropped at the end of the block in any case.

    Parameters
    ----------
    jobs : int
        Processes.

    Raises
    ------
    InputError
        If ``jobs`` is not a positive integer.
    """
    check_count("jobs", jobs)
    others = set(active_children())
    executor = _InThisProcess() if jobs == 1 else _processes(jobs)
    try:
        yield executor
    except (KeyboardInterrupt, SystemExit):
        # A simulation can be long, and whoever interrupts does not want to wait for its end.
        for process in set(active_children()) - others:
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _processes(jobs: int) -> Executor:
    # A fresh interpreter for each: a fork would copy the threads of a progress bar in mid-air.
    return _Processes(jobs, mp_context=get_context("spawn"), initializer=_heed_the_parent_only)


class _Processes(ProcessPoolExecutor):
    """Workers that Ctrl-C, which a terminal sends to all processes, does not reach even while they start."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        # The first job starts the workers, which inherit what is blocked.  Windows has no such thing.
        if not hasattr(signal, "pthread_sigmask"):
            return super().submit(_unless_ended, fn, *args, **kwargs)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(_unless_ended, fn, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _heed_the_parent_only() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # As an exception, so that a file that is being written is cleaned up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))


def _unless_ended(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    try:
        return fn(*args, **kwargs)
    except SystemExit:
        # The pool would pass it on to the parent and take the next job.
        os._exit(_TERMINATED)


class _InThisProcess(Executor):
    """Does every job when it is handed in."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future
