"""What a batch reports, each figure for all lanes together; compare `kernels.measure`."""

from __future__ import annotations

import numpy as np

from simulator.engines.arrays import Network
from simulator.engines.jit import inner
from simulator.engines.lane_arrays import PAIR, Lanes
from simulator.engines.lane_steps import draw
from simulator.engines.simd import WIDTH, Vector, larger, load, root, spread, store


@inner
def magnitude(w: Lanes, slot: int) -> Vector:
    """Return the absolute value of a voltage."""
    v_r, v_i = load(w.v, slot * PAIR), load(w.v, slot * PAIR + WIDTH)
    return root(v_r * v_r + v_i * v_i)


@inner
def terminal_power(net: Network, w: Lanes, t: int) -> tuple[Vector, Vector, Vector]:
    """Return active and reactive power into a terminal, and its current over the rated one."""
    c_r, c_i = spread(0.0), spread(0.0)
    for k in range(net.terminal[t, 1], net.terminal[t + 1, 1]):
        at = net.terminal_idx[k] * PAIR
        y_r, y_i = spread(net.terminal_y[k].real), spread(net.terminal_y[k].imag)
        v_r, v_i = load(w.v, at), load(w.v, at + WIDTH)
        c_r = c_r + y_r * v_r - y_i * v_i
        c_i = c_i + y_r * v_i + y_i * v_r
    at = net.terminal[t, 0] * PAIR
    v_r, v_i = load(w.v, at), load(w.v, at + WIDTH)
    loading = root(c_r * c_r + c_i * c_i) * spread(net.terminal_rated[t])
    return v_r * c_r + v_i * c_i, v_i * c_r - v_r * c_i, loading


@inner
def consumption(net: Network, w: Lanes) -> Vector:
    """Return the active power that all loads draw."""
    ground = len(w.b) // PAIR - 1
    total = spread(0.0)
    for k in range(net.counts[0]):
        i, j, model = net.shunt[k, 0] * PAIR, net.shunt[k, 1] * PAIR, net.shunt[k, 2]
        p = load(w.s, k * PAIR)
        if model != 0:
            d_r, d_i = load(w.v, i), load(w.v, i + WIDTH)
            if j != ground * PAIR:
                d_r, d_i = d_r - load(w.v, j), d_i - load(w.v, j + WIDTH)
            inv_v = spread(net.shunt_inv_v[k])
            v2 = (d_r * d_r + d_i * d_i) * (inv_v * inv_v)
            p = p * v2 if model == 2 else p * root(v2)
        total = total + p
    return total


@inner
def source_power(net: Network, w: Lanes) -> tuple[Vector, Vector]:
    """Return what the source supplies; ``w.b`` holds the shunts' currents."""
    n = len(w.dirty)
    p, q = spread(0.0), spread(0.0)
    for k in range(len(net.v_source)):
        into_p, into_q, _ = terminal_power(net, w, k)
        at = (n + k) * PAIR
        v_r, v_i = load(w.v, at), load(w.v, at + WIDTH)
        b_r, b_i = load(w.b, at), load(w.b, at + WIDTH)
        p = p + into_p - (v_r * b_r + v_i * b_i)
        q = q + into_q - (v_i * b_r - v_r * b_i)
    for k in range(len(net.reg_y)):
        i, j = net.reg[k, 1] * PAIR, net.reg[k, 2] * PAIR
        if i < n * PAIR and j < n * PAIR:
            continue
        ratio = load(w.ratio, k * WIDTH)
        weight = spread(1.0) / (ratio * ratio)
        x_r, x_i = ratio * load(w.v, i), ratio * load(w.v, i + WIDTH)
        z_r, z_i = load(w.v, j), load(w.v, j + WIDTH)
        y_r, y_i = spread(net.reg_y[k].real) * weight, spread(net.reg_y[k].imag) * weight
        d_r, d_i = x_r - z_r, x_i - z_i
        c_r, c_i = y_r * d_r - y_i * d_i, y_r * d_i + y_i * d_r
        if i >= n * PAIR:
            p = p + x_r * c_r + x_i * c_i
            q = q + x_i * c_r - x_r * c_i
        if j >= n * PAIR:
            p = p - (z_r * c_r + z_i * c_i)
            q = q - (z_i * c_r - z_r * c_i)
    return p, q


@inner
def measure(net: Network, w: Lanes) -> None:
    """Fill ``w.out`` in the order of `simulator.engines.kernels.measure`."""
    n_source, n_ends = net.counts[2], net.counts[3]
    phases = spread(float(net.counts[4]))
    for k in range(len(w.b)):
        w.b[k] = 0.0
    draw(net, w)
    source_p, source_q = source_power(net, w)
    store(w.out, 2 * WIDTH, source_p * phases)
    store(w.out, 3 * WIDTH, source_q * phases)
    store(w.out, 4 * WIDTH, (source_p - consumption(net, w)) * phases)
    for k in range(3):
        store(w.out, (5 + k) * WIDTH, magnitude(w, len(w.dirty) + min(k, n_source - 1)))
    t = n_source
    at = 8 * WIDTH
    for m in range(len(net.pcc_slot)):
        p, q = spread(0.0), spread(0.0)
        for _ in range(n_source):
            into_p, into_q, _loading = terminal_power(net, w, t)
            p, q = p - into_p, q - into_q
            t += 1
        store(w.out, at, p * phases)
        store(w.out, at + WIDTH, q * phases)
        for k in range(3):
            store(w.out, at + (2 + k) * WIDTH, magnitude(w, net.pcc_slot[m, k]))
        at += 5 * WIDTH
    for m in range(len(net.device_slot)):
        for k in range(3):
            slot = net.device_slot[m, k]
            if slot >= 0:
                store(w.out, at + k * WIDTH, magnitude(w, slot))
            else:
                store(w.out, at + k * WIDTH, spread(np.nan))
        at += 3 * WIDTH
    while t + 1 < len(net.terminal):
        worst = spread(0.0)
        for _ in range(n_ends):
            _p, _q, loading = terminal_power(net, w, t)
            worst = larger(loading, worst)
            t += 1
        store(w.out, at, worst * spread(100.0))
        at += WIDTH
