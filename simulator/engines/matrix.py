"""The matrix of the fixed-point engines: regulators in it, its factors, substitution.

The rows that no moving regulator touches are eliminated once; a tap change computes the others.
"""

from __future__ import annotations

from simulator.engines.arrays import Network, Work
from simulator.engines.base import ComplexArray, IntArray
from simulator.engines.jit import inner, kernel


@inner
def update_matrix(net: Network, w: Work, taps: IntArray) -> bool:
    """Put ``taps`` into the matrix and mark the rows to factor; False if nothing changed."""
    changed = False
    for k in range(len(taps)):
        if taps[k] != w.taps[k]:
            changed = True
    if not changed:
        return False
    stands = True
    for k in range(net.n_still):
        if taps[net.reg[k, 0]] != w.taps[net.reg[k, 0]]:
            stands = False
    if not stands:
        eliminate(net, w, taps)
    for k in range(net.n_still, len(net.reg_y)):
        take_regulator_out(net, w, k)
        if taps[net.reg[k, 0]] != w.taps[net.reg[k, 0]]:
            for m in range(net.reg_rows_ptr[k], net.reg_rows_ptr[k + 1]):
                w.dirty[net.reg_rows[m]] = 1
    for k in range(net.n_still, len(net.reg_y)):
        insert_regulator(net, k, taps, w.a, w.rhs)
    for k in range(len(taps)):
        w.taps[k] = taps[k]
    return True


@inner
def take_regulator_out(net: Network, w: Work, k: int) -> None:
    """Bring what a phase of a regulator adds to back to what it is without any that moves."""
    for m in range(3, 7):
        if net.reg[k, m] >= 0:
            w.a[net.reg[k, m]] = w.base[net.reg[k, m]]
    for m in range(1, 3):
        if net.reg[k, m] < len(w.rhs):
            w.rhs[net.reg[k, m]] = w.base_rhs[net.reg[k, m]]


@inner
def insert_regulator(
    net: Network, k: int, taps: IntArray, a: ComplexArray, rhs: ComplexArray
) -> None:
    """Add a phase of a regulator at its tap to the matrix and to the source's current."""
    n = len(rhs)
    ratio = 1.0 + net.reg_step[k] * taps[net.reg[k, 0]]
    y = net.reg_y[k] * (1.0 / (ratio * ratio))
    i, j = net.reg[k, 1], net.reg[k, 2]
    if net.reg[k, 3] >= 0:
        a[net.reg[k, 3]] += y * (ratio * ratio)
    if net.reg[k, 4] >= 0:
        a[net.reg[k, 4]] -= y * ratio
        a[net.reg[k, 5]] -= y * ratio
    if net.reg[k, 6] >= 0:
        a[net.reg[k, 6]] += y
    if i >= n and j < n:
        rhs[j] += y * ratio * net.v_source[i - n]
    if j >= n and i < n:
        rhs[i] += y * ratio * net.v_source[j - n]


@inner
def copy(values: ComplexArray, to: ComplexArray) -> None:
    """Copy an array into another."""
    for k in range(len(to)):
        to[k] = values[k]


@kernel
def eliminate(net: Network, w: Work, taps: IntArray) -> None:
    """Compute ``w.base`` with the still regulators at ``taps``, and mark all other rows."""
    n, n_lower = len(w.inv_d), len(net.l_idx)
    diagonal = n_lower + len(net.u_idx)
    a, row = w.base, w.row
    copy(net.matrix, a)
    copy(net.rhs, w.base_rhs)
    for k in range(net.n_still):
        insert_regulator(net, k, taps, a, w.base_rhs)
        w.taps[net.reg[k, 0]] = taps[net.reg[k, 0]]
    for i in range(n):
        for k in range(net.l_ptr[i], net.l_ptr[i + 1]):
            row[net.l_idx[k]] = a[k]
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            row[net.u_idx[k]] = a[n_lower + k]
        row[i] = a[diagonal + i]
        for k in range(net.l_ptr[i], net.l_split[i]):
            c = net.l_idx[k]
            row[c] *= a[diagonal + c]
            for m in range(net.u_ptr[c], net.u_ptr[c + 1]):
                row[net.u_idx[m]] -= row[c] * a[n_lower + m]
        for k in range(net.l_ptr[i], net.l_ptr[i + 1]):
            a[k] = row[net.l_idx[k]]
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            a[n_lower + k] = row[net.u_idx[k]]
        a[diagonal + i] = 1.0 / row[i] if i < net.n_fixed else row[i]
    copy(a, w.a)
    copy(w.base_rhs, w.rhs)
    copy(a[:n_lower], w.l)
    copy(a[n_lower:diagonal], w.u)
    copy(a[diagonal:], w.inv_d)
    w.dirty[net.n_fixed :] = 1


@inner
def factor(net: Network, w: Work) -> None:
    """Compute the marked rows of the factors, without pivoting."""
    n_lower, diagonal = len(net.l_idx), len(net.l_idx) + len(net.u_idx)
    for i in range(net.n_fixed, len(w.inv_d)):
        if w.dirty[i] == 0:
            continue
        w.dirty[i] = 0
        for k in range(net.l_split[i], net.l_ptr[i + 1]):
            w.row[net.l_idx[k]] = w.a[k]
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            w.row[net.u_idx[k]] = w.a[n_lower + k]
        w.row[i] = w.a[diagonal + i]
        for k in range(net.l_split[i], net.l_ptr[i + 1]):
            c = net.l_idx[k]
            x = w.row[c] * w.inv_d[c]
            w.l[k] = x
            for m in range(net.u_ptr[c], net.u_ptr[c + 1]):
                w.row[net.u_idx[m]] -= x * w.u[m]
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            w.u[k] = w.row[net.u_idx[k]]
        w.inv_d[i] = 1.0 / w.row[i]


@inner
def substitute(net: Network, w: Work) -> None:
    """Solve in place: ``w.b`` becomes ``Y^-1 w.b``, but for the silent nodes."""
    n = len(w.inv_d)
    for i in range(net.n_silent, n):
        x = w.b[i]
        for k in range(net.l_first[i], net.l_ptr[i + 1]):
            x -= w.l[k] * w.b[net.l_idx[k]]
        w.b[i] = x
    for i in range(n - 1, net.n_silent - 1, -1):
        x = w.b[i]
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            x -= w.u[k] * w.b[net.u_idx[k]]
        w.b[i] = x * w.inv_d[i]


@inner
def complete(net: Network, w: Work, v: ComplexArray) -> None:
    """Set the voltages of the silent nodes by those of the others."""
    for i in range(net.n_silent - 1, -1, -1):
        x = 0j
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            x -= w.u[k] * v[net.u_idx[k]]
        v[i] = x * w.inv_d[i]
