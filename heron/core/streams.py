"""Random streams: one seed, and an independent generator for every purpose."""

from __future__ import annotations

import hashlib

import numpy as np


def stream(seed: int | None, *names: str) -> np.random.Generator:
    """Return the generator that belongs to ``names`` under ``seed``.

    The same seed and names always give the same stream; other names give an independent one,
    whatever the order in which streams are asked for.

    Args:
        seed: The run's seed, or None for fresh entropy.
        names: Purpose and owner, e.g. ``"jitter", "gen1"``.
    """
    if seed is None:
        return np.random.default_rng()
    key = tuple(
        int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
        for name in names
    )
    # SeedSequence takes 32-bit words in its spawn key
    words = tuple(part for number in key for part in (number >> 32, number & 0xFFFFFFFF))
    return np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=words))
