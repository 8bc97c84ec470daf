"""Curves that masters write and have adopted: models 705, 706 and 712 of an emulated DER."""

from __future__ import annotations

from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.functions import CURVE_POINTS, CURVES, IN_FORCE
from heron.powergrid.registers.table import Register, RegisterMap
from simulator.modbus.reversion import Function

COMPLETED, FAILED = 1, 2
_HEADS = {
    705: ("ActPt", "DeptRef", "Pri", "VRef", "VRefAutoEna", "RspTms"),
    706: ("ActPt", "DeptRef", "RspTms"),
    712: ("ActPt", "DeptRef", "Pri"),
}
_AXES = {705: ("V", "Var"), 706: ("V", "W"), 712: ("W", "Var")}
_REFERENCES = {705: (0, 1, 3), 706: (0,), 712: (0, 1, 3)}


def curve_points(model: int, n: int) -> tuple[str, ...]:
    """Return the points that make up a model's curve."""
    head = f"{model}.Crv[{n}]."
    points = range(1, CURVE_POINTS[model] + 1)
    corners = (f"{head}Pt[{i}].{axis}" for i in points for axis in _AXES[model])
    return (*(f"{head}{name}" for name in _HEADS[model]), *corners)


def curve_function(model: int) -> Function:
    """Return the function that a curve model is: enabled, written, adopted, reverting."""
    written = [point for n in range(IN_FORCE + 1, CURVES + 1) for point in curve_points(model, n)]
    return Function(
        f"{model}.Ena",
        (),
        f"{model}.RvrtTms",
        f"{model}.RvrtRem",
        others=(f"{model}.AdptCrvReq", f"{model}.RvrtCrv", *written),
    )


def copied(registers: RegisterMap, values: dict[str, Raw], model: int) -> dict[str, Raw]:
    """Return a curve's values, given in the order of its points, as those of the one in force."""
    names = curve_points(model, IN_FORCE)
    return {n: v for n, v in zip(names, values.values(), strict=True) if n in registers}


def accepted(register: Register, value: Raw) -> bool:
    """Tell whether a point of a curve model may have a value; True for any other point."""
    model_id, _, point = register.name.partition(".")
    if not model_id.isdigit() or int(model_id) not in CURVE_POINTS or value is None:
        return True
    model, last = int(model_id), point.rpartition(".")[2]
    allowed: dict[str, tuple[int, ...]] = {
        "AdptCrvReq": tuple(range(1, CURVES + 1)),
        "RvrtCrv": tuple(range(CURVES + 1)),
        "DeptRef": _REFERENCES[model],
        "Pri": (0, 1),
        "VRefAutoEna": (0,),
        "ActPt": tuple(range(2, CURVE_POINTS[model] + 1)),
    }
    if last in allowed:
        return value in allowed[last]
    return last != "VRef" or (isinstance(value, (int, float)) and 80.0 <= value <= 120.0)
