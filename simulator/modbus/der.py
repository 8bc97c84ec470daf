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
from simulator.modbus.energy import EnergyCounter
from simulator.modbus.image import UnitImage


@dataclass(frozen=True, slots=True)
class _Function:
    """One function that masters enable, set, and that reverts.

    Attributes:
        enable: Point that switches it on.
        values: Points that hold what it does; each takes the value of its namesake ending in
            ``Rvrt`` where there is one.
        timeout: Point that holds the time after which it reverts.
        remaining: Point that shows how much of it is left, or empty.
        enable_after: Point that tells what ``enable`` becomes, or empty for 0.
        others: More points that masters may write.
    """

    enable: str
    values: tuple[str, ...]
    timeout: str
    remaining: str = ""
    enable_after: str = ""
    others: tuple[str, ...] = ()

    @property
    def writable(self) -> frozenset[str]:
        """The points that masters may write, as far as the device has them."""
        reversions = (f"{name}Rvrt" for name in self.values)
        after = (self.enable_after,) if self.enable_after else ()
        own = (self.enable, *self.values, self.timeout)
        return frozenset({*own, *reversions, *after, *self.others})


def _of_704(prefix: str, *values: str, others: tuple[str, ...] = ()) -> _Function:
    head = f"704.{prefix}"
    return _Function(
        f"{head}Ena",
        tuple(f"704.{name}" for name in values),
        f"{head}RvrtTms",
        f"{head}RvrtRem",
        f"{head}EnaRvrt",
        others,
    )


_CEILING = _of_704("WMaxLimPct", "WMaxLimPct")
_ACTIVE = _of_704("WSet", "WSet", "WSetPct", others=("704.WSetMod",))
_REACTIVE = _of_704("VarSet", "VarSet", "VarSetPct", others=("704.VarSetMod", "704.VarSetPri"))
_OLD_CEILING = _Function("123.WMaxLim_Ena", ("123.WMaxLimPct",), "123.WMaxLimPct_RvrtTms")
_VAR_MODES = (0, 1, 3, VARS)
"""Modes of VarSet that are obeyed; 'per cent of what is available' (2) is not."""


def _functions(table: DerTable) -> tuple[_Function, ...]:
    functions = [_CEILING, _ACTIVE]
    if table.ratings.has_q:
        functions.append(_REACTIVE)
    if 123 in table.models:
        functions.append(_OLD_CEILING)
    return tuple(functions)


class DerImage(UnitImage):
    """The registers of one emulated DER, and the set-point that they command.

    Args:
        table: Its register table.
        idle: What it does while no function is enabled.
    """

    def __init__(self, table: DerTable, idle: Setpoint) -> None:
        self.table = table
        self.idle = idle
        self._functions = _functions(table)
        self._remaining_s: dict[str, float] = {}
        self._plant_s = 0.0
        self._active, self._reactive = EnergyCounter(), EnergyCounter()
        super().__init__(
            table.registers,
            {**table.fixed_values(), **_initial_controls(table, idle)},
            self._writable(),
            identity={0: "HERON-HIL", 1: "Emulated DER", 2: "1", 4: table.device_id},
        )

    def _writable(self) -> frozenset[str]:
        names = {"715.ControllerHb"}.union(*(f.writable for f in self._functions))
        return frozenset(names & self.table.registers.keys())

    # --- what masters write ---

    def accepts(self, register: Register, value: Raw) -> bool:
        """Also refuse a reactive mode that the device does not have."""
        if register.name == "704.VarSetMod" and value not in _VAR_MODES:
            return False
        return super().accepts(register, value)

    def written(self, names: frozenset[str]) -> None:
        """Start the reversion time of each function that was written."""
        remaining: dict[str, Raw] = {}
        for function in self._functions:
            if names & function.writable:
                left = self._start(function)
                if function.remaining:
                    remaining[function.remaining] = left
        if remaining:
            self.publish(remaining)

    def _start(self, function: _Function) -> int:
        enabled = self.value(function.enable) == 1
        timeout = self.value(function.timeout)
        if not enabled or not isinstance(timeout, (int, float)) or timeout <= 0:
            self._remaining_s.pop(function.enable, None)
            return 0
        self._remaining_s[function.enable] = float(timeout)
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
        self._active.add(1e6 * reading.p_mw, elapsed_s)
        self._reactive.add(1e6 * reading.q_mvar, elapsed_s)
        self.publish(
            {
                **self.table.reading_values(reading),
                "701.TotWhInj": self._active.positive,
                "701.TotWhAbs": self._active.negative,
                "701.TotVarhInj": self._reactive.positive,
                "701.TotVarhAbs": self._reactive.negative,
                **self._pass(elapsed_s),
            }
        )

    def fail(self, cause: str, elapsed_s: float) -> None:
        """Show that nothing is measured: values 'not implemented', state 'fault'."""
        self.publish({**self.table.failed_values(cause), **self._pass(elapsed_s)})

    def _pass(self, elapsed_s: float) -> dict[str, Raw]:
        self._plant_s += elapsed_s
        values: dict[str, Raw] = {"715.DERHb": int(self._plant_s) % 0xFFFFFFFF}
        for function in self._functions:
            if function.enable not in self._remaining_s:
                continue
            left = self._remaining_s[function.enable] - elapsed_s
            # A step of 0.1 s added up a thousand times must not revert one step late.
            if left > 1e-6:
                self._remaining_s[function.enable] = left
                if function.remaining:
                    values[function.remaining] = math.ceil(left - 1e-6)
            else:
                del self._remaining_s[function.enable]
                values.update(self._reversion(function))
        return values

    def _reversion(self, function: _Function) -> dict[str, Raw]:
        values: dict[str, Raw] = {function.remaining: 0} if function.remaining else {}
        for name in function.values:
            fallback = self.value(f"{name}Rvrt") if f"{name}Rvrt" in self.registers else None
            if fallback is not None:
                values[name] = fallback
        enable = self.value(function.enable_after) if function.enable_after else None
        values[function.enable] = 0 if enable is None else enable
        return values


def _initial_controls(table: DerTable, idle: Setpoint) -> dict[str, Raw]:
    safe, ratings = table.safe, table.ratings
    values: dict[str, Raw] = {"715.LocRemCtl": 0, "715.DERHb": 0, "715.ControllerHb": 0}
    for function in _functions(table):
        values |= {function.enable: 0, function.timeout: 0}
        if function.remaining:
            values |= {function.remaining: 0, function.enable_after: 1}
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
