"""What regulators and capacitors with a control do, compiled.

They act once voltages stand still to `simulator.engines.kernels.ROUGH`, or as soon as what is left
to change cannot make a difference to what they do, which saves half of the iterations.
"""

from __future__ import annotations

import numpy as np

from simulator.engines.arrays import Case, Network, Work
from simulator.engines.base import ComplexArray, FloatArray, IntArray
from simulator.engines.jit import inner

SAFETY = 3.0
"""How many times what is left to change a control takes into account before it acts early."""

NEAR = 0.02
"""With more left to change than that, pu, nothing is certain."""


@inner
def size(z: complex) -> float:
    """Return the absolute value; numba's own guards against overflow, which takes longer."""
    return float(np.sqrt(z.real * z.real + z.imag * z.imag))


@inner
def error_of(net: Network, k: int, taps: IntArray, v: ComplexArray) -> float:
    """Return by how many volts a regulator's compensated voltage is too low."""
    phase = net.control[k, 1]
    ratio = 1.0 + net.reg_step[phase] * taps[net.control[k, 0]]
    out = v[net.reg[phase, 2]]
    current = (ratio * v[net.reg[phase, 1]] - out) * net.reg_y[phase] * (1.0 / (ratio * ratio))
    drop = complex(net.settings[k, 3], net.settings[k, 4]) * current
    return float(net.settings[k, 0]) - size(out * net.settings[k, 2] - drop)


@inner
def wants(net: Network, k: int, on: int, v: ComplexArray) -> int:
    """Return whether a capacitor's control wants it switched in: 1 or 0."""
    seen = 0.0
    for m in range(3):
        seen += size(v[net.cap[k, m]])
    seen *= net.cap_settings[k, 2] / 3.0
    if on == 0 and seen < net.cap_settings[k, 0]:
        return 1
    if on == 1 and seen > net.cap_settings[k, 1]:
        return 0
    return on


@inner
def left(worst: float, before: float) -> float:
    """Return how much voltages may still change, pu, by the last two squared largest changes.

    Changes shrink by about the same ratio in each iteration.
    """
    return float(SAFETY * np.sqrt(worst * min(worst / before, 1.0)))


@inner
def steps_of(excess: float) -> int:
    """Return how many steps a regulator takes whose voltage is so many volts out of its band.

    One for each 0.75 V or part of it, four at most; rounding up is slower than comparing.
    """
    return int(excess > 0.0) + int(excess > 0.75) + int(excess > 1.5) + int(excess > 2.25)


@inner
def certain(net: Network, case: Case, errors: FloatArray, change: float, dt_s: float) -> bool:
    """Say whether regulators move, and how is certain though voltages may still change so much.

    Fills ``errors`` if the voltages are near enough. Where a capacitor has a control, nothing is.
    """
    if not change < NEAR:
        return False
    for k in range(len(net.cap)):
        if not np.isnan(net.cap_settings[k, 0]):
            return False
    for k in range(len(net.control)):
        errors[k] = error_of(net, k, case.taps, case.v)
    return decided(net, case.waited_s, errors, change, dt_s)


@inner
def decided(
    net: Network, waited_s: FloatArray, errors: FloatArray, change: float, dt_s: float
) -> bool:
    """Say the same by the errors, in volts."""
    moves = False
    for k in range(len(net.control)):
        if waited_s[k] + dt_s >= net.settings[k, 5]:
            excess, reach = abs(errors[k]) - net.settings[k, 1], change * net.settings[k, 2]
            steps = steps_of(excess - reach)
            if steps != steps_of(excess + reach):
                return False
            moves |= steps > 0
    return moves


@inner
def act(
    net: Network, switched: IntArray, case: Case, errors: FloatArray, dt_s: float
) -> tuple[int, int]:
    """Let the controls act that have waited long enough; return tap steps and switchings.

    A regulator moves at most four steps at a time, a capacitor switches once in a step:
    ``switched`` says which ones have. ``errors`` is by how many volts the regulators' voltages
    are too low.
    """
    moved = 0
    n_control = len(net.control)
    for k in range(n_control):
        owner = net.control[k, 0]
        steps = steps_of(abs(errors[k]) - net.settings[k, 1])
        if steps > 0 and case.waited_s[k] + dt_s >= net.settings[k, 5]:
            wanted = case.taps[owner] + (steps if errors[k] > 0.0 else -steps)
            wanted = min(max(wanted, -net.control[k, 3]), net.control[k, 3])
            moved += abs(wanted - case.taps[owner]) * net.control[k, 2]
            case.taps[owner] = wanted
    switchings = 0
    for k in range(len(net.cap)):
        if np.isnan(net.cap_settings[k, 0]):
            continue
        wanted = wants(net, k, case.capacitors[k], case.v)
        waited = case.waited_s[n_control + k] + dt_s
        if wanted != case.capacitors[k] and waited >= net.cap_settings[k, 3] and not switched[k]:
            case.capacitors[k] = wanted
            switched[k] = 1
            switchings += 1
    return moved, switchings


@inner
def wait(net: Network, case: Case, dt_s: float) -> None:
    """Count on for the controls that are still out of band, and start afresh for the others."""
    n_control = len(net.control)
    for k in range(n_control):
        out = abs(error_of(net, k, case.taps, case.v)) > net.settings[k, 1]
        case.waited_s[k] = case.waited_s[k] + dt_s if out else 0.0
    for k in range(len(net.cap)):
        if np.isnan(net.cap_settings[k, 0]):
            continue
        out = wants(net, k, case.capacitors[k], case.v) != case.capacitors[k]
        case.waited_s[n_control + k] = case.waited_s[n_control + k] + dt_s if out else 0.0


@inner
def controls(net: Network, w: Work, case: Case, dt_s: float) -> tuple[int, int]:
    """Let the controls act on the voltages of a scenario; return tap steps and switchings."""
    for k in range(len(net.control)):
        w.errors[k] = error_of(net, k, case.taps, case.v)
    return act(net, w.switched, case, w.errors, dt_s)
