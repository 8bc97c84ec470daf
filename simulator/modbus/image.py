"""The registers of one unit as prepared bytes: what masters read is a slice of them.

All of a unit's points change in one assignment, and a write is checked as a whole before any of
it lands, so nobody sees a half of anything. Everything runs on the event loop's thread.
"""

from __future__ import annotations

from collections.abc import Mapping

from heron.powergrid.registers.codec import Raw, RegisterType
from heron.powergrid.registers.table import Block, Register, RegisterMap, Words

ILLEGAL_FUNCTION = 0x01
ILLEGAL_ADDRESS = 0x02
ILLEGAL_VALUE = 0x03


class RefusalError(Exception):
    """A request is answered with an exception code; never leaves the server."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code:#04x}")
        self.code = code


class UnitImage:
    """One unit's registers, coils and discrete inputs.

    Args:
        registers: The unit's table; holes between points read as 0.
        values: Values that stand there from the start; points without one are not implemented.
        writable: Names of the points that masters may write.
        coils: Names of the coils, from address 0 on; every coil may be written.
        discretes: Names of the discrete inputs, from address 0 on.
        identity: Objects of "read device identification" by their id.
    """

    def __init__(
        self,
        registers: RegisterMap,
        values: Mapping[str, Raw],
        writable: frozenset[str],
        *,
        coils: tuple[str, ...] = (),
        discretes: tuple[str, ...] = (),
        identity: Mapping[int, str] | None = None,
    ) -> None:
        self.registers = registers
        self.identity = dict(identity or {})
        self.coils = dict.fromkeys(coils, False)
        self.discretes = dict.fromkeys(discretes, False)
        self.span = registers.span if registers else Block(0, 0)
        self._base = self.span.address
        self._count = self.span.count
        self._point_at: dict[int, Register] = {
            address: registers[name]
            for name in writable
            for address in range(registers[name].address, registers[name].end)
        }
        self._bytes = bytes(2 * self._count)
        self.publish({**dict.fromkeys(registers), **values})

    # --- the device's side ---

    def publish(self, values: Mapping[str, Raw]) -> None:
        """Change points in one atomic slice; a value that does not fit is 'not implemented'."""
        image = bytearray(self._bytes)
        for name, value in values.items():
            register = self.registers[name]
            start = 2 * (register.address - self._base)
            try:
                data = self.registers.encode(name, value)
            except ValueError:
                data = register.encode(None)
            image[start : start + len(data)] = data
        self._bytes = bytes(image)

    def patch(self, address: int, data: bytes) -> None:
        """Change registers, given as their bytes."""
        at = 2 * (address - self._base)
        self._bytes = self._bytes[:at] + data + self._bytes[at + len(data) :]

    @property
    def words(self) -> Words:
        """All registers as they are now."""
        return Words([(self._base, self._bytes)])

    def value(self, name: str) -> Raw:
        """Return what a point holds now."""
        return self.registers.read(self.words, name)

    def written(self, names: frozenset[str]) -> None:
        """Take note of points that a master has just changed; the base does nothing."""

    def accepts(self, register: Register, value: Raw) -> bool:
        """Tell whether a master may give a point this value: enumerations must be known."""
        if value is None or not register.symbols or register.type is not RegisterType.ENUM16:
            return True
        return value in register.symbols

    def coil_written(self, name: str, on: bool) -> None:
        """Take note of a coil that a master has just changed; the base keeps the state.

        Raises:
            RefusalError: The device does not do that now.
        """
        self.coils[name] = on

    # --- the masters' side ---

    def read(self, address: int, count: int) -> bytes:
        """Return the bytes of registers.

        Raises:
            RefusalError: Some of them do not exist.
        """
        start = address - self._base
        if start < 0 or start + count > self._count:
            raise RefusalError(ILLEGAL_ADDRESS)
        return self._bytes[2 * start : 2 * (start + count)]

    def read_input(self, address: int, count: int) -> bytes:
        """Return the bytes of input registers: the same as the holding ones, unless overridden.

        Raises:
            RefusalError: Some of them do not exist.
        """
        return self.read(address, count)

    def write(self, address: int, data: bytes) -> None:
        """Write registers: all of them, or none.

        Raises:
            RefusalError: A register does not exist or is read-only (2); a point is written in
                part, or a value makes no sense (3).
        """
        end = address + len(data) // 2
        if not all(a in self._point_at for a in range(address, end)):
            raise RefusalError(ILLEGAL_ADDRESS)
        names: set[str] = set()
        at = address
        while at < end:
            register = self._point_at[at]
            if register.address != at or register.end > end:
                raise RefusalError(ILLEGAL_VALUE)
            start = 2 * (at - address)
            value = register.decode(data[start : start + 2 * register.count])
            if not self.accepts(register, value):
                raise RefusalError(ILLEGAL_VALUE)
            names.add(register.name)
            at = register.end
        self.patch(address, data)
        self.written(frozenset(names))

    def read_bits(self, discrete: bool, address: int, count: int) -> list[bool]:
        """Return coils or discrete inputs.

        Raises:
            RefusalError: Some of them do not exist.
        """
        bits = list((self.discretes if discrete else self.coils).values())
        if address + count > len(bits):
            raise RefusalError(ILLEGAL_ADDRESS)
        return bits[address : address + count]

    def write_bits(self, address: int, bits: list[bool]) -> None:
        """Write coils: all of them, or none.

        Raises:
            RefusalError: Some of them do not exist.
        """
        names = list(self.coils)
        if address + len(bits) > len(names):
            raise RefusalError(ILLEGAL_ADDRESS)
        for name, on in zip(names[address:], bits, strict=False):
            self.coil_written(name, on)
