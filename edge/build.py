"""From a setup to a running edge: links by the site plan, a cycle for each device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edge.commands import CommandInbox
from edge.cycle import DeviceCycle
from edge.fallback import BumplessReturn, SafeSetpoint
from edge.links.connection import ModbusConnection, tcp_client
from edge.links.modbus import ModbusDeviceLink, ModbusMeterLink, read_words
from edge.lockstep import PlantClockReader
from edge.modes import DRIVING, Mode, ModeMachine
from edge.runtime import Parts
from edge.sensor import Sensor
from edge.timing import PlantTime
from heron.errors import ConfigError, ConfigProblem, TransportError
from heron.messaging.wire import PlantClock
from heron.powergrid.agents import build_agents
from heron.powergrid.registers import ClockUnit, Unit, site_plan
from heron.powergrid.registers.clock import PACE_NAMES
from heron.powergrid.setups.models import SetupConfig

TIMEOUT_S = 0.5
STALE_AFTER_S = 3.0
"""Wall seconds for which the last good values count as merely stale."""
FIRST_COMMAND_INTERVALS = 3
"""Control intervals without any command after which a device falls back."""


def build_from_setup(
    config: SetupConfig,
    host: str,
    port: int,
    time: PlantTime,
    *,
    agents: Sequence[str] | None = None,
    mode: Mode = Mode.CLOSED_LOOP,
    connections_per_port: int = 1,
) -> Parts:
    """Make the cycles of a setup whose plant answers behind one address.

    Args:
        config: The setup.
        host: Where the plant's Modbus server is.
        port: Its first port.
        time: Clocks.
        agents: Devices and meters to look after; None for all.
        mode: Mode to start in. In monitor and advisory mode the links are opened read-only.
        connections_per_port: Connections over which the units behind one port are spread.

    Raises:
        ConfigError: A name in ``agents`` is not of this setup.
    """
    plan = site_plan(config)
    wanted = _wanted(agents, [*plan.devices, *plan.meters], config.name)
    read_only = mode not in DRIVING
    dso = build_agents(config)
    agent_of = {n: a for mg in dso.microgrids.values() for n, a in mg.devices.items()}
    connections: dict[tuple[int, int], ModbusConnection] = {}

    def connection(unit: Unit) -> ModbusConnection:
        at = port + unit.port_offset
        key = (at, unit.unit_id % connections_per_port)
        if key not in connections:
            connections[key] = ModbusConnection(
                f"{host}:{at}",
                tcp_client(host, at, TIMEOUT_S),
                now=time.now,
                timeout_s=TIMEOUT_S,
                read_only=read_only,
            )
        return connections[key]

    devices: dict[str, DeviceCycle] = {}
    meters: dict[str, Sensor] = {}
    for name in wanted:
        if name in plan.devices:
            unit = plan.devices[name]
            device = config.device(name).device_state_config
            link = ModbusDeviceLink(
                name,
                connection(unit),
                unit.unit_id,
                unit.table,
                time,
                reversion_s=unit.reversion_s,
                read_only=read_only,
            )
            devices[name] = DeviceCycle(
                link=link,
                agent=agent_of[name],
                modes=ModeMachine(mode, read_only=read_only),
                inbox=CommandInbox(time),
                fallback=SafeSetpoint(device),
                time=time,
                sensor=Sensor(link, time, STALE_AFTER_S),
                bumpless=BumplessReturn(),
                first_command_s=FIRST_COMMAND_INTERVALS * config.step_s,
            )
        else:
            meter = plan.meters[name]
            reader = ModbusMeterLink(name, connection(meter), meter.unit_id, meter.table, time)
            meters[name] = Sensor(reader, time, STALE_AFTER_S)
    read_clock = _clock_reader(connection(plan.clock), plan.clock)
    return Parts(devices, meters, tuple(connections.values()), read_clock)


def _clock_reader(connection: ModbusConnection, unit: ClockUnit) -> PlantClockReader:
    async def read() -> PlantClock | None:
        table = unit.table
        try:
            words = await read_words(connection, unit.name, unit.unit_id, table.telemetry)
        except TransportError:
            return None
        shown = table.decode(words)
        if shown is None:
            return None
        return PlantClock(
            epoch=shown.epoch,
            step=shown.step,
            time_s=shown.time_s,
            step_s=shown.step_s,
            pace=PACE_NAMES.get(shown.pace, "max"),
            finished=shown.finished,
        )

    return read


def _wanted(agents: Iterable[str] | None, known: Sequence[str], setup: str) -> list[str]:
    if agents is None:
        return list(known)
    names = list(dict.fromkeys(agents))
    problems = [
        ConfigProblem(
            "agents", name, f"expected devices or meters of it: {', '.join(known)}", setup
        )
        for name in names
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)
    return names
