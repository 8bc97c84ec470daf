"""The yardstick: the best that a day allows with everything known, and bounds below it.

The plan is feasible: it is what a plant really did with it, regulators moving on every phase.
It is found by solving the dispatch on the balanced equivalent, running it in the plant, moving
each node's limit by how far the plant was off there, and solving again. The bounds are values of
the dispatch without these corrections, so that plan and bounds enclose the true optimum as far as
the equivalent holds, and no voltage falls below `loss_caps.FLOOR_PU` at a negative price.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.powergrid.optimization.dispatch import Dispatch, solve_dispatch
from heron.powergrid.optimization.forecast import Forecast
from heron.powergrid.optimization.network import RadialNetwork
from heron.powergrid.optimization.node_limits import NodeCorrections
from heron.powergrid.optimization.recheck import Recheck, recheck
from heron.powergrid.quantities import Measurements, Setpoint
from heron.powergrid.setups import Setup

FloatArray = npt.NDArray[np.float64]

ROUNDS = 8
SETTLED_USD = 0.2
"""Two rounds in a row that gain less than this end the search."""


@dataclass(frozen=True, slots=True)
class PlantAccess:
    """What the search needs of a plant.

    Attributes:
        begin: Brings it back to the start and returns its measurements.
        step: Its step.
        nodes: (bus, phase) of each of its nodes.
        voltages: (n_nodes,) voltages after the step that has just been run, given its number.
    """

    begin: Callable[[], Measurements]
    step: Callable[[Mapping[str, Setpoint], float], Measurements]
    nodes: Sequence[tuple[str, str]]
    voltages: Callable[[int], FloatArray]


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best plan that was found, and how much better one could be.

    Attributes:
        plan: The plan.
        result: What it came to in the plant.
        bound_usd: Lower bound on the objective while the regulators hold their bands.
        free_bound_usd: Lower bound with regulators at any ratio, which no control does.
        rounds: Plans that were tried.
    """

    plan: Dispatch
    result: Recheck
    bound_usd: float
    free_bound_usd: float
    rounds: int

    @property
    def gap(self) -> float:
        """How far the plan is above its bound, as a share of the bound."""
        return (self.result.objective_usd - self.bound_usd) / max(1.0, abs(self.bound_usd))


def find_optimum(
    setup: Setup,
    network: RadialNetwork,
    forecast: Forecast,
    soc: Mapping[str, float],
    plant: PlantAccess,
    *,
    rounds: int = ROUNDS,
) -> Optimum:
    """Search the best plan for a plant with everything known.

    Args:
        setup: The setup.
        network: Balanced equivalent of its grid.
        forecast: What will happen, in steps as long as the plant's.
        soc: State of charge at the start, per device that stores energy.
        plant: The plant.
        rounds: Plans to try at most.

    Raises:
        DispatchError: No solution was found.
    """
    config = setup.config
    bound, free_bound = (
        solve_dispatch(
            network, config, forecast, soc, free_regulators=free, relax=True, cap_losses=True
        )
        for free in (False, True)
    )
    plan = solve_dispatch(network, config, forecast, soc, cap_losses=True)
    corrections = NodeCorrections(network, plant.nodes, config.v_limits_pu)
    best: tuple[Dispatch, Recheck] | None = None
    idle_rounds = done = 0
    while True:
        done += 1
        result, real = _run(setup, plan, plant, forecast.step_s)
        gained = np.inf if best is None else best[1].objective_usd - result.objective_usd
        if best is None or gained > 0.0:
            best = plan, result
        idle_rounds = idle_rounds + 1 if gained < SETTLED_USD else 0
        if done >= rounds or idle_rounds >= 2:
            break
        share = 1.0 if done == 1 else 0.5
        limits = corrections.learn(plan.v_pu, plan.v_upper_pu, real, share)
        plan = solve_dispatch(network, config, forecast, soc, limits=limits, cap_losses=True)
    return Optimum(
        *best,
        bound.cost_usd + bound.penalty_usd,
        free_bound.cost_usd + free_bound.penalty_usd,
        done,
    )


def _run(
    setup: Setup, plan: Dispatch, plant: PlantAccess, step_s: float
) -> tuple[Recheck, FloatArray]:
    """Run a plan; return what came of it and the nodes' voltages, (T, n_nodes)."""
    rows: list[FloatArray] = []

    def step(setpoints: Mapping[str, Setpoint], dt_s: float) -> Measurements:
        after = plant.step(setpoints, dt_s)
        rows.append(plant.voltages(len(rows)))
        return after

    result = recheck(setup, plan, plant.begin(), step, step_s)
    return result, np.array(rows)
