"""The typed register table: what each point is, where it lies and what its words mean.

Raw addresses stand here and nowhere else. A `Register` carries address, type, scale, unit, access
and sign; a `RegisterMap` is the table of one unit. Both ends use it: the simulator's server to
write its image, the edge's client to read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from itertools import pairwise

from heron.powergrid.registers import codec
from heron.powergrid.registers.codec import Number, Order, Raw, RegisterType
from heron.powergrid.registers.compiled import Encoder, NumberReader, encoder, number_reader

MAX_READ_REGISTERS = 125
MAX_WRITE_REGISTERS = 123


class Access(StrEnum):
    """Who may do what with a point."""

    READ = "R"
    READ_WRITE = "RW"
    WRITE = "W"


class Space(StrEnum):
    """The four tables of a Modbus unit."""

    HOLDING = "holding"
    INPUT = "input"
    COIL = "coil"
    DISCRETE = "discrete"


@dataclass(frozen=True, slots=True)
class Block:
    """A run of neighbouring registers of one table, at most 125 of them for one read."""

    address: int
    count: int
    space: Space = Space.HOLDING

    @property
    def end(self) -> int:
        """First address behind the block."""
        return self.address + self.count


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes to be written from an address on, by one request; a coil takes a word of 0 or 1."""

    address: int
    data: bytes
    space: Space = Space.HOLDING

    @property
    def words(self) -> list[int]:
        """The registers as integers, as Modbus clients want them."""
        return [int.from_bytes(self.data[i : i + 2], "big") for i in range(0, len(self.data), 2)]


class Words:
    """Registers that were read, by address: what a client decodes points from."""

    __slots__ = ("_runs",)

    def __init__(self, runs: Iterable[tuple[int, bytes]] = ()) -> None:
        self._runs: list[tuple[Space, int, bytes]] = [
            (Space.HOLDING, address, data) for address, data in runs
        ]

    def add(self, address: int, words: Sequence[int] | bytes, space: Space = Space.HOLDING) -> None:
        """Add what a read gave: integers of 16 bits, or their bytes, high byte first.

        Coils and discrete inputs are added as one word of 0 or 1 each.
        """
        if not isinstance(words, bytes):
            words = b"".join(word.to_bytes(2, "big") for word in words)
        self._runs.append((space, address, words))

    def bytes_at(self, address: int, count: int, space: Space = Space.HOLDING) -> bytes | None:
        """Return the bytes of ``count`` registers, or None where they were not read."""
        for run_space, start, data in reversed(self._runs):
            offset = 2 * (address - start)
            if run_space is space and offset >= 0 and offset + 2 * count <= len(data):
                return data[offset : offset + 2 * count]
        return None


@dataclass(frozen=True, slots=True)
class Register:
    """One point.

    The value is ``sign * (raw * scale * 10 ** exponent + offset)`` in ``unit``; ``sign`` turns the
    device's own convention into positive = injects.

    Attributes:
        name: Name in its map, e.g. ``704.WSet``.
        address: First register, counted from 0.
        count: Number of registers.
        type: How to read them.
        unit: Unit of the value, in the source's spelling.
        access: Who may do what.
        sign: 1 or -1.
        scale: Value of one raw unit when the exponent is 0.
        offset: Added after scaling.
        exponent: Decimal scale factor, as far as it is known beforehand.
        scale_factor: Name of the point that holds the exponent in the device, or empty.
        order: Byte and word order.
        space: Which of the unit's four tables.
        bits: (first bit, number of bits) for a bit-field in a register, bit 0 the lowest.
        static: Never changes while the device runs.
        mandatory: The model demands it.
        symbols: Value to name, for enumerations; bit number to name, for bit-fields.
        not_implemented: Raw value, beyond SunSpec's own, that means "no value".
        priority: ``high`` for what control needs in each cycle, ``low`` for the rest.
        poll_s: Least plant seconds between two reads of low priority; None for each turn.
    """

    name: str
    address: int
    count: int
    type: RegisterType
    unit: str = ""
    access: Access = Access.READ
    sign: int = 1
    scale: float = 1.0
    offset: float = 0.0
    exponent: int = 0
    scale_factor: str = ""
    order: Order = Order.ABCD
    space: Space = Space.HOLDING
    bits: tuple[int, int] | None = None
    static: bool = False
    mandatory: bool = False
    symbols: Mapping[int, str] = field(default_factory=dict)
    not_implemented: Number | None = None
    priority: str = "low"
    poll_s: float | None = None

    @property
    def end(self) -> int:
        """First address behind the point."""
        return self.address + self.count

    @property
    def writable(self) -> bool:
        """Whether a client may write it."""
        return self.access is not Access.READ

    @property
    def resolution(self) -> float:
        """Smallest step of the value in its unit; for floats relative to a value of 1."""
        match self.type:
            case RegisterType.FLOAT16:
                step = 2.0**-10
            case RegisterType.FLOAT32:
                step = 2.0**-23
            case RegisterType.FLOAT64:
                step = 2.0**-52
            case _:
                step = 1.0
        return step * self.scale * 10.0**self.exponent

    def decode(self, data: bytes) -> Raw:
        """Return the value in the point's unit; None when the device does not provide it."""
        raw = codec.decode(self.type, data, self.order)
        if raw is None or isinstance(raw, str):
            return raw
        if self.not_implemented is not None and raw == self.not_implemented:
            return None
        if self.bits is not None:
            first, length = self.bits
            raw = (int(raw) >> first) & ((1 << length) - 1)
        return self.sign * (_scaled(raw, self.exponent) * self.scale + self.offset)

    def encode(self, value: Raw) -> bytes:
        """Return the bytes that hold the value nearest to the one given.

        Raises:
            ValueError: It does not fit.
        """
        if value is None or isinstance(value, str):
            return codec.encode(self.type, value, self.count, self.order)
        raw = _scaled((self.sign * value - self.offset) / self.scale, -self.exponent)
        return codec.encode(self.type, raw, self.count, self.order)


def _scaled(value: Number, exponent: int) -> Number:
    # Dividing by a power of ten is exact to the last bit; multiplying by 0.1 is not.
    return value * int(10**exponent) if exponent >= 0 else value / int(10**-exponent)


class RegisterMap(Mapping[str, Register]):
    """All points of one unit, by name, in the order of their addresses."""

    def __init__(self, registers: Iterable[Register]) -> None:
        ordered = sorted(registers, key=lambda r: (r.space, r.address, r.bits or (0, 0)))
        self._by_name = {register.name: register for register in ordered}
        if len(self._by_name) != len(ordered):
            names = [r.name for r in ordered]
            twice = sorted({n for n in names if names.count(n) > 1})
            raise ValueError(f"points named twice: {twice}")
        self._readers: dict[str, tuple[Register, NumberReader]] = {}
        self._encoders: dict[str, Encoder] = {}

    def __getitem__(self, name: str) -> Register:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    @cached_property
    def span(self) -> Block:
        """The registers from the first point to the last."""
        start = min(r.address for r in self.values())
        return Block(start, max(r.end for r in self.values()) - start)

    def block(self, first: str, last: str) -> Block:
        """Return the registers from one point to another, both included."""
        start = self[first].address
        return Block(start, self[last].end - start)

    def read(self, words: Words, name: str) -> Raw:
        """Return one point's value; None when it was not read or is not implemented."""
        register = self[name]
        data = words.bytes_at(register.address, register.count, register.space)
        return None if data is None else register.decode(data)

    def number(self, words: Words, name: str) -> float | None:
        """Return one point's value as a float; None when there is none, or it is text."""
        ready = self._readers.get(name)
        if ready is None:
            register = self[name]
            ready = self._readers[name] = register, number_reader(register)
        register, read = ready
        data = words.bytes_at(register.address, register.count, register.space)
        return None if data is None else read(data)

    def encode(self, name: str, value: Raw) -> bytes:
        """Return the bytes that hold one point's value.

        Raises:
            ValueError: It does not fit.
        """
        ready = self._encoders.get(name)
        if ready is None:
            ready = self._encoders[name] = encoder(self[name])
        return ready(value)

    def run(self, values: Mapping[str, Raw]) -> Write:
        """Return one write for neighbouring points.

        Raises:
            ValueError: The points leave a gap, or a value does not fit.
        """
        registers = sorted((self[name] for name in values), key=lambda r: r.address)
        for before, after in pairwise(registers):
            if before.end != after.address or before.space is not after.space:
                raise ValueError(f"{before.name} and {after.name} are not neighbours")
        data = b"".join([self.encode(r.name, values[r.name]) for r in registers])
        return Write(registers[0].address, data, registers[0].space)

    def with_scale_factors(self, words: Words) -> RegisterMap:
        """Return the map with the exponents that the device itself states.

        A scale factor that was not read, or is not implemented, leaves the exponent as it was.
        """
        exponents: dict[str, int] = {}
        for name in {r.scale_factor for r in self.values() if r.scale_factor}:
            value = self.number(words, name) if name in self else None
            if value is not None and -10 <= value <= 10:
                exponents[name] = int(value)
        return RegisterMap(
            replace(r, exponent=exponents.get(r.scale_factor, r.exponent)) for r in self.values()
        )


def coalesce(
    blocks: Iterable[Block], largest_hole: int = 8, most: int = MAX_READ_REGISTERS
) -> tuple[Block, ...]:
    """Merge blocks into as few reads as the hole and size limits allow."""
    merged: list[Block] = []
    for block in sorted(blocks, key=lambda b: (b.space, b.address)):
        if merged and merged[-1].space is block.space:
            last = merged[-1]
            end = max(last.end, block.end)
            if block.address - last.end <= largest_hole and end - last.address <= most:
                merged[-1] = Block(last.address, end - last.address, last.space)
                continue
        merged.append(block)
    return tuple(merged)
