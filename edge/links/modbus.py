"""A device or a meter behind a Modbus connection, by its register table."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from edge.links.connection import ModbusConnection
from edge.links.pdu import ILLEGAL_FUNCTION, MOST_WRITTEN_BESIDE_A_READ
from edge.links.rota import Rota
from edge.timing import PlantTime
from heron.errors import ConfigError, DeviceRejected, TransportError
from heron.powergrid.link import Quality, Snapshot, Value, WriteResult, WriteStatus
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers import Block, DerTable, Words
from heron.powergrid.registers.discovery import discover
from heron.powergrid.registers.map_table import (
    COMMAND_POINTS,
    READING_POINTS,
    DeviceTable,
    MapTable,
)
from heron.powergrid.registers.table import Space, Write

logger = logging.getLogger(__name__)

P_SET, Q_SET = "p_set_mw", "q_set_mvar"
"""Points beside those of the reading: the set-point that the device says it holds."""


class ReadingTable(Protocol):
    """What a link needs of the register table of a meter or device."""

    @property
    def telemetry(self) -> tuple[Block, ...]:
        """The reads that give a whole reading."""
        ...

    def decode_reading(self, words: Words) -> Mapping[str, float | None]:
        """Return the reading's fields by name; None where there is no value."""
        ...


async def read_words(
    connection: ModbusConnection,
    device: str,
    unit: int,
    blocks: Iterable[Block],
    into: Words | None = None,
) -> Words:
    """Read blocks of registers, one request each; ``into`` takes them in and is returned."""
    words = Words() if into is None else into
    for block in blocks:
        data = await connection.read_block(device, unit, block)
        words.add(block.address, data, block.space)
    return words


def _quality(name: str, value: float | None) -> Quality:
    if value is None or not math.isfinite(value):
        return Quality.BAD
    if name == "soc" and not 0.0 <= value <= 1.0:
        return Quality.BAD
    return Quality.GOOD


class ModbusMeterLink:
    """Reads one unit.

    Args:
        device_id: Whose.
        connection: Shared by the units behind one address.
        unit: Modbus unit id.
        table: Its registers.
        time: Clocks.
    """

    def __init__(
        self,
        device_id: str,
        connection: ModbusConnection,
        unit: int,
        table: ReadingTable,
        time: PlantTime,
    ) -> None:
        self._device_id = device_id
        self._connection = connection
        self._unit = unit
        self._table = table
        self._time = time
        self._blocks = tuple(table.telemetry)

    @property
    def device_id(self) -> str:
        """Whose link this is."""
        return self._device_id

    async def read(self) -> Snapshot:
        """Read every point; a value that is missing or impossible is of bad quality."""
        words = await read_words(self._connection, self._device_id, self._unit, self._blocks)
        return self._snapshot(self._table.decode_reading(words))

    def _snapshot(self, points: Mapping[str, float | None]) -> Snapshot:
        time_s, now = self._time.time_s(), self._time.now()
        values = {
            name: Value(math.nan if value is None else value, _quality(name, value), time_s, now)
            for name, value in points.items()
        }
        needed = (value for name, value in values.items() if name in READING_POINTS)
        bad = any(value.quality is Quality.BAD for value in needed)
        return Snapshot(self._device_id, values, Quality.BAD if bad else Quality.GOOD)

    async def close(self) -> None:
        """Nothing of its own is held; the connection is closed by its owner."""


class ModbusDeviceLink(ModbusMeterLink):
    """Reads and commands one DER.

    Each write carries the reversion time; a set-point that the device holds already is written
    again only when half of that time has passed. The held set-point is read back after each
    write, and read with every cycle, so a device that reverted by itself is noticed. The
    controller's heartbeat, where the device takes one, goes with each set-point, and by itself
    while the set-point stands.

    Args:
        table: Its registers.
        reversion_s: Plant seconds of silence after which the device reverts; None for never.
        heartbeat_s: Wall seconds between two heartbeats while the set-point stands; None for
            heartbeats with set-points only.
        read_only: Refuse to write.
        read_write: Write and read back in one request (function 23); a device that refuses it
            is asked with functions 16 and 3 from then on.
        discover: Find out first where this maker's device has its models and with which scale
            factors, and again after each time that it could not be read: it may be another one
            then. Until that is known nothing is decoded and nothing is written. (Scale factors that
            a custom map leaves to the device are asked for in the same way.)
    """

    def __init__(
        self,
        device_id: str,
        connection: ModbusConnection,
        unit: int,
        table: DeviceTable,
        time: PlantTime,
        *,
        reversion_s: float | None,
        heartbeat_s: float | None = None,
        read_only: bool = False,
        read_write: bool = False,
        discover: bool = False,
    ) -> None:
        super().__init__(device_id, connection, unit, table, time)
        self._sunspec = table if discover and isinstance(table, DerTable) else None
        self._to_discover = self._sunspec is not None
        self._der = table
        custom = table if isinstance(table, MapTable) else None
        self._custom = custom
        self._factors = () if custom is None else custom.scale_factors
        self._connected_for = 0
        self._unscaled: frozenset[str] = frozenset()
        self._slow = Rota({} if custom is None else custom.slow_telemetry, time.elapsed_s)
        self._refused: set[Block] = set()
        self._kept: dict[str, Value] = {}
        self._reversion_s = reversion_s
        self._heartbeat_s = heartbeat_s
        self._read_only = read_only
        self._read_write = read_write
        self._held: Setpoint | None = None
        self._refreshed_s = -math.inf
        self._beat = 0
        self._beat_at_s = -math.inf
        self._encoded: _Encoded | None = None
        self._note_resolution()
        self._audited = not read_only and bool(table.controls)
        if self._audited:
            self._blocks = table.sweep

    def _note_resolution(self) -> None:
        # Both sides of a comparison went through the same registers: half a step is rounding.
        self._p_within_mw = 0.5 * self._der.resolution("p_set")
        self._q_within_mvar = 0.5 * self._der.resolution("q_set")

    async def read(self) -> Snapshot:
        """Read every point, and the set-point that the device holds.

        Points of low priority of a custom map take turns, one request a cycle and none before
        its ``poll_s``; between their turns they keep their value and grow older. A device that
        refuses to show them is read and commanded all the same.
        """
        await self._discover()
        await self._learn_scale_factors()
        try:
            words = await read_words(self._connection, self._device_id, self._unit, self._blocks)
            await self._read_slow(words)
        except TransportError:
            self._forget_layout()
            raise
        points = dict(self._der.decode_reading(words))
        points |= dict.fromkeys(self._unscaled & points.keys())
        if self._audited:
            self._held = held = self._der.decode_setpoint(words)
            if held is not None:
                points |= {P_SET: held.p_mw, Q_SET: held.q_mvar}
        fresh = self._snapshot(points)
        if not self._slow:
            return fresh
        self._kept |= {n: v for n, v in fresh.values.items() if n not in READING_POINTS}
        return replace(fresh, values={**self._kept, **fresh.values})

    async def _read_slow(self, words: Words) -> None:
        block = self._slow.next()
        if block is None:
            return
        try:
            await read_words(self._connection, self._device_id, self._unit, [block], words)
        except DeviceRejected as error:
            if block not in self._refused:
                self._refused.add(block)
                logger.warning(
                    "points_refused device=%s address=%d count=%d reason=%s",
                    self._device_id,
                    block.address,
                    block.count,
                    error,
                )

    async def _discover(self) -> None:
        """Take over the layout that the device itself shows."""
        if self._sunspec is None:
            return
        connects = self._connection.counters.connects
        if not self._to_discover and connects == self._connected_for:
            return
        self._to_discover = True
        found = await discover(self._read_if_there)
        if found is None:
            raise DeviceRejected(self._device_id, "it is no SunSpec device, and it has no map")
        try:
            table = self._sunspec.on(found)
        except ConfigError as error:
            raise DeviceRejected(self._device_id, str(error)) from error
        self._der = self._table = table
        self._blocks = table.sweep if self._audited else table.telemetry
        self._held = None
        self._encoded = None
        self._note_resolution()
        self._connected_for = connects
        self._to_discover = False

    async def _read_if_there(self, address: int, count: int) -> Sequence[int] | None:
        try:
            return await self._connection.read(self._device_id, self._unit, address, count)
        except DeviceRejected:
            return None

    def _forget_layout(self) -> None:
        """After it was lost it may be another one: ask again before anything is believed."""
        self._to_discover = self._sunspec is not None
        if self._custom is not None:
            self._factors = self._custom.scale_factors

    async def _learn_scale_factors(self) -> None:
        """Read the exponents that the device itself states, once a connection.

        A point whose exponent is not known is shown without a value and is not written.
        """
        if self._custom is None:
            return
        connects = self._connection.counters.connects
        if connects != self._connected_for:
            self._factors = self._custom.scale_factors
        if not self._factors:
            return
        words = await read_words(self._connection, self._device_id, self._unit, self._factors)
        self._der = self._table = self._custom.with_scale_factors(words)
        self._unscaled = self._custom.unscaled(words)
        self._factors = self._custom.scale_factors if self._unscaled else ()
        self._connected_for = connects
        self._held = None
        self._encoded = None
        self._note_resolution()

    async def write(self, setpoint: Setpoint) -> WriteResult:
        """Command the device and read back what it holds."""
        if self._read_only:
            raise DeviceRejected(self._device_id, "the link was opened read-only")
        if self._to_discover:
            raise DeviceRejected(self._device_id, "its registers are not known yet")
        await self._learn_scale_factors()
        unknown = sorted(self._unscaled.intersection(COMMAND_POINTS))
        if unknown:
            raise DeviceRejected(self._device_id, f"gives no scale factor for {', '.join(unknown)}")
        encoded = self._encode(setpoint)
        wanted = encoded.wanted
        if self._same(self._held, wanted) and not self._refresh_due():
            await self._keep_beating()
            return WriteResult(WriteStatus.UNCHANGED, wanted, self._held)
        self._held = None
        self._refreshed_s = -math.inf
        sent_s = self._time.elapsed_s()
        *first, last = (*encoded.writes, *self._next_beat())
        for write in first:
            await self._connection.write_block(self._device_id, self._unit, write)
        if not self._audited:
            await self._connection.write_block(self._device_id, self._unit, last)
            self._refreshed_s = sent_s
            self._held = wanted
            return WriteResult(WriteStatus.WRITTEN, wanted)
        words = await self._write_and_read_back(last)
        self._refreshed_s = sent_s
        self._held = self._der.decode_setpoint(words)
        same = self._same(self._held, wanted)
        status = WriteStatus.WRITTEN if same else WriteStatus.READ_BACK_DIFFERS
        return WriteResult(status, wanted, self._held)

    def _encode(self, setpoint: Setpoint) -> _Encoded:
        """Return the writes of a set-point, and the set-point as their registers hold it."""
        encoded = self._encoded
        if encoded is not None and encoded.setpoint == setpoint:
            return encoded
        words = Words()
        try:
            writes = self._der.encode_setpoint(setpoint, self._reversion_s)
        except ValueError as error:
            raise DeviceRejected(self._device_id, f"cannot be written: {error}") from error
        for write in writes:
            words.add(write.address, write.data, write.space)
        wanted = self._der.decode_setpoint(words)
        if wanted is None:
            raise DeviceRejected(self._device_id, "takes no set-point: its map has no p_set_mw")
        self._encoded = encoded = _Encoded(setpoint, writes, wanted)
        return encoded

    async def _write_and_read_back(self, write: Write) -> Words:
        """Make the last write, and read the controls, in one request where the device can."""
        connection, device, unit = self._connection, self._device_id, self._unit
        controls = self._der.controls
        if self._read_write and _fits_one_request(write, controls):
            try:
                data = await connection.write_and_read(device, unit, write, controls[0])
            except DeviceRejected as error:
                if error.exception_code != ILLEGAL_FUNCTION:
                    raise
                # It says that it did nothing, so the same is asked in two requests.
                self._read_write = False
                logger.warning("no_function_23 device=%s", device)
            else:
                words = Words([(controls[0].address, data)])
                return await read_words(connection, device, unit, controls[1:], words)
        await connection.write_block(device, unit, write)
        return await read_words(connection, device, unit, controls)

    def _next_beat(self) -> tuple[Write, ...]:
        self._beat += 1
        self._beat_at_s = self._time.now()
        return self._der.heartbeat_writes(self._beat)

    async def _keep_beating(self) -> None:
        """Write the heartbeat alone, when it is due."""
        if self._heartbeat_s is None:
            return
        # A cycle that comes a little early must not leave a beat out.
        if self._time.now() - self._beat_at_s < 0.75 * self._heartbeat_s:
            return
        for write in self._next_beat():
            await self._connection.write_block(self._device_id, self._unit, write)

    def _refresh_due(self) -> bool:
        if self._reversion_s is None:
            return False
        return self._time.elapsed_s() - self._refreshed_s >= 0.5 * self._reversion_s

    def _same(self, held: Setpoint | None, wanted: Setpoint) -> bool:
        return (
            held is not None
            and abs(held.p_mw - wanted.p_mw) <= self._p_within_mw
            and abs(held.q_mvar - wanted.q_mvar) <= self._q_within_mvar
            and held.tap == wanted.tap
        )


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A set-point, the writes that command it, and what their registers will hold."""

    setpoint: Setpoint
    writes: tuple[Write, ...]
    wanted: Setpoint


def _fits_one_request(write: Write, controls: Sequence[Block]) -> bool:
    """Whether function 23 can make a write and the first read: it knows holding registers only."""
    holding = write.space is Space.HOLDING and controls[0].space is Space.HOLDING
    return holding and len(write.data) <= 2 * MOST_WRITTEN_BESIDE_A_READ
