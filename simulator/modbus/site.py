"""The emulated site: every unit of the plan, shown and commanded together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from heron.powergrid.inverter_functions import InverterFunctions
from heron.powergrid.quantities import DeviceReading, Measurements, MeterReading, Setpoint
from heron.powergrid.registers import DerTable, SitePlan, TapTable
from heron.powergrid.registers.clock import ClockReading, ClockTable
from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.custom import MapConfig
from heron.powergrid.registers.map_table import MapTable
from heron.powergrid.registers.meter import MeterTable
from heron.powergrid.registers.table import Register
from simulator.modbus.der import DerImage
from simulator.modbus.energy import EnergyCounter
from simulator.modbus.image import ILLEGAL_VALUE, RefusalError, UnitImage
from simulator.modbus.mapped import MapImage
from simulator.modbus.tap import TapImage


class MeterImage(UnitImage):
    """The registers of one emulated meter."""

    def __init__(self, table: MeterTable) -> None:
        self.table = table
        self._imported = EnergyCounter()
        super().__init__(
            table.registers,
            table.fixed_values(),
            frozenset(),
            identity={0: "HERON-HIL", 1: "Emulated meter", 2: "1", 4: table.meter_id},
        )

    def show(self, reading: MeterReading, elapsed_s: float) -> None:
        """Show the measurements of a step of so many plant seconds."""
        self._imported.add(1e6 * self.table.sign * reading.p_mw, elapsed_s)
        self.publish(
            {
                **self.table.reading_values(reading),
                **self.table.energy_values(self._imported.positive, self._imported.negative),
            }
        )

    def fail(self, cause: str) -> None:
        """Show that nothing is measured."""
        self.publish(self.table.failed_values(cause))


class ClockImage(UnitImage):
    """The clock device.

    Its register ``advance`` takes the number of the current step, and its coil ``advance`` an ON:
    both say that everyone has acted.

    Args:
        advance: Called with the step that a master says is done; tells whether it was taken.
    """

    def __init__(self, table: ClockTable, advance: Callable[[int], bool]) -> None:
        self.table = table
        self._advance = advance
        super().__init__(
            table.registers,
            {},
            frozenset({"advance"}),
            coils=("advance",),
            discretes=("finished", "failed"),
            identity={0: "HERON-HIL", 1: "Plant clock", 2: "1"},
        )

    def show(self, reading: ClockReading) -> None:
        """Show the time."""
        self.publish(self.table.values(reading))
        self.discretes = {"finished": reading.finished, "failed": reading.failed}

    def accepts(self, register: Register, value: Raw) -> bool:
        """Take ``advance`` for the current step only, and while the plant waits for it."""
        return isinstance(value, (int, float)) and self._advance(int(value))

    def coil_written(self, name: str, on: bool) -> None:
        """Advance from the current step; the coil falls back by itself."""
        step = self.value("step")
        if on and not (isinstance(step, (int, float)) and self._advance(int(step))):
            raise RefusalError(ILLEGAL_VALUE)


DeviceImage = DerImage | TapImage | MapImage


def _device_image(
    table: DerTable | TapTable, idle: Setpoint, own_map: MapConfig | None
) -> DeviceImage:
    if own_map is not None:
        return MapImage(MapTable(table.device_id, own_map, table.safe), idle)
    return TapImage(table, idle) if isinstance(table, TapTable) else DerImage(table, idle)


class EmulatedSite:
    """All units of a site.

    Args:
        plan: Who is where.
        idle: Per device, what it does while nobody commands it.
        advance: What the clock device calls; see `ClockImage`.
        maps: Custom register maps, for devices that are not to be SunSpec ones.

    Raises:
        ConfigError: A map does not describe a device.
    """

    def __init__(
        self,
        plan: SitePlan,
        idle: Mapping[str, Setpoint],
        advance: Callable[[int], bool],
        maps: Mapping[str, MapConfig] | None = None,
    ) -> None:
        self.plan = plan
        own = maps or {}
        self.devices = {
            name: _device_image(unit.table, idle[name], own.get(name))
            for name, unit in plan.devices.items()
        }
        self.meters = {name: MeterImage(unit.table) for name, unit in plan.meters.items()}
        self.clock = ClockImage(plan.clock.table, advance)

    @property
    def units(self) -> list[dict[int, UnitImage]]:
        """Per port, the units by their ids: what a `ModbusServer` serves."""
        ports: list[dict[int, UnitImage]] = [{} for _ in range(self.plan.ports)]
        images: Mapping[str, UnitImage] = {**self.devices, **self.meters, "clock": self.clock}
        for unit in self.plan:
            ports[unit.port_offset][unit.unit_id] = images[unit.name]
        return ports

    def setpoints(self) -> dict[str, Setpoint]:
        """Return what the registers command each device to do now."""
        return {name: device.setpoint() for name, device in self.devices.items()}

    def functions(self) -> dict[str, InverterFunctions]:
        """Return the devices' own functions that the registers have switched on, by device."""
        nothing = InverterFunctions()
        found = {n: d.functions() for n, d in self.devices.items() if isinstance(d, DerImage)}
        return {name: own for name, own in found.items() if own != nothing}

    def show(
        self,
        devices: Mapping[str, DeviceReading],
        meters: Mapping[str, MeterReading],
        clock: ClockReading,
        elapsed_s: float,
    ) -> None:
        """Show a step in all units: nothing else runs in between, so nobody sees half of it."""
        for name, device in self.devices.items():
            device.show(devices[name], elapsed_s)
        for name, meter in self.meters.items():
            meter.show(meters[name], elapsed_s)
        self.clock.show(clock)

    def show_measurements(self, measured: Measurements, clock: ClockReading) -> None:
        """Show what the plant measured after a step (or after its reset)."""
        self.show(measured.devices, measured.meters, clock, measured.dt_s)

    def fail(self, cause: str, clock: ClockReading, elapsed_s: float) -> None:
        """Show in all units that there are no measurements: nothing old looks fresh."""
        for device in self.devices.values():
            device.fail(cause, elapsed_s)
        for meter in self.meters.values():
            meter.fail(cause)
        self.clock.show(clock)
