"""Moves the set-points of a whole network until its power flow keeps the voltage band.

The proposals are run through the network's own equations, regulators moving, under each course
that the coming step may take. Where a node would leave the band, voltages are linearised there, the
cheapest change is found (`project`), and all is run again: sensitivities hold only while taps
stand still, so it is the power flow that says whether a change did what it should.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heron.powergrid.network_model import Flow, NetworkModel
from heron.powergrid.optimization.next_step import Outlook
from heron.powergrid.optimization.projection import (
    TOLERANCE_PU,
    Case,
    Price,
    Room,
    excess_pu,
    project,
)

FloatArray = npt.NDArray[np.float64]

NEAR_PU = 0.01
"""A node farther inside the band than this is left out of the programme."""
STEP_MW = 0.02
"""Change by which sensitivities are found."""
DEEPER_PU = 3e-4
"""How much farther inside the band each round aims, for what the one before did not settle."""
CAPPED_MW = 1e-6


@dataclass(frozen=True, slots=True)
class NetworkShieldSettings:
    """What a network shield goes by.

    Attributes:
        margin_pu: How far inside the band nodes are kept in every course that is looked at.
        tail: Share of steps that are beyond each of the two large changes that are looked at
            beside the expected course; 0: only the expected one is.
        far_weight: How much the band counts under a large change, where not all can be kept.
        p_usd_per_mw2: Price of moving active power, squared, $/h, beside what it costs.
        q_usd_per_mvar2: The same for reactive power.
        rounds: How often at most voltages are linearised.
    """

    margin_pu: float = 0.003
    tail: float = 0.02
    far_weight: float = 0.05
    p_usd_per_mw2: float = 20.0
    q_usd_per_mvar2: float = 2.0
    rounds: float = 5.0


@dataclass(frozen=True, slots=True)
class Moved:
    """What a projection came to.

    Attributes:
        x: (2 n_devices,) active, then reactive power; the proposal if nothing better was found.
        expected: Flow of the expected course at ``x``.
        before_pu: Weighed excess over the band at the proposal, all courses; 0: it was safe.
        after_pu: The same at ``x``.
        linear_residual_pu: By how much, at most, the linear model was off the power flow at ``x``,
            over the nodes near the band; 0 where nothing was moved.
    """

    x: FloatArray
    expected: Flow
    before_pu: float
    after_pu: float
    linear_residual_pu: float = 0.0


class NetworkProjection:
    """Finds set-points that keep a network's band.

    Args:
        model: The network.
        band_pu: Voltage band.
        step_s: Length of a step.
        is_source: (n_devices,) devices whose active set-point is a ceiling.
        circles: Rows and radii of the devices' capability circles, over ``x``.
        settings: See `NetworkShieldSettings`.
    """

    def __init__(
        self,
        model: NetworkModel,
        *,
        band_pu: tuple[float, float],
        step_s: float,
        is_source: npt.NDArray[np.bool_],
        circles: tuple[FloatArray, FloatArray],
        settings: NetworkShieldSettings,
    ) -> None:
        self._model = model
        self._step_s = step_s
        self._is_source = is_source
        self._circles = circles
        self._settings = settings
        self._watched = np.flatnonzero(model.watched)
        self._band = (band_pu[0] + settings.margin_pu, band_pu[1] - settings.margin_pu)

    def move(
        self,
        x0: FloatArray,
        box: tuple[FloatArray, FloatArray],
        courses: Sequence[Outlook],
        state: Any,
        *,
        price_usd_per_mwh: float,
        own_usd_per_mwh: FloatArray,
    ) -> Moved:
        """Return the cheapest change of a proposal that keeps the band.

        Args:
            x0: (2 n_devices,) the proposal; of a source, its ceiling.
            box: Least and most of each.
            courses: What the step may bring; the first is expected.
            state: Where the network's controls stand.
            price_usd_per_mwh: Of what the head supplies in the step.
            own_usd_per_mwh: (n_devices,) what more active power of each costs: fuel, or what is
                taken from the store.

        Raises:
            PowerFlowDiverged: Some course of the proposal has no solution.
        """
        flows = [self._run(x0, course, state) for course in courses]
        before = self._weighed(flows)
        best = Moved(x0, flows[0], before, before)
        if before <= TOLERANCE_PU:
            return best
        x = x0
        for k in range(round(self._settings.rounds)):
            slopes = self._slopes(x, courses[0], flows[0])
            near, cases = self._cases(x, courses, flows, slopes[:, 1:])
            deeper = DEEPER_PU * (k + 1)
            band = (self._band[0] + deeper, self._band[1] - deeper)
            price = self._price(
                x0,
                courses[0],
                slopes[:, 0],
                price_usd_per_mwh=price_usd_per_mwh,
                own_usd_per_mwh=own_usd_per_mwh,
            )
            found = project(
                x0, x, cases, band_pu=band, room=Room(*box, *self._circles), price=price
            )
            if found is None:
                break
            flows = [self._run(found, course, state) for course in courses]
            after = self._weighed(flows)
            if after < best.after_pu - TOLERANCE_PU:
                off = max(
                    float(np.max(np.abs(case.at(found - x) - self._kept(flow)[at]), initial=0.0))
                    for case, flow, at in zip(cases, flows, near, strict=True)
                )
                best = Moved(found, flows[0], before, after, off)
            if after <= TOLERANCE_PU:
                break
            x = found
        return best

    def _kept(self, flow: Flow) -> FloatArray:
        """Return all that is to stay in the band: voltages, and loadings as if they were.

        A branch that is loaded beyond its rating is as far above the band as it is beyond it; one
        that is loaded little is in its middle.
        """
        loading = np.maximum(flow.loading_pu - 1.0 + self._band[1], np.mean(self._band))
        return np.concatenate([flow.v_pu[self._watched], loading])

    def _powers(self, x: FloatArray, course: Outlook) -> tuple[FloatArray, FloatArray]:
        n = len(x) // 2
        return np.minimum(x[:n], course.available_mw), x[n:]

    def _run(self, x: FloatArray, course: Outlook, state: Any) -> Flow:
        p, q = self._powers(x, course)
        return self._model.solve(course.load_scale, p, q, state, move_taps=True, dt_s=self._step_s)

    def _weighed(self, flows: Sequence[Flow]) -> float:
        far = self._settings.far_weight
        worst = [excess_pu(self._kept(flow), self._band) for flow in flows]
        return worst[0] + far * sum(worst[1:])

    def _slopes(self, x: FloatArray, course: Outlook, flow: Flow) -> FloatArray:
        """Return what the head's power and all that is kept change by per unit, taps at rest.

        Returns:
            (2 n_devices, 1 + n_kept).
        """
        at = np.concatenate(self._powers(x, course))
        n = len(at) // 2

        def solve(y: FloatArray) -> FloatArray:
            there = self._model.solve(
                course.load_scale, y[:n], y[n:], flow.state, move_taps=False, dt_s=self._step_s
            )
            return np.append(there.head_mw, self._kept(there))

        base = solve(at)
        return np.stack([(solve(at + STEP_MW * e) - base) / STEP_MW for e in np.eye(2 * n)])

    def _cases(
        self,
        x: FloatArray,
        courses: Sequence[Outlook],
        flows: Sequence[Flow],
        slopes: FloatArray,
    ) -> tuple[list[npt.NDArray[np.int64]], list[Case]]:
        """Return the nodes near the band in each course, and its linear model there."""
        n = len(x) // 2
        low, high = self._band
        near, cases = [], []
        for k, (course, flow) in enumerate(zip(courses, flows, strict=True)):
            kept = self._kept(flow)
            at = np.flatnonzero((kept < low + NEAR_PU) | (kept > high - NEAR_PU))
            slope = slopes[:, at].T.copy()
            # a ceiling above what sun and wind give moves nothing
            idle = self._is_source & (course.available_mw < x[:n] - CAPPED_MW)
            slope[:, :n][:, idle] = 0.0
            near.append(at)
            cases.append(Case(kept[at], slope, 1.0 if k == 0 else self._settings.far_weight))
        return near, cases

    def _price(
        self,
        x0: FloatArray,
        course: Outlook,
        head: FloatArray,
        *,
        price_usd_per_mwh: float,
        own_usd_per_mwh: FloatArray,
    ) -> Price:
        """Return what a move costs: fuel or stored energy, and what the head then supplies.

        Reactive power costs what it adds to the losses; of a source, what is curtailed costs.
        """
        n, s = len(x0) // 2, self._settings
        square = np.repeat([s.p_usd_per_mw2, s.q_usd_per_mvar2], n)
        square[:n][self._is_source] = s.q_usd_per_mvar2  # an unused ceiling costs nothing
        slope = price_usd_per_mwh * head
        slope[:n] += own_usd_per_mwh
        slope[:n][self._is_source] = np.minimum(slope[:n][self._is_source], 0.0)
        level = x0.copy()
        level[:n] = np.minimum(level[:n], course.available_mw)
        return Price(square, slope, level)
