"""Plans run through a plant: what they really cost, and plans that are made safe by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.powergrid.accounting import Accountant
from heron.powergrid.optimization.dispatch import Dispatch, solve_dispatch
from heron.powergrid.optimization.forecast import Forecast
from heron.powergrid.optimization.network import RadialNetwork
from heron.powergrid.quantities import Measurements, Setpoint
from heron.powergrid.setups import Setup

FloatArray = npt.NDArray[np.float64]
Step = Callable[[Mapping[str, Setpoint], float], Measurements]
"""A plant's step: set-points and seconds to measurements."""

SAFE_EXCESS_PU = 1e-6
EXTRA_MARGIN_PU = 5e-4


@dataclass(frozen=True, slots=True)
class Recheck:
    """What became of a plan in a plant.

    Attributes:
        cost_usd: Cost that the accounts found.
        safety: Violation that they found, pu node hours.
        objective_usd: Cost and penalty.
        gap: How far that is above the plan's own value, as a share of it.
        v_excess_pu: Per step and area, how far the voltage left the band.
    """

    cost_usd: float
    safety: float
    objective_usd: float
    gap: float
    v_excess_pu: tuple[Mapping[str, float], ...]


def recheck(
    setup: Setup, plan: Dispatch, before: Measurements, step: Step, step_s: float
) -> Recheck:
    """Run a plan through a plant and count what it really costs.

    Args:
        setup: The setup.
        plan: What to run.
        before: The plant's measurements now, at the start of the plan.
        step: The plant's step.
        step_s: Length of the plan's steps.
    """
    accountant = Accountant(setup)
    low, high = setup.config.v_limits_pu
    cost = safety = 0.0
    excess: list[Mapping[str, float]] = []
    for k in range(len(plan.head_mw)):
        after = step(plan.setpoints(k), step_s)
        accounts = accountant.account(before, after)
        cost, safety = cost + accounts.cost_usd, safety + accounts.safety
        excess.append(
            {
                name: max(0.0, low - area.v_min_pu, area.v_max_pu - high)
                for name, area in after.areas.items()
            }
        )
        before = after
    objective = cost + setup.config.penalty * safety
    expected = plan.cost_usd + plan.penalty_usd
    gap = (objective - expected) / max(1.0, abs(expected))
    return Recheck(cost, safety, objective, gap, tuple(excess))


def solve_and_recheck(
    setup: Setup,
    network: RadialNetwork,
    forecast: Forecast,
    soc: Mapping[str, float],
    *,
    begin: Callable[[], Measurements],
    step: Step,
    rounds: int = 4,
) -> tuple[Dispatch, Recheck]:
    """Solve, run in the plant, tighten the band by what left it there, and solve again.

    The balanced equivalent does not know the single phases; the plant does. Where a phase of
    an area left the band in a step, that area gets a margin in that step.

    Args:
        setup: The setup.
        network: Balanced equivalent of its grid.
        forecast: Of the coming steps.
        soc: State of charge now, per device that stores energy.
        begin: Brings the plant back to the start and returns its measurements.
        step: The plant's step.
        rounds: Solves at most.

    Returns:
        The plan that did best in the plant, and what became of it there.

    Raises:
        DispatchError: No solution was found.
    """
    areas = (setup.config.dso_config.name, *setup.config.microgrid_ids)
    margin = {name: np.zeros(forecast.n_steps) for name in areas}
    best: tuple[Dispatch, Recheck] | None = None
    for _ in range(max(1, rounds)):
        plan = solve_dispatch(network, setup.config, forecast, soc, margin_pu=margin)
        checked = recheck(setup, plan, begin(), step, forecast.step_s)
        if best is None or checked.objective_usd < best[1].objective_usd:
            best = plan, checked
        excess = {name: np.array([e[name] for e in checked.v_excess_pu]) for name in areas}
        if not any((found > SAFE_EXCESS_PU).any() for found in excess.values()):
            break
        for name, found in excess.items():
            margin[name] += np.where(found > SAFE_EXCESS_PU, found + EXTRA_MARGIN_PU, 0.0)
    assert best is not None
    return best
