"""A year of profiles: loads, sun, wind and price, piecewise constant.

Time 0 is 1 January 2016, 00:00, Central European standard time all year (a Friday). A value
holds from its row's time to the next row's. The series repeats after its last day.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError, ConfigProblem

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DAY_S = 86_400.0
TEST_WEEK = 2
"""A week (of seven days from day 0) is a test week when ``week % 4`` is this."""


@dataclass(frozen=True, slots=True, eq=False)
class Profiles:
    """Columns of equal length over whole days.

    Attributes:
        names: Column names.
        values: (n_rows, n_columns), read-only. Loads, sun and wind are shares of a rated
            power; the price is in $/MWh.
        step_s: Seconds from one row to the next; divides a day.
        source: File that it came from, for messages.
    """

    names: tuple[str, ...]
    values: FloatArray
    step_s: float
    source: str = ""

    def __post_init__(self) -> None:
        """Make the values read-only, so that a Profiles can be shared."""
        self.values.setflags(write=False)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, name: str) -> FloatArray:
        column: FloatArray = self.values[:, self.index(name)]
        return column

    def index(self, name: str) -> int:
        """Return a column's number.

        Raises:
            ConfigError: No such column.
        """
        try:
            return self.names.index(name)
        except ValueError:
            expected = f"expected one of the columns {', '.join(self.names)}"
            raise ConfigError([ConfigProblem("profile", name, expected, self.source)]) from None

    def mean(self, name: str, time_s: float, dt_s: float) -> float:
        """Return one column's mean over [time_s, time_s + dt_s); see `means`."""
        return self.series(name).mean(time_s, dt_s)

    def series(self, name: str) -> Series:
        """Return one column, for whoever asks for its mean at every step."""
        return _series(self, name)

    def means(self, time_s: float, dt_s: float) -> FloatArray:
        """Return every column's mean over [time_s, time_s + dt_s).

        Energy is conserved for any step: the mean weighs each row by the time that it holds.
        With ``dt_s`` 0 it is the value that holds at ``time_s``.

        Returns:
            (n_columns,), read-only where it is a row of the data.
        """
        step_s = self.step_s
        n_rows = len(self.values)
        first = int(time_s // step_s)
        into = time_s - first * step_s
        if into + dt_s <= step_s:
            row: FloatArray = self.values[first % n_rows]
            return row
        end = into + dt_s
        n_touched = int(-(-end // step_s))
        weights = np.full(n_touched, step_s)
        weights[0] = step_s - into
        weights[-1] = end - (n_touched - 1) * step_s
        rows = self.values.take(np.arange(first, first + n_touched), axis=0, mode="wrap")
        return np.asarray(weights @ rows / dt_s)

    def means_at(self, time_s: FloatArray, dt_s: float) -> FloatArray:
        """Return every column's mean over one step for many starts at once; see `means`.

        Args:
            time_s: (n,) starts.
            dt_s: Length of all the steps.

        Returns:
            (n, n_columns).
        """
        first = np.floor(time_s / self.step_s).astype(np.int64)
        into = time_s - first * self.step_s
        values: FloatArray = self.values.take(first, axis=0, mode="wrap")
        if (into + dt_s <= self.step_s).all():
            return values
        total = values * np.minimum(self.step_s - into, dt_s)[:, None]
        for k in range(1, int(-(-(into.max() + dt_s) // self.step_s))):
            held_s = np.clip(into + dt_s - k * self.step_s, 0.0, self.step_s)
            total += self.values.take(first + k, axis=0, mode="wrap") * held_s[:, None]
        return np.asarray(total / dt_s)

    @property
    def n_days(self) -> int:
        """Days until the series repeats."""
        return round(len(self.values) * self.step_s / DAY_S)

    def day_of(self, time_s: float) -> int:
        """Return the day of the data year at a plant time."""
        return int(time_s // DAY_S) % self.n_days

    def day_ahead(self, time_s: float, column: str = "price") -> tuple[float, ...]:
        """Return a day's prices as they are known the day before, $/MWh.

        Args:
            time_s: Any instant of that day.
            column: Price column.

        Returns:
            One value a row of that plant day: 96 at 15 minutes.
        """
        per_day = round(DAY_S / self.step_s)
        first = self.day_of(time_s) * per_day
        return tuple(self.values[first : first + per_day, self.index(column)].tolist())

    @property
    def train_days(self) -> IntArray:
        """Days for training: three of four weeks, interleaved over the year."""
        days = np.arange(self.n_days)
        return np.asarray(days[days // 7 % 4 != TEST_WEEK])

    @property
    def test_days(self) -> IntArray:
        """Days kept out of training: every fourth week."""
        days = np.arange(self.n_days)
        return np.asarray(days[days // 7 % 4 == TEST_WEEK])


class Series:
    """One column as plain numbers: agents ask for the price at every step."""

    __slots__ = ("_at", "_n", "_numbers", "_profiles", "_step_s")

    def __init__(self, profiles: Profiles, name: str) -> None:
        self._profiles, self._at = profiles, profiles.index(name)
        self._numbers: tuple[float, ...] = tuple(profiles[name].tolist())
        self._n, self._step_s = len(self._numbers), profiles.step_s

    def mean(self, time_s: float, dt_s: float) -> float:
        """Return the mean over [time_s, time_s + dt_s); see `Profiles.means`."""
        step_s = self._step_s
        first = int(time_s // step_s)
        if time_s - first * step_s + dt_s <= step_s:
            return self._numbers[first % self._n]
        return float(self._profiles.means(time_s, dt_s)[self._at])


@lru_cache(maxsize=16)
def _series(profiles: Profiles, name: str) -> Series:
    return Series(profiles, name)
