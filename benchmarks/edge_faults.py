"""What the edge does under each fault of a device or link, and in what time.

Two emulated batteries stand behind one port that misbehaves on purpose; the edge runs its cycles
for both at 5 Hz. Prints the table of docs/edge-faults.md.

    python -m benchmarks.edge_faults
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from edge.build import build_from_setup
from edge.cycle import DeviceCycle
from edge.runtime import EdgeRuntime, EdgeSettings
from edge.timing import PlantTime
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.topics import COMMAND
from heron.messaging.wire import Command
from heron.powergrid.link import Quality
from heron.powergrid.modes import Mode
from heron.powergrid.registers import site_plan
from heron.powergrid.registers.clock import PACE_LOCKSTEP, ClockReading
from heron.powergrid.setups import read_setup
from heron.testing.faults import (
    Delay,
    ExceptionReply,
    Fault,
    FaultyPort,
    Garbage,
    Mute,
    Reset,
    ShortReply,
    WrongFunction,
    WrongTransaction,
    WrongUnit,
)
from simulator import Plant
from simulator.modbus.server import ModbusServer
from simulator.modbus.site import EmulatedSite

PERIOD_S = 0.2
HOLD_S = 5.0
VICTIM, NEIGHBOUR = "ess1", "ess3"

FAULTS: tuple[tuple[str, Fault | None], ...] = (
    ("mute (one unit dead)", Mute()),
    ("slow: answers after 0.8 s", Delay(0.8)),
    ("wrong transaction id", WrongTransaction()),
    ("wrong unit id", WrongUnit()),
    ("short reply (1 register)", ShortReply()),
    ("FC04 reply to FC03", WrongFunction()),
    ("garbage instead of Modbus", Garbage()),
    ("reset in mid-request", Reset()),
    *((f"exception {code:#04x}", ExceptionReply(code)) for code in (2, 3, 4, 6, 10, 11)),
    ("server killed, back after 5 s", None),
)


@dataclass
class Watch:
    """What was seen of one fault."""

    error: str = ""
    error_after_s: float | None = None
    fallback_after_s: float | None = None
    neighbour_gap_s: float = 0.0
    good_after_s: float | None = None
    closed_after_s: float | None = None


@asynccontextmanager
async def rig() -> AsyncIterator[tuple[EdgeRuntime, FaultyPort]]:
    """Run server, faulty port, edge, and a coordinator that says the same again and again."""
    plant = Plant(read_setup("ieee34_ieee13"))
    measured = plant.reset(seed=1)
    config = plant.setup.config
    site = EmulatedSite(site_plan(config), measured.setpoints, lambda step: False)
    clock = ClockReading(1, 0, measured.time_s, config.step_s, 0.0, PACE_LOCKSTEP, False)
    site.show_measurements(measured, clock)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ModbusServer(site.units, "127.0.0.1", 0))
        port = await stack.enter_async_context(FaultyPort(("127.0.0.1", server.ports[0])))
        hub = MemoryHub()
        bus = await stack.enter_async_context(InMemoryBus(hub))
        others = await stack.enter_async_context(InMemoryBus(hub))
        times = PlantTime()
        parts = build_from_setup(config, "127.0.0.1", port.port, times, agents=[VICTIM, NEIGHBOUR])
        runtime = EdgeRuntime(EdgeSettings("edge-1", period_s=PERIOD_S), bus, times, parts)
        stop = asyncio.Event()
        edge = asyncio.create_task(runtime.run(stop))
        talk = asyncio.create_task(_commands(others))
        yield runtime, port
        talk.cancel()
        stop.set()
        await edge


async def _commands(bus: InMemoryBus) -> None:
    sequence = 0
    while True:
        for agent in (VICTIM, NEIGHBOUR):
            sequence += 1
            command = Command(agent=agent, sequence=sequence, p_mw=0.2, ttl_s=60.0, issuer="MG1")
            await bus.publish(COMMAND, command, agent=agent)
        await asyncio.sleep(0.5)


async def observe(runtime: EdgeRuntime, port: FaultyPort, unit: int, fault: Fault | None) -> Watch:
    """Put a fault in for a while, take it out, and watch what the edge does."""
    victim, neighbour = (runtime.units.devices[n] for n in (VICTIM, NEIGHBOUR))
    first = _FirstError()
    logging.getLogger("edge.sensor").addHandler(first)
    watch = Watch()
    began = time.monotonic()
    if fault is None:
        await port.stop()
    else:
        port.unit_faults[unit] = fault
    while time.monotonic() - began < HOLD_S:
        await asyncio.sleep(0.005)
        _note_fault(watch, victim, neighbour, time.monotonic() - began)
    watch.error = first.reason
    if fault is None:
        await port.start()
    port.unit_faults.clear()
    ended = time.monotonic()
    while watch.closed_after_s is None and time.monotonic() - ended < 40.0:
        await asyncio.sleep(0.005)
        since = time.monotonic() - ended
        if victim.sensor.snapshot.quality is Quality.GOOD and watch.good_after_s is None:
            watch.good_after_s = since
        if watch.good_after_s is not None and victim.modes.mode is Mode.CLOSED_LOOP:
            watch.closed_after_s = since
    return watch


class _FirstError(logging.Handler):
    """Keeps what the edge logged when it lost the device."""

    reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first reason given for the victim."""
        if (
            not self.reason
            and record.msg.startswith("device_lost")
            and isinstance(record.args, tuple)
        ):
            device, reason = record.args
            self.reason = str(reason) if device == VICTIM else ""


def _note_fault(watch: Watch, victim: DeviceCycle, neighbour: DeviceCycle, since: float) -> None:
    if victim.sensor.error and watch.error_after_s is None:
        watch.error_after_s = since
    if victim.modes.mode is Mode.FALLBACK and watch.fallback_after_s is None:
        watch.fallback_after_s = since
    points = neighbour.sensor.snapshot.values.values()
    age = max((p.age_s(time.monotonic()) for p in points), default=0.0)
    watch.neighbour_gap_s = max(watch.neighbour_gap_s, age)


def _s(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


async def main() -> None:
    """Print the table."""
    for noisy in ("pymodbus", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    for quiet in ("edge", "heron"):
        logging.getLogger(quiet).propagate = False
    unit = site_plan(read_setup("ieee34_ieee13").config).devices[VICTIM].unit_id
    print(
        "| fault | what the edge saw | after | fallback after | neighbour's oldest data |", end=""
    )
    print(" good data again | closed loop again |")
    print("|---|---|---|---|---|---|---|")
    for name, fault in FAULTS:
        async with rig() as (runtime, port):
            await asyncio.sleep(2.0)
            watch = await observe(runtime, port, unit, fault)
        cells = [
            name,
            watch.error.removeprefix(f"{VICTIM}: "),
            _s(watch.error_after_s),
            _s(watch.fallback_after_s),
            _s(watch.neighbour_gap_s),
            _s(watch.good_after_s),
            _s(watch.closed_after_s),
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
