"""Every day of a split can be the first of an episode, its last day too."""

from __future__ import annotations

import numpy as np
import pytest

from heron.powergrid.setups import as_setup, load_setup
from training.envs import MultiAgentMicrogrids
from training.envs.days import first_days

DAY_STEPS = 96


def test_an_episode_of_a_day_may_start_on_every_day_of_its_split() -> None:
    setup = as_setup(load_setup("single_microgrid") | {"max_episode_steps": DAY_STEPS})
    for days in (setup.profiles.train_days, setup.profiles.test_days):
        assert np.array_equal(first_days(days, setup.config), days)


def test_an_episode_of_two_days_stays_within_its_split() -> None:
    setup = as_setup(load_setup("single_microgrid") | {"max_episode_steps": 2 * DAY_STEPS})
    test = setup.profiles.test_days
    starts = first_days(test, setup.config)
    assert set(starts + 1) <= set(test)
    assert set(starts) == {day for day in test if day + 1 in set(test)}


def test_the_last_day_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    env = MultiAgentMicrogrids(load_setup("single_microgrid") | {"max_episode_steps": 1})
    last = env.setup.profiles.train_days[-2:]
    monkeypatch.setattr(env, "_days", last)
    (agent,) = env.possible_agents
    assert {env.reset(seed=seed)[1][agent]["day"] for seed in range(12)} == set(last)
