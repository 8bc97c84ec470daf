"""Who is there: which process speaks for which agent, and whether it still lives.

A process that dies leaves its agents' statuses on the broker as they were; only its own will says
that it is gone. So an agent is there if its process is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from heron.errors import HeronError
from heron.messaging.bus import Bus
from heron.messaging.observer import Observer
from heron.messaging.tally import Tally
from heron.messaging.wire import Status

logger = logging.getLogger(__name__)

T = TypeVar("T")

NOTICED_S = 15.0
"""Wall seconds within which a broker notices that a process is dead, and tells its will."""


def is_there(agent: str, statuses: Mapping[str, Status]) -> bool:
    """Return whether an agent is online, and the process that speaks for it."""
    status = statuses.get(agent)
    if status is None or not status.online:
        return False
    speaker = statuses.get(status.process)
    return speaker is None or speaker.online


async def observed(bus: Bus, ask: Callable[[Observer], Awaitable[T]]) -> T:
    """Return what is found out by listening to everything for a while."""
    observer, listening = Observer(bus, Tally()), asyncio.Event()
    listener = asyncio.create_task(observer.run(listening))
    try:
        await listening.wait()
        return await ask(observer)
    finally:
        listener.cancel()
        await asyncio.wait([listener])


async def require_alone(
    bus: Bus,
    process: str,
    agents: Iterable[str],
    *,
    announced: bool = False,
    patience_s: float = NOTICED_S,
) -> None:
    """Refuse to be the second that looks after an agent: two would undo each other's commands.

    Args:
        bus: Connected.
        process: Name of this process.
        agents: Whom it is to look after, and has said nothing of.
        announced: Whether the process itself has been announced, and only agents are asked for.
        patience_s: Wall seconds that the broker has to notice the end of one that died.

    Raises:
        HeronError: Another process looks after one of them, or has this one's name.
    """
    names = tuple(agents) if announced else (process, *agents)

    def others(tally: Tally) -> list[str]:
        return [name for name in names if is_there(name, tally.statuses)]

    async def ask(observer: Observer) -> None:
        await observer.roll_call(process)
        if others(observer.tally):
            logger.warning("not_alone online=%s", ",".join(others(observer.tally)))
        try:
            async with asyncio.timeout(patience_s):
                await observer.until(lambda tally: not others(tally))
        except TimeoutError:
            there, statuses = others(observer.tally), observer.tally.statuses
            holders = sorted({statuses[name].process or name for name in there})
            raise HeronError(
                f"{', '.join(there)} on site {bus.site!r} of {bus.address}: looked after by "
                f"{', '.join(holders)} already; stop it, or give this one other names"
            ) from None

    await observed(bus, ask)
