"""Whose turn it is among the reads that are not made in every cycle."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Rota(Generic[T]):
    """Gives each of its members a turn, the one that waited longest first.

    Args:
        rests_s: Member to the least seconds between two of its turns.
        now: Clock that those seconds are counted on.
    """

    def __init__(self, rests_s: Mapping[T, float], now: Callable[[], float]) -> None:
        self._rests_s = rests_s
        self._now = now
        self._last_s = dict.fromkeys(rests_s, -math.inf)

    def __bool__(self) -> bool:
        """Whether there is anybody to give a turn to."""
        return bool(self._rests_s)

    def next(self) -> T | None:
        """Return whose turn it is now, which takes it; None if all have to rest."""
        now = self._now()
        due = [m for m, last_s in self._last_s.items() if now - last_s >= self._rests_s[m]]
        if not due:
            return None
        member = min(due, key=self._last_s.__getitem__)
        self._last_s[member] = now
        return member
