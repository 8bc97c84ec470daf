"""What a coordinator knows of prices and of the time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from heron.powergrid.data_year import DAY_S, DAYS, FIRST_WEEKDAY, WEEK, step_of_day
from heron.powergrid.features.base import FeatureField, RowFeature

_HOURS = 24


class MarketSignal(RowFeature):
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
        self._rows: tuple[tuple[float, ...], ...] = ()
        start = [0.0] * _HOURS if ahead is None else [float(x) for x in ahead]
        self.row = (price, day_mean, relative, rank, *start)

    @property
    def ahead(self) -> list[float]:
        """Mean price of each of the next hours less the day's mean, $/MWh."""
        return list(self.row[4:])

    @ahead.setter
    def ahead(self, values: Sequence[float]) -> None:
        self.row = (*self.row[:4], *values)

    def update(self, time_s: float, price: float, day_ahead: tuple[float, ...]) -> None:
        """Take in the signal.

        Args:
            time_s: Plant time now.
            price: Price now, $/MWh; used only where the day-ahead prices are not known.
            day_ahead: Prices of this plant day in equal steps, or empty.
        """
        if not (self.forecast and day_ahead):
            self.row = (price, price, 0.0, 0.5, *self.row[4:])
            return
        if day_ahead is not self._day and day_ahead != self._day:
            self._day, self._rows = day_ahead, _rows_of(day_ahead)
        self.cell.numbers = self._rows[step_of_day(time_s, len(day_ahead))]

    @property
    def is_its_row(self) -> bool:
        """Whether the row is the vector: it holds what is known ahead, too."""
        return self.forecast and type(self).values is MarketSignal.values

    def values(self) -> Sequence[float]:
        """Return 28 numbers with a forecast, one without."""
        return self.row if self.forecast else self.row[:1]

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


class TimeOfDay(RowFeature):
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
        self.row = (day_sin, day_cos, season, weekend)

    def update(self, time_s: float) -> None:
        """Take in the plant time, counted from 1 January of the data year."""
        self.cell.numbers = _time_of_day(time_s)


@lru_cache(maxsize=64)
def _rows_of(day_ahead: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    """Return what `MarketSignal` holds at every step of a day; all agents of a site ask for it."""
    prices = np.asarray(day_ahead, dtype=np.float64)
    n, mean = len(prices), float(prices.mean())
    ranks = np.searchsorted(np.sort(prices), prices) / max(1, n - 1)
    per_hour = max(1, n // _HOURS)
    total = np.concatenate([[0.0], np.cumsum(prices - mean)])
    steps = np.arange(n)[:, None] + per_hour * np.arange(_HOURS + 1)[None, :]
    ahead = np.diff(total[np.minimum(steps, n)], axis=1) / per_hour
    return tuple(
        (price, mean, price - mean, rank, *hours)
        for price, rank, hours in zip(day_ahead, ranks.tolist(), ahead.tolist(), strict=True)
    )


_asked_last: list[tuple[float, tuple[float, ...]]] = [(-1.0, ())]


def _time_of_day(time_s: float) -> tuple[float, ...]:
    """Return what `TimeOfDay` holds, remembered: all of a site ask for the same instant in turn."""
    asked_s, row = _asked_last[0]
    if time_s != asked_s:
        row = _on_the_clock(time_s % DAY_S) + _in_the_calendar(time_s // DAY_S)
        _asked_last[0] = (time_s, row)
    return row


@lru_cache(maxsize=2048)
def _on_the_clock(second: float) -> tuple[float, ...]:
    """Return sine and cosine of the time of day; every day has the same."""
    angle = 2.0 * math.pi * second / DAY_S
    return math.sin(angle), math.cos(angle)


@lru_cache(maxsize=64)
def _in_the_calendar(day: float) -> tuple[float, ...]:
    """Return season and weekend."""
    season = math.cos(2.0 * math.pi * (day % DAYS + 10) / DAYS)
    return season, float((day + FIRST_WEEKDAY) % WEEK >= 5)
