"""`heron mode all`: whom it reached, and whom it did not."""

from __future__ import annotations

import asyncio

from heron.cli.operate import change_mode
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.topics import MODE, STATUS
from heron.messaging.wire import ModeRequest, Status
from heron.testing.virtual_time import run_in_virtual_time


def device(name: str, process: str, mode: str = "closed_loop") -> Status:
    return Status.model_validate(
        {"agent": name, "online": True, "role": "device", "process": process, "mode": mode}
    )


async def obey(bus: InMemoryBus, name: str, process: str) -> None:
    async with bus.subscribe(MODE) as requests:
        async for _, request in requests:
            await bus.publish(STATUS, device(name, process, request.mode), agent=name)


def test_a_stop_for_all_says_whom_it_did_not_reach() -> None:
    async def main() -> None:
        hub = MemoryHub()
        async with InMemoryBus(hub) as field, InMemoryBus(hub) as operator:
            for process, online in (("edge-1", True), ("edge-2", False)):
                edge = Status(agent=process, online=online, role="edge")
                await field.publish(STATUS, edge, agent=process)
            for name, process in (("ess1", "edge-1"), ("ess2", "edge-2")):
                await field.publish(STATUS, device(name, process), agent=name)
            answering = asyncio.create_task(obey(field, "ess1", "edge-1"))
            await asyncio.sleep(0.1)
            request = ModeRequest(agent="all", mode="stopped", issuer="operator:ann")
            answers, away = await change_mode(operator, request)
            answering.cancel()
            assert [(a.agent, a.mode) for a in answers] == [("ess1", "stopped")]
            assert away == ["ess2"]

    run_in_virtual_time(main())
