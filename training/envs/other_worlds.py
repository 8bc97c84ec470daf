"""Plants that differ from the setup's own: other lines, other loads and weather."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from heron.powergrid.networks import Grid, compose
from heron.powergrid.setups import Profiles, Setup
from simulator.batch_plant import BatchPlant
from simulator.engines.batch import make_batch_engine
from training.envs.robustness import Robustness

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ScatteredProfiles(Profiles):
    """Profiles of which each scenario sees its own multiple.

    Attributes:
        factors: (n, n_columns), changed in place.
    """

    factors: FloatArray = field(default_factory=lambda: np.ones((0, 0)))

    def means_at(self, time_s: FloatArray, dt_s: float) -> FloatArray:
        """Return every column's mean for every scenario; see `Profiles.means_at`."""
        rows = Profiles.means_at(self, time_s, dt_s)
        return rows * self.factors if rows.shape == self.factors.shape else rows


def scattered_lines(grid: Grid, spread: float, rng: np.random.Generator) -> Grid:
    """Return a grid with every line's impedance times a factor of its own.

    Args:
        grid: The grid.
        spread: Standard deviation of the factor's logarithm.
        rng: Draws.
    """
    factors = np.exp(rng.normal(0.0, spread, len(grid.lines))).tolist()
    lines = tuple(
        line.model_copy(
            update={
                name: tuple(tuple(x * f for x in row) for row in getattr(line, name))
                for name in ("r_ohm", "x_ohm")
            }
        )
        for line, f in zip(grid.lines, factors, strict=True)
    )
    return replace(grid, lines=lines)


class OtherWorlds:
    """Hands out plants for the episodes of N scenarios.

    Args:
        setup: The setup.
        n: Scenarios.
        robustness: What is drawn.
        seed: Of all draws.
    """

    def __init__(self, setup: Setup, n: int, robustness: Robustness, seed: int) -> None:
        self._draws = robustness
        self._rng = np.random.default_rng(seed)
        profiles = setup.profiles
        self._factors = np.ones((n, len(profiles.names)))
        self._price = profiles.index(setup.config.price_profile)
        if robustness.profile_spread:
            scattered = ScatteredProfiles(
                profiles.names, profiles.values, profiles.step_s, profiles.source, self._factors
            )
            setup = replace(setup, profiles=scattered)
        self._setup, self._n = setup, n
        self._grid = compose(setup.config)
        self._plants: list[BatchPlant] = []

    def next(self) -> BatchPlant:
        """Return the plant of the next episodes, with their profiles drawn."""
        if self._draws.profile_spread:
            shape = self._factors.shape
            self._factors[:] = np.exp(self._rng.normal(0.0, self._draws.profile_spread, shape))
            self._factors[:, self._price] = 1.0
        wanted = self._draws.networks if self._draws.line_spread else 1
        if len(self._plants) < wanted:
            self._plants.append(self._build())
            return self._plants[-1]
        return self._plants[int(self._rng.integers(wanted))]

    def _build(self) -> BatchPlant:
        grid = self._grid
        if self._draws.line_spread:
            grid = scattered_lines(grid, self._draws.line_spread, self._rng)
        engine = make_batch_engine(self._setup.config.engine, grid)
        return BatchPlant(self._setup, self._n, engine)
