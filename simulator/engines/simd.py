"""Vectors of `WIDTH` numbers for compiled kernels: one lane for each scenario.

numba does not vectorise loops over arrays that may overlap, which all arrays of a kernel may. Here
the vector is a type of its own, on which ``+ - * /`` and the functions below work lane by lane;
LLVM maps it to the widest registers that the machine has. Outside of compiled code there are no
vectors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

from simulator.engines.base import FloatArray
from simulator.engines.jit import FAST

WIDTH = 16
"""Lanes of a vector: two of the widest registers there are. The sums of a substitution wait for
each other, so that one register at a time would leave the machine half idle."""

_DOUBLES = ir.VectorType(ir.DoubleType(), WIDTH)
_FLAGS = sorted(FAST)
_Intrinsic = tuple[Any, Callable[..., Any]]


class VectorType(types.Type):
    """The type of a vector in compiled code."""

    def __init__(self) -> None:
        super().__init__(name="Vector")


vector = VectorType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):  # type: ignore[misc] # numba is untyped
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _DOUBLES)


class Vector:
    """What type checkers know of a vector; compiled code has `VectorType` in its place."""

    def __add__(self, other: Vector) -> Vector:
        """Add lane by lane."""
        raise NotImplementedError

    def __sub__(self, other: Vector) -> Vector:
        """Subtract lane by lane."""
        raise NotImplementedError

    def __mul__(self, other: Vector) -> Vector:
        """Multiply lane by lane."""
        raise NotImplementedError

    def __truediv__(self, other: Vector) -> Vector:
        """Divide lane by lane."""
        raise NotImplementedError


def _address(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _DOUBLES.as_pointer())


def _load(typing: Any, array: Any, at: Any) -> _Intrinsic:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        instruction = builder.load(_address(context, builder, signature.args[0], *args))
        instruction.align = 8
        return instruction

    return vector(array, types.intp), build


def _store(typing: Any, array: Any, at: Any, value: Any) -> _Intrinsic:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _address(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], place).align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, value), build


def _spread(typing: Any, value: Any) -> _Intrinsic:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        empty = ir.Constant(_DOUBLES, ir.Undefined)
        first = builder.insert_element(empty, args[0], ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        return builder.shuffle_vector(first, first, lanes)

    return vector(types.float64), build


def _root(typing: Any, value: Any) -> _Intrinsic:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_DOUBLES, [_DOUBLES])
        name = f"llvm.sqrt.v{WIDTH}f64"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return vector(value), build


def _larger(typing: Any, a: Any, b: Any) -> _Intrinsic:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<=", args[0], args[1]), args[1], args[0])

    return vector(a, b), build


def _chosen(typing: Any, on: Any, a: Any, b: Any) -> _Intrinsic:
    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(_DOUBLES, [0.0] * WIDTH)
        return builder.select(builder.fcmp_ordered("!=", args[0], zero), args[1], args[2])

    return vector(on, a, b), build


load: Callable[[FloatArray, int], Vector] = intrinsic(_load)
"""Return the lanes that begin at ``array[at]``; unchecked."""

store: Callable[[FloatArray, int, Vector], None] = intrinsic(_store)
"""Put the lanes to ``array[at]`` and after; unchecked."""

spread: Callable[[float], Vector] = intrinsic(_spread)
"""Return a number in every lane."""

root: Callable[[Vector], Vector] = intrinsic(_root)
"""Return the square root."""

larger: Callable[[Vector, Vector], Vector] = intrinsic(_larger)
"""Return the larger one of each lane, and NaN where the first is NaN."""

chosen: Callable[[Vector, Vector, Vector], Vector] = intrinsic(_chosen)
"""Return the second argument in lanes where the first is not 0, else the third."""


def _operation(symbol: Callable[..., Any], instruction: str) -> None:
    """Give vectors an operator: an LLVM instruction on all lanes."""

    def typed(typing: Any, a: Any, b: Any) -> _Intrinsic:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args, flags=_FLAGS)

        return vector(a, b), build

    typed.__name__ = typed.__qualname__ = instruction
    compiled = intrinsic(typed)

    def chosen_for(a: Any, b: Any) -> Callable[..., Any] | None:
        if not (isinstance(a, VectorType) and isinstance(b, VectorType)):
            return None

        def apply(a: Any, b: Any) -> Any:
            return compiled(a, b)

        return apply

    overload(symbol)(chosen_for)


_operation(operator.add, "fadd")
_operation(operator.sub, "fsub")
_operation(operator.mul, "fmul")
_operation(operator.truediv, "fdiv")
