"""The contract between an agent and its device.

An agent cannot tell an in-process plant from a Modbus slave: both are a `DeviceLink`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from heron.powergrid.quantities import DeviceReading, MeterReading, Setpoint


class Quality(StrEnum):
    """How far a value may be trusted. Control consumes GOOD only."""

    GOOD = "good"
    STALE = "stale"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Value:
    """One measured point.

    Attributes:
        value: In the unit of the point's name.
        quality: How far it may be trusted.
        source_time_s: Plant time at which it was taken, as far as the link knows.
        read_monotonic_s: The reader's own monotonic clock when the reply came in.
    """

    value: float
    quality: Quality
    source_time_s: float
    read_monotonic_s: float

    def age_s(self, now_monotonic_s: float) -> float:
        """Return the wall seconds since the reply came in."""
        return now_monotonic_s - self.read_monotonic_s


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All points of one device, frozen for one cycle.

    Attributes:
        device_id: Whose.
        values: Point name to value. The names are those of `DeviceReading` or
            `MeterReading`; a register map may add others.
        quality: The worst quality among the points that control needs.
    """

    device_id: str
    values: Mapping[str, Value]
    quality: Quality

    def _get(self, name: str, default: float) -> float:
        point = self.values.get(name)
        return default if point is None else point.value

    def degraded(self, quality: Quality) -> Snapshot:
        """Return the same values, each marked as no better than ``quality``."""
        order = list(Quality)

        def worst(one: Quality) -> Quality:
            return max(one, quality, key=order.index)

        values = {n: replace(v, quality=worst(v.quality)) for n, v in self.values.items()}
        return Snapshot(self.device_id, values, worst(self.quality))

    def device_reading(self) -> DeviceReading:
        """Return the typed reading; call it only when ``quality`` is good."""
        soc = self.values.get("soc")
        available = self.values.get("available_mw")
        tap, loading = self.values.get("tap"), self.values.get("loading_pct")
        v = self._get("v_pu", float("nan"))
        return DeviceReading(
            p_mw=self._get("p_mw", float("nan")),
            q_mvar=self._get("q_mvar", float("nan")),
            v_pu=v,
            v_min_pu=self._get("v_min_pu", v),
            v_max_pu=self._get("v_max_pu", v),
            soc=None if soc is None else soc.value,
            available_mw=None if available is None else available.value,
            connected=self._get("connected", 1.0) != 0.0,
            tap=None if tap is None or not math.isfinite(tap.value) else round(tap.value),
            loading_pct=None if loading is None else loading.value,
        )

    def meter_reading(self) -> MeterReading:
        """Return the typed reading; call it only when ``quality`` is good."""
        v = self._get("v_pu", float("nan"))
        return MeterReading(
            p_mw=self._get("p_mw", float("nan")),
            q_mvar=self._get("q_mvar", float("nan")),
            v_pu=v,
            v_min_pu=self._get("v_min_pu", v),
            v_max_pu=self._get("v_max_pu", v),
        )


class WriteStatus(StrEnum):
    """What became of a write."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    READ_BACK_DIFFERS = "read_back_differs"


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Outcome of a write that reached the device.

    Attributes:
        status: What became of it.
        written: The set-point as the registers hold it, after rounding to their resolution.
        read_back: What the device says it holds; None if it was not read back.
    """

    status: WriteStatus
    written: Setpoint
    read_back: Setpoint | None = None


class MeterLink(Protocol):
    """Reads one device or meter.

    Raises (from every method): `heron.errors.DeviceTimeout` when it does not answer,
    `heron.errors.DeviceRejected` when it answers nonsense or refuses.
    """

    @property
    def device_id(self) -> str:
        """Whose link this is."""
        ...

    async def read(self) -> Snapshot:
        """Read all points in one cycle."""
        ...

    async def close(self) -> None:
        """Release the transport. Never writes."""
        ...


class DeviceLink(MeterLink, Protocol):
    """Reads and commands one device; raises as `MeterLink` does."""

    async def write(self, setpoint: Setpoint) -> WriteResult:
        """Command the device and read back what it holds.

        A device that holds the set-point already is not written again, except to keep its
        reversion timer from running out.
        """
        ...
