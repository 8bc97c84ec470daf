"""On which days episodes start."""

from __future__ import annotations

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
