"""An emulated device with a register map of its own: any maker's, as a custom map describes it.

It shows its reading and obeys its command points in all four tables of Modbus. Points that mean
nothing to the plant (temperatures, counters) are "not implemented", scale factors are 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers.codec import Raw, reorder
from heron.powergrid.registers.map_table import MapTable
from heron.powergrid.registers.table import Register, RegisterMap, Space, Words
from simulator.modbus.image import ILLEGAL_ADDRESS, RefusalError, UnitImage

_TIMERS = (
    ("reversion_s", (("p_set_mw", "p_reversion_mw"), ("tap_set", "tap_reversion"))),
    ("q_reversion_s", (("q_set_mvar", "q_reversion_mvar"),)),
)
"""Which time-out ends which set-points, and where their reversion values stand."""


class MapImage(UnitImage):
    """The registers of one device with a custom map, and the set-point that they command.

    A set-point that nobody renews for ``reversion_s`` (``q_reversion_s`` where reactive power has
    its own) plant seconds goes to its reversion value, or to the safe set-point where the map has
    no such point. A map without a time-out never reverts.

    Args:
        table: Its register table.
        idle: What it does while nobody commands it.
    """

    def __init__(self, table: MapTable, idle: Setpoint) -> None:
        self.table = table
        self.idle = idle
        self._all = table.registers
        self._remaining_s: dict[str, float] = {}
        self._bits = {space: self._blank_bits(space) for space in (Space.COIL, Space.DISCRETE)}
        of = {space: RegisterMap(self._points(space)) for space in (Space.HOLDING, Space.INPUT)}
        self._inputs = UnitImage(of[Space.INPUT], {}, frozenset())
        holding = of[Space.HOLDING]
        writable = frozenset(name for name, register in holding.items() if register.writable)
        identity = {0: "HERON-HIL", 1: table.config.name, 2: "1", 4: table.device_id}
        super().__init__(holding, {}, writable, identity=identity)
        for register in self._all.values():
            if register.bits is not None:
                image = self if register.space is Space.HOLDING else self._inputs
                image.patch(register.address, bytes(2 * register.count))
        self._put(self._at_start())

    def _points(self, space: Space) -> list[Register]:
        return [register for register in self._all.values() if register.space is space]

    def _blank_bits(self, space: Space) -> dict[int, int]:
        addresses = [register.address for register in self._points(space)]
        return dict.fromkeys(range(min(addresses), max(addresses) + 1), 0) if addresses else {}

    def _at_start(self) -> dict[str, Raw]:
        safe, idle = self.table.safe, self.idle
        values: dict[str, Raw] = {
            "p_set_mw": idle.p_mw,
            "q_set_mvar": idle.q_mvar,
            "tap_set": idle.tap,
            "p_reversion_mw": safe.p_mw,
            "q_reversion_mvar": safe.q_mvar,
            "tap_reversion": safe.tap,
            **dict.fromkeys(("enable", "reversion_s", "q_reversion_s", "heartbeat"), 0),
        }
        return values | dict.fromkeys((r.scale_factor for r in self._all.values()), 0)

    # --- the device's side ---

    def _put(self, values: Mapping[str, Raw]) -> None:
        """Change the points that the map has, each in its table."""
        registers: dict[str, Raw] = {}
        for name, value in values.items():
            register = self._all.get(name)
            if register is None:
                continue
            if register.space in self._bits:
                self._bits[register.space][register.address] = int(bool(value))
            elif register.bits is not None:
                self._put_bits(register, value)
            else:
                registers[name] = value
        self.publish({n: v for n, v in registers.items() if n in self.registers})
        self._inputs.publish({n: v for n, v in registers.items() if n in self._inputs.registers})

    def _put_bits(self, register: Register, value: Raw) -> None:
        """Change a few bits of a register and leave its others."""
        image = self if register.space is Space.HOLDING else self._inputs
        first, length = register.bits or (0, 0)
        mask = ((1 << length) - 1) << first
        now = reorder(image.read(register.address, register.count), register.order)
        raw = b"" if value is None else reorder(register.encode(value), register.order)
        field = int.from_bytes(raw, "big") << first & mask
        word = int.from_bytes(now, "big") & ~mask | field
        data = word.to_bytes(2 * register.count, "big")
        image.patch(register.address, reorder(data, register.order))

    @property
    def words(self) -> Words:
        """All registers and bits as they are now."""
        words = super().words
        for space, image in ((Space.INPUT, self._inputs), *((s, None) for s in self._bits)):
            if image is not None:
                span = image.span
                words.add(span.address, image.read(span.address, span.count), space)
            elif self._bits[space]:
                words.add(min(self._bits[space]), list(self._bits[space].values()), space)
        return words

    def setpoint(self) -> Setpoint:
        """Return what the registers command now."""
        held = self.table.decode_setpoint(self.words)
        return self.idle if held is None else held

    def show(self, reading: DeviceReading, elapsed_s: float) -> None:
        """Show the measurements of a step of so many plant seconds, and let its time pass."""
        self._put(
            {
                "p_mw": reading.p_mw,
                "q_mvar": reading.q_mvar,
                "v_pu": reading.v_pu,
                "v_min_pu": reading.v_min_pu,
                "v_max_pu": reading.v_max_pu,
                "soc": reading.soc,
                "connected": int(reading.connected),
                "tap": reading.tap,
                **self._let_pass(elapsed_s),
            }
        )

    def fail(self, cause: str, elapsed_s: float) -> None:
        """Show that nothing is measured; the cause has no register here."""
        del cause
        measured = ("p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu", "soc", "tap")
        self._put({**dict.fromkeys(measured), **self._let_pass(elapsed_s)})

    # --- reversion ---

    def written(self, names: frozenset[str]) -> None:
        """Start the times after which what was commanded ends by itself."""
        if not names & (frozenset(self._all) - {"heartbeat"}):
            return
        words = self.words
        for timer, _ in _TIMERS:
            own = timer if timer in self._all else "reversion_s"
            left = self._all.number(words, own) if own in self._all else None
            if left:
                self._remaining_s[timer] = left
            else:
                self._remaining_s.pop(timer, None)

    def _let_pass(self, elapsed_s: float) -> dict[str, Raw]:
        values: dict[str, Raw] = {}
        words = self.words
        safe = {"p_set_mw": self.table.safe.p_mw, "q_set_mvar": self.table.safe.q_mvar}
        for timer, ends in _TIMERS:
            if timer not in self._remaining_s:
                continue
            self._remaining_s[timer] -= elapsed_s
            # A step of 0.1 s added up a thousand times must not revert one step late.
            if self._remaining_s[timer] > 1e-6:
                continue
            del self._remaining_s[timer]
            for point, source in ends:
                stated = self._all.number(words, source) if source in self._all else None
                values[point] = safe.get(point, self.table.safe.tap) if stated is None else stated
        return values

    # --- the masters' side ---

    def read_input(self, address: int, count: int) -> bytes:
        """Return the bytes of input registers; see `read`."""
        return self._inputs.read(address, count)

    def read_bits(self, discrete: bool, address: int, count: int) -> list[bool]:
        """Return coils or discrete inputs; see `UnitImage.read_bits`."""
        bits = self._bits[Space.DISCRETE if discrete else Space.COIL]
        if not all(a in bits for a in range(address, address + count)):
            raise RefusalError(ILLEGAL_ADDRESS)
        return [bool(bits[a]) for a in range(address, address + count)]

    def write_bits(self, address: int, bits: list[bool]) -> None:
        """Write coils; see `UnitImage.write_bits`."""
        names = {r.address: r.name for r in self._points(Space.COIL) if r.writable}
        wanted = range(address, address + len(bits))
        if not all(a in names for a in wanted):
            raise RefusalError(ILLEGAL_ADDRESS)
        self._bits[Space.COIL].update(zip(wanted, map(int, bits), strict=True))
        self.written(frozenset(names[a] for a in wanted))
