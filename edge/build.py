"""From a setup or a site file to what an edge process runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import ValidationError

from edge.commands import CommandInbox
from edge.cycle import DeviceCycle
from edge.decisions import LocalPolicy
from edge.fallback import BumplessReturn, FallbackName, make_fallback
from edge.links.connection import ModbusConnection
from edge.links.modbus import ModbusDeviceLink, ModbusMeterLink, read_words
from edge.links.transports import client_factory, may_only_read, tcp_client
from edge.lockstep import PlantClockReader
from edge.map_check import NO_REACTIVE_POWER
from edge.runtime import Parts
from edge.sensor import Sensor
from edge.site import LinkConfig, SiteConfig, SiteDevice, SiteMeter
from edge.timing import PlantTime
from heron.errors import ConfigError, ConfigProblem, TransportError
from heron.messaging.wire import PlantClock
from heron.powergrid.agents import DeviceAgent, build_agents
from heron.powergrid.agents.registry import DEVICE_REGISTRY
from heron.powergrid.device_configs import DeviceConfig, TransformerConfig
from heron.powergrid.modes import DRIVING, Mode, ModeMachine
from heron.powergrid.registers import (
    ClockUnit,
    DerTable,
    MeterTable,
    Ratings,
    TapTable,
    Unit,
    site_plan,
)
from heron.powergrid.registers.clock import PACE_NAMES
from heron.powergrid.registers.custom import load_map
from heron.powergrid.registers.map_table import DeviceTable, MapTable
from heron.powergrid.setups.models import SetupConfig

TIMEOUT_S = 0.5
STALE_AFTER_S = 3.0
"""Wall seconds for which the last good values count as merely stale."""
FIRST_COMMAND_INTERVALS = 3
"""Control intervals without any command after which a device falls back."""


class DeviceBuilder:
    """Puts the cycle of a device together; the same for setups and sites."""

    def __init__(self, time: PlantTime, interval_s: float) -> None:
        self._time = time
        self._first_command_s = FIRST_COMMAND_INTERVALS * interval_s

    def device(
        self,
        agent: DeviceAgent,
        table: DeviceTable,
        connection: ModbusConnection,
        unit: int,
        *,
        mode: Mode,
        fallback: FallbackName,
        reversion_s: float | None,
        heartbeat_s: float | None = None,
        policy: LocalPolicy | None = None,
        read_write: bool = False,
        discover: bool = False,
    ) -> DeviceCycle:
        """Return the cycle of one device; see `ModbusDeviceLink` for what is not said here."""
        read_only = mode not in DRIVING
        link = ModbusDeviceLink(
            agent.agent_id,
            connection,
            unit,
            table,
            self._time,
            reversion_s=reversion_s,
            heartbeat_s=heartbeat_s,
            read_only=read_only,
            read_write=read_write,
            discover=discover,
        )
        return DeviceCycle(
            link=link,
            agent=agent,
            modes=ModeMachine(mode, read_only=read_only),
            inbox=CommandInbox(self._time),
            fallback=make_fallback(fallback, agent.device_config),
            time=self._time,
            sensor=Sensor(link, self._time, STALE_AFTER_S),
            bumpless=BumplessReturn(),
            policy=policy,
            first_command_s=self._first_command_s,
        )

    def meter(
        self, name: str, table: MeterTable, connection: ModbusConnection, unit: int
    ) -> Sensor:
        """Return the reader of one meter."""
        link = ModbusMeterLink(name, connection, unit, table, self._time)
        return Sensor(link, self._time, STALE_AFTER_S)


def build_from_setup(
    config: SetupConfig,
    host: str,
    port: int,
    time: PlantTime,
    *,
    agents: Sequence[str] | None = None,
    mode: Mode = Mode.CLOSED_LOOP,
    fallback: FallbackName = FallbackName.SAFE,
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
        fallback: What to do without commands or data.
        connections_per_port: Connections over which the units behind one port are spread.

    Raises:
        ConfigError: A name in ``agents`` is not of this setup.
    """
    plan = site_plan(config)
    wanted = _wanted(agents, [*plan.devices, *plan.meters], config.name)
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
                read_only=mode not in DRIVING,
            )
        return connections[key]

    builder = DeviceBuilder(time, config.step_s)
    devices = {
        unit.name: builder.device(
            agent_of[unit.name],
            unit.table,
            connection(unit),
            unit.unit_id,
            mode=mode,
            fallback=fallback,
            reversion_s=unit.reversion_s,
            # Whoever serves a whole setup is our emulator, which has function 23.
            read_write=True,
        )
        for unit in plan.devices.values()
        if unit.name in wanted
    }
    meters = {
        meter.name: builder.meter(meter.name, meter.table, connection(meter), meter.unit_id)
        for meter in plan.meters.values()
        if meter.name in wanted
    }
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
        try:
            return PlantClock(
                epoch=shown.epoch,
                step=shown.step,
                time_s=shown.time_s,
                step_s=shown.step_s,
                pace=PACE_NAMES.get(shown.pace, "max"),
                finished=shown.finished,
            )
        except ValidationError:
            return None  # no clock of ours: registers that say something else

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


def connect(link: LinkConfig, time: PlantTime, *, patient: bool = False) -> ModbusConnection:
    """Return the connection of a site's link, not opened yet.

    Args:
        link: Where.
        time: Clocks.
        patient: Many units are expected not to answer; that does not make the link bad.
    """
    return ModbusConnection(
        link.address,
        client_factory(link),
        now=time.now,
        timeout_s=link.timeout_s,
        gap_s=link.gap_s,
        read_only=link.tls is not None and may_only_read(link.tls),
        # A late reply on a serial line would be taken for the next one.
        reconnect_on_silence=link.kind in ("serial", "rtu_over_tcp"),
        drop_after=1_000_000 if patient else 6,
    )


def build_device(
    device: SiteDevice, connection: ModbusConnection, site: SiteConfig, time: PlantTime
) -> DeviceCycle:
    """Return the cycle of one device of a site.

    Raises:
        ConfigError: Its register map lacks what it needs, or it is to be driven over a link that
            may only read.
        PolicyError: Its policy does not fit.
    """
    if connection.read_only and device.mode in DRIVING:
        expected = (
            f"the certificate of link {device.link} has a role that may only read: "
            "expected monitor, advisory or stopped"
        )
        raise ConfigError([ConfigProblem(f"{device.name}.mode", str(device.mode), expected)])
    agent = DEVICE_REGISTRY.find(device.type)(
        device.name, device_state_config=device.config, dt_s=site.period_s
    )
    return DeviceBuilder(time, site.period_s).device(
        agent,
        _table(device, device.config),
        connection,
        device.unit,
        mode=device.mode,
        fallback=device.fallback,
        reversion_s=device.reversion_s,
        heartbeat_s=device.heartbeat_s,
        read_write=device.read_write,
        policy=_policy(device, agent, site.policy_key),
        discover=device.map is None,
    )


def build_meter(meter: SiteMeter, connection: ModbusConnection, time: PlantTime) -> Sensor:
    """Return the reader of one meter of a site."""
    table = MeterTable(meter.name, meter.sign, meter.nominal_v)
    return DeviceBuilder(time, 0.0).meter(meter.name, table, connection, meter.unit)


def _table(device: SiteDevice, config: DeviceConfig) -> DeviceTable:
    if device.map is not None:
        reactive = config.q_range_mvar != NO_REACTIVE_POWER
        described = load_map(device.map)
        return MapTable(device.name, described, config.safe_setpoint, reactive=reactive)
    if isinstance(config, TransformerConfig):
        return TapTable(device.name, config)
    return DerTable(device.name, Ratings.of(config), config.safe_setpoint)


def _policy(device: SiteDevice, agent: DeviceAgent, key: str | None) -> LocalPolicy | None:
    if device.policy is None:
        return None
    # onnxruntime takes 30 MB; an edge whose coordinators decide does without.
    from edge.policies import PolicySlot

    return PolicySlot(agent, device.policy, device.candidate, key)
