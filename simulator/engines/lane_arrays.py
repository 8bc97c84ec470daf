"""The arrays that a batch works on: one lane of a vector for each scenario."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.engines.arrays import Network, Work
from simulator.engines.base import ComplexArray, FloatArray, IntArray
from simulator.engines.simd import WIDTH

PAIR = 2 * WIDTH
"""Numbers of one complex entry: the real parts of all lanes, then the imaginary ones."""


class Lanes(NamedTuple):
    """What a batch overwrites; one per engine. Complex arrays are flat, a `PAIR` for each entry.

    Attributes:
        taps: (lanes, regulators) positions that the factors stand for.
        ratio: (phases of regulators x lanes,) the same as ratios.
        dirty: (n,) rows to be factored again.
        base: `Work.base` itself.
        base_rhs: `Work.base_rhs` itself.
        a: The matrix with the regulators in it. Here, and in the next three, only the rows
            after the fixed ones are used; the others are the same in all lanes.
        l: The lower factor without the columns of the fixed nodes.
        u: The upper factor.
        inv_d: (n,) one over the pivots.
        rhs: (n,) current that the source drives.
        b: (slots,) right-hand side, then solution.
        v: (slots,) voltages.
        row: (n,) one row while it is factored.
        s: (m,) consumption of each shunt at rated voltage.
        out: (figures x lanes,) in the order of `simulator.engines.kernels.measure`.
        scenario: (lanes,) which one a lane has; -1 for none.
        active: (lanes,) 1 where a lane still iterates.
        cold: (lanes,) 1 where a lane begins anew from the voltages without load.
        worst: (lanes,) squared largest change of the last iteration.
        aim: (lanes,) tolerance that a lane iterates to.
        code: (lanes,) iterations of the last inner solve, or a negative code.
        taken: (lanes,) iterations of this one so far.
        most: (lanes,) iterations that it may take.
        turn: (lanes,) how often its controls have acted.
        moves: (lanes, 2) tap steps and switchings.
        switched: (lanes, capacitors) whether it has switched in this step.
        before: (lanes,) ``worst`` of the iteration before.
        error: (controlled x lanes,) by how many volts each regulator's voltage is too low.
        errors: (controlled,) the same in one lane.
    """

    taps: IntArray
    ratio: FloatArray
    dirty: IntArray
    base: ComplexArray
    base_rhs: ComplexArray
    a: FloatArray
    l: FloatArray  # noqa: E741
    u: FloatArray
    inv_d: FloatArray
    rhs: FloatArray
    b: FloatArray
    v: FloatArray
    row: FloatArray
    s: FloatArray
    out: FloatArray
    scenario: IntArray
    active: FloatArray
    cold: FloatArray
    worst: FloatArray
    aim: FloatArray
    code: IntArray
    taken: IntArray
    most: IntArray
    turn: IntArray
    moves: IntArray
    switched: IntArray
    before: FloatArray
    error: FloatArray
    errors: FloatArray


def make_lanes(net: Network, work: Work, n_figures: int) -> Lanes:
    """Return lanes for a network in which nothing is factored but the fixed rows.

    Args:
        net: The network.
        work: A workspace for it, from which the sizes are taken.
        n_figures: Length of the figures of one scenario.
    """
    n, slots, n_shunts = len(work.inv_d), len(work.b), len(net.shunt)
    n_taps, n_capacitors = len(work.taps), len(work.switched)

    return Lanes(
        taps=np.tile(work.taps * 0, (WIDTH, 1)).reshape(WIDTH, n_taps),
        ratio=np.ones(len(net.reg_y) * WIDTH),
        dirty=np.zeros(n, np.int64),
        base=work.base,
        base_rhs=work.base_rhs,
        a=np.zeros(len(net.matrix) * PAIR),
        l=np.zeros(len(net.l_idx) * PAIR),
        u=np.zeros(len(net.u_idx) * PAIR),
        inv_d=np.zeros(n * PAIR),
        rhs=np.zeros(n * PAIR),
        b=np.zeros(slots * PAIR),
        v=np.zeros(slots * PAIR),
        row=np.zeros(n * PAIR),
        s=np.zeros(n_shunts * PAIR),
        out=np.zeros(n_figures * WIDTH),
        scenario=np.full(WIDTH, -1, np.int64),
        active=np.zeros(WIDTH),
        cold=np.zeros(WIDTH),
        worst=np.zeros(WIDTH),
        aim=np.zeros(WIDTH),
        code=np.zeros(WIDTH, np.int64),
        taken=np.zeros(WIDTH, np.int64),
        most=np.zeros(WIDTH, np.int64),
        turn=np.zeros(WIDTH, np.int64),
        moves=np.zeros((WIDTH, 2), np.int64),
        switched=np.zeros((WIDTH, n_capacitors), np.int64),
        before=np.zeros(WIDTH),
        error=np.zeros(len(net.control) * WIDTH),
        errors=np.zeros(len(net.control)),
    )
