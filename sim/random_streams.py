"""Named random streams: every consumer of randomness has its own, so a new consumer never shifts the others' draws."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.random  # NumPy would import it at its first use, and loses a Ctrl-C that comes then


def named_seed(seed: np.random.SeedSequence, name: str) -> np.random.SeedSequence:
    """Child of ``seed`` that depends on ``name`` only, not on how many children were made before.

    Parameters
    ----------
    seed : numpy.random.SeedSequence
        Parent; it is not changed.
    name : str
        Name of the consumer, e.g. ``"client:chat/lengths"``.
    """
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, key))


def named_generator(seed: np.random.SeedSequence, name: str) -> np.random.Generator:
    """Generator of the stream called ``name`` below ``seed``."""
    return np.random.default_rng(named_seed(seed, name))


def seed_sequence(seed: int, replication: int, name: str) -> np.random.SeedSequence:
    """Seed of the stream ``name`` in one replication of a scenario."""
    return named_seed(np.random.SeedSequence(seed, spawn_key=(replication,)), name)


def stream(seed: int, replication: int, name: str) -> np.random.Generator:
    """Generator of the stream ``name`` in one replication of a scenario."""
    return np.random.default_rng(seed_sequence(seed, replication, name))
