"""Named random streams: a new consumer never shifts the draws of an old one."""

from __future__ import annotations

import zlib

import numpy as np


def seed_sequence(seed: int, replication: int, name: str) -> np.random.SeedSequence:
    """Seed of the stream ``name`` in one replication of a scenario."""
    return np.random.SeedSequence(seed, spawn_key=(replication, zlib.crc32(name.encode())))


def stream(seed: int, replication: int, name: str) -> np.random.Generator:
    """Generator of the stream ``name`` in one replication of a scenario."""
    return np.random.default_rng(seed_sequence(seed, replication, name))
