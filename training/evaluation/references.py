"""The optimum: each day planned with everything known, and the score that it gives a policy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError, ConfigProblem
from heron.policy import PolicyCodec
from heron.powergrid.quantities import Setpoint
from training.envs import MultiAgentMicrogrids
from training.envs.networked_grid_env import DAY_S
from training.evaluation.episodes import DayFigures, run_day
from training.evaluation.sources import planners
from training.evaluation.statistics import normalised_score

OPTIMUM = "optimum"
PLAN_STEP_S = 3600.0
"""Step of the optimum's plan. A quarter of an hour takes five times the time, and finds less than
0.3 % more on ``ieee34_ieee13`` but 1.6 % on ``single_microgrid``."""


def run_optimum(
    env: MultiAgentMicrogrids, day: int, plan_step_s: float = PLAN_STEP_S
) -> tuple[DayFigures, float]:
    """Plan a day with everything known, and run the plan in the environment.

    The plan is a second-order cone programme on the balanced equivalent, tightened until the
    plant's single phases keep the band too; what it is worth is what the environment counts,
    regulators moving.

    Args:
        env: The environment.
        day: Day of the data year.
        plan_step_s: Step of the plan; whole control steps, and a whole number of it a day.

    Returns:
        The figures of the day, and a lower bound in $ on the objective that any controller
        reaches on the balanced equivalent (regulators free, no single phases).

    Raises:
        ConfigError: The planner's packages are not installed, or the step does not fit.
    """
    optimization = planners("optimum")
    plant, setup = env.net, env.setup
    start_s = day * DAY_S
    hold, rest = divmod(plan_step_s, setup.config.step_s)
    if rest or hold < 1 or env.max_episode_steps % hold:
        expected = f"a multiple of {setup.config.step_s:g} s that divides an episode"
        raise ConfigError([ConfigProblem("plan step", plan_step_s, expected)])
    grid = plant.grid
    steps = round(env.max_episode_steps / hold)
    forecast = optimization.perfect_forecast(setup, grid, start_s, steps, plan_step_s)
    network = optimization.radial_network(grid)
    begin = plant.reset(start_s=start_s)
    soc = {d: r.soc for d, r in begin.devices.items() if r.soc is not None}
    bound = optimization.solve_dispatch(network, setup.config, forecast, soc, free_regulators=True)
    plan, _ = optimization.solve_and_recheck(
        setup,
        network,
        forecast,
        soc,
        begin=lambda: plant.reset(start_s=start_s),
        step=plant.step,
    )
    replay = _Replay(plan.setpoints, int(hold))
    policies = {a: _ReplayAgent(replay, codec) for a, codec in env.codecs.items()}
    figures = run_day(env, policies, day, lambda measurements: replay.advance())
    return figures, float(bound.objective_usd)


class _Replay:
    """Where in its plan an episode is."""

    def __init__(self, setpoints: Callable[[int], dict[str, Setpoint]], every: int) -> None:
        self._setpoints = setpoints
        self._every = every
        self._step = 0

    def advance(self) -> None:
        self._step += 1

    def now(self) -> dict[str, Setpoint]:
        return self._setpoints(self._step // self._every)


class _ReplayAgent:
    """One coordinator's part of a plan, as normalised actions."""

    def __init__(self, replay: _Replay, codec: PolicyCodec) -> None:
        self._replay = replay
        self._codec = codec

    def act(self, obs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        setpoints = self._replay.now()
        return np.array(
            [s.encode(getattr(setpoints[s.agent], s.quantity)) for s in self._codec.setpoints],
            dtype=np.float32,
        )


def scores(summary: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return each policy's score: 0 for doing nothing, 1 for the optimum.

    Empty where no optimum was run, or it saves nothing.
    """
    if OPTIMUM not in summary:
        return {}
    nothing = summary["none"]["objective_usd"]
    optimum = summary[OPTIMUM]["objective_usd"]
    if not optimum < nothing:
        return {}
    return {
        name: normalised_score(m["objective_usd"], nothing, optimum) for name, m in summary.items()
    }
