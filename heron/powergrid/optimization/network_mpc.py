"""Receding-horizon control of a whole feeder: the dispatch, solved again as time goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from heron.powergrid.networks import Grid
from heron.powergrid.optimization.dispatch import Dispatch, solve_dispatch
from heron.powergrid.optimization.forecast import Forecast, perfect_forecast
from heron.powergrid.optimization.network import radial_network
from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups import Setup

Forecaster = Callable[[float, int, float], Forecast]
"""Forecast from (start_s, n_steps, step_s)."""


class NetworkMpc:
    """Plans all devices over the network and carries out the first step of each plan.

    It knows the network and is told every state of charge, so it is what a central operator
    could do, not what a microgrid can: a baseline above them.

    Args:
        setup: The setup.
        grid: Its grid.
        forecaster: What it assumes of the future; what will happen, if not given.
        horizon_steps: Steps of a plan.
        step_s: Length of a plan's steps; it plans again after each.
        margin_pu: How far inside the voltage band to stay, for what the balanced equivalent
            does not know: single phases and taps between their ends.
    """

    def __init__(
        self,
        setup: Setup,
        grid: Grid,
        forecaster: Forecaster | None = None,
        *,
        horizon_steps: int = 24,
        step_s: float = 3600.0,
        margin_pu: float = 0.012,
    ) -> None:
        self._setup = setup
        self._network = radial_network(grid)
        self._forecaster = forecaster or (
            lambda start_s, n, dt: perfect_forecast(setup, grid, start_s, n, dt)
        )
        self._horizon = horizon_steps
        self._step_s = step_s
        self._margin = margin_pu
        self._until_s = float("-inf")
        self._from_s = float("inf")
        self.plan: Dispatch | None = None

    def reset(self) -> None:
        """Forget the plan."""
        self.plan = None

    def decide(self, time_s: float, soc: Mapping[str, float]) -> dict[str, Setpoint]:
        """Return every device's set-point for the step that begins now.

        Args:
            time_s: Plant time.
            soc: State of charge per device that stores energy.

        Raises:
            DispatchError: No plan was found.
        """
        plan = self.plan
        if plan is None or not self._from_s <= time_s < self._until_s:
            forecast = self._forecaster(time_s, self._horizon, self._step_s)
            plan = solve_dispatch(
                self._network, self._setup.config, forecast, soc, margin_pu=self._margin
            )
            self.plan, self._from_s, self._until_s = plan, time_s, time_s + self._step_s
        return plan.setpoints(0)
