"""The registered environment, from its name to PettingZoo's own conformance test."""

from __future__ import annotations

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

import heron
from heron.errors import ConfigError
from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids

NAME = "MultiAgentMicrogrids-v0"


def test_a_registered_environment_is_made_and_runs_from_start_to_end() -> None:
    config = {**load_setup("ieee34_ieee13"), "max_episode_steps": 4}
    env = heron.make(NAME, config)
    assert isinstance(env, MultiAgentMicrogrids)
    observations, _ = env.reset(seed=1)
    direct = MultiAgentMicrogrids(config)
    same, _ = direct.reset(seed=1)
    assert all(np.array_equal(observations[a], same[a]) for a in env.agents)
    steps = 0
    while env.agents:
        actions = {a: np.zeros(env.action_space(a).shape, np.float32) for a in env.agents}
        observations, rewards, terminated, truncated, infos = env.step(actions)
        steps += 1
    assert steps == 4
    assert all(truncated.values())
    assert not any(terminated.values())
    assert all(env.observation_space(a).contains(o) for a, o in observations.items())
    assert set(rewards) == set(infos) == set(env.possible_agents)


def test_a_registered_environment_passes_pettingzoos_own_test() -> None:
    config = {**load_setup("ieee34_ieee13"), "max_episode_steps": 8}
    parallel_api_test(heron.make(NAME, env_config=config), num_cycles=20)


def test_an_unknown_environment_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=NAME):
        heron.make("MultiAgentMicrogrid-v0", {})
