"""The plant's time, as a coordinator's observation tells it.

A baseline that works from a plan or a forecast must know the day, which no policy is told
directly. Time of day and season stand in the observation; a season comes twice a year, and the
price tells the two apart. So a planner runs wherever a policy runs, and knows no more than one.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from heron.errors import PolicyError
from heron.policy import PolicyCodec
from heron.powergrid.features import TimeOfDay
from heron.powergrid.setups import Setup

DAY_S = 86_400.0
SEASON_TOLERANCE = 5e-5
"""Less than half of what the season changes within a day, on the days on which it changes least."""


class ObservedTime:
    """Reads the plant's time from scaled observations of one coordinator.

    Args:
        codec: Of the coordinator; its observation needs `TimeOfDay` and the price.
        setup: Gives the prices.

    Raises:
        KeyError: The observation lacks them.
    """

    def __init__(self, codec: PolicyCodec, setup: Setup) -> None:
        me = codec.agent_id
        self._at = [
            codec.index(me, *where)
            for where in (
                ("TimeOfDay", "day_sin"),
                ("TimeOfDay", "day_cos"),
                ("TimeOfDay", "season"),
                ("MarketSignal", "price"),
            )
        ]
        self._scale = codec.scale[self._at]
        self._profiles = setup.profiles
        self._column = setup.config.price_profile
        clock = TimeOfDay()
        seasons = []
        for day in range(setup.profiles.n_days):
            clock.update(day * DAY_S)
            seasons.append(clock.season)
        self._seasons = np.array(seasons)

    def read(self, obs: npt.ArrayLike) -> float:
        """Return the plant time in s that an observation, (obs_dim,), was made at.

        Raises:
            PolicyError: It fits no day of the data year.
        """
        x = np.asarray(obs, dtype=np.float64)[self._at] * self._scale
        sine, cosine, season, price = x.tolist()
        share = math.atan2(sine, cosine) / (2.0 * math.pi) % 1.0
        into_day_s = round(share * DAY_S, 1) % DAY_S
        days = np.flatnonzero(np.abs(self._seasons - season) < SEASON_TOLERANCE)
        if not days.size:
            raise PolicyError(f"the observed season {season:.5f} fits no day")
        off = [
            abs(self._profiles.mean(self._column, d * DAY_S + into_day_s, 0.0) - price)
            for d in days.tolist()
        ]
        return float(days[int(np.argmin(off))]) * DAY_S + into_day_s
