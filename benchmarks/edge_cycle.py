"""How many devices one edge process carries at 1 Hz, and how long a cycle takes.

The devices are emulated in a process of their own, behind Modbus TCP on loopback: by our emulator,
and by a slave on libmodbus in C. Printed beside the edge: bare loops over pymodbus that send the
same requests and neither decode, check, decide nor report. `--undisturbed` asks for the real-time
class, so that others on the machine do not count.

    python -m benchmarks.edge_cycle [--devices 1000] [--seconds 10] [--undisturbed]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from pymodbus.client import AsyncModbusTcpClient

from benchmarks import _fleet as fleet
from benchmarks._fleet import HOST, plan_of
from edge.build import DeviceBuilder
from edge.cycle import DeviceCycle
from edge.fallback import FallbackName
from edge.links.connection import ModbusConnection
from edge.links.transports import tcp_client
from edge.runtime import EdgeRuntime, EdgeSettings, Parts
from edge.service import spare_what_stays
from edge.timing import PlantTime, stagger, ticks
from heron.messaging.bus import Bus, InMemoryBus
from heron.messaging.mqtt import MqttBus
from heron.powergrid.agents import ESS
from heron.powergrid.modes import Mode
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers.table import Block
from heron.testing.brokers import mosquitto, mosquitto_path

WARM_UP_S = 3.0


def rss_mb() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def quantiles(samples: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and the largest, in ms."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {
        name: round(1e3 * ordered[min(last, int(share * len(ordered)))], 2)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    }


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the benchmark.

    Attributes:
        moving: Every set-point changes in every cycle.
        read_write: Set-points are written and read back with function 23.
        heartbeat_s: Seconds between two heartbeats while a set-point stands.
        per_connection: Devices that share a connection.
        broker: Report over mosquitto, not in memory.
    """

    moving: bool = True
    read_write: bool = False
    heartbeat_s: float | None = None
    per_connection: int = 1
    broker: bool = False


class LoopLag:
    """Measures how late the event loop is."""

    def __init__(self) -> None:
        self.samples: list[float] = []

    async def run(self) -> None:
        """Sample at 200 Hz until cancelled."""
        async for tick in ticks(0.005):
            self.samples.append(tick.late_s + tick.missed * 0.005)


def decide(moving: bool) -> Callable[[DeviceReading], Setpoint]:
    """Return a local policy: always the same, or another set-point in each cycle."""
    turns = itertools.cycle((0.1, 0.2)) if moving else itertools.repeat(0.1)
    return lambda reading: Setpoint(next(turns))


@asynccontextmanager
async def bus_of(case: Case) -> AsyncIterator[Bus]:
    """Give the bus that the edge reports on."""
    if not case.broker:
        async with InMemoryBus() as bus:
            yield bus
        return
    async with mosquitto() as url, MqttBus(url) as bus:
        yield bus


async def edge(devices: int, seconds: float, ports: Sequence[int], case: Case) -> dict[str, object]:
    """Run the edge for a while and return what it took."""
    began = time.monotonic()
    time_ = PlantTime()
    builder = DeviceBuilder(time_, 1.0)
    connections: dict[tuple[int, int], ModbusConnection] = {}
    cycles: dict[str, DeviceCycle] = {}
    for name, unit in plan_of(devices).devices.items():
        port = ports[unit.port_offset]
        key = (port, unit.unit_id // case.per_connection)
        if key not in connections:
            make = tcp_client(HOST, port, 0.5)
            connections[key] = ModbusConnection(f"{HOST}:{port}", make, now=time.monotonic)
        cycles[name] = builder.device(
            ESS(name, device_state_config=fleet.CONFIG),
            unit.table,
            connections[key],
            unit.unit_id,
            mode=Mode.CLOSED_LOOP,
            fallback=FallbackName.SAFE,
            reversion_s=60.0,
            heartbeat_s=case.heartbeat_s,
            policy=decide(case.moving),
            read_write=case.read_write,
        )
    gc.unfreeze()
    spare_what_stays()
    async with bus_of(case) as bus:
        parts = Parts(cycles, {}, tuple(connections.values()))
        runtime = EdgeRuntime(EdgeSettings("edge-1"), bus, time_, parts)
        stop, lag = asyncio.Event(), LoopLag()
        task = asyncio.create_task(runtime.run(stop, lag.run))
        started = time.monotonic() - began
        await asyncio.sleep(WARM_UP_S)
        counters = runtime.units.counters
        counters.cycle_s.clear()
        lag.samples.clear()
        before = counters.cycles, counters.overruns, counters.failed_reads + counters.failed_writes
        cpu = time.process_time()
        await asyncio.sleep(seconds)
        share = (time.process_time() - cpu) / seconds
        result: dict[str, object] = {
            "cycles_per_s": round((counters.cycles - before[0]) / seconds, 1),
            "cycle_ms": quantiles(counters.cycle_s),
            "loop_lag_ms": quantiles(lag.samples),
            "overruns": counters.overruns - before[1],
            "failed": counters.failed_reads + counters.failed_writes - before[2],
            "cpu_share": round(share, 2),
            "start_s": round(started, 2),
            "rss_mb": round(rss_mb(), 1),
        }
        stop.set()
        await task
    return result


@dataclass(frozen=True, slots=True)
class Requests:
    """What a bare loop asks of one unit in each cycle."""

    unit: int
    reads: Sequence[Block]
    writes: Sequence[tuple[int, list[int]]] = ()
    controls: Sequence[Block] = ()


async def bare(
    devices: int, seconds: float, ports: Sequence[int], *, moving: bool
) -> dict[str, object]:
    """Send the same requests with pymodbus alone, a connection a device."""
    samples: list[float] = []
    loops: list[tuple[AsyncModbusTcpClient, Requests]] = []
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for unit in plan_of(devices).devices.values():
            client = AsyncModbusTcpClient(
                HOST, port=ports[unit.port_offset], timeout=0.5, retries=0
            )
            await client.connect()
            stack.callback(client.close)
            table = unit.table
            requests = Requests(unit.unit_id, table.sweep)
            if moving:
                writes = (*table.encode_setpoint(Setpoint(0.1), 60.0), *table.heartbeat_writes(1))
                wanted = [(write.address, write.words) for write in writes]
                requests = Requests(unit.unit_id, table.sweep, wanted, table.controls)
            loops.append((client, requests))
        until = time.monotonic() + WARM_UP_S + seconds
        for i, (client, requests) in enumerate(loops):
            group.create_task(_bare_loop(client, requests, stagger(i, 1.0), until, samples))
        await asyncio.sleep(WARM_UP_S)
        samples.clear()
        cpu = time.process_time()
        await asyncio.sleep(max(0.0, until - time.monotonic()))
        share = (time.process_time() - cpu) / seconds
    return {
        "cycles_per_s": round(len(samples) / seconds, 1),
        "cycle_ms": quantiles(samples),
        "cpu_share": round(share, 2),
    }


async def _bare_loop(
    client: AsyncModbusTcpClient,
    requests: Requests,
    phase_s: float,
    until: float,
    samples: list[float],
) -> None:
    unit = requests.unit
    # Not cancelled but counted out: pymodbus may swallow a cancellation on Python 3.11.
    async for tick in ticks(1.0, phase_s=phase_s):
        began = time.monotonic()
        if tick.due_s >= until:
            return
        for block in requests.reads:
            await client.read_holding_registers(block.address, count=block.count, device_id=unit)
        for address, values in requests.writes:
            await client.write_registers(address, values, device_id=unit)
        for block in requests.controls:
            await client.read_holding_registers(block.address, count=block.count, device_id=unit)
        samples.append(time.monotonic() - began)


def run(loop: str, main: Coroutine[Any, Any, dict[str, object]]) -> dict[str, object]:
    """Run under one of the two event loops."""
    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


CASES = {
    "set-points unchanged": Case(moving=False),
    "set-points unchanged, heartbeat each second": Case(moving=False, heartbeat_s=1.0),
    "every set-point changes": Case(),
    "every set-point changes, function 23": Case(read_write=True),
    "every set-point changes, 25 devices a connection": Case(per_connection=25),
    "every set-point changes, reports over mosquitto": Case(broker=True),
}


def main() -> None:
    """Print one JSON line a case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--undisturbed", action="store_true")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    alone = args.undisturbed and fleet.undisturbed()
    n, s = args.devices, args.seconds

    def show(server: str, loop: str, name: str, result: dict[str, object]) -> None:
        line = {"case": name, "loop": loop, "server": server, "devices": n, **result}
        print(json.dumps(line), flush=True)

    print(json.dumps({"cores": os.cpu_count(), "load": os.getloadavg()[0], "undisturbed": alone}))
    c_server = fleet.libmodbus(n) if fleet.can_compile() else nullcontext()
    for server, emulated in (("ours", fleet.ours(n)), ("libmodbus", c_server)):
        with emulated as ports:
            if ports is None:
                print("no C compiler or no libmodbus: its lines are left out")
                continue
            for name, case in CASES.items():
                if case.broker and mosquitto_path() is None:
                    continue
                show(server, "uvloop", f"edge, {name}", run("uvloop", edge(n, s, ports, case)))
            name = "edge, every set-point changes"
            show(server, "asyncio", name, run("asyncio", edge(n, s, ports, Case())))
            for moving, name in ((False, "reads only"), (True, "reads, writes, reads back")):
                result = run("uvloop", bare(n, s, ports, moving=moving))
                show(server, "uvloop", f"pymodbus alone, {name}", result)


if __name__ == "__main__":
    main()
