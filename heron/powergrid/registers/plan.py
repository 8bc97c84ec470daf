"""The site plan: which unit id serves which device, meter or clock, and by what table.

The simulator serves by it and the edge polls by it; nothing is negotiated. Unit ids: devices from
1 in the order of the setup, meters from 200 (the head first, then the microgrids), the clock 247.
Modbus has 247 units a connection; what does not fit goes to the next port.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.device_configs import TransformerConfig
from heron.powergrid.registers.clock import ClockTable
from heron.powergrid.registers.der import DerTable
from heron.powergrid.registers.meter import METER_MODELS, MeterTable
from heron.powergrid.registers.ratings import Ratings
from heron.powergrid.registers.tap import TapTable
from heron.powergrid.setups.models import SetupConfig

DEFAULT_PORT = 5020
CLOCK_UNIT = 247
FIRST_METER_UNIT = 200
HEAD_METER = "head"
FEEDER_LL_V = 24_900.0
"""Nominal line-to-line voltage where the meters measure: the feeder's side."""
REVERSION_INTERVALS = 3
"""Control intervals of silence after which a device reverts, unless configured otherwise."""


@dataclass(frozen=True)
class DeviceUnit:
    """A device's place in the plan.

    Attributes:
        name: Device id.
        microgrid: Its microgrid.
        unit_id: Modbus unit.
        port_offset: To be added to the site's first port.
        table: Its registers and codec.
        reversion_s: Plant seconds of silence after which it reverts to its safe set-point.
    """

    name: str
    microgrid: str
    unit_id: int
    port_offset: int
    table: DerTable | TapTable
    reversion_s: float


@dataclass(frozen=True)
class MeterUnit:
    """A meter's place in the plan; ``name`` is ``head`` or the microgrid's."""

    name: str
    unit_id: int
    port_offset: int
    table: MeterTable


@dataclass(frozen=True)
class ClockUnit:
    """The clock device's place in the plan."""

    name: str
    unit_id: int
    port_offset: int
    table: ClockTable


Unit = DeviceUnit | MeterUnit | ClockUnit


@dataclass(frozen=True)
class SitePlan:
    """All units of a site.

    Attributes:
        devices: By device id, in the order of the setup.
        meters: By meter id, the head first.
        clock: The clock device.
    """

    devices: dict[str, DeviceUnit]
    meters: dict[str, MeterUnit]
    clock: ClockUnit

    def __iter__(self) -> Iterator[Unit]:
        yield from self.devices.values()
        yield from self.meters.values()
        yield self.clock

    @property
    def ports(self) -> int:
        """How many ports the site needs."""
        return 1 + max(unit.port_offset for unit in self)

    def resolution(self, name: str, point: str) -> float:
        """Return the step of one point of a device or meter, in the point's unit.

        Raises:
            KeyError: No such device, meter or point.
        """
        if name in self.devices:
            return self.devices[name].table.resolution(point)
        return self.meters[name].table.resolution(point)


def site_plan(config: SetupConfig, models: tuple[int, ...] = ()) -> SitePlan:
    """Lay out all units of a setup.

    Args:
        config: The setup.
        models: SunSpec models that devices (but for tap changers) and meters have behind the
            usual ones, each as far as it can.

    Raises:
        ConfigError: A device is called as a meter, or a model cannot be served.
    """
    clash = [d for d in config.device_ids if d == HEAD_METER]
    if clash:
        raise ConfigError([ConfigProblem("device name", HEAD_METER, "is the name of a meter")])
    of_devices = tuple(m for m in models if m not in METER_MODELS)
    devices: dict[str, DeviceUnit] = {}
    places = _places(1, FIRST_METER_UNIT)
    for microgrid in config.microgrid_configs:
        for entry in microgrid.devices:
            device = entry.device_state_config
            offset, unit_id = next(places)
            table: DerTable | TapTable
            if isinstance(device, TransformerConfig):
                table = TapTable(entry.name, device)
            else:
                ratings = Ratings.of(device)
                table = DerTable(entry.name, ratings, device.safe_setpoint, of_devices)
            reversion_s = device.reversion_s or REVERSION_INTERVALS * config.step_s
            devices[entry.name] = DeviceUnit(
                entry.name, microgrid.name, unit_id, offset, table, reversion_s
            )
    meters: dict[str, MeterUnit] = {}
    places = _places(FIRST_METER_UNIT, CLOCK_UNIT)
    for name in (HEAD_METER, *config.microgrid_ids):
        offset, unit_id = next(places)
        sign = 1 if name == HEAD_METER else -1
        meters[name] = MeterUnit(name, unit_id, offset, MeterTable(name, sign, FEEDER_LL_V, models))
    return SitePlan(devices, meters, ClockUnit("clock", CLOCK_UNIT, 0, ClockTable()))


def _places(first: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (port offset, unit id), going on with the next port when the ids are used up."""
    for offset in count():
        for unit_id in range(first, end):
            yield offset, unit_id
