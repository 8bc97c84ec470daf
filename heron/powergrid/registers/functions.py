"""The functions of an inverter's own that its registers switch on: what 704 to 712 and 123 say.

Curves are numbered: 1 is the one in force, the others are there to be written and then adopted.

Source: SunSpec DER Information Model Specification 1.0, models 704, 705, 706, 712; SunSpec
Inverter Controls, model 123.
"""

from __future__ import annotations

from itertools import pairwise

from heron.errors import ConfigError
from heron.powergrid.ieee1547 import VoltVarCurve, VoltWattCurve
from heron.powergrid.inverter_functions import (
    InverterFunctions,
    PowerFactor,
    ReactiveFunction,
    ShareOfAvailable,
    VoltVar,
    WattVar,
)
from heron.powergrid.registers.ratings import Ratings
from heron.powergrid.registers.table import RegisterMap, Words

IN_FORCE = 1
CURVES = 3
"""Curves of each model: the one in force, and two to be written."""
CURVE_POINTS = {705: 4, 706: 2, 712: 4}
"""Models with curves that are obeyed, and how many points a curve has."""
VAR_OF_AVAILABLE = 2
"""VarSetMod: per cent of what active power leaves."""
REACTIVE_ENABLES = (
    "704.VarSetEna",
    "704.PFWInjEna",
    "704.PFWAbsEna",
    "705.Ena",
    "712.Ena",
    "123.OutPFSet_Ena",
    "123.VArPct_Ena",
)
"""What decides reactive power: switching one on switches the others off."""


def base_mva(dept_ref: float | None, ratings: Ratings) -> float:
    """Return to what a curve's reactive power refers.

    Raises:
        ValueError: The device has no such reference.
    """
    bases = {
        0.0: ratings.w_max_mw,
        1.0: max(abs(x) for x in ratings.q_mvar),
        3.0: ratings.s_mva,
    }
    if dept_ref is None or dept_ref not in bases:
        raise ValueError(f"DeptRef {dept_ref}: expected 0, 1 or 3")
    return bases[dept_ref]


class FunctionReader:
    """Reads one device's functions from its registers.

    Args:
        registers: Its table.
        words: What was read of it.
        ratings: Its nameplate.
    """

    def __init__(self, registers: RegisterMap, words: Words, ratings: Ratings) -> None:
        self._registers = registers
        self._words = words
        self._ratings = ratings

    def functions(self) -> InverterFunctions:
        """Return what is switched on; a curve that makes no sense is not."""
        volt_watt = None
        if self._is_on("706.Ena"):
            curve = self.curve(706)
            volt_watt = curve if isinstance(curve, VoltWattCurve) else None
        connected = self._number("123.Conn") != 0.0
        return InverterFunctions(self._reactive(), volt_watt, connected)

    def curve(self, model: int, n: int = IN_FORCE) -> VoltVar | VoltWattCurve | WattVar | None:
        """Return a model's curve; None where it makes no sense."""
        try:
            if model == 705:
                return self._volt_var(f"705.Crv[{n}].")
            if model == 706:
                return self._volt_watt(f"706.Crv[{n}].")
            return self._watt_var(f"712.Crv[{n}].")
        except (ConfigError, ValueError):
            return None

    def _number(self, point: str) -> float | None:
        return self._registers.number(self._words, point) if point in self._registers else None

    def _is_on(self, point: str) -> bool:
        return self._number(point) == 1.0

    def _reactive(self) -> ReactiveFunction | None:
        if self._is_on("704.VarSetEna"):
            share = self._number("704.VarSetPct")
            available = self._number("704.VarSetMod") == VAR_OF_AVAILABLE
            return ShareOfAvailable(share / 100.0) if available and share is not None else None
        if self._is_on("704.PFWInjEna") or self._is_on("704.PFWAbsEna"):
            return PowerFactor(self._power_factor("PFWInj"), self._power_factor("PFWAbs"))
        for model in (705, 712):
            if self._is_on(f"{model}.Ena"):
                curve = self.curve(model)
                return None if isinstance(curve, VoltWattCurve) else curve
        if self._is_on("123.OutPFSet_Ena"):
            cos_phi = self._number("123.OutPFSet")
            return PowerFactor(cos_phi, cos_phi)
        if self._is_on("123.VArPct_Ena") and self._number("123.VArPct_Mod") == 3.0:
            share = self._number("123.VArAvalPct")
            return None if share is None else ShareOfAvailable(share / 100.0)
        return None

    def fixed_mvar(self) -> float | None:
        """Return the reactive power that model 123 commands as a share of a rating, if it does."""
        if not self._is_on("123.VArPct_Ena"):
            return None
        mode = self._number("123.VArPct_Mod")
        if mode == 1.0:
            percent, base = self._number("123.VArWMaxPct"), self._ratings.w_max_mw
        elif mode == 2.0:
            percent, base = self._number("123.VArMaxPct"), max(map(abs, self._ratings.q_mvar))
        else:
            return None
        return None if percent is None else percent / 100.0 * base

    def _power_factor(self, group: str) -> float | None:
        """Return cos phi, negative where it absorbs reactive power; None while it is off."""
        cos_phi = self._number(f"704.{group}.PF")
        if not self._is_on(f"704.{group}Ena") or not cos_phi:
            return None
        return -cos_phi if self._number(f"704.{group}.Ext") == 1.0 else cos_phi

    def _points(self, head: str, x: str, y: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the shares (of 1) of a curve's active points."""
        count = int(self._number(f"{head}ActPt") or 0)
        names = [f"{head}Pt[{i}]." for i in range(1, count + 1)]
        xs = [self._number(f"{n}{x}") for n in names]
        ys = [self._number(f"{n}{y}") for n in names]
        if count < 2 or None in xs or None in ys:
            raise ValueError(f"{head}: expected two or more points")
        return tuple((v or 0.0) / 100.0 for v in xs), tuple((v or 0.0) / 100.0 for v in ys)

    def _volt_var(self, head: str) -> VoltVar:
        volts, shares = self._points(head, "V", "Var")
        reference = (self._number(f"{head}VRef") or 100.0) / 100.0
        base = base_mva(self._number(f"{head}DeptRef"), self._ratings)
        curve = VoltVarCurve(tuple(v * reference for v in volts), shares)
        return VoltVar(curve, base, active_first=self._number(f"{head}Pri") == 0.0)

    def _volt_watt(self, head: str) -> VoltWattCurve:
        volts, shares = self._points(head, "V", "W")
        if len(volts) != 2 or shares[0] != 1.0:
            raise ValueError(f"{head}: expected two points, the first at 100 %")
        return VoltWattCurve((volts[0], volts[1]), shares[1])

    def _watt_var(self, head: str) -> WattVar:
        watts, shares = self._points(head, "W", "Var")
        if any(a >= b for a, b in pairwise(watts)) or any(abs(x) > 1.0 for x in shares):
            raise ValueError(f"{head}: expected rising powers and shares up to 100 %")
        base = base_mva(self._number(f"{head}DeptRef"), self._ratings)
        w_max = self._ratings.w_max_mw
        return WattVar(tuple(w * w_max for w in watts), tuple(x * base for x in shares))
