"""A tap changer behind registers: where it stands, and where it is to go.

SunSpec has no model for it, so it is one of our own in the vendors' range (64900), framed as
SunSpec wants it: any SunSpec client finds the device, reads its identity, and steps over what it
does not know. The position is commanded with a reversion value and a time-out, written by the
same request: a tap changer that hears nothing for that long goes to its safe tap, or back to its
own control, by itself. ``docs/registers.md`` has the table.
"""

from __future__ import annotations

import math
from functools import cached_property

from heron.powergrid.device_configs import TransformerConfig
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.sunspec import ModelChoice, SunSpecLayout, fixed_values, lay_out
from heron.powergrid.registers.table import Block, RegisterMap, Words, Write, coalesce

TAP_MODEL = 64900
_HEAD = f"{TAP_MODEL}."
_CHOICES = (
    ModelChoice(1),
    ModelChoice(TAP_MODEL, exponents={"TapStep_SF": -4, "V_SF": -4, "Ld_SF": -2}),
    ModelChoice(715),
)
_LARGEST_HOLE = 32


class TapTable:
    """The register table of one tap changer, and both directions of its codec.

    Args:
        device_id: Whose.
        config: Its range, its own control and its safe tap.
    """

    models: tuple[int, ...] = ()
    stores = False

    def __init__(self, device_id: str, config: TransformerConfig) -> None:
        self.device_id = device_id
        self.config = config
        self.safe = config.safe_setpoint
        self.layout: SunSpecLayout = lay_out(_CHOICES)

    @property
    def registers(self) -> RegisterMap:
        """All points."""
        return self.layout.registers

    def fixed_values(self) -> dict[str, Raw]:
        """Return what never changes: identity, headers, scale factors, range, own control."""
        config, control = self.config, self.config.local_control
        return {
            **fixed_values(self.layout, _CHOICES),
            "1.Mn": "HERON-HIL",
            "1.Md": "Emulated tap changer",
            "1.SN": self.device_id[:32],
            "1.Vr": "1",
            f"{_HEAD}TapMin": config.tap_min,
            f"{_HEAD}TapMax": config.tap_max,
            f"{_HEAD}TapStep": 100.0 * config.tap_step_pu,
            f"{_HEAD}LocV": None if control is None else 100.0 * control.v_set_pu,
            f"{_HEAD}LocBw": None if control is None else 100.0 * control.bandwidth_pu,
            f"{_HEAD}LocDly": None if control is None else control.delay_s,
        }

    # --- what it shows ---

    @cached_property
    def telemetry(self) -> tuple[Block, ...]:
        """The read that gives a whole reading."""
        return (self.registers.block(f"{_HEAD}St", f"{_HEAD}Mv"),)

    def reading_values(self, reading: DeviceReading) -> dict[str, Raw]:
        """Return the points that show a reading."""
        return {
            f"{_HEAD}St": int(reading.connected),
            f"{_HEAD}Tap": reading.tap,
            f"{_HEAD}V": 100.0 * reading.v_pu,
            f"{_HEAD}VMin": 100.0 * reading.v_min_pu,
            f"{_HEAD}VMax": 100.0 * reading.v_max_pu,
            f"{_HEAD}Ld": reading.loading_pct,
        }

    def failed_values(self, cause: str) -> dict[str, Raw]:
        """Return the points of a device that cannot measure: nothing old looks fresh."""
        del cause
        return {f"{_HEAD}{name}": None for name in ("Tap", "V", "VMin", "VMax", "Ld")}

    def decode_reading(self, words: Words) -> dict[str, float | None]:
        """Return the reading's fields by name; None where the device gives no value.

        No power comes from it: that is known without a register.
        """

        def share(point: str) -> float | None:
            percent = self.registers.number(words, f"{_HEAD}{point}")
            return None if percent is None else percent / 100.0

        number = self.registers.number
        points: dict[str, float | None] = {
            "p_mw": 0.0,
            "q_mvar": 0.0,
            "v_pu": share("V"),
            "v_min_pu": share("VMin"),
            "v_max_pu": share("VMax"),
            "connected": number(words, f"{_HEAD}St"),
            "tap": number(words, f"{_HEAD}Tap"),
        }
        loading = number(words, f"{_HEAD}Ld")
        if loading is not None:
            points["loading_pct"] = loading
        return points

    # --- how it is commanded ---

    @cached_property
    def controls(self) -> tuple[Block, ...]:
        """The read that gives the set-point back."""
        return (self.registers.block(f"{_HEAD}TapSetEna", f"{_HEAD}TapSet"),)

    @cached_property
    def sweep(self) -> tuple[Block, ...]:
        """The fewest reads that give a reading and the set-point."""
        return coalesce((*self.telemetry, *self.controls), _LARGEST_HOLE)

    def encode_setpoint(
        self, setpoint: Setpoint, reversion_s: float | None = None
    ) -> tuple[Write, ...]:
        """Return the write that commands a position, or leaves the tap to the device.

        Args:
            setpoint: What is asked; its powers mean nothing here.
            reversion_s: Plant seconds without a write after which the device goes to its safe
                tap, or decides by itself; None switches reversion off.

        Raises:
            ValueError: The position is outside the range.
        """
        config, tap = self.config, setpoint.tap
        if tap is not None and not config.tap_min <= tap <= config.tap_max:
            raise ValueError(f"tap {tap}: expected {config.tap_min} to {config.tap_max}")
        timeout = 0 if reversion_s is None else max(1, math.ceil(reversion_s))
        write = self.registers.run(
            {
                f"{_HEAD}TapSetEna": int(tap is not None),
                f"{_HEAD}TapSet": tap,
                f"{_HEAD}TapSetRvrt": self.safe.tap,
                f"{_HEAD}TapSetEnaRvrt": int(self.safe.tap is not None),
                f"{_HEAD}TapSetRvrtTms": timeout,
            }
        )
        return (write,)

    def decode_setpoint(self, words: Words) -> Setpoint | None:
        """Return the set-point that the device holds; without a tap where it decides itself."""
        enabled = self.registers.number(words, f"{_HEAD}TapSetEna")
        if enabled is None:
            return None
        tap = self.registers.number(words, f"{_HEAD}TapSet") if enabled == 1 else None
        return Setpoint(0.0, 0.0, None if tap is None else int(tap))

    def quantise(self, setpoint: Setpoint) -> Setpoint:
        """Return the set-point as the registers hold it.

        Raises:
            ValueError: The position is outside the range.
        """
        words = Words((w.address, w.data) for w in self.encode_setpoint(setpoint))
        held = self.decode_setpoint(words)
        assert held is not None
        return held

    def heartbeat_writes(self, beat: int) -> tuple[Write, ...]:
        """Return the write of the controller's heartbeat, a counter."""
        return (self.registers.run({"715.ControllerHb": beat % 0xFFFFFFFF}),)

    def resolution(self, point: str) -> float:
        """Return the step of one of the reading's fields, or of the set-point.

        Raises:
            KeyError: No such field.
        """
        volts = self.registers[f"{_HEAD}V"].resolution / 100.0
        table = {
            "p_mw": 0.0,
            "q_mvar": 0.0,
            "v_pu": volts,
            "v_min_pu": volts,
            "v_max_pu": volts,
            "connected": 1.0,
            "tap": 1.0,
            "loading_pct": self.registers[f"{_HEAD}Ld"].resolution,
            "p_set": 0.0,
            "q_set": 0.0,
        }
        return table[point]
