"""Logs of made-up servers and measurement files for them."""

import csv
import gzip

import numpy as np
import yaml

from scenarios.measurements.evaluation import open_measurement
from scenarios.measurements.logs import read_log
from scenarios.measurements.measurement_files import load_measurement
from scenarios.measurements.replay import replay

LATENCY = {"kind": "linear", "base_s": 0.01, "per_token_s": 1e-4, "per_context_token_s": 1e-6}
ENGINE = {"num_gpu_blocks": 2000, "max_num_seqs": 8, "async_scheduling": False}
SERVER = {"source": "made up", "model": "toy", "gpu": "none", "engine_version": "vLLM 0.19.0", "engine": ENGINE}
REQUESTS = {
    "kind": "requests",
    "path": "log.csv",
    "columns": {
        "arrival": "arrival_s",
        "prompt_tokens": "prompt",
        "output_tokens": "output",
        "ttft": "ttft_ms",
        "e2e": "e2e_ms",
    },
}


def write_csv(path, rows):
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_measurement(folder, log, *, name="made.yaml", latency=LATENCY, **more):
    path = folder / name
    path.write_text(yaml.safe_dump({**SERVER, "latency": latency, "log": log, **more}))
    return path


def opened(path):
    found = open_measurement(str(path))
    return found.measurement, found.log


def requests(count=60, rate_per_s=20.0):
    rng = np.random.default_rng(3)
    arrivals = np.cumsum(rng.exponential(1.0 / rate_per_s, count))
    return [
        {"arrival_s": 5.0 + arrival, "prompt": int(rng.integers(20, 400)), "output": int(rng.integers(2, 60))}
        for arrival in arrivals
    ]


def simulated_log(tmp_path):
    """A log that the simulator itself wrote, with ``LATENCY``."""
    rows = [{**row, "ttft_ms": 1, "e2e_ms": 1000, "half": number % 2} for number, row in enumerate(requests())]
    write_csv(tmp_path / "log.csv", rows)
    path = write_measurement(tmp_path, REQUESTS)
    measurement = load_measurement(str(path))
    predicted = replay(measurement, read_log(measurement.log)).predicted
    for row, ttft_s, e2e_s in zip(rows, predicted["ttft"], predicted["e2e"], strict=True):
        row.update(ttft_ms=1e3 * ttft_s, e2e_ms=1e3 * e2e_s)
    write_csv(tmp_path / "log.csv", rows)
    return path
