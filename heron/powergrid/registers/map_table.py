"""A device that is described by a custom map: the same codec as a SunSpec one.

A few names mean something (see `MapConfig`): the fields of a reading, ``p_set_mw``,
``q_set_mvar`` and ``tap_set``, and what goes with a command where the device has it: ``enable`` is
written 1 (0 to leave a tap changer to its own control),
``reversion_s`` the time-out (``q_reversion_s`` where reactive power has its own),
``p_reversion_mw``, ``q_reversion_mvar`` and ``tap_reversion`` where to go back to, ``heartbeat`` a
counter. A point with a ``constant`` is written with each command. All others are told along with
the telemetry.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from itertools import pairwise
from typing import Protocol, Self

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers.codec import Raw, RegisterType
from heron.powergrid.registers.custom import MapConfig
from heron.powergrid.registers.table import Block, Register, RegisterMap, Words, Write, coalesce

READING_POINTS = ("p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu", "soc", "connected", "tap")
SETPOINT_POINTS = ("p_set_mw", "q_set_mvar", "tap_set")
COMMAND_POINTS = (
    *SETPOINT_POINTS,
    "enable",
    "reversion_s",
    "q_reversion_s",
    "p_reversion_mw",
    "q_reversion_mvar",
    "tap_reversion",
    "heartbeat",
)


class DeviceTable(Protocol):
    """What a link needs of a device's registers, SunSpec or not."""

    @property
    def telemetry(self) -> tuple[Block, ...]:
        """The reads that give a whole reading."""
        ...

    @property
    def controls(self) -> tuple[Block, ...]:
        """The reads that give the set-point back."""
        ...

    @property
    def sweep(self) -> tuple[Block, ...]:
        """The fewest reads that give both."""
        ...

    def decode_reading(self, words: Words) -> dict[str, float | None]:
        """Return the points by name; None where the device gives no value."""
        ...

    def encode_setpoint(
        self, setpoint: Setpoint, reversion_s: float | None = None
    ) -> tuple[Write, ...]:
        """Return the writes that command a set-point."""
        ...

    def decode_setpoint(self, words: Words) -> Setpoint | None:
        """Return the set-point that the device holds."""
        ...

    def quantise(self, setpoint: Setpoint) -> Setpoint:
        """Return the set-point as the registers hold it."""
        ...

    def heartbeat_writes(self, beat: int) -> tuple[Write, ...]:
        """Return the write of the controller's heartbeat, if the device takes one."""
        ...

    def resolution(self, point: str) -> float:
        """Return the step of a point."""
        ...


class MapTable:
    """The register table of a device with a custom map, and both directions of its codec.

    Args:
        device_id: Whose.
        config: Its map.
        safe: Where it goes back to when it hears nothing, if the map has such points.
        registers: The map's table with the device's own scale factors; None for the map's.
        reactive: False where the device gives no reactive power: a map that shows none is then
            read as 0 Mvar.
    """

    def __init__(
        self,
        device_id: str,
        config: MapConfig,
        safe: Setpoint,
        registers: RegisterMap | None = None,
        *,
        reactive: bool = True,
    ) -> None:
        self.device_id = device_id
        self.reactive = reactive
        self.config = config
        self.safe = safe
        self.registers = config.registers() if registers is None else registers
        self._constants = {
            name: point.constant
            for name, point in config.points.items()
            if point.constant is not None
        }
        self._commands = frozenset({*COMMAND_POINTS, *self._constants})
        self._check()

    def _check(self) -> None:
        problems = []
        if "p_mw" not in self.registers and "tap" not in self.registers:
            expected = "a device needs this point, a tap changer the point tap"
            problems.append(ConfigProblem("points.p_mw", None, expected))
        for name in COMMAND_POINTS:
            register = self.registers.get(name)
            if register is not None and not register.writable:
                where = f"points.{name}.access"
                problems.append(ConfigProblem(where, "R", "expected RW or W: it is a command"))
        for name in (*READING_POINTS, *COMMAND_POINTS):
            register = self.registers.get(name)
            if register is not None and register.type is RegisterType.STRING:
                problems.append(ConfigProblem(f"points.{name}.type", "string", "expected a number"))
        if problems:
            raise ConfigError(problems)

    # --- what it shows ---

    @cached_property
    def telemetry(self) -> tuple[Block, ...]:
        """The reads that give a whole reading, and what else has high priority."""
        return self._reads(self._shown())

    def _shown(self) -> list[Register]:
        return [
            r
            for r in self.registers.values()
            if r.name in READING_POINTS or (r.priority == "high" and r.name not in self._commands)
        ]

    @cached_property
    def slow_telemetry(self) -> dict[Block, float]:
        """The reads of what has low priority, to be spread over the cycles.

        Each with the least plant seconds between two of it; points that are polled at
        different intervals share no read.
        """
        slow: dict[float, list[Register]] = {}
        for register in self.registers.values():
            if (
                register.name not in READING_POINTS
                and register.name not in self._commands
                and register.priority == "low"
                and register.access != "W"
            ):
                slow.setdefault(register.poll_s or 0.0, []).append(register)
        rests_s: dict[Block, float] = {}
        for poll_s in sorted(slow):
            for block in self._reads(slow[poll_s]):
                rests_s.setdefault(block, poll_s)
        return rests_s

    @cached_property
    def scale_factors(self) -> tuple[Block, ...]:
        """The reads that `with_scale_factors` needs, once after connecting."""
        named = {r.scale_factor for r in self.registers.values() if r.scale_factor}
        return self._reads(self.registers[name] for name in named)

    def with_scale_factors(self, words: Words) -> Self:
        """Return the table with the exponents that the device itself states."""
        registers = self.registers.with_scale_factors(words)
        return type(self)(self.device_id, self.config, self.safe, registers, reactive=self.reactive)

    def unscaled(self, words: Words) -> frozenset[str]:
        """Return the points whose scale factor the device does not state, of those it should.

        Args:
            words: What `scale_factors` read.
        """
        stated = {
            r.scale_factor: self.registers.number(words, r.scale_factor)
            for r in self.registers.values()
            if r.scale_factor
        }
        unknown = {n for n, exponent in stated.items() if exponent is None or abs(exponent) > 10}
        return frozenset(r.name for r in self.registers.values() if r.scale_factor in unknown)

    def _reads(self, registers: Iterable[Register]) -> tuple[Block, ...]:
        blocks = {Block(r.address, r.count, r.space) for r in registers}
        if self.config.one_point_a_request:
            return tuple(sorted(blocks, key=lambda b: (b.space, b.address)))
        return coalesce(blocks, self.config.largest_hole, self.config.most_registers)

    def decode_reading(self, words: Words) -> dict[str, float | None]:
        """Return every number that was read, by name; None where the device gives no value."""
        points: dict[str, float | None] = {}
        if "p_mw" not in self.registers:
            # No power comes from a tap changer: that is known without a register.
            points |= {"p_mw": 0.0, "q_mvar": 0.0}
        elif not self.reactive:
            points["q_mvar"] = 0.0
        for name, register in self.registers.items():
            if name in self._commands or register.type is RegisterType.STRING:
                continue
            wanted = name in READING_POINTS
            if wanted or words.bytes_at(register.address, register.count, register.space):
                points[name] = self.registers.number(words, name)
        return points

    # --- how it is commanded ---

    @cached_property
    def controls(self) -> tuple[Block, ...]:
        """The reads that give the set-point back; none where it cannot be read."""
        return self._reads(self._held())

    def _held(self) -> list[Register]:
        return [
            self.registers[name]
            for name in (*SETPOINT_POINTS, "enable")
            if name in self.registers and self.registers[name].access == "RW"
        ]

    @cached_property
    def sweep(self) -> tuple[Block, ...]:
        """The fewest reads that give a whole reading and the set-point."""
        return self._reads((*self._shown(), *self._held()))

    def encode_setpoint(
        self, setpoint: Setpoint, reversion_s: float | None = None
    ) -> tuple[Write, ...]:
        """Return the writes that command a set-point; neighbours go in one request.

        They stand in the order in which they must arrive: where to go back to and the constants,
        then the set-point, then ``enable``, so that a device that is switched on never obeys the
        set-point of another time. One that is to decide for itself is switched off first.

        Raises:
            ValueError: A value is not finite or does not fit its register, or a tap is to be left
                to a device that cannot be told so.
        """
        tapped = "tap_set" in self.registers
        if tapped and setpoint.tap is None and "enable" not in self.registers:
            raise ValueError("the map has no enable: the tap cannot be left to the device")
        timeout = 0 if reversion_s is None else max(1, math.ceil(reversion_s))
        values: dict[str, Raw] = {
            **self._constants,
            "p_set_mw": setpoint.p_mw,
            "q_set_mvar": setpoint.q_mvar,
            "tap_set": setpoint.tap,
            "enable": int(setpoint.tap is not None or not tapped),
            "reversion_s": timeout,
            "q_reversion_s": timeout,
            "p_reversion_mw": self.safe.p_mw,
            "q_reversion_mvar": self.safe.q_mvar,
            "tap_reversion": self.safe.tap,
        }
        # Nothing is written where there is nothing to say: it keeps its tap.
        left = {n for n in ("tap_set", "tap_reversion") if values[n] is None}
        return self._merged(
            {n: v for n, v in values.items() if n in self.registers and n not in left}
        )

    def _merged(self, values: dict[str, Raw]) -> tuple[Write, ...]:
        registers = sorted((self.registers[n] for n in values), key=lambda r: (r.space, r.address))
        for register in registers:
            value = values[register.name]
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{register.name}: {value} is not finite")
        groups: list[list[str]] = [[registers[0].name]] if registers else []
        for before, after in pairwise(registers):
            together = before.end == after.address and before.space is after.space
            if together and not self.config.one_point_a_request:
                groups[-1].append(after.name)
            else:
                groups.append([after.name])
        groups.sort(key=lambda names: _turn(names, values.get("enable") == 0))
        return tuple(self.registers.run({n: values[n] for n in names}) for names in groups)

    def decode_setpoint(self, words: Words) -> Setpoint | None:
        """Return the set-point that the device holds, or None where none is in force."""
        number = self.registers.number
        if "tap_set" in self.registers:
            return self._held_tap(words)
        if "enable" in self.registers and number(words, "enable") == 0:
            return None
        p_mw = number(words, "p_set_mw") if "p_set_mw" in self.registers else None
        if p_mw is None:
            return None
        q_mvar = number(words, "q_set_mvar") if "q_set_mvar" in self.registers else None
        return Setpoint(p_mw, q_mvar or 0.0)

    def _held_tap(self, words: Words) -> Setpoint | None:
        number = self.registers.number
        if "enable" in self.registers and number(words, "enable") == 0:
            return Setpoint(0.0)
        tap = number(words, "tap_set")
        return None if tap is None else Setpoint(0.0, 0.0, round(tap))

    def quantise(self, setpoint: Setpoint) -> Setpoint:
        """Return the set-point as the registers hold it.

        Raises:
            ValueError: The map has no set-point, or a value does not fit.
        """
        words = Words()
        for write in self.encode_setpoint(setpoint):
            words.add(write.address, write.data, write.space)
        held = self.decode_setpoint(words)
        if held is None:
            raise ValueError(f"{self.device_id}: the map has no p_set_mw and no tap_set")
        return held

    def heartbeat_writes(self, beat: int) -> tuple[Write, ...]:
        """Return the write of the controller's heartbeat, if the map has one."""
        if "heartbeat" not in self.registers:
            return ()
        bits = 16 * self.registers["heartbeat"].count - 1
        return (self.registers.run({"heartbeat": beat % ((1 << bits) - 1)}),)

    def resolution(self, point: str) -> float:
        """Return the step of a point; ``p_set`` and ``q_set`` are those of the set-point.

        For a float it is that of a value of 1; for a set-point that the map does not have, 0.

        Raises:
            KeyError: No such point.
        """
        name = {"p_set": "p_set_mw", "q_set": "q_set_mvar"}.get(point, point)
        if name in SETPOINT_POINTS and name not in self.registers:
            return 0.0
        return abs(self.registers[name].resolution)


def _turn(names: Iterable[str], switches_off: bool) -> int:
    """Return when the registers of one request have their turn among those of a command."""
    if "enable" in names:
        return 0 if switches_off else 3
    return 2 if any(name in SETPOINT_POINTS for name in names) else 1
