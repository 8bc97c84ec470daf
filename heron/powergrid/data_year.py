"""The year that profiles are of, and where in it a moment of the calendar lies.

Plant time counts seconds from the start of the data year. An emulated plant says what time it is;
beside real devices the calendar does.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

DAY_S = 86_400.0
DAYS = 366
FIRST_WEEKDAY = 4
"""Its first day is a Friday; Monday is 0."""
WEEK = 7


_asked_last: list[tuple[float, int, int]] = [(-1.0, 0, 0)]


def step_of_day(time_s: float, n_steps: int) -> int:
    """Return in which of a day's equal steps a plant time lies.

    The last answer is remembered: all of a site ask for the same instant, one after the other.
    """
    asked_s, of_steps, step = _asked_last[0]
    if time_s != asked_s or n_steps != of_steps:
        step = int(time_s % DAY_S / DAY_S * n_steps)
        _asked_last[0] = (time_s, n_steps, step)
    return step


def data_year_s(moment: datetime) -> float:
    """Return the plant time that stands for a moment of the calendar.

    Args:
        moment: In the time zone in which the site lives; only its own date and time are looked at.

    Returns:
        Seconds: the same time of day on the same day of the week, on the nearest date that has it.
    """
    day = moment.timetuple().tm_yday - 1
    ahead = (moment.weekday() - FIRST_WEEKDAY - day + 3) % WEEK - 3
    day += ahead
    if day < 0:
        day += WEEK
    elif day >= DAYS:
        day -= WEEK
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return day * DAY_S + (moment - midnight).total_seconds()


def plant_time_now_s() -> float:
    """Return the plant time of this moment, by the machine's clock, in its standard time.

    Summer time is not followed: profiles do not, and time never goes back an hour.
    """
    standard = timezone(timedelta(seconds=-time.timezone))
    return data_year_s(datetime.now(standard))
