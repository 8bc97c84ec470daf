"""Compares what several policies did on the same days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.evaluation.episodes import DayFigures, mean_figures
from training.evaluation.statistics import bootstrap, interquartile_mean, probability_of_improvement

NOTHING = "none"
"""Name of the baseline that everything is measured from."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What several policies did on the same days.

    Attributes:
        days: The days.
        figures: Figures of each day, per policy.
    """

    days: tuple[int, ...]
    figures: Mapping[str, Sequence[DayFigures]]

    def summary(self) -> dict[str, dict[str, Any]]:
        """Return per policy: the means, and how sure the gain over doing nothing is.

        ``gain_usd`` is the mean objective that is saved a day, with its 95 % interval over
        days; ``gain_iqm_usd`` its interquartile mean; ``better_than`` the share of days on
        which it beats each other policy, ties by half.
        """
        objective = {name: self._objective(name) for name in self.figures}
        out: dict[str, dict[str, Any]] = {}
        for name, days in self.figures.items():
            gain = objective[NOTHING] - objective[name]
            sure = bootstrap(gain[:, None], lambda x: float(x.mean()))
            out[name] = {
                **mean_figures(days),
                "gain_usd": sure.value,
                "gain_low_usd": sure.low,
                "gain_high_usd": sure.high,
                "gain_iqm_usd": interquartile_mean(gain),
                "better_than": {
                    other: probability_of_improvement(-objective[name][None, :], -theirs[None, :])
                    for other, theirs in objective.items()
                    if other != name
                },
            }
        return out

    def _objective(self, name: str) -> np.ndarray:
        return np.array([day.objective_usd for day in self.figures[name]])
