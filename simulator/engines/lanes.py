"""The compiled part of batches: many scenarios at once, one in each lane of a vector.

The method is that of `simulator.engines.kernels`. Every lane has its own taps, factors and number
of iterations; one that stands still is left alone while the others go on, so that no scenario
depends on its neighbours, to the last bit.
"""

from __future__ import annotations

import numpy as np

from simulator.engines.arrays import Case, Network
from simulator.engines.base import IntArray
from simulator.engines.jit import inner, kernel
from simulator.engines.kernels import (
    BAD_INPUT,
    COLD_ITERATIONS,
    NOT_CONVERGED,
    OK,
    ROUGH,
    WARM_ITERATIONS,
    act,
    wait,
)
from simulator.engines.lane_arrays import PAIR, Lanes
from simulator.engines.lane_results import measure
from simulator.engines.lane_steps import factor, insert_regulators, iterate, no_load
from simulator.engines.simd import WIDTH, load, spread, store


@inner
def scenario(cases: Case, e: int) -> Case:
    """Return one scenario of a batch, without copying it."""
    return Case(
        cases.load_scale[e],
        cases.p_mw[e],
        cases.q_mvar[e],
        cases.taps[e],
        cases.capacitors[e],
        cases.waited_s[e],
        cases.v[e],
        cases.v_pu[e],
        cases.out[e],
    )


@kernel
def prepare(net: Network, w: Lanes) -> None:
    """Factor the rows that differ between lanes for the first time."""
    insert_regulators(net, w)
    factor(net, w)


@inner
def take(net: Network, w: Lanes, cases: Case, first: int, count: int) -> None:
    """Put the consumption and the starts of scenarios into the lanes; leave a code in each."""
    n_loads, n_devices = cases.load_scale.shape[1], cases.p_mw.shape[1]
    for k in range(n_loads):
        for q in range(count):
            w.given[k * WIDTH + q] = cases.load_scale[first + q, k]
    for k in range(n_devices):
        for q in range(count):
            w.given[(n_loads + k) * WIDTH + q] = cases.p_mw[first + q, k]
            w.given[(n_loads + n_devices + k) * WIDTH + q] = cases.q_mvar[first + q, k]
    nothing = spread(0.0)  # but NaN in a lane in which a number is none
    for k in range(n_loads + 2 * n_devices):
        x = load(w.given, k * WIDTH)
        nothing = nothing + (x - x)
    store(w.worst, 0, nothing)
    for k in range(net.counts[1]):
        s_r, s_i = spread(net.shunt_s[k].real), spread(net.shunt_s[k].imag)
        at = net.shunt[k, 3] * WIDTH
        if k < net.counts[0]:
            scale = load(w.given, at)
            store(w.s, k * PAIR, s_r * scale)
            store(w.s, k * PAIR + WIDTH, s_i * scale)
        else:
            at += n_loads * WIDTH
            p, q_ = load(w.given, at), load(w.given, at + n_devices * WIDTH)
            store(w.s, k * PAIR, s_i * q_ - s_r * p)
            store(w.s, k * PAIR + WIDTH, spread(0.0) - s_r * q_ - s_i * p)
    n = len(w.dirty)
    for k in range(n):
        for q in range(count):
            w.v[k * PAIR + q] = cases.v[first + q, k].real
            w.v[k * PAIR + WIDTH + q] = cases.v[first + q, k].imag
    for k in range(len(net.v_source)):
        store(w.v, (n + k) * PAIR, spread(net.v_source[k].real))
        store(w.v, (n + k) * PAIR + WIDTH, spread(net.v_source[k].imag))
    for q in range(WIDTH):
        w.code[q] = OK if q < count and w.worst[q] == 0.0 else BAD_INPUT
        w.cold[q] = 0.0 if q >= count or np.isfinite(cases.v[first + q, 0].real) else 1.0


@inner
def position(net: Network, w: Lanes, q: int, case: Case) -> bool:
    """Put a scenario's taps and capacitors into a lane; say whether the matrix changes."""
    for k in range(net.counts[1], len(net.shunt)):
        s = net.shunt_s[k] * case.capacitors[net.shunt[k, 3]]
        w.s[k * PAIR + q] = s.real
        w.s[k * PAIR + WIDTH + q] = s.imag
    changed = False
    for k in range(len(net.reg_y)):
        owner = net.reg[k, 0]
        if case.taps[owner] != w.taps[q, owner]:
            changed = True
            w.ratio[k * WIDTH + q] = 1.0 + net.reg_step[k] * case.taps[owner]
            for m in range(net.reg_rows_ptr[k], net.reg_rows_ptr[k + 1]):
                w.dirty[net.reg_rows[m]] = 1
    for k in range(len(case.taps)):
        w.taps[q, k] = case.taps[k]
    return changed


@inner
def settle(net: Network, w: Lanes) -> None:
    """Iterate the active lanes to their aims; leaves their codes."""
    running = 0
    restart = False
    for q in range(WIDTH):
        w.taken[q] = 0
        w.most[q] = COLD_ITERATIONS if w.cold[q] != 0.0 else WARM_ITERATIONS
        if w.active[q] != 0.0:
            running += 1
            restart |= w.cold[q] != 0.0
    while running > 0:
        if restart:
            no_load(net, w)
            w.cold[:] = 0.0
            restart = False
        iterate(net, w)
        for q in range(WIDTH):
            if w.active[q] != 0.0 and arrived(w, q):
                w.active[q] = 0.0
                running -= 1
            restart |= w.cold[q] != 0.0


@inner
def arrived(w: Lanes, q: int) -> bool:
    """Say whether a lane's iterations end here, with its code; a warm start that fails is cold."""
    w.taken[q] += 1
    if w.worst[q] <= w.aim[q] * w.aim[q]:
        w.code[q] = w.taken[q]
        return True
    if w.worst[q] < 1e6 and w.taken[q] < w.most[q]:
        return False
    if w.most[q] == WARM_ITERATIONS:
        w.cold[q] = 1.0
        w.taken[q] = 0
        w.most[q] = COLD_ITERATIONS
        return False
    w.code[q] = NOT_CONVERGED
    return True


@inner
def controlled(net: Network, w: Lanes, q: int, case: Case) -> None:
    """Copy the voltages that controls look at from a lane to its scenario."""
    for k in range(len(net.control)):
        phase = net.control[k, 1]
        for m in range(1, 3):
            at = net.reg[phase, m]
            case.v[at] = complex(w.v[at * PAIR + q], w.v[at * PAIR + WIDTH + q])
    for k in range(len(net.cap)):
        for m in range(3):
            at = net.cap[k, m]
            case.v[at] = complex(w.v[at * PAIR + q], w.v[at * PAIR + WIDTH + q])


@inner
def report(net: Network, w: Lanes, cases: Case, first: int, count: int) -> None:
    """Copy the results of the lanes to their scenarios; those that failed are filled, too."""
    for k in range(cases.v.shape[1]):
        for q in range(count):
            cases.v[first + q, k] = complex(w.v[k * PAIR + q], w.v[k * PAIR + WIDTH + q])
    for q in range(count):
        for k in range(len(net.node_slot)):
            cases.v_pu[first + q, k] = cases.v[first + q, net.node_slot[k]]
    for k in range(2, cases.out.shape[1]):
        for q in range(count):
            cases.out[first + q, k] = w.out[k * WIDTH + q]
    for q in range(count):
        cases.out[first + q, 0] = w.moves[q, 0]
        cases.out[first + q, 1] = w.moves[q, 1]
        for k in range(cases.p_mw.shape[1]):
            cases.out[first + q, 4] += cases.p_mw[first + q, k]


@inner
def solve_lanes(  # noqa: PLR0917 - compiled code takes positions
    net: Network,
    w: Lanes,
    cases: Case,
    first: int,
    count: int,
    passes: int,
    dt_s: float,
    tolerance: float,
) -> None:
    """Solve up to `WIDTH` scenarios from ``first`` on, control passes included."""
    rough = max(tolerance, ROUGH)
    take(net, w, cases, first, count)
    w.turn[:] = 0
    w.moves[:] = 0
    w.switched[:] = 0
    busy = 0
    for q in range(WIDTH):
        w.aim[q] = rough if passes > 0 else tolerance
        w.active[q] = 1.0 if w.code[q] == OK else 0.0
        busy += w.code[q] == OK
    while busy > 0:
        changed = False
        for q in range(count):
            if w.active[q] != 0.0:
                changed |= position(net, w, q, scenario(cases, first + q))
        if changed:
            insert_regulators(net, w)
            factor(net, w)
        going = w.active.copy()
        settle(net, w)
        busy = 0
        for q in range(count):
            if going[q] == 0.0 or w.code[q] < 0:
                continue
            case = scenario(cases, first + q)
            moved, switched = 0, 0
            if w.turn[q] < passes:
                controlled(net, w, q, case)
                moved, switched = act(net, w.switched[q], case, dt_s)
            if moved > 0 or switched > 0:
                w.moves[q, 0] += moved
                w.moves[q, 1] += switched
                w.turn[q] += 1
                w.aim[q] = rough if w.turn[q] < passes else tolerance
            elif w.aim[q] > tolerance:
                w.aim[q] = tolerance
            else:
                continue
            w.active[q] = 1.0
            busy += 1
    measure(net, w)


@kernel
def solve_batch(  # noqa: PLR0917 - compiled code takes positions
    net: Network,
    w: Lanes,
    cases: Case,
    passes: int,
    dt_s: float,
    tolerance: float,
    codes: IntArray,
) -> None:
    """Solve each scenario; the arrays of ``cases`` have a leading scenario axis.

    Args:
        net: The network.
        w: The workspace.
        cases: The scenarios; receive their solutions.
        passes: How often controls may act; 0 holds them.
        dt_s: Length of the step, against which the controls' delays count.
        tolerance: Largest change of any voltage in the last iteration, pu.
        codes: Receives the iterations of each scenario's last inner solve, or a negative code:
            that scenario failed, and the others are not affected.
    """
    n = len(codes)
    for first in range(0, n, WIDTH):
        count = min(WIDTH, n - first)
        solve_lanes(net, w, cases, first, count, passes, dt_s, tolerance)
        report(net, w, cases, first, count)
        for q in range(count):
            codes[first + q] = w.code[q]
            if w.code[q] > 0 and passes > 0:
                wait(net, scenario(cases, first + q), dt_s)
