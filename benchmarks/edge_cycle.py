"""How many devices one edge process carries at 1 Hz, and how long a cycle takes.

The devices are emulated in a process of their own, behind Modbus TCP on loopback. Printed beside
it: a bare loop over pymodbus that only reads the same registers and neither decodes, checks,
decides nor writes.

    python -m benchmarks.edge_cycle [--devices 1000] [--seconds 20]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import uvloop
from pymodbus.client import AsyncModbusTcpClient

from edge.build import DeviceBuilder
from edge.cycle import DeviceCycle
from edge.fallback import FallbackName
from edge.links.connection import ModbusConnection
from edge.links.transports import tcp_client
from edge.modes import Mode
from edge.runtime import EdgeRuntime, EdgeSettings, Parts
from edge.service import spare_what_stays
from edge.timing import PlantTime, stagger, ticks
from heron.messaging.bus import InMemoryBus
from heron.powergrid.agents import ESS
from heron.powergrid.quantities import DeviceReading, MeterReading, Setpoint
from heron.powergrid.registers import SitePlan, site_plan
from heron.powergrid.registers.clock import PACE_LOCKSTEP, ClockReading
from heron.powergrid.setups import as_setup
from simulator.modbus.server import ModbusServer
from simulator.modbus.site import EmulatedSite

HOST, FIRST_PORT = "127.0.0.1", 17100
CONNECTIONS_PER_PORT = 8
CONFIG = {"bus": "Bus 671", "p_max_MW": 0.5, "p_min_MW": -0.5, "e_capacity_MWh": 2.0}


def plan_of(devices: int) -> SitePlan:
    """Return where so many batteries would be."""
    entries = [
        {"type": "ESS", "name": f"ess{i}", "device_state_config": CONFIG} for i in range(devices)
    ]
    microgrid = {"name": "MG1", "connection_bus": "DSO Bus 850", "devices": entries}
    return site_plan(as_setup({"microgrid_configs": [microgrid]}).config)


async def serve(devices: int) -> None:
    """Be the devices, until killed."""
    plan = plan_of(devices)
    site = EmulatedSite(plan, {n: Setpoint(0.0) for n in plan.devices}, lambda step: False)
    reading = DeviceReading(0.0, 0.0, 1.0, 0.99, 1.01, soc=0.5)
    clock = ClockReading(1, 0, 0.0, 900.0, 0.0, PACE_LOCKSTEP, False)
    meter = MeterReading(0.0, 0.0, 1.0, 0.99, 1.01)
    site.show(dict.fromkeys(plan.devices, reading), dict.fromkeys(plan.meters, meter), clock, 0.0)
    async with ModbusServer(site.units, HOST, FIRST_PORT):
        print("ready", flush=True)
        await asyncio.get_running_loop().create_future()


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


async def edge(devices: int, seconds: float, *, moving: bool) -> dict[str, object]:
    """Run the edge for a while and return what it took."""
    began = time.monotonic()
    time_ = PlantTime()
    builder = DeviceBuilder(time_, 1.0)
    connections: dict[tuple[int, int], ModbusConnection] = {}
    cycles: dict[str, DeviceCycle] = {}
    for name, unit in plan_of(devices).devices.items():
        port = FIRST_PORT + unit.port_offset
        key = (port, unit.unit_id % CONNECTIONS_PER_PORT)
        if key not in connections:
            make = tcp_client(HOST, port, 0.5)
            connections[key] = ModbusConnection(f"{HOST}:{port}", make, now=time.monotonic)
        cycles[name] = builder.device(
            ESS(name, device_state_config=CONFIG),
            unit.table,
            connections[key],
            unit.unit_id,
            mode=Mode.CLOSED_LOOP,
            fallback=FallbackName.SAFE,
            reversion_s=60.0,
            policy=decide(moving),
        )
    gc.unfreeze()
    spare_what_stays()
    async with InMemoryBus() as bus:
        parts = Parts(cycles, {}, tuple(connections.values()))
        runtime = EdgeRuntime(EdgeSettings("edge-1"), bus, time_, parts)
        stop, lag = asyncio.Event(), LoopLag()
        task = asyncio.create_task(runtime.run(stop, lag.run))
        started = time.monotonic() - began
        await asyncio.sleep(3.0)
        counters = runtime.units.counters
        counters.cycle_s.clear()
        lag.samples.clear()
        cycles_before, overruns_before, cpu = (
            counters.cycles,
            counters.overruns,
            time.process_time(),
        )
        await asyncio.sleep(seconds)
        result: dict[str, object] = {
            "cycles_per_s": round((counters.cycles - cycles_before) / seconds, 1),
            "cycle_ms": quantiles(counters.cycle_s),
            "loop_lag_ms": quantiles(lag.samples),
            "overruns": counters.overruns - overruns_before,
            "cpu_share": round((time.process_time() - cpu) / seconds, 2),
            "start_s": round(started, 2),
            "rss_mb": round(rss_mb(), 1),
        }
        stop.set()
        await task
    return result


async def bare(devices: int, seconds: float) -> dict[str, object]:
    """Read the same registers with pymodbus alone."""
    samples: list[float] = []
    async with AsyncExitStack() as stack:
        clients: dict[tuple[int, int], AsyncModbusTcpClient] = {}
        tasks = []
        for i, unit in enumerate(plan_of(devices).devices.values()):
            port = FIRST_PORT + unit.port_offset
            key = (port, unit.unit_id % CONNECTIONS_PER_PORT)
            if key not in clients:
                clients[key] = AsyncModbusTcpClient(HOST, port=port, timeout=0.5, retries=0)
                await clients[key].connect()
                stack.callback(clients[key].close)
            blocks = (*unit.table.telemetry, *unit.table.controls)

            async def loop(
                client: AsyncModbusTcpClient = clients[key],
                unit_id: int = unit.unit_id,
                blocks: Sequence[object] = blocks,
                phase: float = stagger(i, 1.0),
            ) -> None:
                async for _ in ticks(1.0, phase_s=phase):
                    began = time.monotonic()
                    for block in blocks:
                        await client.read_holding_registers(
                            block.address, count=block.count, device_id=unit_id
                        )
                    samples.append(time.monotonic() - began)

            tasks.append(asyncio.create_task(loop()))
        await asyncio.sleep(3.0)
        samples.clear()
        cpu = time.process_time()
        await asyncio.sleep(seconds)
        share = (time.process_time() - cpu) / seconds
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "cycles_per_s": round(len(samples) / seconds, 1),
        "cycle_ms": quantiles(samples),
        "cpu_share": round(share, 2),
    }


@contextmanager
def emulator(devices: int) -> Iterator[None]:
    """Run the devices in a process of their own."""
    import subprocess

    argv = [sys.executable, "-m", "benchmarks.edge_cycle", "--serve", "--devices", str(devices)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise SystemExit("the emulator did not start")
        try:
            yield
        finally:
            process.kill()


def main() -> None:
    """Print one JSON line a case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--serve", action="store_true")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if args.serve:
        uvloop.run(serve(args.devices))
        return
    with emulator(args.devices):
        for name, result in (
            ("edge, set-points unchanged", edge(args.devices, args.seconds, moving=False)),
            ("edge, every set-point changes", edge(args.devices, args.seconds, moving=True)),
            ("pymodbus alone, reads only", bare(args.devices, args.seconds)),
        ):
            line = {"case": name, "devices": args.devices, **uvloop.run(result)}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
