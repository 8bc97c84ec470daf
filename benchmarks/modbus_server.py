"""Our Modbus/TCP server beside pymodbus's, same load, same client, same run.

Two loads, each from a process of its own:

- *closed loop*: every connection reads 100 registers as fast as the answers come;
- *at once*: once a second every device is polled at the same instant, one connection a device, and
  the time from that instant to each answer counts.

Run ``python -m benchmarks.modbus_server`` (options: ``--devices``, ``--seconds``, ``--json``).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import multiprocessing.connection
import os
import platform
import struct
import time
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any, cast

import numpy as np

from benchmarks._fleet import undisturbed

REGISTERS = 100
UNITS_A_PORT = 200
READ = struct.Struct(">HHHBBHH")
REPLY_BYTES = 9 + 2 * REGISTERS


# --- the servers, each in its own process ---


async def serve_ours(devices: int, say: Callable[[list[int]], None]) -> None:
    """Serve with `simulator.modbus.server`."""
    from heron.powergrid.registers.codec import RegisterType
    from heron.powergrid.registers.table import Register, RegisterMap
    from simulator.modbus.image import UnitImage
    from simulator.modbus.server import ModbusServer

    table = RegisterMap(Register(f"r{i}", i, 1, RegisterType.UINT16) for i in range(REGISTERS))
    values = {f"r{i}": i for i in range(REGISTERS)}
    ports: list[dict[int, UnitImage]] = []
    for first in range(0, devices, UNITS_A_PORT):
        count = min(UNITS_A_PORT, devices - first)
        ports.append({u + 1: UnitImage(table, values, frozenset()) for u in range(count)})
    async with ModbusServer(ports, port=0) as server:
        say(list(server.ports))
        await asyncio.Event().wait()


async def serve_pymodbus(devices: int, say: Callable[[list[int]], None]) -> None:
    """Serve with pymodbus's asynchronous server."""
    from pymodbus.server import ModbusTcpServer
    from pymodbus.simulator import DataType, SimData, SimDevice

    data = SimData(address=0, values=list(range(REGISTERS)), datatype=DataType.REGISTERS)
    servers = []
    for first in range(0, devices, UNITS_A_PORT):
        count = min(UNITS_A_PORT, devices - first)
        units = [SimDevice(id=u + 1, simdata=[data]) for u in range(count)]
        server = ModbusTcpServer(units, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        servers.append(server)
    say([s.transport.sockets[0].getsockname()[1] for s in servers])
    await asyncio.Event().wait()


SERVERS: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "ours": serve_ours,
    "pymodbus": serve_pymodbus,
}


def _serve(name: str, loop: str, devices: int, pipe: multiprocessing.connection.Connection) -> None:
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        runner.run(SERVERS[name](devices, pipe.send))


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes an event loop."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


# --- the client ---


class Master(asyncio.Protocol):
    """One connection that polls one unit; counts whole replies, nothing more."""

    def __init__(self, unit: int) -> None:
        self.request = READ.pack(1, 0, 6, unit, 3, 0, REGISTERS)
        self.waiting: asyncio.Future[None] | None = None
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Tell whoever waits when the reply is whole."""
        self.received += len(data)
        if self.received == REPLY_BYTES and self.waiting is not None:
            self.received = 0
            self.waiting.set_result(None)

    def ask(self) -> asyncio.Future[None]:
        """Send the request; the result comes with the whole reply."""
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(self.request)
        return self.waiting


async def connect(ports: list[int], devices: int) -> list[Master]:
    """Open one connection a device."""
    loop = asyncio.get_running_loop()
    masters = []
    for i in range(devices):
        unit, port = i % UNITS_A_PORT + 1, ports[i // UNITS_A_PORT]
        _, master = await loop.create_connection(lambda unit=unit: Master(unit), "127.0.0.1", port)  # type: ignore[misc]
        masters.append(master)
    return masters


async def closed_loop(masters: list[Master], seconds: float) -> dict[str, float]:
    """Read as fast as the answers come."""
    end = time.perf_counter() + seconds
    latencies: list[float] = []

    async def work(master: Master) -> None:
        while (sent := time.perf_counter()) < end:
            await master.ask()
            latencies.append(time.perf_counter() - sent)

    began = time.perf_counter()
    await asyncio.gather(*(work(m) for m in masters))
    rate = len(latencies) / (time.perf_counter() - began)
    return {"per_s": round(rate), **percentiles(latencies)}


async def at_once(masters: list[Master], seconds: float) -> dict[str, float]:
    """Poll everyone at the same instant, once a second."""
    latencies: list[float] = []
    for _ in range(max(1, round(seconds))):
        due = time.perf_counter()

        async def poll(master: Master, due: float = due) -> None:
            await master.ask()
            latencies.append(time.perf_counter() - due)

        await asyncio.gather(*(poll(m) for m in masters))
        await asyncio.sleep(max(0.0, 1.0 - (time.perf_counter() - due)))
    return percentiles(latencies)


def percentiles(seconds: list[float]) -> dict[str, float]:
    """Return p50, p99 and the largest, in milliseconds."""
    p50, p99 = np.percentile(seconds, [50, 99])
    return {
        "p50_ms": round(1e3 * p50, 3),
        "p99_ms": round(1e3 * p99, 3),
        "max_ms": round(1e3 * max(seconds), 3),
    }


def measure(name: str, loop: str, devices: int, seconds: float) -> dict[str, Any]:
    """Measure one server under both loads."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(name, loop, devices, there), daemon=True)
    process.start()
    ports = here.recv()

    async def client() -> dict[str, Any]:
        masters = await connect(ports, devices)
        result = {
            "closed_1": await closed_loop(masters[:1], seconds),
            "closed_100": await closed_loop(masters[:100], seconds),
            "at_once": await at_once(masters, seconds),
        }
        for master in masters:
            master.transport.close()
        return result

    try:
        with asyncio.Runner(loop_factory=loop_factory("uvloop")) as runner:
            return {"server": name, "loop": loop, "devices": devices, **runner.run(client())}
    finally:
        process.terminate()
        process.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=SERVERS, help="one server")
    parser.add_argument("--undisturbed", action="store_true", help="ask for the real-time class")
    arguments = parser.parse_args()
    alone = arguments.undisturbed and undisturbed()
    rows = [
        measure(name, loop, arguments.devices, arguments.seconds)
        for name in ([arguments.only] if arguments.only else SERVERS)
        for loop in ("asyncio", "uvloop")
    ]
    machine = {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "undisturbed": alone,
        "pymodbus": version("pymodbus"),
        "uvloop": version("uvloop"),
    }
    if arguments.json:
        print(json.dumps({"machine": machine, "rows": rows}))
        return
    print(machine)
    print(f"{arguments.devices} devices; {REGISTERS} registers a read; ms p50/p99")
    for row in rows:
        one, many, once = row["closed_1"], row["closed_100"], row["at_once"]
        print(
            f"{row['server']:9} {row['loop']:8} "
            f"1 master {one['per_s']:6}/s {one['p50_ms']:.2f}/{one['p99_ms']:.2f}   "
            f"100 masters {many['per_s']:6}/s {many['p50_ms']:.1f}/{many['p99_ms']:.1f}   "
            f"all at once {once['p50_ms']:.0f}/{once['p99_ms']:.0f}"
        )


if __name__ == "__main__":
    main()
