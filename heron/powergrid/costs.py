"""What power costs, as functions of it."""

from __future__ import annotations


def quadratic_cost(p_mw: float, a: float, b: float, c: float) -> float:
    """Return ``a P^2 + b P + c``, $/h for P in MW."""
    return a * p_mw * p_mw + b * p_mw + c
