"""The nearest point at which linearised voltages keep their band, in several cases at once.

A quadratic programme. A case is what may happen in a step: the expected course of loads and sun,
or a large change. Each has one slack, so that where the band cannot be kept it is left by as little
as possible, and there is always an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.powergrid.optimization.qp import QuadraticProgramme

FloatArray = npt.NDArray[np.float64]

SLACK_PU = 0.02
"""Unit of the slacks, which keeps the programme well scaled."""
SLACK_USD_PER_PU = 10_000.0
"""Price of leaving the band, $/h: far above what any device's power costs."""
ACCURACY = 1e-4
TOLERANCE_PU = 1e-9


@dataclass(frozen=True, slots=True)
class Case:
    """Voltages around a point, in one course of things.

    Attributes:
        v_pu: (n_nodes,) at the point.
        slope: (n_nodes, n_x) change of them per unit of each unknown.
        weight: How much leaving the band counts here; 1 for the expected course.
    """

    v_pu: FloatArray
    slope: FloatArray
    weight: float = 1.0

    def at(self, move: FloatArray) -> FloatArray:
        """Return the voltages after a move, (n_x,), from the point."""
        return self.v_pu + self.slope @ move


@dataclass(frozen=True, slots=True)
class Room:
    """Where the unknowns may be.

    Attributes:
        low: (n_x,) least.
        high: (n_x,) most.
        rows: (n_rows, n_x) of further limits ``rows @ x <= most``, such as capability circles.
        most: (n_rows,).
    """

    low: FloatArray
    high: FloatArray
    rows: FloatArray
    most: FloatArray


@dataclass(frozen=True, slots=True)
class Price:
    """What a move costs, $/h. No move is rewarded.

    Attributes:
        square: (n_x,) of the distance from the proposal: ``square * d**2 / 2``.
        slope: (n_x,) per unit beyond ``level``: above it where positive, below it where negative.
        level: (n_x,) the proposal; of a source what it is expected to give.
    """

    square: FloatArray
    slope: FloatArray
    level: FloatArray


def excess_pu(v_pu: FloatArray, band_pu: tuple[float, float]) -> float:
    """Return by how much the worst node leaves the band; 0 inside."""
    low, high = band_pu
    return float(max(0.0, np.max(low - v_pu, initial=0.0), np.max(v_pu - high, initial=0.0)))


def weighed_pu(cases: Sequence[Case], move: FloatArray, band_pu: tuple[float, float]) -> float:
    """Return the cases' worst excesses after a move, each with its weight, summed."""
    return sum(case.weight * excess_pu(case.at(move), band_pu) for case in cases)


def project(
    proposal: FloatArray,
    point: FloatArray,
    cases: Sequence[Case],
    *,
    band_pu: tuple[float, float],
    room: Room,
    price: Price,
) -> FloatArray | None:
    """Return the cheapest point at which all cases keep the band.

    Args:
        proposal: (n_x,) from which a move is priced; inside the room.
        point: (n_x,) at which the cases were linearised.
        cases: See `Case`.
        band_pu: Voltages between which to stay.
        room: See `Room`.
        price: See `Price`.

    Returns:
        The proposal itself if it keeps the band; otherwise a point that leaves it no further than
        the proposal does; None if the solver gives up or finds none such.
    """
    before = weighed_pu(cases, proposal - point, band_pu)
    if before <= TOLERANCE_PU:
        return proposal
    n, m = len(proposal), len(cases)
    size = n + m + n
    rows = [np.eye(size), _wide(room.rows, 0, size)]
    lower = [room.low, np.zeros(m + n), np.full(len(room.most), -np.inf)]
    upper = [room.high, np.full(m + n, np.inf), room.most]
    for j, case in enumerate(cases):
        around = case.v_pu - case.slope @ point
        for sign in (-1.0, 1.0):
            voltage = _wide(case.slope / SLACK_PU, 0, size)
            voltage[:, n + j] = sign
            rows.append(voltage)
        unbound = np.full(len(around), np.inf)
        lower += [-unbound, (band_pu[0] - around) / SLACK_PU]
        upper += [(band_pu[1] - around) / SLACK_PU, unbound]
    # the last unknowns are how far each goes in the direction that costs
    way = np.sign(price.slope)
    beyond = _wide(np.eye(n), n + m, size)
    beyond[:, :n] = -np.diag(way)
    rows.append(beyond)
    lower.append(-way * price.level)
    upper.append(np.full(n, np.inf))
    slack = SLACK_USD_PER_PU * SLACK_PU * np.array([case.weight for case in cases])
    programme = QuadraticProgramme(
        np.concatenate([price.square, np.ones(m), np.zeros(n)]), np.vstack(rows), ACCURACY
    )
    found = programme.solve(
        np.concatenate([-price.square * proposal, slack, np.abs(price.slope)]),
        np.concatenate(lower),
        np.concatenate(upper),
    )
    if found is None:
        return None
    best: FloatArray = np.clip(found[:n], room.low, room.high)
    return best if weighed_pu(cases, best - point, band_pu) < before else None


def _wide(block: FloatArray, at: int, size: int) -> FloatArray:
    """Return a block of columns in a matrix of zeros."""
    wide = np.zeros((len(block), size))
    wide[:, at : at + block.shape[1]] = block
    return wide
