"""Where coordinators wait for each other before any of them is answered.

Policies that share a network's shield propose first and act when all have proposed. A meeting is
held for each step; who cannot decide is excused, and who does not come is not waited for again
until it has come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable


class Meeting:
    """One site's coordinators.

    Args:
        members: Their names.
    """

    def __init__(self, members: Iterable[str]) -> None:
        self._members = frozenset(members)
        self._absent: set[str] = set()
        self._time_s = float("-inf")
        self._there: set[str] = set()
        self._news = asyncio.Condition()

    async def attend(self, agent: str, time_s: float, patience_s: float) -> None:
        """Wait for the others of a step.

        Args:
            agent: Who has proposed.
            time_s: Plant time at which the step begins.
            patience_s: Wall seconds for which it waits.
        """
        await self.excuse(agent, time_s)
        try:
            async with asyncio.timeout(patience_s), self._news:
                await self._news.wait_for(lambda: self._time_s > time_s or not self._awaited())
        except TimeoutError:
            self._absent |= self._awaited()

    async def excuse(self, agent: str, time_s: float) -> None:
        """Say that nobody needs to wait for a coordinator in a step any longer."""
        if time_s > self._time_s or time_s < self._time_s - 1e-6:
            self._time_s, self._there = time_s, set()
        self._there.add(agent)
        self._absent.discard(agent)
        async with self._news:
            self._news.notify_all()

    def _awaited(self) -> frozenset[str]:
        return self._members - self._there - self._absent
