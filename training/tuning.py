"""Finds the numbers of a baseline on training days, by the cross-entropy method.

Source: Rubinstein, "The cross-entropy method for combinatorial and continuous optimization",
Methodology and Computing in Applied Probability 1, 1999.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.baselines import ActingPolicy, Baselines
from training.envs import MultiAgentMicrogrids
from training.envs.vector_env import VectorMicrogrids
from training.evaluation.episodes import mean_figures, run_days

ELITE_SHARE = 0.25
SMOOTHING = 0.7
"""Part of the way that mean and spread go to the elite's."""

Settings = dict[str, float]


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the search.

    Attributes:
        number: Counted from 1.
        objective_usd: Best mean objective a day so far, cost and penalty.
        settings: What reached it.
    """

    number: int
    objective_usd: float
    settings: Settings


def search(
    evaluate: Callable[[Settings], float],
    start: Mapping[str, float],
    ranges: Mapping[str, tuple[float, float]],
    *,
    rounds: int,
    population: int,
    seed: int = 0,
) -> Iterator[Round]:
    """Search settings that make a figure small; yield the best so far after each round.

    Args:
        evaluate: Figure of settings.
        start: Where to start; tried first, so that the result is never worse.
        ranges: Where to look, per setting.
        rounds: Rounds.
        population: Settings tried a round.
        seed: Of the draws.
    """
    names = list(ranges)
    low, high = (np.array([ranges[n][k] for n in names]) for k in (0, 1))
    mean = np.clip([start[n] for n in names], low, high)
    spread = (high - low) / 4.0
    rng = np.random.default_rng(seed)
    best_x, best = mean, evaluate(dict(zip(names, mean.tolist(), strict=True)))
    n_elite = max(2, round(ELITE_SHARE * population))
    for number in range(1, rounds + 1):
        drawn = np.clip(rng.normal(mean, spread, (population, len(names))), low, high)
        figures = np.array([evaluate(dict(zip(names, x.tolist(), strict=True))) for x in drawn])
        order = np.argsort(figures)[:n_elite]
        mean = mean + SMOOTHING * (drawn[order].mean(axis=0) - mean)
        spread = spread + SMOOTHING * (drawn[order].std(axis=0) - spread)
        if figures[order[0]] < best:
            best, best_x = float(figures[order[0]]), drawn[order[0]]
        settings = {n: float(f"{x:.4g}") for n, x in zip(names, best_x.tolist(), strict=True)}
        yield Round(number, best, settings)


def batch_objective(
    env: MultiAgentMicrogrids, days: Sequence[int]
) -> Callable[[Mapping[str, ActingPolicy]], float]:
    """Return what gives the mean objective over days of policies that act on many at once.

    A day whose power flow fails counts with a thousand times the penalty.
    """
    vector = VectorMicrogrids(env, len(days), seed=0)
    penalty = env.penalty

    def objective(policies: Mapping[str, ActingPolicy]) -> float:
        obs = vector.reset(days)
        total = np.zeros(len(days))
        for _ in range(vector.max_episode_steps):
            actions: dict[str, npt.NDArray[np.float32]] = {
                agent: policy.act(obs[agent]) for agent, policy in policies.items()
            }
            step = vector.step(actions)
            obs = step.obs
            total += np.where(step.alive, step.cost_usd + penalty * step.safety, 0.0)
            total += np.where(step.terminated, 1000.0 * penalty, 0.0)
        return float(np.nan_to_num(total, nan=1000.0 * penalty).mean())

    return objective


def single_objective(
    env: MultiAgentMicrogrids, days: Sequence[int]
) -> Callable[[Mapping[str, ActingPolicy]], float]:
    """Return the same for policies that act on one observation at a time."""

    def objective(policies: Mapping[str, ActingPolicy]) -> float:
        return mean_figures(run_days(env, policies, days))["objective_usd"]

    return objective


def tune(
    name: str,
    env: MultiAgentMicrogrids,
    days: Sequence[int],
    *,
    rounds: int,
    population: int,
    seed: int = 0,
) -> Iterator[Round]:
    """Tune a baseline of `heron.powergrid.baselines.TUNABLE`.

    Args:
        name: Which.
        env: The environment.
        days: Days to run; training days.
        rounds: Rounds of the search.
        population: Settings tried a round.
        seed: Of the search.

    Raises:
        ConfigError: No such baseline to tune, its solvers are not installed, or the agents do not
            command set-points.
    """
    if not env.scheme.commands_devices:
        expected = "set-points, which are what a baseline commands"
        raise ConfigError([ConfigProblem("protocol", env.setup.config.protocol, expected)])
    makers = Baselines(env.setup, env.codecs)
    kind, ranges, in_batch = makers.tunable(name)
    objective = (batch_objective if in_batch else single_objective)(env, days)
    start: dict[str, Any] = {n: getattr(makers.settings(name), n) for n in ranges}

    def evaluate(settings: Settings) -> float:
        return objective(makers.with_settings(name, kind(**settings)))

    yield from search(evaluate, start, ranges, rounds=rounds, population=population, seed=seed)
