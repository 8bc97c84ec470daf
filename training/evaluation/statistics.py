"""Figures by which policies are compared over seeds and days.

Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
(NeurIPS 2021): interquartile mean, stratified bootstrap, probability of improvement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval."""

    value: float
    low: float
    high: float


def interquartile_mean(x: npt.ArrayLike) -> float:
    """Return the mean of the middle half; the quartiles' border values count in part."""
    ordered = np.sort(np.asarray(x, dtype=np.float64).ravel())
    n = ordered.size
    upper = np.minimum(np.arange(1, n + 1), 0.75 * n)
    lower = np.maximum(np.arange(n), 0.25 * n)
    weights = np.clip(upper - lower, 0.0, 1.0)
    return float(ordered @ weights / weights.sum())


def bootstrap(
    scores: npt.ArrayLike,
    statistic: Callable[[FloatArray], float] = interquartile_mean,
    *,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return a statistic with its stratified bootstrap interval.

    Args:
        scores: (n_runs, n_tasks); runs are drawn anew for each task by itself.
        statistic: Of all scores.
        confidence: Of the interval.
        seed: Of the draws: the same scores give the same interval.
    """
    table = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    n, m = table.shape
    rng = np.random.default_rng(seed)
    columns = np.arange(m)
    draws = [statistic(table[rng.integers(0, n, (n, m)), columns]) for _ in range(RESAMPLES)]
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(draws, [tail, 1.0 - tail])
    return Interval(statistic(table), float(low), float(high))


def probability_of_improvement(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Return the probability that a run of ``x`` scores above one of ``y`` on the same task.

    Args:
        x: (n_runs, n_tasks) scores; higher is better.
        y: (m_runs, n_tasks) scores.
    """
    a = np.asarray(x, dtype=np.float64)[:, None, :]
    b = np.asarray(y, dtype=np.float64)[None, :, :]
    return float(np.mean((a > b) + 0.5 * (a == b)))


def normalised_score(policy: float, nothing: float, optimum: float) -> float:
    """Return 0 for doing nothing and 1 for the optimum; all three are objectives in $.

    Raises:
        ValueError: The optimum is no better than doing nothing.
    """
    if not optimum < nothing:
        raise ValueError(f"the optimum ({optimum}) must cost less than nothing ({nothing})")
    return (nothing - policy) / (nothing - optimum)
