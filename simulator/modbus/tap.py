"""An emulated tap changer: shows its position and voltage, obeys its model, reverts by itself."""

from __future__ import annotations

from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.table import Register
from heron.powergrid.registers.tap import TAP_MODEL, TapTable
from simulator.modbus.reversion import RevertingImage, reverting

_POSITION = reverting(TAP_MODEL, "TapSet", "TapSet")


class TapImage(RevertingImage):
    """The registers of one emulated tap changer, and the set-point that they command.

    Args:
        table: Its register table.
        idle: Where it stands while nobody commands it; without a tap it decides by itself.
    """

    def __init__(self, table: TapTable, idle: Setpoint) -> None:
        self.table = table
        self._moves = 0
        self._last: int | None = None
        start: dict[str, Raw] = {
            f"{TAP_MODEL}.TapSet": table.config.start_tap if idle.tap is None else idle.tap,
            f"{TAP_MODEL}.TapSetRvrt": table.safe.tap,
            f"{TAP_MODEL}.TapSetEnaRvrt": int(table.safe.tap is not None),
            f"{TAP_MODEL}.Mv": 0,
        }
        super().__init__(
            table.registers,
            {**table.fixed_values(), **start},
            (_POSITION,),
            identity={0: "HERON-HIL", 1: "Emulated tap changer", 2: "1", 4: table.device_id},
        )

    def accepts(self, register: Register, value: Raw) -> bool:
        """Also refuse positions that it does not have."""
        config = self.table.config
        positions = (f"{TAP_MODEL}.TapSet", f"{TAP_MODEL}.TapSetRvrt")
        if register.name in positions and isinstance(value, (int, float)):
            return config.tap_min <= value <= config.tap_max
        return super().accepts(register, value)

    def setpoint(self) -> Setpoint:
        """Return what the registers command now; without a tap while that is off."""
        held = self.table.decode_setpoint(self.words)
        return Setpoint(0.0) if held is None else held

    def show(self, reading: DeviceReading, elapsed_s: float) -> None:
        """Show the measurements of a step of so many plant seconds, and let its time pass."""
        if reading.tap is not None:
            if self._last is not None:
                self._moves += abs(reading.tap - self._last)
            self._last = reading.tap
        self.publish(
            {
                **self.table.reading_values(reading),
                f"{TAP_MODEL}.Mv": self._moves,
                **self.let_pass(elapsed_s),
            }
        )

    def fail(self, cause: str, elapsed_s: float) -> None:
        """Show that nothing is measured."""
        self.publish({**self.table.failed_values(cause), **self.let_pass(elapsed_s)})
