"""The arrays that a batch works on: one lane of a vector for each scenario."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simulator.engines.arrays import Network, Work
from simulator.engines.base import FloatArray, IntArray
from simulator.engines.simd import WIDTH

PAIR = 2 * WIDTH
"""Numbers of one complex entry: the real parts of all lanes, then the imaginary ones."""


class Lanes(NamedTuple):
    """What a batch overwrites; one per engine. Complex arrays are flat, a `PAIR` for each entry.

    Attributes:
        taps: (lanes, regulators) positions that the factors stand for.
        ratio: (phases of regulators x lanes,) the same as ratios.
        dirty: (n,) rows to be factored again.
        a: ``Network.base`` with the regulators in it. Here, and in the next three, only the rows
            after the fixed ones are used; the others are the same in all lanes.
        l: The lower factor without the columns of the fixed nodes.
        u: The upper factor.
        inv_d: (n,) one over the pivots.
        rhs: (n,) current that the source drives.
        b: (slots,) right-hand side, then solution.
        v: (slots,) voltages.
        row: (n,) one row while it is factored.
        given: (loads + devices + devices, lanes) scale of the loads, power of the devices.
        s: (m,) consumption of each shunt at rated voltage.
        out: (figures x lanes,) in the order of `simulator.engines.kernels.measure`.
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
    """

    taps: IntArray
    ratio: FloatArray
    dirty: IntArray
    a: FloatArray
    l: FloatArray  # noqa: E741
    u: FloatArray
    inv_d: FloatArray
    rhs: FloatArray
    b: FloatArray
    v: FloatArray
    row: FloatArray
    given: FloatArray
    s: FloatArray
    out: FloatArray
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


def make_lanes(net: Network, work: Work, n_inputs: int, n_figures: int) -> Lanes:
    """Return lanes for a network in which nothing is factored but the fixed rows.

    Args:
        net: The network.
        work: A workspace for it, from which the sizes are taken.
        n_inputs: Loads and twice the devices.
        n_figures: Length of the figures of one scenario.
    """
    n, slots, n_shunts = len(work.inv_d), len(work.b), len(net.shunt)
    n_taps, n_capacitors = len(work.taps), len(work.switched)

    def lanes_of(values: object) -> FloatArray:
        z = np.asarray(values, np.complex128)
        parts = np.stack([z.real, z.imag], axis=1)[:, :, None]
        return np.ascontiguousarray(np.broadcast_to(parts, (len(z), 2, WIDTH))).ravel()

    return Lanes(
        taps=np.tile(work.taps * 0, (WIDTH, 1)).reshape(WIDTH, n_taps),
        ratio=np.ones(len(net.reg_y) * WIDTH),
        dirty=np.array(np.arange(n) >= net.n_fixed, np.int64),
        a=lanes_of(net.base),
        l=np.zeros(len(net.l_idx) * PAIR),
        u=np.zeros(len(net.u_idx) * PAIR),
        inv_d=np.zeros(n * PAIR),
        rhs=lanes_of(net.rhs),
        b=np.zeros(slots * PAIR),
        v=np.zeros(slots * PAIR),
        row=np.zeros(n * PAIR),
        given=np.zeros(n_inputs * WIDTH),
        s=np.zeros(n_shunts * PAIR),
        out=np.zeros(n_figures * WIDTH),
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
    )
