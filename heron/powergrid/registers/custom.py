"""Register maps that a user writes in YAML, for devices that are not SunSpec.

A file is read whole and every mistake is reported at once. What it means, and an example of each
key, stands in ``docs/registers.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.registers import codec
from heron.powergrid.registers.codec import FLOAT_TYPES, Order, RegisterType
from heron.powergrid.registers.table import (
    MAX_READ_REGISTERS,
    Access,
    Register,
    RegisterMap,
    Space,
)
from heron.powergrid.setups.files import read_yaml
from heron.powergrid.setups.problems import problems_of

_BIT_SPACES = (Space.COIL, Space.DISCRETE)
_FACTOR_TYPES = (RegisterType.SUNSSF, RegisterType.INT16)
_UNSIGNED = (
    RegisterType.UINT16,
    RegisterType.UINT32,
    RegisterType.UINT64,
    RegisterType.BITFIELD16,
    RegisterType.BITFIELD32,
    RegisterType.BITFIELD64,
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PointConfig(_Frozen):
    """One point of a custom map, as the user writes it.

    Attributes:
        address: First register, counted from the map's ``base``.
        type: How to read the registers; see `RegisterType`.
        count: Registers of a string; other types know their own.
        order: Byte and word order; None for the map's.
        scale: Multiplies the raw value.
        offset: Is added after scaling.
        scale_factor: Decimal exponent, or the name of the point that holds it.
        unit: For people.
        access: ``R``, ``RW`` or ``W``.
        sign: -1 where the device counts the other way round; ours is positive = injects.
        space: ``holding``, ``input``, ``coil`` or ``discrete``.
        bits: First bit (0 is the lowest) and number of bits of a bit-field.
        priority: ``high`` points are read in each cycle.
        poll_s: Least plant seconds between two reads of a ``low`` point.
        not_implemented: Raw value that means "no value".
        symbols: Names of an enumeration's values.
        constant: Value that is written with every command, e.g. a mode that has to be set.
    """

    address: int = Field(ge=0, le=65536)
    type: RegisterType = RegisterType.UINT16
    count: int | None = Field(None, ge=1, le=MAX_READ_REGISTERS)
    order: Order | None = None
    scale: float = 1.0
    offset: float = 0.0
    scale_factor: Annotated[int, Field(ge=-10, le=10)] | str = 0
    unit: str = ""
    access: Access = Access.READ
    sign: Literal[1, -1] = 1
    space: Space = Space.HOLDING
    bits: tuple[int, int] | None = None
    priority: Literal["high", "low"] = "low"
    poll_s: float | None = Field(None, gt=0)
    not_implemented: float | None = None
    symbols: dict[int, str] = Field(default_factory=dict)
    constant: float | None = None

    @property
    def registers(self) -> int:
        """How many registers the point takes."""
        return self.count if self.count is not None else max(1, codec.width(self.type))

    def faults(self) -> Iterator[tuple[str, object, str]]:
        """Yield key, value and what would be right, for all that contradicts itself."""
        width = codec.width(self.type)
        if self.type is RegisterType.STRING:
            if self.count is None:
                yield "count", None, "a string needs its number of registers"
            if self.scale != 1.0 or self.offset or self.sign == -1 or self.scale_factor:
                yield "type", "string", "a string has no scale, offset, sign or scale factor"
        elif self.count is not None and self.count != width:
            yield "count", self.count, f"a {self.type} takes {width} register(s)"
        if self.scale == 0.0:
            yield "scale", 0.0, "expected a number other than 0"
        if (self.space in _BIT_SPACES) != (self.type is RegisterType.BIT):
            yield (
                "type",
                str(self.type),
                "coils and discrete inputs, and only they, are of type bit",
            )
        if self.space in (Space.INPUT, Space.DISCRETE) and self.access is not Access.READ:
            yield "access", str(self.access), f"expected R: {self.space} cannot be written"
        if self.constant is not None and self.access is Access.READ:
            yield "access", str(self.access), "expected RW or W: a constant is written"
        if self.constant is not None and self.scale and not isinstance(self.scale_factor, str):
            yield from self._constant_faults()
        if self.bits is not None:
            yield from self._bit_faults(width)
        if self.not_implemented is not None and self.type not in FLOAT_TYPES:
            yield from self._marker_faults()

    def _constant_faults(self) -> Iterator[tuple[str, object, str]]:
        assert self.constant is not None and isinstance(self.scale_factor, int)
        raw = self.sign * self.constant - self.offset
        raw /= self.scale * 10.0**self.scale_factor
        try:
            codec.encode(self.type, raw, self.registers)
        except ValueError as error:
            yield "constant", self.constant, f"expected a value that its type holds: {error}"

    def _bit_faults(self, width: int) -> Iterator[tuple[str, object, str]]:
        assert self.bits is not None
        first, length = self.bits
        if self.type not in _UNSIGNED:
            yield "bits", self.bits, "expected an unsigned integer or a bitfield type"
        elif first < 0 or length < 1 or first + length > 16 * width:
            yield "bits", self.bits, f"expected [first, length] within {16 * width} bits"
        if self.access is not Access.READ:
            yield "access", str(self.access), "expected R: a bit-field cannot be written alone"

    def _marker_faults(self) -> Iterator[tuple[str, object, str]]:
        value = self.not_implemented
        assert value is not None
        if self.type is RegisterType.STRING:
            yield "not_implemented", value, "a string has none"
            return
        low, high = codec.limits(self.type)
        if value != int(value) or not low - 1 <= value <= high + 1:
            yield "not_implemented", value, f"expected a raw {self.type}: {low} to {high}"


class MapConfig(_Frozen):
    """A whole map.

    Attributes:
        name: For people.
        base: 0 where the maker counts registers from 0, 1 where from 1.
        order: Byte and word order of all points that do not say otherwise.
        largest_hole: Registers between two points that are worth reading along.
        most_registers: Largest read that the device answers.
        one_point_a_request: Never read two points at once.
        points: The points by name. ``p_mw``, ``q_mvar``, ``v_pu``, ``v_min_pu``, ``v_max_pu``,
            ``soc``, ``connected`` and ``tap`` make up a reading; ``p_set_mw``, ``q_set_mvar``
            and ``tap_set`` command the device; any other name is told along.
    """

    name: str = Field(min_length=1)
    base: Literal[0, 1] = 0
    order: Order = Order.ABCD
    largest_hole: int = Field(8, ge=0, le=MAX_READ_REGISTERS)
    most_registers: int = Field(MAX_READ_REGISTERS, ge=1, le=MAX_READ_REGISTERS)
    one_point_a_request: bool = False
    points: dict[str, PointConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _points_agree(self) -> Self:
        problems = [*self._point_problems(), *self._overlaps()]
        if problems:
            raise ConfigError(problems)
        return self

    def _point_problems(self) -> Iterator[ConfigProblem]:
        for name, point in self.points.items():
            where = f"points.{name}"
            if not _NAME.fullmatch(name):
                yield ConfigProblem(where, name, "expected letters, digits and _ as a name")
            for key, value, expected in point.faults():
                yield ConfigProblem(f"{where}.{key}", value, expected)
            last = point.address - self.base + point.registers - 1
            if point.address < self.base or last > 0xFFFF:
                expected = f"expected registers within {self.base} to {0xFFFF + self.base}"
                yield ConfigProblem(f"{where}.address", point.address, expected)
            if point.registers > self.most_registers:
                expected = f"takes {point.registers} registers, most_registers is fewer"
                yield ConfigProblem(f"{where}.count", point.registers, expected)
            if isinstance(point.scale_factor, str):
                factor = self.points.get(point.scale_factor)
                if factor is None or factor.type not in _FACTOR_TYPES:
                    expected = "expected -10 to 10, or the name of a point of type sunssf or int16"
                    yield ConfigProblem(f"{where}.scale_factor", point.scale_factor, expected)

    def _overlaps(self) -> Iterator[ConfigProblem]:
        """Yield every pair of points that share registers; bit-fields may, bits may not."""
        by_place = sorted(self.points.items(), key=lambda item: (item[1].space, item[1].address))
        for i, (name, point) in enumerate(by_place):
            for other_name, other in by_place[i + 1 :]:
                if other.space is not point.space:
                    break
                if other.address >= point.address + point.registers:
                    continue
                if not _may_share(point, other):
                    first, last = other.address, other.address + other.registers - 1
                    expected = f"overlaps points.{name} (register {point.address} on)"
                    yield ConfigProblem(f"points.{other_name}", f"{first}-{last}", expected)

    def registers(self) -> RegisterMap:
        """Return the typed register table."""
        return RegisterMap(self._register(name, point) for name, point in self.points.items())

    def _register(self, name: str, point: PointConfig) -> Register:
        factor = point.scale_factor
        return Register(
            name=name,
            address=point.address - self.base,
            count=point.registers,
            type=point.type,
            unit=point.unit,
            access=point.access,
            sign=point.sign,
            scale=point.scale,
            offset=point.offset,
            exponent=factor if isinstance(factor, int) else 0,
            scale_factor=factor if isinstance(factor, str) else "",
            order=point.order or self.order,
            space=point.space,
            bits=point.bits,
            symbols=point.symbols,
            not_implemented=point.not_implemented,
            priority=point.priority,
            poll_s=point.poll_s,
        )


def _may_share(a: PointConfig, b: PointConfig) -> bool:
    if a.bits is None or b.bits is None:
        return False
    if (a.address, a.registers, a.order) != (b.address, b.registers, b.order):
        return False
    (first_a, length_a), (first_b, length_b) = a.bits, b.bits
    return first_a + length_a <= first_b or first_b + length_b <= first_a


def parse_map(raw: Mapping[str, Any], source: str = "") -> MapConfig:
    """Check a map that was read from a file or written in code.

    Raises:
        ConfigError: With every mistake found.
    """
    try:
        return MapConfig.model_validate(raw)
    except ValidationError as error:
        problems = problems_of(error, source)
        # Points that are wrong in themselves must not hide how the others collide.
        for problem in _agreement_of_good_points(raw):
            told = replace(problem, source=source)
            if told not in problems:
                problems.append(told)
        raise ConfigError(problems) from error


def _agreement_of_good_points(raw: Mapping[str, Any]) -> list[ConfigProblem]:
    points: dict[str, PointConfig] = {}
    written = raw.get("points")
    for name, point in written.items() if isinstance(written, dict) else ():
        try:
            points[str(name)] = PointConfig.model_validate(point)
        except ValidationError:
            continue  # told already
    header = {"name": "checked", "base": raw.get("base"), "points": points}
    if header["base"] not in (0, 1):
        header["base"] = 0
    try:
        MapConfig.model_validate(header) if points else None
    except ValidationError as error:
        return problems_of(error)
    return []


def load_map(path: Path) -> MapConfig:
    """Read a register map.

    Raises:
        ConfigError: The file cannot be read, or with every mistake found in it.
    """
    return parse_map(read_yaml(path), str(path))
