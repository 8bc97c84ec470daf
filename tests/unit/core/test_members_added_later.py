"""A coordinator that is given a subordinate after it was built, or after it was registered."""

import numpy as np
import pytest

from heron.agents import CoordinatorAgent, FieldAgent, SystemAgent
from heron.envs import HeronEnvCore
from heron.errors import ConfigError
from heron.protocols import SetpointProtocol
from heron.scheduling import TickConfig

TICKS = TickConfig(tick_interval=10.0)


class AllOf:
    """Commands each battery a power of its own."""

    def forward(self, observation):
        return [0.5 * (k + 1) for k in range(len(observation.local["subordinates"]))]


def site_with(toy, *names):
    return CoordinatorAgent(
        "MG1",
        policy=AllOf(),
        protocol=SetpointProtocol(),
        config={"agents": [toy.Battery(name, tick_config=TICKS) for name in names]},
        tick_config=TICKS,
    )


def test_the_action_is_that_of_all_subordinates(toy):
    site = site_with(toy, "b1")
    assert site.action.size == 1
    site.add_subordinate(toy.Battery("b2"))
    assert site.action.size == site.get_action_space().shape[0] == 2
    site.apply_action([1.0, -1.0])
    assert [b.p_mw for b in site.subordinates.values()] == [1.0, -1.0]
    with pytest.raises(ValueError, match="MG1"):
        site.apply_action([1.0])


@pytest.mark.parametrize("distributed", [False, True])
def test_the_environment_holds_it_as_the_others(toy, distributed):
    env = HeronEnvCore("site")
    site = site_with(toy, "b1")
    env.register_agent(site)
    if distributed:
        env.configure_agents_for_distributed()
    site.add_subordinate(toy.Battery("b2", tick_config=TICKS))
    added = env.get_heron_agent("b2")
    assert added is site.subordinates["b2"]
    assert (added.env_id, added.message_broker) == ("site", env.message_broker)
    assert env.get_observations()["MG1"].vector().size == 4
    env.apply_actions({"MG1": np.array([1.0, 2.0])})
    assert added.p_mw == 2.0


def event_driven_site(toy):
    env = HeronEnvCore("site")
    site = site_with(toy, "b1")
    env.register_agent(site)
    env.setup_event_driven()
    env.setup_default_handlers()
    return env, site


def test_it_ticks_and_is_commanded_in_event_driven_time(toy):
    env, site = event_driven_site(toy)
    env.run_event_driven(15.0)
    site.add_subordinate(toy.Battery("b2", tick_config=TICKS))
    env.run_event_driven(25.0)
    assert env.get_heron_agent("b2").p_mw == 1.0


def test_a_command_of_the_former_size_no_longer_holds(toy):
    env, site = event_driven_site(toy)
    env.submit_actions({"MG1": [2.0]})
    env.run_event_driven(15.0)
    assert site.subordinates["b1"].p_mw == 2.0
    site.add_subordinate(toy.Battery("b2", tick_config=TICKS))
    env.run_event_driven(25.0)  # its policy decides until it is told again
    assert [b.p_mw for b in site.subordinates.values()] == [0.5, 1.0]
    env.submit_actions({"MG1": [2.0, -2.0]})
    env.run_event_driven(35.0)
    assert [b.p_mw for b in site.subordinates.values()] == [2.0, -2.0]


def test_an_id_that_the_environment_has_already_is_refused_and_nothing_changes(toy):
    env = HeronEnvCore("site")
    site = site_with(toy, "b1")
    env.register_agent(site)
    env.register_agent(toy.Battery("lone"))
    twin = toy.Battery("lone")
    with pytest.raises(ConfigError, match="site: agent_id = 'lone'"):
        site.add_subordinate(twin)
    assert list(site.subordinates) == ["b1"]
    assert twin.upstream_id is None
    assert site.action.size == 1


class Switch(FieldAgent):
    def set_action(self):
        self.action.set_specs(dim_d=1, ncats=3)


def test_one_that_the_protocol_cannot_carry_leaves_all_as_it_was(toy):
    env = HeronEnvCore("site")
    site = CoordinatorAgent(
        "MG1",
        protocol=SetpointProtocol(),
        config={"agents": [toy.Battery("b1"), Switch("s1")]},
    )
    env.register_agent(site)
    newcomer = toy.Battery("b2")
    with pytest.raises(ConfigError, match="discrete actions last"):
        site.add_subordinate(newcomer)
    assert list(site.subordinates) == ["b1", "s1"]
    assert newcomer.upstream_id is None
    assert env.get_heron_agent("b2") is None
    site.apply_action([1.5, 2.0])
    assert site.subordinates["b1"].p_mw == 1.5


def test_those_above_command_it_too(toy):
    site = site_with(toy, "b1")
    operator = SystemAgent("DSO", protocol=SetpointProtocol(), config={"coordinators": [site]})
    assert operator.action.size == 1
    site.add_subordinate(toy.Battery("b2"))
    assert operator.action.size == 2
    operator.apply_action([1.0, -1.0])
    assert [b.p_mw for b in site.subordinates.values()] == [1.0, -1.0]


def test_through_a_proxy_it_is_seen_before_its_first_report(toy):
    env = HeronEnvCore("site")
    site = site_with(toy, "b1")
    env.register_agent(site)
    env.use_proxy()
    env.setup_event_driven()
    env.run_event_driven(15.0)
    size = env.get_observations()["MG1"].vector().size
    late = TickConfig(tick_interval=10.0, msg_delay=5.0)
    site.add_subordinate(toy.Battery("b2", tick_config=late))
    assert env.get_observations()["MG1"].vector().size == 2 * size
    env.reset_agents(seed=1)
    assert env.get_observations()["MG1"].vector().size == 2 * size
