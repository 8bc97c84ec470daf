"""Links that need no network: for tests of whatever talks to a `DeviceLink`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Protocol

from heron.errors import DeviceRejected, DeviceTimeout
from heron.powergrid.link import Quality, Snapshot, Value, WriteResult, WriteStatus
from heron.powergrid.quantities import DeviceReading, Measurements, MeterReading, Setpoint

__all__ = ["InMemoryLink", "LinkTrouble", "PlantGate", "PlantLike", "PlantLink", "snapshot_of"]


def snapshot_of(
    device_id: str,
    reading: DeviceReading | MeterReading,
    *,
    time_s: float = 0.0,
    now_s: float = 0.0,
) -> Snapshot:
    """Return a reading as a snapshot; a value that is not finite is of bad quality."""
    values: dict[str, Value] = {}
    for name, raw in asdict(reading).items():
        if raw is None:
            continue
        quality = Quality.GOOD if math.isfinite(raw) else Quality.BAD
        values[name] = Value(float(raw), quality, time_s, now_s)
    worst = any(v.quality is Quality.BAD for v in values.values())
    return Snapshot(device_id, values, Quality.BAD if worst else Quality.GOOD)


def _refuse_not_finite(device_id: str, setpoint: Setpoint) -> None:
    if not (math.isfinite(setpoint.p_mw) and math.isfinite(setpoint.q_mvar)):
        raise DeviceRejected(device_id, f"cannot be written: {setpoint} is not finite")


@dataclass(slots=True)
class LinkTrouble:
    """What is wrong with an in-memory link; change it while it runs.

    Attributes:
        mute: Nothing answers: reads and writes take ``timeout_s``, then `DeviceTimeout`.
        rejects: Modbus exception code that answers everything; None for none.
        delay_s: Time that each request takes.
        ignores_writes: Writes are acknowledged and have no effect.
        timeout_s: How long a mute device is waited for.
    """

    mute: bool = False
    rejects: int | None = None
    delay_s: float = 0.0
    ignores_writes: bool = False
    timeout_s: float = 0.5


@dataclass(slots=True)
class InMemoryLink:
    """A device that does what it is told at once.

    Attributes:
        reading: What it shows; assign a new one to change it.
        written: Every set-point that reached it, oldest first.
        trouble: What is wrong with it.
    """

    device_id: str
    reading: DeviceReading | MeterReading
    now: Callable[[], float] = time.monotonic
    trouble: LinkTrouble = field(default_factory=LinkTrouble)
    held: Setpoint | None = None
    written: list[Setpoint] = field(default_factory=list)
    closed: bool = False

    async def _reach(self) -> None:
        if self.closed:
            raise DeviceRejected(self.device_id, "the link is closed")
        if self.trouble.mute:
            await asyncio.sleep(self.trouble.timeout_s)
            raise DeviceTimeout(self.device_id, self.trouble.timeout_s)
        if self.trouble.delay_s:
            await asyncio.sleep(self.trouble.delay_s)
        if self.trouble.rejects is not None:
            code = self.trouble.rejects
            raise DeviceRejected(self.device_id, f"exception {code:#04x}", code)

    async def read(self) -> Snapshot:
        """Return the reading as a snapshot."""
        await self._reach()
        return snapshot_of(self.device_id, self.reading, now_s=self.now())

    async def write(self, setpoint: Setpoint) -> WriteResult:
        """Hold the set-point; the reading stays as it was assigned."""
        _refuse_not_finite(self.device_id, setpoint)
        await self._reach()
        if setpoint == self.held:
            return WriteResult(WriteStatus.UNCHANGED, setpoint, self.held)
        self.written.append(setpoint)
        if self.trouble.ignores_writes:
            return WriteResult(WriteStatus.READ_BACK_DIFFERS, setpoint, self.held)
        self.held = setpoint
        return WriteResult(WriteStatus.WRITTEN, setpoint, setpoint)

    async def close(self) -> None:
        """Refuse everything from now on."""
        self.closed = True


class PlantLike(Protocol):
    """What `PlantGate` needs of a plant; `simulator.Plant` has it."""

    @property
    def measurements(self) -> Measurements:
        """The latest measurements."""
        ...

    def step(self, setpoints: Mapping[str, Setpoint], dt_s: float) -> Measurements:
        """Advance by one step."""
        ...


class PlantGate:
    """Lets links stand before a plant in the same process.

    Links write into ``pending``; `advance` steps the plant with what was written.
    """

    def __init__(self, plant: PlantLike) -> None:
        self.plant = plant
        self.pending: dict[str, Setpoint] = {}
        self.lost = False

    def lose(self) -> None:
        """Let no link through any more."""
        self.lost = True

    def advance(self, dt_s: float) -> Measurements:
        """Step the plant with what the links wrote since the start."""
        return self.plant.step(dict(self.pending), dt_s)

    def link(self, device_id: str) -> PlantLink:
        """Return a link to one device or meter."""
        return PlantLink(device_id, self)


class PlantLink:
    """A device or meter of a plant in the same process."""

    def __init__(
        self, device_id: str, gate: PlantGate, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._device_id = device_id
        self._gate = gate
        self._now = now

    @property
    def device_id(self) -> str:
        """Whose link this is."""
        return self._device_id

    async def read(self) -> Snapshot:
        """Return what the plant measured last."""
        m = self._measurements()
        reading = m.devices.get(self._device_id) or m.meters.get(self._device_id)
        if reading is None:
            raise DeviceRejected(self._device_id, "the plant has no such device or meter")
        return snapshot_of(self._device_id, reading, time_s=m.time_s, now_s=self._now())

    async def write(self, setpoint: Setpoint) -> WriteResult:
        """Keep the set-point for the next step of the plant."""
        if self._device_id not in self._measurements().devices:
            raise DeviceRejected(self._device_id, "a meter takes no set-points")
        _refuse_not_finite(self._device_id, setpoint)
        before = self._gate.pending.get(self._device_id)
        self._gate.pending[self._device_id] = setpoint
        status = WriteStatus.UNCHANGED if before == setpoint else WriteStatus.WRITTEN
        return WriteResult(status, setpoint, setpoint)

    def _measurements(self) -> Measurements:
        if self._gate.lost:
            raise DeviceTimeout(self._device_id, 0.0)
        return self._gate.plant.measurements

    async def close(self) -> None:
        """Nothing is held."""
