"""The devices and meters that one process looks after, and what is told about them."""

from __future__ import annotations

from collections.abc import Mapping

from edge.cycle import DeviceCycle
from edge.reports import EdgeCounters, Reporter
from edge.sensor import Sensor

Unit = DeviceCycle | Sensor


class Units:
    """Runs either half of a unit's cycle and reports it.

    Args:
        devices: By device id.
        meters: By meter id.
        report: Tells the others.
    """

    def __init__(
        self,
        devices: Mapping[str, DeviceCycle],
        meters: Mapping[str, Sensor],
        report: Reporter,
    ) -> None:
        self.devices = dict(devices)
        self.meters = dict(meters)
        self.counters = EdgeCounters()
        self.report = report

    @property
    def by_name(self) -> dict[str, Unit]:
        """Devices, then meters."""
        return {**self.devices, **self.meters}

    @property
    def all(self) -> list[Unit]:
        """Devices, then meters."""
        return [*self.devices.values(), *self.meters.values()]

    def add(self, name: str, unit: Unit) -> None:
        """Take in one more."""
        if isinstance(unit, DeviceCycle):
            self.devices[name] = unit
        else:
            self.meters[name] = unit

    def remove(self, name: str) -> Unit:
        """Forget one and return it."""
        return self.devices.pop(name) if name in self.devices else self.meters.pop(name)

    async def tell(self, unit: Unit, step: int = -1) -> None:
        """Say what a unit showed last."""
        if isinstance(unit, DeviceCycle):
            await self.report.telemetry(unit.sensor.snapshot, unit.modes.mode, step)
        else:
            await self.report.telemetry(unit.snapshot, None, step)

    async def act(self, cycle: DeviceCycle, dt_s: float, step: int = -1) -> None:
        """Decide for a device, write to it, count and say what became of it."""
        before = cycle.modes.mode
        report = await cycle.act(dt_s)
        busy_s = cycle.sensor.busy_s + report.busy_s
        self.counters.count(report, bool(cycle.sensor.error), busy_s)
        if report.mode is not before:
            await self.report.status(report.device_id, report.mode, reason=cycle.modes.reason)
        await self.report.result(report, step, busy_s)

    async def announce(self, *, online: bool) -> None:
        """Say which devices are looked after.

        A meter is no agent: its telemetry says enough, and the coordinator of the same name
        says its own status.
        """
        for device_id, cycle in self.devices.items():
            await self.report.status(device_id, cycle.modes.mode, online=online)
