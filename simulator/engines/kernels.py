"""The compiled part of the fixed-point engines.

One power flow is: factors of the admittance matrix on a fixed pattern (only the rows that a tap
change touches are computed again), then ``V <- Y^-1 (I_source - I_shunts(V))`` until it stands
still. Single and batch solves run the same code, scenario by scenario.

Source: the "Z-bus" or implicit current-injection method; T.-H. Chen et al., "Distribution system
power flow analysis - a rigid approach", IEEE Transactions on Power Delivery 6(3), 1991.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.engines.arrays import Case, Network, Work
from simulator.engines.base import ComplexArray, FloatArray
from simulator.engines.control import certain, controls, left, wait
from simulator.engines.jit import inner, kernel
from simulator.engines.matrix import complete, factor, substitute, update_matrix

ROUGH = 1e-5
"""Tolerance while controls still move, pu; 0.001 V to them. The last solve is always fine."""

WARM_ITERATIONS = 100
"""How many a warm start is given before the flat one is tried."""
COLD_ITERATIONS = 1000
"""At the nose of the curve the fixed point takes hundreds."""

OK = 0
NOT_CONVERGED = -1
BAD_INPUT = -2


@inner
def shunt_power(s: complex, model: int, inv_v: float, v2: float) -> complex:
    """Return what a shunt draws at the squared voltage ``v2``."""
    if model == 0:
        return s
    if model == 1:
        return s * (float(np.sqrt(v2)) * inv_v)
    if model == 2:
        return s * (v2 * inv_v * inv_v)
    magnitude = float(np.sqrt(v2)) * inv_v
    return complex(s.real * magnitude, s.imag * magnitude * magnitude)


@inner
def draw(net: Network, w: Work, v: ComplexArray) -> complex:
    """Take the shunts' currents off ``w.b``; return what the loads draw together."""
    total = 0j
    for k in range(len(w.s)):
        i, j = net.shunt[k, 0], net.shunt[k, 1]
        d = v[i] - v[j]
        v2 = d.real * d.real + d.imag * d.imag
        power = shunt_power(w.s[k], net.shunt[k, 2], net.shunt_inv_v[k], v2)
        current = complex(power.real, -power.imag) * d * (1.0 / v2)
        w.b[i] -= current
        w.b[j] += current
        if k < net.counts[0]:
            total += power
    return total


@inner
def fixed_point(  # noqa: PLR0917 - compiled code takes positions
    net: Network, w: Work, case: Case, tolerance: float, most: int, early: bool, dt_s: float
) -> int:
    """Iterate ``case.v`` to a solution; return the iterations, or `NOT_CONVERGED`.

    The silent nodes are left as they are. With ``early``, stop as soon as what the controls do is
    certain.
    """
    n, v = len(w.inv_d), case.v
    before = 0.0
    for iteration in range(1, most + 1):
        for i in range(net.n_silent, n):
            w.b[i] = w.rhs[i]
        draw(net, w, v)
        substitute(net, w)
        worst = 0.0
        for i in range(net.n_silent, n):
            d = w.b[i] - v[i]
            change = d.real * d.real + d.imag * d.imag
            if not change <= worst:  # also true for NaN, which then stays
                worst = change
            v[i] = w.b[i]
        if worst <= tolerance * tolerance:
            return iteration
        if not worst < 1e6:
            return NOT_CONVERGED
        if early and certain(net, case, w.errors, left(worst, before), dt_s):
            return iteration
        before = worst
    return NOT_CONVERGED


@inner
def no_load(net: Network, w: Work, v: ComplexArray) -> None:
    """Set ``v`` to the voltages of the network without its shunts."""
    n = len(w.inv_d)
    for i in range(net.n_silent, n):
        w.b[i] = w.rhs[i]
    substitute(net, w)
    for i in range(net.n_silent, n):
        v[i] = w.b[i]
    complete(net, w, v)
    for i in range(len(net.v_source)):
        v[n + i] = net.v_source[i]
    v[n + len(net.v_source)] = 0.0


@inner
def take(net: Network, w: Work, case: Case) -> int:
    """Set the consumption of loads and devices; return `OK` or what is not a finite number."""
    for k in range(len(case.load_scale)):
        if not np.isfinite(case.load_scale[k]):
            return BAD_INPUT
    for k in range(len(case.p_mw)):
        if not (np.isfinite(case.p_mw[k]) and np.isfinite(case.q_mvar[k])):
            return BAD_INPUT
    for k in range(net.counts[0]):
        w.s[k] = net.shunt_s[k] * case.load_scale[net.shunt[k, 3]]
    for k in range(net.counts[0], net.counts[1]):
        owner = net.shunt[k, 3]
        w.s[k] = -net.shunt_s[k] * complex(case.p_mw[owner], case.q_mvar[owner])
    return OK


@inner
def settle(  # noqa: PLR0917 - compiled code takes positions
    net: Network, w: Work, case: Case, tolerance: float, early: bool, dt_s: float
) -> int:
    """Solve with the taps and capacitors as they are; return iterations or `NOT_CONVERGED`."""
    if update_matrix(net, w, case.taps):
        factor(net, w)
    for k in range(net.counts[1], len(w.s)):
        w.s[k] = net.shunt_s[k] * case.capacitors[net.shunt[k, 3]]
    if np.isfinite(case.v[0].real):
        iterations = fixed_point(net, w, case, tolerance, WARM_ITERATIONS, early, dt_s)
        if iterations > 0:
            return iterations
    no_load(net, w, case.v)
    return fixed_point(net, w, case, tolerance, COLD_ITERATIONS, early, dt_s)


@inner
def solve_case(  # noqa: PLR0917 - compiled code takes positions
    net: Network, w: Work, case: Case, passes: int, dt_s: float, tolerance: float
) -> int:
    """Solve one scenario.

    Args:
        net: The network.
        w: The workspace.
        case: The scenario; receives the solution.
        passes: How often controls may act; 0 holds them.
        dt_s: Length of the step, against which the controls' delays count.
        tolerance: Largest change of any voltage in the last iteration, pu.

    Returns:
        Iterations of the last inner solve, or a negative code.
    """
    code = take(net, w, case)
    if code != OK:
        return code
    moves = 0
    switchings = 0
    for k in range(len(w.switched)):
        w.switched[k] = 0
    rough = max(tolerance, ROUGH)
    turn = 0
    aim = rough if passes > 0 else tolerance
    while True:
        iterations = settle(net, w, case, aim, aim > tolerance, dt_s)
        if iterations < 0:
            return iterations
        moved, switched = 0, 0
        if turn < passes:
            moved, switched = controls(net, w, case, dt_s)
        if moved > 0 or switched > 0:
            moves += moved
            switchings += switched
            turn += 1
            aim = rough if turn < passes else tolerance
        elif aim > tolerance:
            aim = tolerance
        else:
            break
    if passes > 0:
        wait(net, case, dt_s)
    finish(net, w, case, moves, switchings)
    return iterations


@kernel
def solve(  # noqa: PLR0917 - compiled code takes positions
    network: tuple[Any, ...],
    work: tuple[Any, ...],
    arrays: tuple[Any, ...],
    passes: int,
    dt_s: float,
    tolerance: float,
) -> int:
    """Solve one scenario; see `solve_case`.

    The fields of `Network`, `Work` and `Case` come as plain tuples: with named ones, numba would
    take longer to see what it is given than a small network takes to solve.
    """
    return solve_case(Network(*network), Work(*work), Case(*arrays), passes, dt_s, tolerance)


@inner
def terminal_power(net: Network, v: ComplexArray, t: int) -> tuple[complex, float]:
    """Return power into a terminal and its current over the rated one."""
    current = 0j
    for k in range(net.terminal[t, 1], net.terminal[t + 1, 1]):
        current += net.terminal_y[k] * v[net.terminal_idx[k]]
    node = v[net.terminal[t, 0]]
    return node * complex(current.real, -current.imag), abs(current) * net.terminal_rated[t]


@inner
def source_power(net: Network, w: Work, v: ComplexArray) -> complex:
    """Return what the source supplies; ``w.b`` holds the shunts' currents."""
    n = len(w.inv_d)
    total = 0j
    for k in range(len(net.v_source)):
        into, _ = terminal_power(net, v, k)
        b = w.b[n + k]
        total += into - v[n + k] * complex(b.real, -b.imag)
    for k in range(len(net.reg_y)):
        i, j = net.reg[k, 1], net.reg[k, 2]
        ratio = 1.0 + net.reg_step[k] * w.taps[net.reg[k, 0]]
        current = (ratio * v[i] - v[j]) * net.reg_y[k] * (1.0 / (ratio * ratio))
        conjugate = complex(current.real, -current.imag)
        if i >= n:
            total += v[i] * ratio * conjugate
        if j >= n:
            total -= v[j] * conjugate
    return total


@inner
def measure(net: Network, w: Work, v: ComplexArray, v_pu: ComplexArray, out: FloatArray) -> None:
    """Fill ``v_pu`` and the figures.

    ``out`` is: tap steps, switchings, source P, source Q, losses (without the devices' power),
    head voltages (3); per microgrid P, Q and three voltages; per device three voltages; per
    branch its loading in percent.
    """
    n_source, n_ends, phases = net.counts[2], net.counts[3], net.counts[4]
    for k in range(len(v_pu)):
        v_pu[k] = v[net.node_slot[k]]
    for k in range(len(w.b)):
        w.b[k] = 0.0
    consumed = draw(net, w, v)
    source = source_power(net, w, v)
    out[2] = source.real * phases
    out[3] = source.imag * phases
    out[4] = (source.real - consumed.real) * phases
    for k in range(3):
        out[5 + k] = abs(v[len(w.inv_d) + min(k, n_source - 1)])
    t = n_source
    at = 8
    for m in range(len(net.pcc_slot)):
        exported = 0j
        for _ in range(n_source):
            into, _loading = terminal_power(net, v, t)
            exported -= into
            t += 1
        out[at] = exported.real * phases
        out[at + 1] = exported.imag * phases
        for k in range(3):
            out[at + 2 + k] = abs(v[net.pcc_slot[m, k]])
        at += 5
    for m in range(len(net.device_slot)):
        for k in range(3):
            slot = net.device_slot[m, k]
            out[at + k] = abs(v[slot]) if slot >= 0 else np.nan
        at += 3
    while t + 1 < len(net.terminal):
        worst = 0.0
        for _ in range(n_ends):
            _into, loading = terminal_power(net, v, t)
            worst = max(worst, loading)
            t += 1
        out[at] = worst * 100.0
        at += 1


@inner
def finish(net: Network, w: Work, case: Case, moves: int, switchings: int) -> None:
    """Fill the results of a scenario whose voltages are solved."""
    complete(net, w, case.v)
    measure(net, w, case.v, case.v_pu, case.out)
    case.out[0] = moves
    case.out[1] = switchings
    for k in range(len(case.p_mw)):
        case.out[4] += case.p_mw[k]
