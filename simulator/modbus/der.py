"""An emulated DER: obeys 704 and its curves, counts reversion times in plant seconds, beats 715.

In force is ``WSet`` if that function is enabled, else the device's idle power; ``WMaxLimPct``, if
enabled, is a ceiling above either. Of the functions that decide reactive power (``VarSet``, power
factor, volt-var, watt-var, those of 123) only one is on: who enables one disables the others, as
IEEE 1547-2018 has it. Each function whose time-out is not 0 takes its reversion values by itself
when nobody has written to it for that long.
"""

from __future__ import annotations

from heron.powergrid.inverter_functions import InverterFunctions
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.der import VARS, WATTS, DerTable
from heron.powergrid.registers.functions import CURVE_POINTS, REACTIVE_ENABLES, FunctionReader
from heron.powergrid.registers.table import Register
from simulator.modbus.curves import (
    COMPLETED,
    FAILED,
    accepted,
    copied,
    curve_function,
    curve_points,
)
from simulator.modbus.energy import EnergyCounter
from simulator.modbus.reversion import Function, RevertingImage, reverting

_CEILING = reverting(704, "WMaxLimPct", "WMaxLimPct")
_ACTIVE = reverting(704, "WSet", "WSet", "WSetPct", others=("WSetMod",))
_REACTIVE = reverting(704, "VarSet", "VarSet", "VarSetPct", others=("VarSetMod", "VarSetPri"))
_FACTORS = (
    reverting(704, "PFWInj", "PFWInj.PF", "PFWInj.Ext"),
    reverting(704, "PFWAbs", "PFWAbs.PF", "PFWAbs.Ext"),
)
_OLD_CEILING = Function("123.WMaxLim_Ena", ("123.WMaxLimPct",), "123.WMaxLimPct_RvrtTms")
_OLD_CONNECTION = Function("123.Conn", (), "123.Conn_RvrtTms")
_OLD_REACTIVE = (
    Function("123.OutPFSet_Ena", ("123.OutPFSet",), "123.OutPFSet_RvrtTms"),
    Function(
        "123.VArPct_Ena",
        ("123.VArWMaxPct", "123.VArMaxPct", "123.VArAvalPct"),
        "123.VArPct_RvrtTms",
        others=("123.VArPct_Mod",),
    ),
)
_TOGETHER = frozenset({"704.PFWInjEna", "704.PFWAbsEna"})
"""Power factors while injecting and while absorbing are one function with two halves."""
_NO_CURVE = 0


def _functions(table: DerTable) -> tuple[Function, ...]:
    functions = [_CEILING, _ACTIVE]
    has_q = table.ratings.has_q
    if has_q:
        functions += [_REACTIVE, *_FACTORS]
    if 123 in table.models:
        functions += [_OLD_CEILING, _OLD_CONNECTION, *(_OLD_REACTIVE if has_q else ())]
    functions += [
        curve_function(model)
        for model in CURVE_POINTS
        if model in table.models and (has_q or model == 706)
    ]
    return tuple(functions)


class DerImage(RevertingImage):
    """The registers of one emulated DER, and the set-point that they command.

    Args:
        table: Its register table.
        idle: What it does while no function is enabled.
    """

    def __init__(self, table: DerTable, idle: Setpoint) -> None:
        self.table = table
        self.idle = idle
        self._active, self._reactive = EnergyCounter(), EnergyCounter()
        self._own: InverterFunctions | None = None
        super().__init__(
            table.registers,
            {**table.fixed_values(), **_initial_controls(table, idle)},
            _functions(table),
            identity={0: "HERON-HIL", 1: "Emulated DER", 2: "1", 4: table.device_id},
        )

    # --- what masters write ---

    def accepts(self, register: Register, value: Raw) -> bool:
        """Also refuse values of curves and power factors that make no sense."""
        name = register.name
        if name.endswith((".PF", ".OutPFSet")) and isinstance(value, (int, float)):
            return 0.0 < abs(value) <= 1.0
        return accepted(register, value) and super().accepts(register, value)

    def written(self, names: frozenset[str]) -> None:
        """Leave one reactive function on, adopt a curve, start the reversion times."""
        self._own = None
        self._leave_one(names)
        for model in CURVE_POINTS:
            if f"{model}.AdptCrvReq" in names:
                wanted = self.value(f"{model}.AdptCrvReq")
                self.publish(self._adopt(model, int(wanted) if wanted else _NO_CURVE))
        super().written(names)

    def _leave_one(self, names: frozenset[str]) -> None:
        """Switch off what decided reactive power before, when something else is switched on."""
        on = [n for n in REACTIVE_ENABLES if n in names and self.value(n) == 1]
        if not on:
            return
        stays = _TOGETHER if on[-1] in _TOGETHER else frozenset({on[-1]})
        off = [n for n in REACTIVE_ENABLES if n in self.registers and n not in stays]
        for name in off:
            self._remaining_s.pop(name, None)
        self.publish(dict.fromkeys((n for n in off if self.value(n) == 1), 0))

    def _adopt(self, model: int, n: int) -> dict[str, Raw]:
        """Return what changes when curve ``n`` comes into force; a bad curve does not."""
        result = f"{model}.AdptCrvRslt"
        reader = FunctionReader(self.registers, self.words, self.table.ratings)
        if reader.curve(model, n) is None:
            return {result: FAILED}
        values = {name: self.value(name) for name in curve_points(model, n)}
        return {**copied(self.registers, values, model), result: COMPLETED}

    def counts_down(self, function: Function) -> bool:
        """A connection counts down while it is cut, anything else while it is enabled."""
        if function is _OLD_CONNECTION:
            return self.value(function.enable) == 0
        return super().counts_down(function)

    def _reversion(self, function: Function) -> dict[str, Raw]:
        """Take the reversion values: a curve model another curve, a connection the grid."""
        self._own = None
        model = int(function.enable.partition(".")[0])
        if function is _OLD_CONNECTION:
            return {function.enable: 1}
        if model not in CURVE_POINTS:
            return super()._reversion(function)
        wanted = self.value(f"{model}.RvrtCrv")
        values: dict[str, Raw] = {function.remaining: 0}
        if not wanted:
            return {**values, function.enable: 0}
        return {**values, **self._adopt(model, int(wanted))}

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
        if q_mvar is None and 123 in self.table.models:
            q_mvar = FunctionReader(self.registers, words, self.table.ratings).fixed_mvar()
        return Setpoint(p_mw, self.idle.q_mvar if q_mvar is None else q_mvar)

    def functions(self) -> InverterFunctions:
        """Return the device's own functions that the registers have switched on."""
        if self._own is None:
            reader = FunctionReader(self.registers, self.words, self.table.ratings)
            self._own = reader.functions()
        return self._own

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
                **self.let_pass(elapsed_s),
            }
        )

    def fail(self, cause: str, elapsed_s: float) -> None:
        """Show that nothing is measured: values 'not implemented', state 'fault'."""
        self.publish({**self.table.failed_values(cause), **self.let_pass(elapsed_s)})


def _initial_controls(table: DerTable, idle: Setpoint) -> dict[str, Raw]:
    safe, ratings = table.safe, table.ratings
    values: dict[str, Raw] = {"704.WSetMod": WATTS, "704.WSet": idle.p_mw * 1e6}
    values |= {"704.WSetRvrt": safe.p_mw * 1e6, "704.WMaxLimPct": 100.0}
    ceiling = 100.0
    if ratings.curtail_only:
        ceiling = 100.0 * max(safe.p_mw, 0.0) / ratings.w_max_mw
    values["704.WMaxLimPctRvrt"] = ceiling
    if ratings.has_q:
        values |= {"704.VarSetMod": VARS, "704.VarSetPri": 0, "704.VarSet": idle.q_mvar * 1e6}
        values["704.VarSetRvrt"] = safe.q_mvar * 1e6
        for group in ("PFWInj", "PFWAbs"):
            values |= {f"704.{group}.PF": 1.0, f"704.{group}.Ext": 0}
            values |= {f"704.{group}Rvrt.PF": 1.0, f"704.{group}Rvrt.Ext": 0}
    if 123 in table.models:
        values["123.Conn"] = 1
    return values
