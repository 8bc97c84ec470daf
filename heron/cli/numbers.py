"""Numbers of a command line that say their range: types for ``argparse``."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the type of whole numbers from ``least`` to ``most``; None: without an end."""
    span = f"{least} or more" if most is None else f"{least} to {most}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r}: expected a whole number, {span}") from None
        if number < least or (most is not None and number > most):
            raise ArgumentTypeError(f"{text}: expected {span}")
        return number

    return read


def at_least(least: float) -> Callable[[str], float]:
    """Return the type of finite numbers from ``least`` on."""
    return _finite_where(lambda number: number >= least, f"{least:g} or more")


def more_than(bound: float) -> Callable[[str], float]:
    """Return the type of finite numbers above ``bound``."""
    return _finite_where(lambda number: number > bound, f"more than {bound:g}")


def _finite_where(fits: Callable[[float], bool], span: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = _finite(text)
        if not fits(number):
            raise ArgumentTypeError(f"{text}: expected {span}")
        return number

    return read


def _finite(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r}: expected a number") from None
    if not math.isfinite(number):
        raise ArgumentTypeError(f"{text}: expected a finite number")
    return number
