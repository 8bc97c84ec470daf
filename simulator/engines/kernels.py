"""The compiled part of the fixed-point engines.

One power flow is: factors of the admittance matrix on a fixed pattern (only the rows that a tap
change touches are computed again), then ``V <- Y^-1 (I_source - I_shunts(V))`` until it stands
still. Single and batch solves run the same code, scenario by scenario.

Nodes are in elimination order; after them come the source nodes and, last, a ground of 0 V.
Source: the "Z-bus" or implicit current-injection method; T.-H. Chen et al., "Distribution system
power flow analysis - a rigid approach", IEEE Transactions on Power Delivery 6(3), 1991.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.engines.base import ComplexArray, FloatArray, IntArray
from simulator.engines.jit import kernel

OK = 0
NOT_CONVERGED = -1
BAD_LOAD = -2
BAD_DEVICE = -3
NEVER = -(10**6)
"""A tap position that no factors have: makes them new."""


class Network(NamedTuple):
    """What does not change between solves. Pointers and indices are of CSR rows.

    Attributes:
        a_ptr: Pattern of the admittance matrix of the n free nodes.
        a_idx: Its columns.
        a_static: Its values without any regulator.
        l_ptr: Pattern of the strictly lower factor.
        l_idx: Its columns, ascending.
        u_ptr: Pattern of the strictly upper factor.
        u_idx: Its columns, ascending.
        rhs: (n,) current that the source drives, without regulators.
        v_source: Source voltages.
        reg: (phases, 7) owner, input node, output node, places of its four entries in ``a``
            (-1 where a source node is involved).
        reg_y: (phases,) admittance at neutral.
        reg_rows_ptr: Rows that have to be factored again when this regulator moves.
        reg_rows: Those rows.
        control: (controlled, 2) owner and measured phase.
        settings: (controlled, 5) wanted voltage and half the bandwidth in V, V per pu, and the
            compensator's resistance and reactance in V per pu of current.
        shunt: (m, 4) first node, second node, load model, owner; loads first.
        shunt_s: (m,) consumption per unit of the owner's scale.
        shunt_inv_v: (m,) base voltage over rated voltage.
        n_load_shunts: How many of the shunts are loads.
        terminal: (t, 2) node and first entry of its row; one more row closes the last.
        terminal_idx: Nodes of the entries.
        terminal_y: Admittances of the entries.
        terminal_rated: (t,) one over the rated current.
        counts: Terminals of the source, of the microgrids, of each branch's two sides; and the
            phases that one node stands for.
        node_slot: (nodes,) where each node of the grid stands in elimination order.
        device_slot: (devices, 3) the same for the phases of each device; -1 where it has none.
        pcc_slot: (microgrids, 3) the same for each connection bus.
    """

    a_ptr: IntArray
    a_idx: IntArray
    a_static: ComplexArray
    l_ptr: IntArray
    l_idx: IntArray
    u_ptr: IntArray
    u_idx: IntArray
    rhs: ComplexArray
    v_source: ComplexArray
    reg: IntArray
    reg_y: ComplexArray
    reg_rows_ptr: IntArray
    reg_rows: IntArray
    control: IntArray
    settings: FloatArray
    shunt: IntArray
    shunt_s: ComplexArray
    shunt_inv_v: FloatArray
    n_load_shunts: int
    terminal: IntArray
    terminal_idx: IntArray
    terminal_y: ComplexArray
    terminal_rated: FloatArray
    counts: IntArray
    node_slot: IntArray
    device_slot: IntArray
    pcc_slot: IntArray


class Work(NamedTuple):
    """What a solve overwrites; one per engine.

    Attributes:
        taps: Positions that the factors stand for.
        dirty: (n,) rows to be factored again.
        a: Values of the admittance matrix.
        l: Values of the lower factor.
        u: Values of the upper factor.
        inv_d: (n,) one over the pivots.
        rhs: (n,) current that the source drives.
        b: (n + sources + 1,) right-hand side, then solution.
        row: (n,) one row while it is factored.
        s: (m,) consumption of each shunt at rated voltage.
    """

    taps: IntArray
    dirty: IntArray
    a: ComplexArray
    l: ComplexArray  # noqa: E741
    u: ComplexArray
    inv_d: ComplexArray
    rhs: ComplexArray
    b: ComplexArray
    row: ComplexArray
    s: ComplexArray


@kernel
def update_matrix(net: Network, w: Work, taps: IntArray) -> bool:
    """Put ``taps`` into the matrix and mark the rows to factor; False if nothing changed."""
    n = len(w.inv_d)
    changed = False
    for k in range(len(taps)):
        if taps[k] != w.taps[k]:
            changed = True
    if len(taps) == 0 and w.dirty[0] == 1:
        changed = True
    if not changed:
        return False
    for k in range(len(net.reg_y)):
        owner = net.reg[k, 0]
        for m in range(3, 7):
            if net.reg[k, m] >= 0:
                w.a[net.reg[k, m]] = net.a_static[net.reg[k, m]]
        for m in range(1, 3):
            if net.reg[k, m] < n:
                w.rhs[net.reg[k, m]] = net.rhs[net.reg[k, m]]
        if taps[owner] != w.taps[owner]:
            for m in range(net.reg_rows_ptr[k], net.reg_rows_ptr[k + 1]):
                w.dirty[net.reg_rows[m]] = 1
    for k in range(len(net.reg_y)):
        ratio = 1.0 + 0.00625 * taps[net.reg[k, 0]]
        y = net.reg_y[k] / (ratio * ratio)
        i, j = net.reg[k, 1], net.reg[k, 2]
        if net.reg[k, 3] >= 0:
            w.a[net.reg[k, 3]] += y * (ratio * ratio)
        if net.reg[k, 4] >= 0:
            w.a[net.reg[k, 4]] -= y * ratio
            w.a[net.reg[k, 5]] -= y * ratio
        if net.reg[k, 6] >= 0:
            w.a[net.reg[k, 6]] += y
        if i >= n and j < n:
            w.rhs[j] += y * ratio * net.v_source[i - n]
        if j >= n and i < n:
            w.rhs[i] += y * ratio * net.v_source[j - n]
    for k in range(len(taps)):
        w.taps[k] = taps[k]
    return True


@kernel
def factor(net: Network, w: Work) -> None:
    """Compute the marked rows of the factors, without pivoting."""
    for i in range(len(w.inv_d)):
        if w.dirty[i] == 0:
            continue
        w.dirty[i] = 0
        for k in range(net.l_ptr[i], net.l_ptr[i + 1]):
            w.row[net.l_idx[k]] = 0.0
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            w.row[net.u_idx[k]] = 0.0
        w.row[i] = 0.0
        for k in range(net.a_ptr[i], net.a_ptr[i + 1]):
            w.row[net.a_idx[k]] = w.a[k]
        for k in range(net.l_ptr[i], net.l_ptr[i + 1]):
            c = net.l_idx[k]
            x = w.row[c] * w.inv_d[c]
            w.l[k] = x
            for m in range(net.u_ptr[c], net.u_ptr[c + 1]):
                w.row[net.u_idx[m]] -= x * w.u[m]
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            w.u[k] = w.row[net.u_idx[k]]
        w.inv_d[i] = 1.0 / w.row[i]


@kernel
def substitute(net: Network, w: Work) -> None:
    """Solve in place: ``w.b`` becomes ``Y^-1 w.b``."""
    n = len(w.inv_d)
    for i in range(n):
        x = w.b[i]
        for k in range(net.l_ptr[i], net.l_ptr[i + 1]):
            x -= w.l[k] * w.b[net.l_idx[k]]
        w.b[i] = x
    for i in range(n - 1, -1, -1):
        x = w.b[i]
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            x -= w.u[k] * w.b[net.u_idx[k]]
        w.b[i] = x * w.inv_d[i]


@kernel
def shunt_power(s: complex, model: int, inv_v: float, v2: float) -> complex:
    """Return what a shunt draws at the squared voltage ``v2``."""
    if model == 0:
        return s
    if model == 1:
        return s * (np.sqrt(v2) * inv_v)
    if model == 2:
        return s * (v2 * inv_v * inv_v)
    return complex(s.real * np.sqrt(v2) * inv_v, s.imag * v2 * inv_v * inv_v)


@kernel
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
        if k < net.n_load_shunts:
            total += power
    return total


@kernel
def fixed_point(net: Network, w: Work, v: ComplexArray, tolerance: float, most: int) -> int:
    """Iterate ``v`` to a solution; return the iterations, or `NOT_CONVERGED`."""
    n = len(w.inv_d)
    for iteration in range(1, most + 1):
        for i in range(n):
            w.b[i] = w.rhs[i]
        draw(net, w, v)
        substitute(net, w)
        worst = 0.0
        for i in range(n):
            d = w.b[i] - v[i]
            change = d.real * d.real + d.imag * d.imag
            if not change <= worst:  # also true for NaN, which then stays
                worst = change
            v[i] = w.b[i]
        if worst <= tolerance * tolerance:
            return iteration
        if not worst < 1e6:
            return NOT_CONVERGED
    return NOT_CONVERGED


@kernel
def no_load(net: Network, w: Work, v: ComplexArray) -> None:
    """Set ``v`` to the voltages of the network without its shunts."""
    n = len(w.inv_d)
    for i in range(n):
        w.b[i] = w.rhs[i]
    substitute(net, w)
    for i in range(n):
        v[i] = w.b[i]
    for i in range(len(net.v_source)):
        v[n + i] = net.v_source[i]
    v[n + len(net.v_source)] = 0.0


@kernel
def regulate(net: Network, taps: IntArray, v: ComplexArray) -> int:
    """Move each controlled regulator by at most four steps; return the steps moved."""
    moved = 0
    for k in range(len(net.control)):
        owner, phase = net.control[k, 0], net.control[k, 1]
        ratio = 1.0 + 0.00625 * taps[owner]
        out = v[net.reg[phase, 2]]
        current = (ratio * v[net.reg[phase, 1]] - out) * net.reg_y[phase] / (ratio * ratio)
        drop = complex(net.settings[k, 3], net.settings[k, 4]) * current
        error = net.settings[k, 0] - abs(out * net.settings[k, 2] - drop)
        excess = abs(error) - net.settings[k, 1]
        if excess > 0.0:
            steps = min(max(int(np.ceil(excess / 0.75)), 1), 4)
            wanted = taps[owner] + (steps if error > 0.0 else -steps)
            wanted = min(max(wanted, -16), 16)
            moved += abs(wanted - taps[owner])
            taps[owner] = wanted
    return moved


@kernel
def take(
    net: Network, w: Work, load_scale: FloatArray, p_mw: FloatArray, q_mvar: FloatArray
) -> int:
    """Set the shunts' consumption; return `OK` or what is not a finite number."""
    for k in range(len(load_scale)):
        if not np.isfinite(load_scale[k]):
            return BAD_LOAD
    for k in range(len(p_mw)):
        if not (np.isfinite(p_mw[k]) and np.isfinite(q_mvar[k])):
            return BAD_DEVICE
    for k in range(len(w.s)):
        owner = net.shunt[k, 3]
        if k < net.n_load_shunts:
            w.s[k] = net.shunt_s[k] * load_scale[owner]
        else:
            w.s[k] = -net.shunt_s[k] * complex(p_mw[owner], q_mvar[owner])
    return OK


@kernel
def solve(
    net: Network,
    w: Work,
    load_scale: FloatArray,
    p_mw: FloatArray,
    q_mvar: FloatArray,
    taps: IntArray,
    v: ComplexArray,
    passes: int,
    tolerance: float,
    v_pu: ComplexArray,
    out: FloatArray,
) -> int:
    """Solve one scenario: change ``taps`` and ``v`` to the solution and fill the results.

    Args:
        net: The network.
        w: The workspace.
        load_scale: (loads,) multipliers.
        p_mw: (devices,) positive = injects.
        q_mvar: (devices,) positive = injects.
        taps: (regulators,) positions; moved in place.
        v: (n + sources + 1,) warm start; empty start where the last entry is NaN.
        passes: How often regulators may move; 0 holds them.
        tolerance: Largest change of any voltage in the last iteration, pu.
        v_pu: (nodes,) receives the voltages.
        out: Receives the figures in the order of `measure`.

    Returns:
        Iterations of the last inner solve, or a negative code.
    """
    code = take(net, w, load_scale, p_mw, q_mvar)
    if code != OK:
        return code
    moves = 0
    iterations = 0
    for turn in range(passes + 1):
        if update_matrix(net, w, taps):
            factor(net, w)
        if not np.isfinite(v[len(v) - 1].real):
            no_load(net, w, v)
        iterations = fixed_point(net, w, v, tolerance, 100)
        if iterations < 0:
            no_load(net, w, v)
            iterations = fixed_point(net, w, v, tolerance, 1000)
            if iterations < 0:
                return iterations
        if turn == passes:
            break
        moved = regulate(net, taps, v)
        moves += moved
        if moved == 0:
            break
    out[0] = moves
    measure(net, w, v, v_pu, out)
    for k in range(len(p_mw)):
        out[3] += p_mw[k]
    return iterations


@kernel
def terminal_power(net: Network, v: ComplexArray, t: int) -> tuple[complex, float]:
    """Return power into a terminal and its current over the rated one."""
    current = 0j
    for k in range(net.terminal[t, 1], net.terminal[t + 1, 1]):
        current += net.terminal_y[k] * v[net.terminal_idx[k]]
    node = v[net.terminal[t, 0]]
    return node * complex(current.real, -current.imag), abs(current) * net.terminal_rated[t]


@kernel
def measure(net: Network, w: Work, v: ComplexArray, v_pu: ComplexArray, out: FloatArray) -> None:
    """Fill ``v_pu`` and, from ``out[1]`` on: source P, Q, losses without the devices' power,
    head voltages (3), then per microgrid P, Q and three voltages, per device three voltages,
    per branch its loading."""
    n = len(w.inv_d)
    n_source, n_branch_ends, phases = net.counts[0], net.counts[1], net.counts[2]
    n_pcc, n_device = len(net.pcc_slot), len(net.device_slot)
    for k in range(len(v_pu)):
        v_pu[k] = v[net.node_slot[k]]
    for k in range(len(w.b)):
        w.b[k] = 0.0
    consumed = draw(net, w, v)
    source = 0j
    for k in range(n_source):
        into, _ = terminal_power(net, v, k)
        b = w.b[n + k]
        source += into - v[n + k] * complex(b.real, -b.imag)
    out[1] = source.real * phases
    out[2] = source.imag * phases
    out[3] = (source.real - consumed.real) * phases
    for k in range(3):
        out[4 + k] = abs(v[n + min(k, n_source - 1)])
    t = n_source
    at = 7
    for m in range(n_pcc):
        total = 0j
        for k in range(n_source):
            into, _ = terminal_power(net, v, t)
            total -= into
            t += 1
        out[at] = total.real * phases
        out[at + 1] = total.imag * phases
        for k in range(3):
            out[at + 2 + k] = abs(v[net.pcc_slot[m, k]])
        at += 5
    for m in range(n_device):
        for k in range(3):
            slot = net.device_slot[m, k]
            out[at + k] = abs(v[slot]) if slot >= 0 else np.nan
        at += 3
    while t + 1 < len(net.terminal):
        worst = 0.0
        for k in range(n_branch_ends):
            _, loading = terminal_power(net, v, t)
            worst = max(worst, loading)
            t += 1
        out[at] = worst * 100.0
        at += 1


@kernel
def solve_batch(
    net: Network,
    w: Work,
    load_scale: FloatArray,
    p_mw: FloatArray,
    q_mvar: FloatArray,
    taps: IntArray,
    v: ComplexArray,
    passes: int,
    tolerance: float,
    v_pu: ComplexArray,
    out: FloatArray,
    code: IntArray,
) -> None:
    """Solve each scenario in turn; arguments as in `solve` with a leading scenario axis.

    A scenario that fails keeps a negative ``code``; the others are not affected.
    """
    for e in range(len(code)):
        code[e] = solve(
            net,
            w,
            load_scale[e],
            p_mw[e],
            q_mvar[e],
            taps[e],
            v[e],
            passes,
            tolerance,
            v_pu[e],
            out[e],
        )
