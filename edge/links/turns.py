"""One at a time, first come first served: a lock whose free case costs no coroutine."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Gives the turn to one, and to the next as soon as that one passes it on."""

    def __init__(self) -> None:
        self._taken = False
        self._queue: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take the turn if it is free; False otherwise, and then `wait` for it."""
        if self._taken:
            return False
        self._taken = True
        return True

    async def wait(self) -> None:
        """Wait for the turn, behind all that wait already."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if mine.cancelled():
                self._queue.remove(mine)
            else:  # it was given in the same instant
                self.pass_on()
            raise

    def pass_on(self) -> None:
        """Give the turn to the next, or make it free."""
        while self._queue:
            following = self._queue.popleft()
            if not following.done():
                following.set_result(None)
                return
        self._taken = False
