"""Choice of decimal scale factors, and the nominal values of an emulated DER's terminals."""

from __future__ import annotations

import math

NOMINAL_LL_V = 480.0
"""Nominal line-to-line voltage at a device's terminals, behind its own transformer."""
NOMINAL_HZ = 60.0
INT16 = 32766
UINT16 = 65534
INT32 = 2_000_000_000


def exponent_for(full_scale: float, largest_raw: int) -> int:
    """Return the smallest decimal exponent at which ``full_scale`` still fits."""
    exponent = math.ceil(math.log10(max(full_scale, 1e-9) / largest_raw))
    return max(-4, min(10, exponent))
