"""Receding-horizon control of a whole feeder: the dispatch, solved again as time goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.errors import PolicyError
from heron.policy import PolicyCodec
from heron.policy.codec import FloatArray
from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.networks import Grid
from heron.powergrid.observed_time import ObservedTime
from heron.powergrid.optimization.dispatch import Dispatch, DispatchError, solve_dispatch
from heron.powergrid.optimization.forecast import (
    DAY_S,
    Forecast,
    held_forecast,
    naive_forecast,
    perfect_forecast,
)
from heron.powergrid.optimization.network import RadialNetwork, radial_network
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
        to_midnight: End the plan with the day, where the accounts end if an episode is a day.
        network: Balanced equivalent of the grid; built if not given.
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
        to_midnight: bool = False,
        network: RadialNetwork | None = None,
    ) -> None:
        self._setup = setup
        self._network = network or radial_network(grid)
        self._forecaster = forecaster or (
            lambda start_s, n, dt: perfect_forecast(setup, grid, start_s, n, dt)
        )
        self._horizon = horizon_steps
        self._step_s = step_s
        self._margin = margin_pu
        self._to_midnight = to_midnight
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
            forecast = self._forecaster(time_s, self._steps_from(time_s), self._step_s)
            plan = solve_dispatch(
                self._network, self._setup.config, forecast, soc, margin_pu=self._margin
            )
            self.plan, self._from_s, self._until_s = plan, time_s, time_s + self._step_s
        return plan.setpoints(0)

    def _steps_from(self, time_s: float) -> int:
        """Return the length of a plan that begins now."""
        if not self._to_midnight:
            return self._horizon
        left = round((DAY_S - time_s % DAY_S) / self._step_s)
        return max(1, min(self._horizon, left))


class SharedPlan:
    """A network's plan as its coordinators ask for it, one after the other.

    Each tells its stores' charge when it asks. A plan is made from what all of them told in the
    step before, carried forward by what they were told to do, so that it does not matter who
    asks first.

    Args:
        mpc: Plans.
        setup: The setup.
    """

    def __init__(self, mpc: NetworkMpc, setup: Setup) -> None:
        self._mpc = mpc
        self._step_s = setup.config.step_s
        self._stores: dict[str, StorageConfig] = {
            d: c
            for d in setup.config.device_ids
            if isinstance(c := setup.config.device(d).device_state_config, StorageConfig)
        }
        self._now_s = -np.inf
        self._told: dict[str, float] = {}
        self._charge: dict[str, float] = {}
        self._setpoints: dict[str, Setpoint] = {}

    def ask(self, time_s: float, soc: Mapping[str, float]) -> Mapping[str, Setpoint]:
        """Return all set-points for the step that begins now.

        Args:
            time_s: Plant time.
            soc: State of charge of the stores of the coordinator that asks.

        Raises:
            PolicyError: No plan was found.
        """
        if abs(time_s - self._now_s) > 0.5 * self._step_s:
            self._begin(time_s)
        self._told.update(soc)
        return self._setpoints

    def _begin(self, time_s: float) -> None:
        """Plan a new step; after a leap in time everything is as at a start."""
        follows = 0.0 < time_s - self._now_s < 1.5 * self._step_s
        if not follows:
            self._mpc.reset()
            self._told = {}
        charge = {}
        for name, store in self._stores.items():
            limits = store.storage_limits
            assert limits is not None
            told = self._told.get(name)
            p_mw = self._setpoints[name].p_mw if name in self._setpoints else 0.0
            moved = None if told is None else limits.soc_after(told, p_mw, self._step_s)
            charge[name] = store.init_soc if moved is None else moved
        try:
            self._setpoints = self._mpc.decide(time_s, charge)
        except DispatchError as error:
            raise PolicyError(str(error)) from error
        self._now_s, self._told = time_s, dict(charge)


class NetworkMpcPolicy:
    """One coordinator's part of a network's plan, under the interface of a trained policy.

    Args:
        codec: Of the coordinator.
        plan: Shared by all coordinators.
        setup: The setup, to tell the time by.

    Raises:
        KeyError: The observation lacks the time, the price or a state of charge.
    """

    def __init__(self, codec: PolicyCodec, plan: SharedPlan, setup: Setup) -> None:
        self._codec = codec
        self._plan = plan
        self._time = ObservedTime(codec, setup)
        self._soc = {
            s.agent: i
            for i, s in enumerate(codec.fields)
            if (s.feature, s.field) == ("StorageBlock", "soc")
        }

    def act(self, obs: npt.ArrayLike) -> FloatArray:
        """Return the plan's action for now.

        Raises:
            PolicyError: No plan was found.
        """
        x = np.asarray(obs, dtype=np.float64)
        soc = {d: float(x[i]) * self._codec.fields[i].scale for d, i in self._soc.items()}
        setpoints = self._plan.ask(self._time.read(obs), soc)
        values = [s.encode(getattr(setpoints[s.agent], s.quantity)) for s in self._codec.setpoints]
        return np.array(values, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """What tuning finds for a planner.

    Attributes:
        margin_pu: How far inside the voltage band to stay.
    """

    margin_pu: float = 0.012


PLANNER_RANGES = {"margin_pu": (0.0, 0.03)}
"""Where tuning looks for each setting."""


def network_planner(
    name: str,
    setup: Setup,
    grid: Grid,
    network: RadialNetwork,
    settings: PlannerSettings | None = None,
) -> SharedPlan:
    """Return the planner of a baseline that sees the network.

    Args:
        name: ``mpc-perfect``, ``mpc-network`` (yesterday's loads and sun) or ``qp-network`` (one
            step ahead, with the last step's).
        setup: The setup.
        grid: Its grid.
        network: Balanced equivalent of it.
        settings: Its numbers.

    Raises:
        KeyError: No such planner.
    """
    margin = (settings or PlannerSettings()).margin_pu
    config = setup.config
    make, steps, step_s = {
        "mpc-perfect": (perfect_forecast, 24, 3600.0),
        "mpc-network": (naive_forecast, 24, 3600.0),
        "qp-network": (held_forecast, 1, config.step_s),
    }[name]
    mpc = NetworkMpc(
        setup,
        grid,
        lambda start_s, n, dt: make(setup, grid, start_s, n, dt),
        horizon_steps=steps,
        step_s=max(step_s, config.step_s),
        margin_pu=margin,
        to_midnight=config.max_episode_steps * config.step_s <= DAY_S,
        network=network,
    )
    return SharedPlan(mpc, setup)
