"""The numerical steps of a batch, each for all lanes together.

What each step computes is written down once more, for one scenario, in `simulator.engines.kernels`.
"""

from __future__ import annotations

from simulator.engines.arrays import Network
from simulator.engines.base import FloatArray
from simulator.engines.jit import inner
from simulator.engines.lane_arrays import PAIR, Lanes
from simulator.engines.simd import WIDTH, Vector, chosen, larger, load, root, spread, store


@inner
def insert_regulators(net: Network, w: Lanes) -> None:
    """Put every regulator at its ratio into the matrix and the source's current."""
    n = len(w.dirty)
    for k in range(net.n_still, len(net.reg_y)):
        for m in range(3, 7):
            place = net.reg[k, m]
            if place >= 0:
                store(w.a, place * PAIR, spread(w.base[place].real))
                store(w.a, place * PAIR + WIDTH, spread(w.base[place].imag))
        for m in range(1, 3):
            row = net.reg[k, m]
            if row < n:
                store(w.rhs, row * PAIR, spread(w.base_rhs[row].real))
                store(w.rhs, row * PAIR + WIDTH, spread(w.base_rhs[row].imag))
    one = spread(1.0)
    for k in range(net.n_still, len(net.reg_y)):
        ratio = load(w.ratio, k * WIDTH)
        across = one / ratio
        output = one / (ratio * ratio)
        i, j = net.reg[k, 1], net.reg[k, 2]
        for part in range(2):
            at = part * WIDTH
            y = spread(net.reg_y[k].imag if part else net.reg_y[k].real)
            if net.reg[k, 3] >= 0:
                place = net.reg[k, 3] * PAIR + at
                store(w.a, place, load(w.a, place) + y)
            if net.reg[k, 4] >= 0:
                place = net.reg[k, 4] * PAIR + at
                store(w.a, place, load(w.a, place) - y * across)
                place = net.reg[k, 5] * PAIR + at
                store(w.a, place, load(w.a, place) - y * across)
            if net.reg[k, 6] >= 0:
                place = net.reg[k, 6] * PAIR + at
                store(w.a, place, load(w.a, place) + y * output)
        if i >= n and j < n:
            drive(net, w, j, net.reg_y[k] * net.v_source[i - n], k)
        if j >= n and i < n:
            drive(net, w, i, net.reg_y[k] * net.v_source[j - n], k)


@inner
def drive(net: Network, w: Lanes, row: int, current: complex, k: int) -> None:
    """Add what the source drives into a row through a regulator."""
    across = spread(1.0) / load(w.ratio, k * WIDTH)
    at = row * PAIR
    store(w.rhs, at, load(w.rhs, at) + spread(current.real) * across)
    store(w.rhs, at + WIDTH, load(w.rhs, at + WIDTH) + spread(current.imag) * across)


@inner
def factor(net: Network, w: Lanes) -> None:
    """Compute the marked rows of the factors, without pivoting."""
    n_lower, diagonal = len(net.l_idx) * PAIR, (len(net.l_idx) + len(net.u_idx)) * PAIR
    for i in range(net.n_fixed, len(w.dirty)):
        if w.dirty[i] == 0:
            continue
        w.dirty[i] = 0
        for k in range(net.l_split[i], net.l_ptr[i + 1]):
            store(w.row, net.l_idx[k] * PAIR, load(w.a, k * PAIR))
            store(w.row, net.l_idx[k] * PAIR + WIDTH, load(w.a, k * PAIR + WIDTH))
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            at = n_lower + k * PAIR
            store(w.row, net.u_idx[k] * PAIR, load(w.a, at))
            store(w.row, net.u_idx[k] * PAIR + WIDTH, load(w.a, at + WIDTH))
        store(w.row, i * PAIR, load(w.a, diagonal + i * PAIR))
        store(w.row, i * PAIR + WIDTH, load(w.a, diagonal + i * PAIR + WIDTH))
        for k in range(net.l_split[i], net.l_ptr[i + 1]):
            c = net.l_idx[k]
            at = c * PAIR
            row_r, row_i = load(w.row, at), load(w.row, at + WIDTH)
            d_r, d_i = load(w.inv_d, at), load(w.inv_d, at + WIDTH)
            x_r = row_r * d_r - row_i * d_i
            x_i = row_r * d_i + row_i * d_r
            store(w.l, k * PAIR, x_r)
            store(w.l, k * PAIR + WIDTH, x_i)
            for m in range(net.u_ptr[c], net.u_ptr[c + 1]):
                at = net.u_idx[m] * PAIR
                u_r, u_i = load(w.u, m * PAIR), load(w.u, m * PAIR + WIDTH)
                store(w.row, at, load(w.row, at) - x_r * u_r + x_i * u_i)
                store(w.row, at + WIDTH, load(w.row, at + WIDTH) - x_r * u_i - x_i * u_r)
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            store(w.u, k * PAIR, load(w.row, net.u_idx[k] * PAIR))
            store(w.u, k * PAIR + WIDTH, load(w.row, net.u_idx[k] * PAIR + WIDTH))
        p_r, p_i = load(w.row, i * PAIR), load(w.row, i * PAIR + WIDTH)
        square = p_r * p_r + p_i * p_i
        store(w.inv_d, i * PAIR, p_r / square)
        store(w.inv_d, i * PAIR + WIDTH, spread(0.0) - p_i / square)


@inner
def iterate(net: Network, w: Lanes) -> None:
    """Take one step of the fixed point in the active lanes; leave its largest change."""
    begin(net, w)
    draw(net, w)
    forward(net, w)
    backward(net, w, w.active)


@inner
def no_load(net: Network, w: Lanes) -> None:
    """Set ``v`` of the cold lanes to the voltages of the network without its shunts."""
    begin(net, w)
    forward(net, w)
    backward(net, w, w.cold)


@inner
def begin(net: Network, w: Lanes) -> None:
    """Set ``w.b`` to what the source drives."""
    zero = spread(0.0)
    for i in range(net.n_silent, len(w.dirty)):
        store(w.b, i * PAIR, zero)
        store(w.b, i * PAIR + WIDTH, zero)
    for k in range(len(net.driven)):
        at = net.driven[k] * PAIR
        store(w.b, at, load(w.rhs, at))
        store(w.b, at + WIDTH, load(w.rhs, at + WIDTH))


@inner
def complete(net: Network, w: Lanes) -> None:
    """Set the voltages of the silent nodes by those of the others."""
    n_lower = len(net.l_idx)
    diagonal = n_lower + len(net.u_idx)
    for i in range(net.n_silent - 1, -1, -1):
        x_r, x_i = spread(0.0), spread(0.0)
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            at = net.u_idx[k] * PAIR
            v_r, v_i = load(w.v, at), load(w.v, at + WIDTH)
            u = w.base[n_lower + k]
            u_r, u_i = spread(u.real), spread(u.imag)
            x_r = x_r - u_r * v_r + u_i * v_i
            x_i = x_i - u_r * v_i - u_i * v_r
        d = w.base[diagonal + i]
        d_r, d_i = spread(d.real), spread(d.imag)
        store(w.v, i * PAIR, x_r * d_r - x_i * d_i)
        store(w.v, i * PAIR + WIDTH, x_r * d_i + x_i * d_r)


@inner
def forward(net: Network, w: Lanes) -> None:
    """Substitute through the lower factor, in place."""
    zero = spread(0.0)  # two sums for each part, so that they need not wait for each other
    for i in range(net.n_silent, len(w.dirty)):
        x_r, x_i = load(w.b, i * PAIR), load(w.b, i * PAIR + WIDTH)
        y_r, y_i = zero, zero
        for k in range(net.l_first[i], net.l_split[i]):
            at = net.l_idx[k] * PAIR
            b_r, b_i = load(w.b, at), load(w.b, at + WIDTH)
            l_r, l_i = spread(w.base[k].real), spread(w.base[k].imag)
            x_r, y_r = x_r - l_r * b_r, y_r + l_i * b_i
            x_i, y_i = x_i - l_r * b_i, y_i + l_i * b_r
        for k in range(net.l_split[i], net.l_ptr[i + 1]):
            at = net.l_idx[k] * PAIR
            b_r, b_i = load(w.b, at), load(w.b, at + WIDTH)
            l_r, l_i = load(w.l, k * PAIR), load(w.l, k * PAIR + WIDTH)
            x_r, y_r = x_r - l_r * b_r, y_r + l_i * b_i
            x_i, y_i = x_i - l_r * b_i, y_i + l_i * b_r
        store(w.b, i * PAIR, x_r + y_r)
        store(w.b, i * PAIR + WIDTH, x_i - y_i)


@inner
def backward(net: Network, w: Lanes, lanes: FloatArray) -> None:
    """Substitute through the upper factor, in place; let ``v`` follow in some of the lanes."""
    zero = spread(0.0)
    worst = zero
    on = load(lanes, 0)
    n_lower = len(net.l_idx)
    diagonal = n_lower + len(net.u_idx)
    for i in range(len(w.dirty) - 1, net.n_fixed - 1, -1):
        x_r, x_i = load(w.b, i * PAIR), load(w.b, i * PAIR + WIDTH)
        y_r, y_i = zero, zero
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            at = net.u_idx[k] * PAIR
            b_r, b_i = load(w.b, at), load(w.b, at + WIDTH)
            u_r, u_i = load(w.u, k * PAIR), load(w.u, k * PAIR + WIDTH)
            x_r, y_r = x_r - u_r * b_r, y_r + u_i * b_i
            x_i, y_i = x_i - u_r * b_i, y_i + u_i * b_r
        d_r, d_i = load(w.inv_d, i * PAIR), load(w.inv_d, i * PAIR + WIDTH)
        x_r, x_i = x_r + y_r, x_i - y_i
        worst = follow(w, i, on, x_r * d_r - x_i * d_i, x_r * d_i + x_i * d_r, worst)
    for i in range(net.n_fixed - 1, net.n_silent - 1, -1):
        x_r, x_i = load(w.b, i * PAIR), load(w.b, i * PAIR + WIDTH)
        y_r, y_i = zero, zero
        for k in range(net.u_ptr[i], net.u_ptr[i + 1]):
            at = net.u_idx[k] * PAIR
            b_r, b_i = load(w.b, at), load(w.b, at + WIDTH)
            u = w.base[n_lower + k]
            u_r, u_i = spread(u.real), spread(u.imag)
            x_r, y_r = x_r - u_r * b_r, y_r + u_i * b_i
            x_i, y_i = x_i - u_r * b_i, y_i + u_i * b_r
        d = w.base[diagonal + i]
        d_r, d_i = spread(d.real), spread(d.imag)
        x_r, x_i = x_r + y_r, x_i - y_i
        worst = follow(w, i, on, x_r * d_r - x_i * d_i, x_r * d_i + x_i * d_r, worst)
    store(w.worst, 0, worst)


@inner
def follow(  # noqa: PLR0917 - compiled code takes positions
    w: Lanes, i: int, on: Vector, x_r: Vector, x_i: Vector, worst: Vector
) -> Vector:
    """Put a row's solution to its place, and into ``v`` where ``on``; return the worst change."""
    store(w.b, i * PAIR, x_r)
    store(w.b, i * PAIR + WIDTH, x_i)
    v_r, v_i = load(w.v, i * PAIR), load(w.v, i * PAIR + WIDTH)
    store(w.v, i * PAIR, chosen(on, x_r, v_r))
    store(w.v, i * PAIR + WIDTH, chosen(on, x_i, v_i))
    d_r, d_i = x_r - v_r, x_i - v_i
    return larger(d_r * d_r + d_i * d_i, worst)


@inner
def draw(net: Network, w: Lanes) -> None:
    """Take the shunts' currents off ``w.b``."""
    ground = len(w.b) // PAIR - 1
    one = spread(1.0)
    for k in range(len(net.shunt)):
        i, j, model = net.shunt[k, 0] * PAIR, net.shunt[k, 1], net.shunt[k, 2]
        d_r, d_i = load(w.v, i), load(w.v, i + WIDTH)
        if j != ground:
            d_r, d_i = d_r - load(w.v, j * PAIR), d_i - load(w.v, j * PAIR + WIDTH)
        p, q = load(w.s, k * PAIR), load(w.s, k * PAIR + WIDTH)
        inv_v = spread(net.shunt_inv_v[k])
        # what stands before |d|^2 / v2 in `kernels.shunt_power`, over the squared voltage
        if model == 2:
            p, q = p * (inv_v * inv_v), q * (inv_v * inv_v)
        elif model == 0:
            inv_v2 = one / (d_r * d_r + d_i * d_i)
            p, q = p * inv_v2, q * inv_v2
        else:
            inverse = inv_v / root(d_r * d_r + d_i * d_i)
            p = p * inverse
            q = q * inverse if model == 1 else q * (inv_v * inv_v)
        c_r = p * d_r + q * d_i
        c_i = p * d_i - q * d_r
        store(w.b, i, load(w.b, i) - c_r)
        store(w.b, i + WIDTH, load(w.b, i + WIDTH) - c_i)
        if j != ground:
            store(w.b, j * PAIR, load(w.b, j * PAIR) + c_r)
            store(w.b, j * PAIR + WIDTH, load(w.b, j * PAIR + WIDTH) + c_i)


@inner
def errors_of(net: Network, w: Lanes) -> None:
    """Set by how many volts each regulator's voltage is too low; see `control.error_of`."""
    one = spread(1.0)
    for k in range(len(net.control)):
        phase = net.control[k, 1]
        at, to = net.reg[phase, 1] * PAIR, net.reg[phase, 2] * PAIR
        ratio = load(w.ratio, phase * WIDTH)
        weight = one / (ratio * ratio)
        o_r, o_i = load(w.v, to), load(w.v, to + WIDTH)
        d_r, d_i = ratio * load(w.v, at) - o_r, ratio * load(w.v, at + WIDTH) - o_i
        z = complex(net.settings[k, 3], net.settings[k, 4]) * net.reg_y[phase]
        z_r, z_i = spread(z.real) * weight, spread(z.imag) * weight
        volts = spread(net.settings[k, 2])
        s_r = o_r * volts - (z_r * d_r - z_i * d_i)
        s_i = o_i * volts - (z_r * d_i + z_i * d_r)
        store(w.error, k * WIDTH, spread(net.settings[k, 0]) - root(s_r * s_r + s_i * s_i))
