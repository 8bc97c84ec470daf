"""The edge is killed in mid-run: the emulated device goes back to its safe set-point by itself."""

import asyncio
import json
import os
import signal
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from heron.messaging.embedded import EmbeddedBroker
from heron.messaging.mqtt import MqttBus
from heron.messaging.topics import COMMAND, STATUS
from heron.messaging.wire import Command
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers import Words, site_plan
from heron.powergrid.setups import read_setup

HERON = str(Path(sys.executable).parent / "heron")
RATE = 600
GENERATOR = site_plan(read_setup("ieee34_ieee13").config).devices["gen1"]


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        HERON,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def held(port: int) -> Setpoint | None:
    """Return the set-point that the generator's registers hold."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    words = Words()
    for block in GENERATOR.table.controls:
        request = struct.pack(">BHH", 3, block.address, block.count)
        writer.write(struct.pack(">HHHB", 1, 0, 6, GENERATOR.unit_id) + request)
        head = await reader.readexactly(9)
        words.add(block.address, await reader.readexactly(head[8]))
    writer.close()
    await writer.wait_closed()
    return GENERATOR.table.decode_setpoint(words)


async def wait_for(port: int, condition: Callable[[Setpoint | None], bool], wall_s: float) -> float:
    began = time.monotonic()
    while not condition(await held(port)):
        assert time.monotonic() - began < wall_s, await held(port)
        await asyncio.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.slow
async def test_a_killed_edge_leaves_a_device_that_reverts_by_itself() -> None:
    pace = ("--pace", f"x{RATE}")
    async with (
        EmbeddedBroker() as broker,
        running("simulate", "--port", "0", "--json", *pace) as simulator,
    ):
        assert simulator.stdout is not None
        port = json.loads(await simulator.stdout.readline())["port"]
        async with (
            MqttBus(broker.url, site="site") as bus,
            bus.subscribe(STATUS, agent="edge") as statuses,
            running(
                *("edge", "--setup", "ieee34_ieee13", "--modbus", f"127.0.0.1:{port}"),
                *("--broker", broker.url, "--edge-id", "edge", "--period", "60", *pace),
            ) as edge,
        ):
            async with asyncio.timeout(60):
                async for _, status in statuses:
                    if status.online:
                        break
            command = Command(
                agent="gen1", sequence=1, p_mw=0.8, ttl_s=86_400.0, issuer="MG1", sent_s=time.time()
            )
            await bus.publish(COMMAND, command, agent="gen1")
            await wait_for(port, lambda s: s is not None and s.p_mw == 0.8, wall_s=20)
            os.kill(edge.pid, signal.SIGKILL)
            await edge.wait()
            reverted_s = await wait_for(port, lambda s: s is not None and s.p_mw < 0.8, wall_s=30)
        final = await held(port)
    assert final is not None
    assert final.p_mw == pytest.approx(GENERATOR.table.safe.p_mw)
    # When it was last written is unknown by half of the time-out: then the edge refreshes.
    assert 0.4 * GENERATOR.reversion_s <= reverted_s * RATE <= GENERATOR.reversion_s + 20 * RATE
