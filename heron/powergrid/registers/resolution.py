"""Readings and set-points as they look after a trip through the registers.

The deployed loop sees the plant through registers of finite steps. An environment that shows its
agents the same rounded values gives the same trajectory as the deployed loop, step for step, and
not only one that is close to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from heron.powergrid.quantities import DeviceReading, Measurements, MeterReading, Setpoint
from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.plan import SitePlan
from heron.powergrid.registers.table import RegisterMap, Words

R = TypeVar("R", DeviceReading, MeterReading)
R_contra = TypeVar("R_contra", contravariant=True)


class _ReadingTable(Protocol[R_contra]):
    @property
    def registers(self) -> RegisterMap: ...

    def reading_values(self, reading: R_contra) -> dict[str, Raw]: ...

    def decode_reading(self, words: Words) -> dict[str, float | None]: ...


class RegisterResolution:
    """Rounds what passes between a plant and its agents as a site's registers do."""

    def __init__(self, plan: SitePlan) -> None:
        self._plan = plan

    def measurements(self, exact: Measurements) -> Measurements:
        """Return measurements whose device and meter readings are as a master reads them."""
        plan = self._plan
        return replace(
            exact,
            devices={
                name: _through(plan.devices[name].table, reading)
                for name, reading in exact.devices.items()
            },
            meters={
                name: _through(plan.meters[name].table, reading)
                for name, reading in exact.meters.items()
            },
        )

    def setpoints(self, exact: Mapping[str, Setpoint]) -> dict[str, Setpoint]:
        """Return set-points as the devices hold them after a write."""
        devices = self._plan.devices
        return {name: devices[name].table.quantise(asked) for name, asked in exact.items()}


def _through(table: _ReadingTable[R], reading: R) -> R:
    words = Words(
        (table.registers[name].address, table.registers[name].encode(value))
        for name, value in table.reading_values(reading).items()
    )
    points = table.decode_reading(words)
    changes: dict[str, Any] = {name: _typed(name, value) for name, value in points.items()}
    return replace(reading, **changes)


def _typed(name: str, value: float | None) -> float | bool | None:
    if value is None:
        return None
    return bool(value) if name == "connected" else int(value) if name == "tap" else value
