"""What a coordinator knows of prices and of the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from heron.powergrid.data_year import DAY_S, DAYS, FIRST_WEEKDAY, WEEK
from heron.powergrid.features.base import DomainFeature, FeatureField

_HOURS = 24


class MarketSignal(DomainFeature):
    """The price now and, where the day-ahead prices are known, its place in the day.

    With a forecast the vector is: price, mean of the day, price less the mean, rank of the
    price in the day (0 cheapest, 1 dearest), and ``ahead_00`` to ``ahead_23``: the mean price
    of each of the next 24 hours less the day's mean, counted from now; 0 beyond the day's end.
    Without a forecast it is the price alone.
    """

    visibility = ("owner", "system")
    fields = (
        FeatureField("price", "$/MWh", 50.0),
        FeatureField("day_mean", "$/MWh", 50.0),
        FeatureField("relative", "$/MWh", 20.0),
        FeatureField("rank"),
    )
    settings = ("forecast",)

    price: float
    day_mean: float
    relative: float
    rank: float

    def __init__(
        self,
        forecast: bool = True,
        *,
        price: float = 0.0,
        day_mean: float = 0.0,
        relative: float = 0.0,
        rank: float = 0.5,
        ahead: Sequence[float] | None = None,
    ) -> None:
        self.forecast = forecast
        self._day: tuple[float, ...] = ()
        self._ahead_by_step: list[list[float]] = []
        self._rank_by_step: list[float] = []
        start = [0.0] * _HOURS if ahead is None else [float(x) for x in ahead]
        self.ahead: list[float]
        super().__init__(price=price, day_mean=day_mean, relative=relative, rank=rank, ahead=start)

    def update(self, time_s: float, price: float, day_ahead: tuple[float, ...]) -> None:
        """Take in the signal.

        Args:
            time_s: Plant time now.
            price: Price now, $/MWh; used only where the day-ahead prices are not known.
            day_ahead: Prices of this plant day in equal steps, or empty.
        """
        if not (self.forecast and day_ahead):
            self.price = self.day_mean = price
            self.relative, self.rank = 0.0, 0.5
            return
        if day_ahead is not self._day and day_ahead != self._day:
            self._take_day(day_ahead)
        i = int(time_s % DAY_S / DAY_S * len(day_ahead))
        self.price = day_ahead[i]
        self.relative = self.price - self.day_mean
        self.rank = self._rank_by_step[i]
        self.ahead = self._ahead_by_step[i]

    def _take_day(self, day_ahead: tuple[float, ...]) -> None:
        """Work out the rows of every step of a new day once."""
        prices = np.asarray(day_ahead, dtype=np.float64)
        n = len(prices)
        self._day = day_ahead
        self.day_mean = float(prices.mean())
        ranks = np.searchsorted(np.sort(prices), prices) / max(1, n - 1)
        self._rank_by_step = ranks.tolist()
        per_hour = max(1, n // _HOURS)
        total = np.concatenate([[0.0], np.cumsum(prices - self.day_mean)])
        steps = np.arange(n)[:, None] + per_hour * np.arange(_HOURS + 1)[None, :]
        ahead = np.diff(total[np.minimum(steps, n)], axis=1) / per_hour
        self._ahead_by_step = ahead.tolist()

    def values(self) -> Sequence[float]:
        """Return 28 numbers with a forecast, one without."""
        if not self.forecast:
            return (self.price,)
        return (self.price, self.day_mean, self.relative, self.rank, *self.ahead)

    def names(self) -> list[str]:
        """Return the names of the vector's numbers."""
        if not self.forecast:
            return ["price"]
        return [*super().names(), *(f"ahead_{hour:02d}" for hour in range(_HOURS))]

    def units(self) -> list[str]:
        """Return the unit of each number."""
        return ["$/MWh"] if not self.forecast else [*super().units(), *["$/MWh"] * _HOURS]

    def scales(self) -> list[float]:
        """Return the typical size of each number."""
        return [50.0] if not self.forecast else [*super().scales(), *[20.0] * _HOURS]

    def to_dict(self) -> dict[str, object]:
        """Return plain data for messages and logs."""
        return {**super().to_dict(), "ahead": list(self.ahead)}


class TimeOfDay(DomainFeature):
    """The time as a policy can use it.

    Attributes:
        day_sin: Sine of the time of day.
        day_cos: Cosine of the time of day; 1 at midnight.
        season: Cosine of the time of year; 1 at the winter solstice, -1 at the summer one.
        weekend: 1 on Saturday and Sunday.
    """

    visibility = ("public",)
    fields = (
        FeatureField("day_sin"),
        FeatureField("day_cos"),
        FeatureField("season"),
        FeatureField("weekend"),
    )

    day_sin: float
    day_cos: float
    season: float
    weekend: float

    def __init__(
        self,
        day_sin: float = 0.0,
        day_cos: float = 1.0,
        season: float = 1.0,
        weekend: float = 0.0,
    ) -> None:
        super().__init__(day_sin=day_sin, day_cos=day_cos, season=season, weekend=weekend)

    def update(self, time_s: float) -> None:
        """Take in the plant time, counted from 1 January of the data year."""
        self.day_sin, self.day_cos, self.season, self.weekend = _time_of_day(time_s)


@lru_cache(maxsize=64)
def _time_of_day(time_s: float) -> tuple[float, float, float, float]:
    """Return what `TimeOfDay` holds; all agents of a site ask for the same instant."""
    angle = 2.0 * math.pi * (time_s % DAY_S) / DAY_S
    day = int(time_s // DAY_S)
    season = math.cos(2.0 * math.pi * (day % DAYS + 10) / DAYS)
    return math.sin(angle), math.cos(angle), season, float((day + FIRST_WEEKDAY) % WEEK >= 5)
