"""Who is there, and that nobody is looked after twice."""

from __future__ import annotations

import asyncio

import pytest

from heron.errors import HeronError
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.presence import is_there, require_alone
from heron.messaging.topics import STATUS
from heron.messaging.wire import Status
from heron.testing.virtual_time import run_in_virtual_time


def edge(name: str, *, online: bool = True) -> Status:
    return Status(agent=name, online=online, role="edge")


def device(name: str, process: str, *, online: bool = True) -> Status:
    return Status(agent=name, online=online, role="device", process=process)


@pytest.mark.parametrize(
    ("statuses", "there"),
    [
        ([], False),
        ([device("ess1", "edge-1")], True),
        ([device("ess1", "edge-1"), edge("edge-1")], True),
        ([device("ess1", "edge-1"), edge("edge-1", online=False)], False),
        ([device("ess1", "edge-1", online=False), edge("edge-1")], False),
        ([device("ess1", "edge-2"), edge("edge-1", online=False)], True),
        ([device("ess1", "")], True),
    ],
)
def test_an_agent_is_there_if_its_process_is(statuses: list[Status], there: bool) -> None:
    assert is_there("ess1", {s.agent: s for s in statuses}) is there


async def say(bus: InMemoryBus, *statuses: Status) -> None:
    for status in statuses:
        await bus.publish(STATUS, status, agent=status.agent)


def test_a_second_edge_on_a_device_is_refused_by_both_names() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with InMemoryBus(hub) as first, InMemoryBus(hub) as second:
            await say(first, edge("edge-1"), device("ess1", "edge-1"))
            await require_alone(second, "edge-2", ["pv1"])
            with pytest.raises(HeronError, match=r"ess1 on site 'site' of memory: .*by edge-1"):
                await require_alone(second, "edge-2", ["pv1", "ess1"])
            with pytest.raises(HeronError, match="edge-1 on site"):
                await require_alone(second, "edge-1", ["pv1"])

    run_in_virtual_time(main())


def test_one_that_died_is_waited_for_until_the_broker_notices() -> None:
    async def main() -> None:
        hub, loop = MemoryHub(), asyncio.get_running_loop()
        async with InMemoryBus(hub) as first, InMemoryBus(hub) as second:
            await say(first, edge("edge-1"), device("ess1", "edge-1"))
            began_s = loop.time()
            waiting = asyncio.create_task(require_alone(second, "edge-1", ["ess1"]))
            await asyncio.sleep(8.0)
            await say(first, edge("edge-1", online=False))
            await waiting
            assert loop.time() - began_s == pytest.approx(8.0, abs=0.5)

    run_in_virtual_time(main())


def test_one_that_died_long_ago_is_in_nobodys_way() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with InMemoryBus(hub) as first, InMemoryBus(hub) as second:
            await say(first, device("ess1", "edge-1"), edge("edge-1", online=False))
            await require_alone(second, "edge-1", ["ess1"], patience_s=0.001)

    run_in_virtual_time(main())
