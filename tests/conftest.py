"""Settings shared by all tests: hypothesis profiles, where real data is, and the command line."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from measured_logs import simulated_log

from scenarios.cli import main

# Tests must give the same answer twice, so the default profile draws the same examples each time.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=100)
# Looks for new counter-examples: HYPOTHESIS_PROFILE=explore make test
settings.register_profile("explore", deadline=None, print_blob=True, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder that holds ``data/``, ``vllm_scheduler/`` and ``vllm_engine/``; the test skips when none is named."""
    named = os.environ.get("ROUTERWISE_DATA")
    if not named:
        pytest.skip("real data is needed: set ROUTERWISE_DATA to the folder that holds data/")
    root = Path(named)
    if not root.is_dir():
        pytest.fail(f"ROUTERWISE_DATA is {named!r}, which is not a folder")
    return root


@pytest.fixture
def routerwise(capsys):
    """Run the command line in this process; returns status, output and errors."""

    def run(*arguments):
        try:
            main([str(argument) for argument in arguments])
            status = 0
        except SystemExit as finished:
            status = finished.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def measured(tmp_path):
    """Measurement file of a log that the simulator itself wrote."""
    return simulated_log(tmp_path)
