"""The command line: one thin command per library function, imported when it is called."""

from __future__ import annotations

import errno
import importlib
import math
import os
import signal
import sys
import time
from typing import Any, ClassVar

import click

from latency_models.errors import RouterwiseError

INTERRUPTED = 130
"""Exit status after Ctrl-C."""

_CLEANING_UP_S = 3.0


class LazyGroup(click.Group):
    """A group whose commands live in modules that are imported when needed, so that ``--help`` is quick."""

    commands_by_name: ClassVar[dict[str, tuple[str, str, str]]] = {
        "run": ("scenarios.commands.run", "run", "Simulate a scenario and write its run directory."),
        "show": ("scenarios.commands.show", "show", "Show results in the terminal: verdict, latencies, time, cost."),
        "plot": ("scenarios.commands.plot", "plot", "Draw one kind of picture of results."),
        "compare": (
            "scenarios.commands.compare",
            "compare",
            "Compare routing policies on the same requests.",
        ),
        "scenarios": ("scenarios.commands.library", "scenarios", "List the scenarios that come with routerwise."),
        "schema": ("scenarios.commands.library", "schema", "Print the JSON Schema of scenario files."),
        "engine": ("scenarios.commands.engine", "engine", "Replay a workload on one replica, step by step."),
        "step": ("scenarios.commands.step", "step", "Walk through one engine step by step: who waits, and why."),
        "profile": ("scenarios.commands.profile", "profile", "Simulate models over load; write load-latency curves."),
        "optimize": (
            "scenarios.commands.optimize",
            "optimize",
            "Choose setup and routing for the highest score that keeps the SLOs.",
        ),
        "plan": ("scenarios.commands.plan", "plan", "Find the plan that keeps its SLOs in simulation."),
        "validate": (
            "scenarios.commands.validate",
            "validate",
            "Simulate a plan until it is clear whether its SLOs hold; explain what differs from its promise.",
        ),
        "stress": (
            "scenarios.commands.stress",
            "stress",
            "Find how far a plan holds: load, bursts, longer answers, drift, slow and lost GPUs.",
        ),
        "study": ("scenarios.commands.study", "study", "What each setup can reach, next to baselines and the optimum."),
        "frontier": (
            "scenarios.commands.frontier",
            "frontier_command",
            "Score over SLO target and over load, with the plan of each point.",
        ),
        "scores": ("scenarios.commands.scores", "scores", "Learn predicted scores from the texts of prompts."),
        "report": ("scenarios.commands.report", "report", "Make one HTML page of results."),
        "accuracy": (
            "scenarios.commands.accuracy",
            "accuracy",
            "Hold predictions against measurements of real servers.",
        ),
        "calibrate": ("scenarios.commands.calibrate", "calibrate", "Fit a step-time model to measurements."),
        "export": ("scenarios.commands.export", "export", "Write a run for Perfetto, or as other benchmarks' JSON."),
        "trace": ("scenarios.commands.trace", "trace", "Describe a request trace, or fit generators to it."),
        "theory": (
            "scenarios.commands.theory",
            "theory",
            "What queueing theory says of a queue, with a simulation beside it.",
        ),
        "teach": ("scenarios.commands.teach", "teach", "Lessons in queueing: page, experiment, exercises, notebook."),
    }

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table above."""
        return list(self.commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; help texts of the group come from the table, without an import."""
        entry = self.commands_by_name.get(cmd_name)
        if entry is None:
            return None
        module, attribute, _ = entry
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in self.commands_by_name.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="routerwise", prog_name="routerwise")
def cli(debug: bool) -> None:
    """Simulate multi-model LLM serving on vLLM clusters before you deploy it."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors that a user can cause become one line and a documented exit status.

    Exit status: 0 success, 1 something failed, 2 the input is wrong or the results cannot be written, 3 a plan breaks
    an SLO, 4 no plan keeps the SLOs, 5 whether a plan keeps them is undecided, 130 Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # Being asked to end cleans up like Ctrl-C; 143 is what a shell reports for it.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ctrl_c = signal.getsignal(signal.SIGINT)
    if ctrl_c is signal.default_int_handler:
        signal.signal(signal.SIGINT, _Interrupt())
    try:
        cli.main(args=arguments, standalone_mode=False)
    except click.exceptions.Exit as finished:
        sys.exit(finished.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.exceptions.Abort):
        _fail("interrupted; nothing half-written was left behind", INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if "--debug" in arguments:
            raise
        _explain(error)
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, ctrl_c)


class _Interrupt:
    """Ctrl-C; another one soon after would stop the cleaning up that the first one began, and is ignored.

    One that comes later counts again: compiled modules that are just being imported can lose the first one.
    """

    def __init__(self) -> None:
        self._raised_at = -math.inf

    def __call__(self, *_: object) -> None:
        if time.monotonic() - self._raised_at > _CLEANING_UP_S:
            self._raised_at = time.monotonic()
            raise KeyboardInterrupt


def _explain(error: Exception) -> None:
    if isinstance(error, RouterwiseError):
        _fail(str(error), error.exit_status)
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "; free some space and run the command again, nothing half-written was left behind" if full else ""
        where = f": {error.filename}" if error.filename else ""
        _fail(f"{error.strerror or error}{where}{hint}", 2)
    _fail(f"unexpected {type(error).__name__}: {error}. Run again with `routerwise --debug ...` for the traceback", 1)


def _fail(message: str, status: int) -> Any:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(status)
