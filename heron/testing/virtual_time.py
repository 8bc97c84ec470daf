"""Run coroutines in virtual time: sleeps cost nothing, and time jumps to the next that is due.

For tests of code that waits. Needs the package async-solipsism (in the ``dev`` extra); its loop
offers no real sockets, only what stays within the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def virtual_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop whose time is virtual and starts at 0."""
    import async_solipsism

    loop: asyncio.AbstractEventLoop = async_solipsism.EventLoop()
    return loop


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end and return its result.

    A coroutine that waits for something which can never happen raises
    ``async_solipsism.SleepForeverError`` instead of hanging.
    """
    with asyncio.Runner(loop_factory=virtual_loop) as runner:
        return runner.run(main)


class VirtualTimePolicy(asyncio.DefaultEventLoopPolicy):
    """An event-loop policy of virtual loops, e.g. for pytest-asyncio's ``event_loop_policy``."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new virtual loop."""
        return virtual_loop()
