"""On which days episodes start."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.setups import SetupConfig

IntArray = npt.NDArray[np.int64]
DAY_S = 86_400.0


def first_days(days: IntArray, config: SetupConfig) -> IntArray:
    """Return the days on which an episode can start so that it stays among some days.

    An episode of several days that began on the last day of a training week would run into a
    test week.

    Args:
        days: Those of one split, rising.
        config: Says how long an episode is.

    Raises:
        ConfigError: No episode fits.
    """
    length = -(-config.max_episode_steps * config.step_s // DAY_S)
    follows = np.ones(len(days), dtype=bool)
    for ahead in range(1, int(length)):
        follows &= np.isin(days + ahead, days)
    if not follows.any():
        most = "at most what the weeks of the split hold: a week to test, three to train"
        raise ConfigError([ConfigProblem("max_episode_steps", config.max_episode_steps, most)])
    return np.asarray(days[follows])


def chosen_start(options: Mapping[str, Any], drawn: int, n_days: int) -> tuple[int, float]:
    """Return the day of the data year and the plant time at which an episode starts.

    Args:
        options: Of a reset: ``day``, ``start_s`` or neither.
        drawn: The day where they do not say.
        n_days: Days in the data.

    Raises:
        ConfigError: The day is not in the data, or the time is none.
    """
    day, start_s = options.get("day"), options.get("start_s")
    if start_s is not None:
        number = isinstance(start_s, (int, float, np.number))
        if not (number and isfinite(start_s) and start_s >= 0.0 and day is None):
            expected = "plant seconds, at least 0, and no day beside it"
            raise ConfigError([ConfigProblem("options.start_s", start_s, expected)])
        return int(start_s // DAY_S) % n_days, float(start_s)
    if day is None:
        day = drawn
    elif not (isinstance(day, (int, np.integer)) and 0 <= day < n_days):
        raise ConfigError([ConfigProblem("options.day", day, f"0 to {n_days - 1}")])
    return int(day), int(day) * DAY_S
