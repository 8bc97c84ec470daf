"""The optimum: each day planned with everything known, and the score that it gives a policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError
from heron.powergrid.baselines import planners
from heron.powergrid.plans import FOLDER, DayPlan, PlanBook, PlanPolicy
from heron.powergrid.setups import Setup
from heron.powergrid.tuned import setup_directory
from simulator.engines.base import Injections
from training.envs import MultiAgentMicrogrids
from training.envs.days import DAY_S
from training.evaluation.comparison import NOTHING
from training.evaluation.episodes import DayFigures, Policies, run_days
from training.evaluation.statistics import Interval, bootstrap, normalised_score

OPTIMUM = "optimum"


def plan_day(env: MultiAgentMicrogrids, day: int) -> DayPlan:
    """Plan a day, or as long as an episode is, with everything known.

    The plan is a second-order cone programme on the balanced equivalent, at the environment's own
    step, corrected until the plant's single phases keep the band too, regulators moving; see
    `heron.powergrid.optimization.optimum`.

    Args:
        env: The environment; its plant is used.
        day: Day of the data year on which the episode starts.

    Raises:
        ConfigError: The planner's packages are not installed.
        DispatchError: No plan was found.
    """
    optimization = planners(OPTIMUM)
    plant, setup = env.net, env.setup
    config, grid, start_s = setup.config, plant.grid, day * DAY_S
    forecast = optimization.perfect_forecast(
        setup, grid, start_s, env.max_episode_steps, config.step_s
    )
    begin = plant.reset(start_s=start_s)
    soc = {d: r.soc for d, r in begin.devices.items() if r.soc is not None}

    def voltages(step: int) -> npt.NDArray[np.float64]:
        devices = [plant.measurements.devices[d] for d in config.device_ids]
        injections = Injections(
            forecast.load_scale[step],
            np.array([r.p_mw for r in devices]),
            np.array([r.q_mvar for r in devices]),
        )
        solution = plant.engine.solve(injections, plant.state.grid, move_taps=False)
        return np.abs(solution.v_pu)

    found = optimization.find_optimum(
        setup,
        optimization.radial_network(grid),
        forecast,
        soc,
        optimization.PlantAccess(
            begin=lambda: plant.reset(start_s=start_s),
            step=plant.step,
            nodes=plant.engine.nodes,
            voltages=voltages,
        ),
    )
    return DayPlan(
        day,
        found.plan.p_mw,
        found.plan.q_mvar,
        found.result.objective_usd,
        found.bound_usd,
        found.free_bound_usd,
    )


def known_optima(setup: Setup, directory: Path | None = None) -> PlanBook:
    """Return the optima that were found before: from a directory, or those that ship.

    An empty book where there are none, or those that ship are of another configuration.

    Raises:
        ConfigError: The directory holds no such book, or one of another setup.
    """
    if directory is not None:
        exists = directory.is_dir() and any(directory.iterdir())
        return PlanBook.load(directory, setup) if exists else PlanBook.empty(setup)
    try:
        return PlanBook.load(setup_directory(setup) / FOLDER, setup)
    except ConfigError:
        return PlanBook.empty(setup)


def plan_policies(env: MultiAgentMicrogrids, book: PlanBook) -> Policies:
    """Return policies that carry out a book's plans."""
    return {agent: PlanPolicy(codec, book, env.setup) for agent, codec in env.codecs.items()}


def mean_bounds(book: PlanBook, days: Sequence[int]) -> dict[str, float]:
    """Return the mean bounds over days, and how far the plans are above the first, as a share."""
    plans = [book.plans[day] for day in days]
    bound = float(np.mean([p.bound_usd for p in plans]))
    found = float(np.mean([p.objective_usd for p in plans]))
    return {
        "bound_usd": bound,
        "free_bound_usd": float(np.mean([p.free_bound_usd for p in plans])),
        "gap": (found - bound) / max(1.0, abs(bound)),
    }


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What policies' figures come to beside the optimum, on the days whose optimum is known.

    Attributes:
        facts: How many days, the optimum's objective, its bounds and its gap; for reports.
        figures: Of the optimum, day by day.
        scores: Of each policy, with the 95 % interval over days.
    """

    facts: Mapping[str, float]
    figures: Sequence[DayFigures]
    scores: Mapping[str, Interval]


def measure(
    env: MultiAgentMicrogrids,
    book: PlanBook,
    figures: Mapping[str, Sequence[DayFigures]],
    days: Sequence[int],
) -> Yardstick:
    """Run the optima that are known, and score what policies did on the same days.

    Args:
        env: The environment.
        book: The optima.
        figures: Day by day, per policy.
        days: The days that were run.
    """
    known = [day for day in days if day in book.plans]
    if not known:
        return Yardstick({"days": 0}, (), {})
    best = run_days(env, plan_policies(env, book), known)
    same = {name: [f for f in rows if f.day in known] for name, rows in figures.items()}
    objective = {
        name: np.array([f.objective_usd for f in rows])
        for name, rows in {**same, OPTIMUM: best}.items()
    }
    facts = {
        "days": len(known),
        "objective_usd": float(objective[OPTIMUM].mean()),
        **mean_bounds(book, known),
    }
    return Yardstick(facts, best, scores(objective))


def scores(objective: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, Interval]:
    """Return each policy's score: 0 for doing nothing, 1 for the optimum.

    The interval comes of drawing days anew, the same for all policies. Empty where no optimum was
    run, or it saves nothing.

    Args:
        objective: (n_days,) cost and penalty in $, per policy.
    """
    if OPTIMUM not in objective:
        return {}
    nothing, optimum = objective[NOTHING], objective[OPTIMUM]
    if not optimum.mean() < nothing.mean():
        return {}

    def interval(own: npt.NDArray[np.float64]) -> Interval:
        def score(drawn: npt.NDArray[np.float64]) -> float:
            days = drawn.ravel().astype(np.int64)
            means = (float(x[days].mean()) for x in (own, nothing, optimum))
            return normalised_score(*means)

        return bootstrap(np.arange(len(own))[:, None], score)

    return {name: interval(own) for name, own in objective.items()}
