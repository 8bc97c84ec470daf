"""What the coming step may bring, from the steps before it and from how training days went.

Loads and sun are expected from their last four steps by an autoregression around each quarter of
the day's mean. How far they may be off is told by the training days: by what they were off at that
hour, with about as much sun. Test days are in none of this.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.powergrid.data_year import DAY_S, FIRST_WEEKDAY, WEEK
from heron.powergrid.device_configs import InverterSourceConfig
from heron.powergrid.networks import Grid
from heron.powergrid.setups import Setup, device_profile_name, load_profile_names

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ORDER = 4
"""Steps before that the expectation rests on."""
HOURS_ALIKE = 1.5
"""Distance in time of day that counts as much as `SUN_ALIKE`."""
SUN_ALIKE = 0.08
"""Distance in sun, as a share of what all sources are rated for."""
WEEKEND = 5


@dataclass(frozen=True, slots=True)
class Outlook:
    """One course that a step may take.

    Attributes:
        load_scale: (n_loads,) share of each load's nominal power.
        available_mw: (n_devices,) what each source could give; infinite for what is no source.
    """

    load_scale: FloatArray
    available_mw: FloatArray


class StepOutlook:
    """Expects the coming step of a setup, and its large changes.

    Args:
        setup: The setup; its profiles' training days teach.
        grid: Its grid.
        tail: Share of steps that are beyond each of the two large changes; 0 or less: only the
            expected course is given.
        neighbours: Training steps that say what a large change is.
    """

    def __init__(
        self, setup: Setup, grid: Grid, *, tail: float = 0.02, neighbours: int = 400
    ) -> None:
        config, profiles = setup.config, setup.profiles
        self._step_s = config.step_s
        self._per_day = round(DAY_S / config.step_s)
        self._tail = tail
        n = profiles.n_days * self._per_day
        rows = profiles.means_at(config.step_s * np.arange(n, dtype=np.float64), config.step_s)
        # the last column is that of what follows no profile
        self._rows = np.hstack([rows, np.ones((n, 1))])
        self._loads = _load_columns(setup, grid)
        devices = [config.device(d.device_id).device_state_config for d in grid.devices]
        sources = [k for k, d in enumerate(devices) if isinstance(d, InverterSourceConfig)]
        names = [device_profile_name(devices[k], profiles) for k in sources]
        self._source = np.array(sources, np.int64)
        self._column = np.array([_column(setup, name) for name in names], np.int64)
        self._rated = np.array([devices[k].p_range_mw[1] for k in self._source])
        self._n_devices = len(devices)
        self._neighbours = neighbours
        self._learn(grid, profiles.train_days)

    def last(self, time_s: float) -> Outlook:
        """Return the step that ended at a time."""
        return self._outlook(self._rows[self._number(time_s) - 1])

    def now(self, time_s: float) -> Outlook:
        """Return the instant at which a plant is reset."""
        return self._outlook(self._rows[self._number(time_s)])

    def courses(self, time_s: float) -> list[Outlook]:
        """Return the expected course of the step that begins, then a large fall and rise of power.

        Only steps before ``time_s`` are looked at.
        """
        k = self._number(time_s)
        expected = self._expected[k]
        if self._tail <= 0.0:
            return [self._outlook(expected)]
        alike = self._alike(k)
        off = self._net_off[alike]
        direction = off @ self._off[alike] / max(float(off @ off), 1e-12)
        ends = np.quantile(off, [self._tail, 1.0 - self._tail])
        return [self._outlook(expected + end * direction) for end in (0.0, *ends.tolist())]

    def _number(self, time_s: float) -> int:
        return round(time_s / self._step_s) % len(self._rows)

    def _outlook(self, row: FloatArray) -> Outlook:
        row = np.maximum(row, 0.0)
        available = np.full(self._n_devices, np.inf)
        available[self._source] = self._rated * row[self._column]
        return Outlook(row[self._loads], available)

    def _learn(self, grid: Grid, train_days: IntArray) -> None:
        """Fit the expectation on training days, and keep what it was off by on each of them."""
        n_days, n_columns = len(self._rows) // self._per_day, self._rows.shape[1]
        days = self._rows.reshape(n_days, self._per_day, n_columns)
        resting = (np.arange(n_days) + FIRST_WEEKDAY) % WEEK >= WEEKEND
        trains = np.isin(np.arange(n_days), train_days)
        means = np.empty_like(days)
        for kind in (False, True):
            some = days[(resting == kind) & trains]
            means[resting == kind] = some.mean(axis=0) if len(some) else days[trains].mean(axis=0)
        mean = means.reshape(-1, n_columns)
        away = self._rows - mean
        before = np.stack([np.roll(away, k, axis=0) for k in range(1, ORDER + 1)])
        among = np.repeat(trains, self._per_day)
        # a training step whose steps before lie in a test day teaches nothing
        taught = np.flatnonzero(np.all([np.roll(among, k) for k in range(ORDER + 1)], axis=0))
        self._expected = mean.copy()
        for c in range(n_columns):
            weights, *_ = np.linalg.lstsq(before[:, taught, c].T, away[taught, c], rcond=None)
            self._expected[:, c] += weights @ before[:, :, c]
        self._expected = np.maximum(self._expected, 0.0)
        net = np.zeros(n_columns)
        np.add.at(net, self._loads, [-load.kw / 1e3 for load in grid.loads])
        np.add.at(net, self._column, self._rated)
        self._sun = np.roll(self._rows[:, self._column] @ self._rated, 1)
        self._sun /= max(float(self._rated.sum()), 1e-9)
        self._taught = taught
        self._off = self._rows - self._expected
        self._net_off = self._off @ net

    def _alike(self, k: int) -> IntArray:
        """Return training steps at about that hour, with about as much sun in the step before."""
        apart = np.abs(self._taught - k) % self._per_day
        hours = np.minimum(apart, self._per_day - apart) * self._step_s / 3600.0
        sun = self._sun[self._taught] - self._sun[k]
        distance = (hours / HOURS_ALIKE) ** 2 + (sun / SUN_ALIKE) ** 2
        count = min(self._neighbours, len(distance) - 1)
        return np.asarray(self._taught[np.argpartition(distance, count)[:count]])


def _load_columns(setup: Setup, grid: Grid) -> IntArray:
    """Return the profile of each load; an area's are dealt to its loads in turn."""
    count: dict[str, int] = defaultdict(int)
    columns = []
    for load in grid.loads:
        choice = load_profile_names(setup.config, setup.profiles, load.area)
        columns.append(_column(setup, choice[count[load.area] % len(choice)]))
        count[load.area] += 1
    return np.array(columns, np.int64)


def _column(setup: Setup, name: str | None) -> int:
    return -1 if name is None else setup.profiles.index(name)
