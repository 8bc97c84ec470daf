"""A thousand emulated batteries for the edge's benchmarks: our emulator, or libmodbus in C.

Either is a process of its own behind Modbus/TCP on loopback, 200 units a port.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import uvloop

from heron.powergrid.quantities import DeviceReading, MeterReading, Setpoint
from heron.powergrid.registers import SitePlan, site_plan
from heron.powergrid.registers.clock import PACE_LOCKSTEP, ClockReading
from heron.powergrid.setups import as_setup
from simulator.modbus.image import UnitImage
from simulator.modbus.server import ModbusServer
from simulator.modbus.site import EmulatedSite

HOST = "127.0.0.1"
UNITS_A_PORT = 199
CONFIG = {"bus": "Bus 671", "p_max_MW": 0.5, "p_min_MW": -0.5, "e_capacity_MWh": 2.0}
C_SOURCE = Path(__file__).parents[1] / "tests" / "hil" / "libmodbus_server.c"


def plan_of(devices: int) -> SitePlan:
    """Return where so many batteries would be."""
    entries = [
        {"type": "ESS", "name": f"ess{i}", "device_state_config": CONFIG} for i in range(devices)
    ]
    microgrid = {"name": "MG1", "connection_bus": "DSO Bus 850", "devices": entries}
    return site_plan(as_setup({"microgrid_configs": [microgrid]}).config)


def images(devices: int) -> list[dict[int, UnitImage]]:
    """Return the batteries' registers, by port and unit."""
    plan = plan_of(devices)
    site = EmulatedSite(plan, {n: Setpoint(0.0) for n in plan.devices}, lambda step: False)
    reading = DeviceReading(0.0, 0.0, 1.0, 0.99, 1.01, soc=0.5)
    clock = ClockReading(1, 0, 0.0, 900.0, 0.0, PACE_LOCKSTEP, False)
    meter = MeterReading(0.0, 0.0, 1.0, 0.99, 1.01)
    site.show(dict.fromkeys(plan.devices, reading), dict.fromkeys(plan.meters, meter), clock, 0.0)
    return site.units


async def _serve(devices: int) -> None:
    async with ModbusServer(images(devices), HOST, port=0) as server:
        print(*server.ports, flush=True)
        await asyncio.get_running_loop().create_future()


def can_compile() -> bool:
    """Whether there is a C compiler and libmodbus."""
    return which("cc") is not None and Path("/usr/include/modbus/modbus.h").exists()


@contextmanager
def ours(devices: int) -> Iterator[list[int]]:
    """Run our emulator under uvloop; give its ports."""
    argv = [sys.executable, "-m", "benchmarks._fleet", "--devices", str(devices)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ports = [int(port) for port in process.stdout.readline().split()]
        if not ports:
            raise SystemExit("the emulator did not start")
        try:
            yield ports
        finally:
            process.kill()


@contextmanager
def libmodbus(devices: int) -> Iterator[list[int]]:
    """Run the slave in C, each unit with the registers of the first battery; give its ports."""
    plan = plan_of(1)
    table = plan.devices["ess0"].table
    span = table.layout.span
    image = images(1)[0][plan.devices["ess0"].unit_id].read(span.address, span.count)
    ports = plan_of(devices).ports
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "server"
        flags = ["-I/usr/include/modbus", "-lmodbus"]
        subprocess.run(["cc", "-O2", "-o", program, C_SOURCE, *flags], check=True)
        shape = [str(n) for n in (ports, 247, span.address, span.count)]
        with subprocess.Popen(
            [program, *shape], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(image)
            process.stdin.close()
            try:
                yield [int(process.stdout.readline()) for _ in range(ports)]
            finally:
                process.kill()


def undisturbed() -> bool:
    """Ask for the real-time class, so that others on the machine do not count; True if given.

    Children inherit it.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(5))
    except (AttributeError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--devices", type=int, required=True)
    uvloop.run(_serve(parser.parse_args().devices))
