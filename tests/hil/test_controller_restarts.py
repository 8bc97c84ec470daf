"""Processes of the loop are killed one after the other and started again: it goes on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from heron.cli.processes import Child
from heron.messaging.embedded import EmbeddedBroker, free_port
from heron.messaging.mqtt import MqttBus
from heron.messaging.observer import Observer
from heron.messaging.tally import Tally

SETUP = "ieee34_ieee13"


@dataclass
class Loop:
    """Broker and observer; the processes are started by the test."""

    folder: Path
    stack: AsyncExitStack
    observer: Observer
    tally: Tally
    url: str
    port: int
    lockstep: bool
    started: int = 0

    def argv(self, name: str) -> list[str]:
        common = ["--setup", SETUP, "--broker", self.url]
        pace = ["--pace", "lockstep", "--wait-for", "edge", "--min-step-s", "0.05"]
        free = ["--pace", "x9000"]
        market = ["--policy", "rule", "--protocol", "p2p", "--answer-wait", "1"]
        return {
            "simulate": [
                "simulate",
                *common,
                "--port",
                str(self.port),
                *(pace if self.lockstep else free),
            ],
            "edge": [
                *("edge", *common, "--modbus", f"127.0.0.1:{self.port}", "--edge-id", "edge"),
                *([] if self.lockstep else free),
            ],
            "controller": ["controller", *common, "--policy", "rule"],
            "coordinators": ["controller", *common, *market, "--agents", "MG1,MG2,MG3"],
            "dso": ["controller", *common, *market, "--agents", "DSO"],
        }[name]

    async def start(self, name: str) -> Child:
        self.started += 1
        child = Child(name, self.argv(name), self.folder / f"{name}-{self.started}.log")
        return await self.stack.enter_async_context(child)

    async def kill(self, child: Child) -> None:
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()

    async def more_commands(self, count: int = 14) -> None:
        """Wait until so many more commands were written to devices."""
        before = self.tally.commands.written
        async with asyncio.timeout(90):
            await self.observer.until(lambda tally: tally.commands.written >= before + count)

    async def every_mode_is(self, mode: str) -> None:
        async with asyncio.timeout(90):
            await self.observer.until(lambda tally: set(modes(tally)) == {mode})


def modes(tally: Tally) -> list[str | None]:
    return [s.mode for s in tally.statuses.values() if s.role == "device"]


@pytest.fixture(params=[True, False], ids=["lockstep", "free"])
async def loop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Loop]:
    tally, listening = Tally(), asyncio.Event()
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(EmbeddedBroker())
        bus = await stack.enter_async_context(MqttBus(broker.url))
        observer = Observer(bus, tally)
        async with asyncio.TaskGroup() as group:
            observing = group.create_task(observer.run(listening))
            await listening.wait()
            async with AsyncExitStack() as children:
                yield Loop(
                    tmp_path, children, observer, tally, broker.url, free_port(), request.param
                )
            observing.cancel()


@pytest.mark.slow
async def test_the_loop_goes_on_after_any_process_was_killed(loop: Loop) -> None:
    running = {name: await loop.start(name) for name in ("simulate", "edge", "controller")}
    await loop.more_commands()
    for name in ("controller", "edge", "simulate"):
        await loop.kill(running[name])
        if name == "controller" and not loop.lockstep:
            await loop.every_mode_is("fallback")
        running[name] = await loop.start(name)
        await loop.more_commands()
        await loop.every_mode_is("closed_loop")
    assert loop.tally.commands.read_back_differs == 0


@pytest.mark.slow
async def test_coordinators_go_on_without_a_dso_and_trade_again_with_one(loop: Loop) -> None:
    """The DSO's process is killed: its own status still says online, and only silence tells."""
    names = ("simulate", "edge", "coordinators", "dso")
    running = {name: await loop.start(name) for name in names}

    async def rounds(more: int) -> None:
        before = loop.tally.market.rounds
        async with asyncio.timeout(90):
            await loop.observer.until(lambda tally: tally.market.rounds >= before + more)

    await rounds(3)
    await loop.kill(running["dso"])
    await loop.more_commands(28)
    said = {(alarm.agent, alarm.text) for alarm in loop.tally.alarms}
    assert {(f"MG{i}", "on its own: DSO is silent") for i in (1, 2, 3)} <= said
    await loop.start("dso")
    await rounds(3)
    record = loop.tally.last_market
    assert record is not None
    assert record.participants == ("MG1", "MG2", "MG3")
    await loop.every_mode_is("closed_loop")
