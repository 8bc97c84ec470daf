"""An emulated DER: obeys 704, counts its reversion times in plant seconds, beats 715.

In force is ``WSet`` if that function is enabled, else the device's idle power; ``WMaxLimPct``, if
enabled, is a ceiling above either. Each function whose time-out is not 0 takes its reversion
values by itself when nobody has written to it for that long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.der import VARS, WATTS, DerTable
from heron.powergrid.registers.table import Register
from simulator.modbus.image import UnitImage


@dataclass(frozen=True, slots=True)
class _Function:
    """One function of model 704 that reverts.

    Attributes:
        prefix: What the names of its points begin with.
        values: The points that take the value of their namesakes ending in ``Rvrt``.
    """

    prefix: str
    values: tuple[str, ...]

    def point(self, suffix: str) -> str:
        return f"704.{self.prefix}{suffix}"


_CEILING = _Function("WMaxLimPct", ("704.WMaxLimPct",))
_ACTIVE = _Function("WSet", ("704.WSet", "704.WSetPct"))
_REACTIVE = _Function("VarSet", ("704.VarSet", "704.VarSetPct"))
_FUNCTIONS = (_CEILING, _ACTIVE, _REACTIVE)
_VAR_MODES = (0, 1, 3, VARS)
"""Modes of VarSet that are obeyed; 'per cent of what is available' (2) is not."""


def _writable(table: DerTable) -> frozenset[str]:
    functions = _FUNCTIONS if table.ratings.has_q else (_CEILING, _ACTIVE)
    names = {"715.ControllerHb"}
    for function in functions:
        names.update(
            name
            for name, register in table.registers.items()
            if register.writable and name.startswith(f"704.{function.prefix}")
        )
    return frozenset(names)


class DerImage(UnitImage):
    """The registers of one emulated DER, and the set-point that they command.

    Args:
        table: Its register table.
        idle: What it does while no function is enabled.
    """

    def __init__(self, table: DerTable, idle: Setpoint) -> None:
        self.table = table
        self.idle = idle
        self._remaining_s: dict[str, float] = {}
        self._plant_s = 0.0
        super().__init__(
            table.registers,
            {**table.fixed_values(), **_initial_controls(table, idle)},
            _writable(table),
            identity={0: "HERON-HIL", 1: "Emulated DER", 2: "1", 4: table.device_id},
        )

    # --- what masters write ---

    def accepts(self, register: Register, value: Raw) -> bool:
        """Also refuse a reactive mode that the device does not have."""
        if register.name == "704.VarSetMod" and value not in _VAR_MODES:
            return False
        return super().accepts(register, value)

    def written(self, names: frozenset[str]) -> None:
        """Start the reversion time of each function that was written."""
        remaining: dict[str, Raw] = {}
        for function in _FUNCTIONS:
            if any(name.startswith(f"704.{function.prefix}") for name in names):
                remaining[function.point("RvrtRem")] = self._start(function)
        if remaining:
            self.publish(remaining)

    def _start(self, function: _Function) -> int:
        enabled = self.value(function.point("Ena")) == 1
        timeout = self.value(function.point("RvrtTms"))
        if not enabled or not isinstance(timeout, (int, float)) or timeout <= 0:
            self._remaining_s.pop(function.prefix, None)
            return 0
        self._remaining_s[function.prefix] = float(timeout)
        return int(timeout)

    # --- what the device does ---

    def setpoint(self) -> Setpoint:
        """Return what the registers command now."""
        words = self.words
        p_mw = self.table.active_set(words)
        if p_mw is None:
            p_mw = self.idle.p_mw
        ceiling = self.table.active_ceiling(words)
        if ceiling is not None:
            p_mw = min(p_mw, ceiling)
        q_mvar = self.table.reactive_set(words)
        return Setpoint(p_mw, self.idle.q_mvar if q_mvar is None else q_mvar)

    def show(self, reading: DeviceReading, elapsed_s: float) -> None:
        """Show the measurements of a step, and let its time pass.

        Args:
            reading: What the device measures.
            elapsed_s: Plant seconds that the step took.
        """
        self.publish({**self.table.reading_values(reading), **self._pass(elapsed_s)})

    def fail(self, cause: str, elapsed_s: float) -> None:
        """Show that nothing is measured: values 'not implemented', state 'fault'."""
        self.publish({**self.table.failed_values(cause), **self._pass(elapsed_s)})

    def _pass(self, elapsed_s: float) -> dict[str, Raw]:
        self._plant_s += elapsed_s
        values: dict[str, Raw] = {"715.DERHb": int(self._plant_s) % 0xFFFFFFFF}
        for function in _FUNCTIONS:
            if function.prefix not in self._remaining_s:
                continue
            left = self._remaining_s[function.prefix] - elapsed_s
            # A step of 0.1 s added up a thousand times must not revert one step late.
            if left > 1e-6:
                self._remaining_s[function.prefix] = left
                values[function.point("RvrtRem")] = math.ceil(left - 1e-6)
            else:
                del self._remaining_s[function.prefix]
                values.update(self._reversion(function))
        return values

    def _reversion(self, function: _Function) -> dict[str, Raw]:
        values: dict[str, Raw] = {function.point("RvrtRem"): 0}
        for name in function.values:
            fallback = self.value(f"{name}Rvrt")
            if fallback is not None:
                values[name] = fallback
        enable = self.value(function.point("EnaRvrt"))
        values[function.point("Ena")] = 0 if enable is None else enable
        return values


def _initial_controls(table: DerTable, idle: Setpoint) -> dict[str, Raw]:
    safe, ratings = table.safe, table.ratings
    values: dict[str, Raw] = {"715.LocRemCtl": 0, "715.DERHb": 0, "715.ControllerHb": 0}
    for function in _FUNCTIONS:
        if function is _REACTIVE and not ratings.has_q:
            continue
        values |= {function.point("Ena"): 0, function.point("EnaRvrt"): 1}
        values |= {function.point("RvrtTms"): 0, function.point("RvrtRem"): 0}
    values |= {"704.WSetMod": WATTS, "704.WSet": idle.p_mw * 1e6}
    values |= {"704.WSetRvrt": safe.p_mw * 1e6, "704.WMaxLimPct": 100.0}
    ceiling = 100.0
    if ratings.curtail_only:
        ceiling = 100.0 * max(safe.p_mw, 0.0) / ratings.w_max_mw
    values["704.WMaxLimPctRvrt"] = ceiling
    if ratings.has_q:
        values |= {"704.VarSetMod": VARS, "704.VarSetPri": 0, "704.VarSet": idle.q_mvar * 1e6}
        values["704.VarSetRvrt"] = safe.q_mvar * 1e6
    return values
