"""The compiled part of batches: many scenarios at once, one in each lane of a vector.

The method is that of `simulator.engines.kernels`. Every lane has its own taps, factors and number
of iterations, and takes the next scenario as soon as its own is solved. What a lane computes has
nothing to do with the others, so no scenario depends on its neighbours, to the last bit.
"""

from __future__ import annotations

import numpy as np

from simulator.engines.arrays import Case, Network, Work
from simulator.engines.base import FloatArray, IntArray
from simulator.engines.control import NEAR, act, decided, left, wait
from simulator.engines.jit import inner, kernel
from simulator.engines.kernels import (
    COLD_ITERATIONS,
    NOT_CONVERGED,
    OK,
    ROUGH,
    WARM_ITERATIONS,
)
from simulator.engines.lane_arrays import PAIR, Lanes
from simulator.engines.lane_results import measure
from simulator.engines.lane_steps import (
    complete,
    errors_of,
    factor,
    insert_regulators,
    iterate,
    no_load,
)
from simulator.engines.matrix import eliminate
from simulator.engines.simd import WIDTH, spread, store


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
def prepare(net: Network, work: Work, w: Lanes, taps: IntArray) -> None:
    """Put the still regulators at ``taps`` in all lanes, and compute all factors anew."""
    eliminate(net, work, taps)
    for k in range(len(w.base)):
        store(w.a, k * PAIR, spread(w.base[k].real))
        store(w.a, k * PAIR + WIDTH, spread(w.base[k].imag))
    for k in range(len(w.base_rhs)):
        store(w.rhs, k * PAIR, spread(w.base_rhs[k].real))
        store(w.rhs, k * PAIR + WIDTH, spread(w.base_rhs[k].imag))
    for k in range(net.n_still):
        store(w.ratio, k * WIDTH, spread(1.0 + net.reg_step[k] * taps[net.reg[k, 0]]))
    n = len(w.dirty)
    for k in range(len(net.v_source)):
        store(w.v, (n + k) * PAIR, spread(net.v_source[k].real))
        store(w.v, (n + k) * PAIR + WIDTH, spread(net.v_source[k].imag))
    w.dirty[net.n_fixed :] = 1
    insert_regulators(net, w)
    factor(net, w)


@inner
def enter(net: Network, w: Lanes, q: int, case: Case) -> None:
    """Put a scenario's consumption and voltages into a lane."""
    for k in range(net.counts[0]):
        scale = case.load_scale[net.shunt[k, 3]]
        w.s[k * PAIR + q] = net.shunt_s[k].real * scale
        w.s[k * PAIR + WIDTH + q] = net.shunt_s[k].imag * scale
    for k in range(net.counts[0], net.counts[1]):
        owner = net.shunt[k, 3]
        s = net.shunt_s[k] * complex(case.p_mw[owner], case.q_mvar[owner])
        w.s[k * PAIR + q] = -s.real
        w.s[k * PAIR + WIDTH + q] = -s.imag
    for k in range(net.n_silent, len(w.dirty)):
        w.v[k * PAIR + q] = case.v[k].real
        w.v[k * PAIR + WIDTH + q] = case.v[k].imag


@inner
def position(net: Network, w: Lanes, q: int, case: Case) -> None:
    """Put a scenario's taps and capacitors into a lane, and mark the rows to factor."""
    for k in range(net.counts[1], len(net.shunt)):
        s = net.shunt_s[k] * case.capacitors[net.shunt[k, 3]]
        w.s[k * PAIR + q] = s.real
        w.s[k * PAIR + WIDTH + q] = s.imag
    for k in range(net.n_still, len(net.reg_y)):
        owner = net.reg[k, 0]
        if case.taps[owner] != w.taps[q, owner]:
            w.ratio[k * WIDTH + q] = 1.0 + net.reg_step[k] * case.taps[owner]
            for m in range(net.reg_rows_ptr[k], net.reg_rows_ptr[k + 1]):
                w.dirty[net.reg_rows[m]] = 1
    for k in range(len(case.taps)):
        w.taps[q, k] = case.taps[k]


@inner
def start(w: Lanes, q: int, cold: bool) -> None:
    """Begin a solve in a lane, from its voltages or from those without load."""
    w.cold[q] = 1.0 if cold else 0.0
    w.taken[q] = 0
    w.most[q] = COLD_ITERATIONS if cold else WARM_ITERATIONS
    w.before[q] = 0.0


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
        start(w, q, True)
        return False
    w.code[q] = NOT_CONVERGED
    return True


@inner
def acts_early(net: Network, w: Lanes, q: int, waited_s: FloatArray, dt_s: float) -> bool:
    """Say whether what the controls of a lane do is certain; see `control.certain`."""
    change = left(w.worst[q], w.before[q])
    if not change < NEAR:
        return False
    read_errors(w, q)
    w.code[q] = w.taken[q]
    return decided(net, waited_s, w.errors, change, dt_s)


@inner
def read_errors(w: Lanes, q: int) -> None:
    """Take the regulators' errors of one lane."""
    for k in range(len(w.errors)):
        w.errors[k] = w.error[k * WIDTH + q]


@inner
def goes_on(  # noqa: PLR0917 - compiled code takes positions
    net: Network, w: Lanes, q: int, case: Case, passes: int, dt_s: float, tolerance: float
) -> bool:
    """Let the controls of a lane act; say whether it has to be solved again."""
    moved, switched = 0, 0
    if w.turn[q] < passes:
        for k in range(len(net.cap)):
            for m in range(3):
                at = net.cap[k, m]
                case.v[at] = complex(w.v[at * PAIR + q], w.v[at * PAIR + WIDTH + q])
        read_errors(w, q)
        moved, switched = act(net, w.switched[q], case, w.errors, dt_s)
    if moved > 0 or switched > 0:
        w.moves[q, 0] += moved
        w.moves[q, 1] += switched
        w.turn[q] += 1
        w.aim[q] = max(tolerance, ROUGH) if w.turn[q] < passes else tolerance
    elif w.aim[q] > tolerance:
        w.aim[q] = tolerance
    else:
        return False
    start(w, q, False)
    return True


@inner
def leave(net: Network, w: Lanes, q: int, case: Case) -> None:
    """Copy the voltages of a lane to its scenario, but for the silent nodes."""
    for k in range(net.n_silent, len(case.v)):
        case.v[k] = complex(w.v[k * PAIR + q], w.v[k * PAIR + WIDTH + q])
    case.out[0] = w.moves[q, 0]
    case.out[1] = w.moves[q, 1]


@inner
def refill(  # noqa: PLR0917 - compiled code takes positions
    net: Network, w: Lanes, cases: Case, aim: float, codes: IntArray, following: int
) -> int:
    """Put scenarios from ``following`` on into the free lanes; return the next one after them."""
    for q in range(WIDTH):
        while w.active[q] == 0.0 and following < len(codes):
            if codes[following] == OK:
                case = scenario(cases, following)
                enter(net, w, q, case)
                position(net, w, q, case)
                start(w, q, not np.isfinite(case.v[0].real))
                w.scenario[q] = following
                w.active[q] = 1.0
                w.aim[q] = aim
                w.turn[q] = 0
                w.moves[q] = 0
                w.switched[q] = 0
            following += 1
    return following


@inner
def advance(  # noqa: PLR0917 - compiled code takes positions
    net: Network,
    w: Lanes,
    cases: Case,
    passes: int,
    dt_s: float,
    tolerance: float,
    codes: IntArray,
) -> None:
    """After an iteration: let controls act in lanes that have arrived, and free those at an end."""
    early = passes > 0
    for k in range(len(net.cap)):
        early &= np.isnan(net.cap_settings[k, 0])
    for q in range(WIDTH):
        if w.active[q] == 0.0:
            continue
        e = w.scenario[q]
        there = arrived(w, q)
        if not there and early and w.aim[q] > tolerance and w.cold[q] == 0.0:
            there = acts_early(net, w, q, cases.waited_s[e], dt_s)
        if not there:
            w.before[q] = w.worst[q] if w.cold[q] == 0.0 else 0.0
            continue
        case = scenario(cases, e)
        if w.code[q] > 0 and goes_on(net, w, q, case, passes, dt_s, tolerance):
            position(net, w, q, case)
        else:
            codes[e] = w.code[q]
            leave(net, w, q, case)
            w.active[q] = 0.0


@inner
def iterate_all(  # noqa: PLR0917 - compiled code takes positions
    net: Network,
    w: Lanes,
    cases: Case,
    passes: int,
    dt_s: float,
    tolerance: float,
    codes: IntArray,
) -> None:
    """Solve all scenarios, controls included: voltages of all but the silent nodes, and codes."""
    aim = max(tolerance, ROUGH) if passes > 0 else tolerance
    w.active[:] = 0.0
    following = refill(net, w, cases, aim, codes, 0)
    while w.active.any():
        if w.dirty.any():
            insert_regulators(net, w)
            factor(net, w)
        if w.cold.any():
            no_load(net, w)
            w.cold[:] = 0.0
        iterate(net, w)
        if passes > 0:
            errors_of(net, w)
        advance(net, w, cases, passes, dt_s, tolerance, codes)
        following = refill(net, w, cases, aim, codes, following)


@inner
def report(net: Network, w: Lanes, cases: Case, codes: IntArray) -> None:
    """Fill in the silent nodes and the figures of the solved scenarios."""
    n = len(codes)
    for first in range(0, n, WIDTH):
        count = min(WIDTH, n - first)
        for q in range(count):
            if codes[first + q] > 0:
                case = scenario(cases, first + q)
                enter(net, w, q, case)
                position(net, w, q, case)
        complete(net, w)
        measure(net, w)
        for k in range(net.n_silent):
            for q in range(count):
                cases.v[first + q, k] = complex(w.v[k * PAIR + q], w.v[k * PAIR + WIDTH + q])
        for q in range(count):
            for k in range(len(net.node_slot)):
                cases.v_pu[first + q, k] = cases.v[first + q, net.node_slot[k]]
        for k in range(2, cases.out.shape[1]):
            for q in range(count):
                cases.out[first + q, k] = w.out[k * WIDTH + q]
        for q in range(count):
            for k in range(cases.p_mw.shape[1]):
                cases.out[first + q, 4] += cases.p_mw[first + q, k]


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
        w: The workspace, prepared for the taps of the still regulators.
        cases: The scenarios; receive their solutions.
        passes: How often controls may act; 0 holds them.
        dt_s: Length of the step, against which the controls' delays count.
        tolerance: Largest change of any voltage in the last iteration, pu.
        codes: 0 for each scenario that is to be solved; receives the iterations of its last inner
            solve, or a negative code: that scenario failed, and the others are not affected.
    """
    iterate_all(net, w, cases, passes, dt_s, tolerance, codes)
    report(net, w, cases, codes)
    for e in range(len(codes)):
        if codes[e] > 0 and passes > 0:
            wait(net, scenario(cases, e), dt_s)
