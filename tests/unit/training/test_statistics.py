from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import trim_mean

from training.evaluation.statistics import (
    bootstrap,
    interquartile_mean,
    normalised_score,
    probability_of_improvement,
)


def test_interquartile_mean_is_the_trimmed_mean_of_scipy() -> None:
    x = np.random.default_rng(0).normal(size=(12, 4))
    assert interquartile_mean(x) == pytest.approx(trim_mean(x.ravel(), 0.25))


def test_interquartile_mean_counts_border_values_in_part() -> None:
    assert interquartile_mean([0.0, 1.0, 2.0, 3.0, 100.0]) == pytest.approx(
        (0.75 * 1 + 2 + 0.75 * 3) / 2.5
    )


def test_bootstrap_interval_holds_the_value_and_repeats() -> None:
    scores = np.random.default_rng(1).normal(0.6, 0.1, (10, 5))
    interval = bootstrap(scores)
    assert interval.low < interval.value < interval.high
    assert interval == bootstrap(scores)


def test_probability_of_improvement_counts_ties_by_half() -> None:
    assert probability_of_improvement([[1.0], [2.0]], [[1.0], [1.0]]) == 0.75


def test_score_is_nought_for_nothing_and_one_for_the_optimum() -> None:
    assert normalised_score(1016.0, 1016.0, 772.0) == 0.0
    assert normalised_score(772.0, 1016.0, 772.0) == 1.0
    with pytest.raises(ValueError, match="must cost less"):
        normalised_score(1.0, 2.0, 3.0)
