"""The prices of a day as they are known, or expected, at an instant of it.

The environment, the DSO's service and the planners all ask here, so that agents see the same
wherever they run.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from heron.powergrid.data_year import FIRST_WEEKDAY, WEEK
from heron.powergrid.setups.models import SetupConfig
from heron.powergrid.setups.profiles import DAY_S, Profiles

FloatArray = npt.NDArray[np.float64]

SEASON_DAYS = 35
"""Days before and after a day whose prices make its typical day."""
MEMORY_S = 6 * 3600.0
"""Time constant with which the deviation from the typical day is averaged."""
PERSISTENCE = 0.9
"""Share of the present deviation that is expected to last until midnight."""


def price_outlook(config: SetupConfig, profiles: Profiles, time_s: float) -> tuple[float, ...]:
    """Return the prices of the plant day as agents may know them at an instant, $/MWh.

    Args:
        config: Says by its ``forecast`` what agents know.
        profiles: Hold the prices.
        time_s: Plant time now.

    Returns:
        One price a profile row of the plant day of ``time_s``, or nothing.
    """
    if config.forecast is False:
        return ()
    row = int(time_s % DAY_S // profiles.step_s) if config.forecast == "typical" else -1
    return _outlook(profiles, config.price_profile, profiles.day_of(time_s), row)


class PriceFeed:
    """What the operator says of prices at an instant, remembered until another is asked for.

    Args:
        config: Says which prices hold, and what of them is known ahead.
        profiles: Hold the prices.
        interval_s: Length of a control interval; that of the setup's steps if not given.
    """

    def __init__(
        self, config: SetupConfig, profiles: Profiles, interval_s: float | None = None
    ) -> None:
        self._config, self._profiles = config, profiles
        self._series = profiles.series(config.price_profile)
        self._interval_s = config.step_s if interval_s is None else interval_s
        self._changes_every_step = config.forecast == "typical"
        self._time_s = self._day = -1.0
        self._now: tuple[float, tuple[float, ...]] = (0.0, ())

    def at(self, time_s: float) -> tuple[float, tuple[float, ...]]:
        """Return the price of the interval that starts now, $/MWh, and `price_outlook`."""
        if time_s != self._time_s:
            day, (_, outlook) = time_s // DAY_S, self._now
            if day != self._day or self._changes_every_step:
                outlook = price_outlook(self._config, self._profiles, time_s)
            price = self._series.mean(time_s, self._interval_s)
            self._time_s, self._day, self._now = time_s, day, (price, outlook)
        return self._now


@lru_cache(maxsize=64)
def _outlook(profiles: Profiles, column: str, day: int, row: int) -> tuple[float, ...]:
    """Return a day's prices, or those expected at a row of it; one tuple for all who ask."""
    if row < 0:
        return profiles.day_ahead(day * DAY_S, column)
    return tuple(expected_prices(profiles, column)[day, row].tolist())


def outlooks(config: SetupConfig, profiles: Profiles) -> FloatArray:
    """Return `price_outlook` of every instant of the data, (n_days, rows, rows).

    Empty along the last axis where no prices are known.
    """
    return known_prices(profiles, config.price_profile, config.forecast)


def known_prices(profiles: Profiles, column: str, forecast: bool | str) -> FloatArray:
    """Return `outlooks` by what of a setup it depends on: its prices and what agents know."""
    if forecast is True:
        by_day = profiles[column].reshape(profiles.n_days, 1, -1)
        return np.broadcast_to(by_day, (profiles.n_days, by_day.shape[2], by_day.shape[2]))
    if forecast is False:
        return np.zeros((profiles.n_days, round(DAY_S / profiles.step_s), 0))
    return expected_prices(profiles, column)


@lru_cache(maxsize=2)
def expected_prices(profiles: Profiles, column: str) -> FloatArray:
    """Return what is expected of each day's prices at each of its instants.

    Until the present row they are those that came; from there on those of the typical day and
    a share of the mean deviation of the last hours from it.

    Returns:
        (n_days, rows now, rows of the day), read-only.
    """
    price = profiles[column].reshape(profiles.n_days, -1)
    typical = _typical_days(price, profiles.train_days)
    deviation = _averaged(price - typical, profiles.step_s / MEMORY_S)
    rows = price.shape[1]
    later = np.triu(np.ones((rows, rows), dtype=bool), k=1)
    ahead = typical[:, None, :] + PERSISTENCE * deviation[:, :, None]
    expected = np.where(later, ahead, price[:, None, :])
    expected.setflags(write=False)
    return expected


def _typical_days(price: FloatArray, train_days: npt.NDArray[np.int64]) -> FloatArray:
    """Return the mean over the training days of the season that are as much weekend as a day."""
    n_days = len(price)
    weekend = (np.arange(n_days) + FIRST_WEEKDAY) % WEEK >= 5
    typical = np.empty_like(price)
    for day in range(n_days):
        away = np.abs(train_days - day)
        near = np.minimum(away, n_days - away) <= SEASON_DAYS
        alike = train_days[near & (weekend[train_days] == weekend[day]) & (away > 0)]
        chosen = alike if len(alike) else train_days
        typical[day] = price[chosen].mean(axis=0)
    return typical


def _averaged(deviation: FloatArray, share: float) -> FloatArray:
    """Return the exponentially weighted mean of what came so far, the present included."""
    out, mean = np.empty(deviation.size), 0.0
    for i, value in enumerate(deviation.ravel().tolist()):
        mean += min(1.0, share) * (value - mean)
        out[i] = mean
    return out.reshape(deviation.shape)
