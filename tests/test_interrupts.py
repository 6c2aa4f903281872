"""Ctrl-C given twice: during the cleaning up that the first one began, and when the first one got lost."""

import signal
import time
from contextlib import suppress

import pytest

from scenarios.cli import main


def test_a_second_ctrl_c_does_not_stop_the_cleaning_up(tmp_path, monkeypatch):
    def interrupted(**_):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            (tmp_path / "cleaned").touch()

    monkeypatch.setattr("scenarios.cli.cli.main", interrupted)
    # A shell that runs the tests in the background has them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit, match="130"):
            main(["scenarios"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "cleaned").exists()


def test_a_ctrl_c_that_got_lost_can_be_given_again(monkeypatch):
    def interrupted(**_):
        with suppress(KeyboardInterrupt):  # as an import of a compiled module does
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.02)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("nobody was interrupted")

    monkeypatch.setattr("scenarios.cli.cli.main", interrupted)
    monkeypatch.setattr("scenarios.cli._CLEANING_UP_S", 0.01)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit, match="130"):
            main(["scenarios"])
    finally:
        signal.signal(signal.SIGINT, before)
