"""HERON agents as a PettingZoo environment, and how light the library is."""

import subprocess
import sys

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from heron.envs import EpisodeStatistics, PettingZooParallelEnv, TerminationConfig
from heron.errors import ConfigError

STEP_S = 900.0


@pytest.fixture
def zoo(toy):
    class Zoo(PettingZooParallelEnv):
        """The guide's environment, small: three sites of batteries."""

        def __init__(self, max_steps=8):
            super().__init__(env_id="zoo")
            self.dso = toy.build()
            for site in self.dso.coordinators.values():
                site.policy = None
                self.register_agent(site)
            self.setup_spaces()
            self.endings = TerminationConfig(max_steps=max_steps)
            self.statistics = EpisodeStatistics()

        def reset(self, seed=None, options=None):
            self.agents = list(self.possible_agents)
            self.n_steps = 0
            self.statistics.reset()
            self.reset_agents(seed)
            return self.vectors(), {a: {} for a in self.agents}

        def step(self, actions):
            self.apply_actions(actions)
            self.n_steps += 1
            for agent in self.heron_agents.values():
                if isinstance(agent, toy.Battery):
                    agent.state.charge.soc -= agent.p_mw * STEP_S / 3600.0 / 10.0
            rewards = {
                a: -sum(abs(b.p_mw) for b in self.get_heron_agent(a).subordinates.values())
                for a in self.agents
            }
            ending = self.endings.check(self.n_steps)
            infos = {a: {"action_mask": self.action_masks()[a]} for a in self.agents}
            self.statistics.record(rewards, infos)
            ended = (
                dict.fromkeys(self.agents, ending.terminated),
                dict.fromkeys(self.agents, ending.truncated),
            )
            if ending.over:
                self.agents = []
            return self.vectors(), rewards, *ended, infos

        def vectors(self):
            observations = self.get_observations()
            return {a: observations[a].vector() for a in self.agents or self.possible_agents}

    return Zoo


def test_an_environment_of_heron_agents_passes_pettingzoos_own_test(zoo):
    parallel_api_test(zoo(), num_cycles=30)


def test_the_same_actions_give_the_same_episode(zoo):
    def episode():
        env = zoo()
        env.reset(seed=4)
        for name, space in env.action_spaces.items():
            space.seed(7)
            assert env.action_space(name) is space
        seen = []
        while env.agents:
            actions = {a: env.action_space(a).sample() for a in env.agents}
            observations, rewards, *_ = env.step(actions)
            seen.append([*observations["MG2"].tolist(), rewards["MG2"]])
        assert env.statistics.n_steps == 8
        return seen

    assert episode() == episode()


def test_light_spaces_become_gymnasiums_when_they_are_set(zoo):
    import gymnasium

    env = zoo()
    env.action_spaces = {a: env.get_heron_agent(a).action.space for a in env.possible_agents}
    assert all(isinstance(s, gymnasium.spaces.Box) for s in env.action_spaces.values())
    assert env.action_space("MG1").shape == (2,)
    assert env.observation_space("MG1").shape == env.observation_spaces["MG1"].shape
    with pytest.raises(TypeError, match="not a space"):
        env.action_spaces = {"MG1": (2,)}


def test_reset_agents_restores_every_level(zoo):
    env = zoo()
    env.reset(seed=0)
    start = env.vectors()
    env.step({a: np.ones(2) for a in env.agents})
    assert any(not np.array_equal(start[a], env.vectors()[a]) for a in start)
    env.reset(seed=0)
    for a, vector in env.vectors().items():
        np.testing.assert_array_equal(vector, start[a])


def test_a_distributed_environment_without_a_broker_of_its_own_makes_one(zoo):
    env = zoo()
    env.configure_agents_for_distributed()
    env.reset(seed=0)
    env.step({a: np.ones(2) for a in env.agents})
    assert env.message_broker.published > 0
    env.message_broker = None
    with pytest.raises(ConfigError, match="broker"):
        env.apply_actions({"MG1": np.ones(2)})


def imported_by(statement):
    code = f"import sys; {statement}; print(*sorted(m.split('.')[0] for m in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_library_imports_no_learning_or_power_flow_library():
    heavy = {"gymnasium", "pettingzoo", "torch", "ray", "pandapower", "pandas", "scipy"}
    light = "import heron, heron.core, heron.agents, heron.protocols, heron.messaging, heron.envs"
    assert not imported_by(light) & (heavy | {"pydantic", "yaml"})


def test_agents_and_their_timing_are_there_without_asyncio_and_clocks_bring_it():
    timed = "import heron.agents, heron.protocols, heron.scheduling, heron.messaging, heron.envs"
    assert "asyncio" not in imported_by(timed)
    assert "asyncio" in imported_by("from heron.scheduling import RealClock")
