"""The projection by itself: arbitrary linear networks, checked against what must hold of any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from heron.powergrid.optimization.projection import (
    Case,
    Price,
    Room,
    excess_pu,
    project,
    weighed_pu,
)

BAND = (0.95, 1.05)
N_X = 3
TOLERANCE_PU = 2e-4
"""How far the solver's accuracy lets a voltage be off."""

voltages = st.lists(st.floats(0.9, 1.1), min_size=1, max_size=4)
slopes = st.floats(0.0, 0.05)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    v = np.array(draw(voltages))
    row = st.lists(slopes, min_size=N_X, max_size=N_X)
    slope = np.array([draw(row) for _ in v])
    return Case(v, slope, draw(st.sampled_from([1.0, 0.2])))


points = st.lists(st.floats(-1.0, 1.0), min_size=N_X, max_size=N_X).map(np.array)


def room(low: float = -1.0, high: float = 1.0) -> Room:
    return Room(np.full(N_X, low), np.full(N_X, high), np.empty((0, N_X)), np.empty(0))


def price(proposal: np.ndarray, slope: float = 0.0) -> Price:
    return Price(np.full(N_X, 2.0), np.full(N_X, slope), proposal)


@settings(max_examples=30, deadline=None)
@given(points, st.lists(cases(), min_size=1, max_size=3))
def test_a_proposal_that_keeps_the_band_is_returned_untouched(
    proposal: np.ndarray, some: list[Case]
) -> None:
    found = project(proposal, proposal, some, band_pu=BAND, room=room(), price=price(proposal))
    if weighed_pu(some, np.zeros(N_X), BAND) <= 1e-9:
        assert found is proposal
    else:
        assert found is not proposal


@settings(max_examples=30, deadline=None)
@given(points, st.lists(cases(), min_size=1, max_size=3), st.floats(-40.0, 40.0))
def test_it_is_never_worse_than_the_proposal_and_stays_in_its_room(
    proposal: np.ndarray, some: list[Case], slope: float
) -> None:
    costs = price(proposal, slope)
    found = project(proposal, proposal, some, band_pu=BAND, room=room(), price=costs)
    if found is None:
        return
    before = weighed_pu(some, np.zeros(N_X), BAND)
    assert weighed_pu(some, found - proposal, BAND) <= before
    assert (np.abs(found) <= 1.0).all()


@settings(max_examples=20, deadline=None)
@given(points, cases())
def test_where_the_band_cannot_be_kept_it_is_left_as_little_as_possible(
    proposal: np.ndarray, case: Case
) -> None:
    """The least excess is that of a linear programme that minimises nothing else."""
    case = Case(case.v_pu, case.slope, 1.0)
    low, high = BAND
    around = case.v_pu - case.slope @ proposal
    ones = np.ones((len(around), 1))
    least = linprog(
        [0.0] * N_X + [1.0],
        A_ub=np.vstack([np.hstack([case.slope, -ones]), np.hstack([-case.slope, -ones])]),
        b_ub=np.concatenate([high - around, around - low]),
        bounds=[(-1.0, 1.0)] * N_X + [(0.0, None)],
    ).fun
    costs = price(proposal)
    found = project(proposal, proposal, [case], band_pu=BAND, room=room(), price=costs)
    reached = case.v_pu if found is None else case.at(found - proposal)
    assert excess_pu(reached, BAND) <= least + TOLERANCE_PU


def test_what_costs_less_moves_first() -> None:
    case = Case(np.array([1.06]), np.array([[0.03, 0.03, 0.03]]))
    costs = Price(np.full(N_X, 2.0), np.array([0.0, -30.0, 30.0]), np.zeros(N_X))
    found = project(np.zeros(N_X), np.zeros(N_X), [case], band_pu=BAND, room=room(), price=costs)
    assert found is not None
    # the band asks for a third less in all; down is free for the first and the last
    assert found.sum() == pytest.approx(-1.0 / 3.0, abs=1e-2)
    assert found[1] == pytest.approx(0.0, abs=1e-3)
    assert found[0] == pytest.approx(found[2], abs=1e-3)


def test_capability_circles_bind() -> None:
    case = Case(np.array([1.08]), np.array([[0.03, 0.03, 0.0]]))
    rows, most = np.array([[-1.0, -1.0, 0.0]]), np.array([0.5])
    limited = Room(np.full(N_X, -1.0), np.full(N_X, 1.0), rows, most)
    zero = np.zeros(N_X)
    found = project(zero, zero, [case], band_pu=BAND, room=limited, price=price(zero))
    assert found is not None
    assert found[:2].sum() == pytest.approx(-0.5, abs=1e-3)


def test_a_case_of_less_weight_gives_way() -> None:
    slope = np.array([[0.03, 0.0, 0.0]])
    likely = Case(np.array([0.94]), slope)
    rare = Case(np.array([1.06]), slope, 0.1)
    zero = np.zeros(N_X)
    found = project(zero, zero, [likely, rare], band_pu=BAND, room=room(), price=price(zero))
    assert found is not None
    assert likely.at(found)[0] >= 0.95 - TOLERANCE_PU
