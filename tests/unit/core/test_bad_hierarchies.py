"""Hierarchies and delays that cannot be are refused by name, before anything runs."""

import pytest

from heron.agents import CoordinatorAgent, FieldAgent, SystemAgent
from heron.envs import HeronEnvCore
from heron.errors import ConfigError
from heron.protocols import SetpointProtocol
from heron.scheduling import EventScheduler, TickConfig


def test_an_agent_that_names_itself_as_its_upstream_is_refused():
    env = HeronEnvCore("env")
    with pytest.raises(ConfigError, match="gen1: upstream_id = 'gen1'"):
        env.register_agent(FieldAgent("gen1", upstream_id="gen1"))
    assert env.get_heron_agent("gen1") is None


def test_a_cycle_made_of_names_alone_is_refused_when_it_closes():
    env = HeronEnvCore("env")
    env.register_agent(CoordinatorAgent("MG1", upstream_id="MG2"))
    env.register_agent(CoordinatorAgent("MG2", upstream_id="MG3"))
    with pytest.raises(ConfigError, match=r"MG3: upstream_id = 'MG1'.*MG3 -> MG1 -> MG2 -> MG3"):
        env.register_agent(CoordinatorAgent("MG3", upstream_id="MG1"))
    assert env.get_heron_agent("MG3") is None


def test_a_cycle_through_a_member_of_a_branch_is_refused():
    env = HeronEnvCore("env")
    env.register_agent(FieldAgent("meter", upstream_id="DSO"))
    site = CoordinatorAgent("MG1", config={"agents": [FieldAgent("gen1")]})
    dso = SystemAgent("DSO", upstream_id="gen1", config={"coordinators": [site]})
    with pytest.raises(ConfigError, match="DSO: upstream_id = 'gen1'"):
        env.register_agent(dso)
    assert env.get_heron_agent("DSO") is None


def test_a_chain_of_names_and_one_that_is_not_there_are_no_cycle():
    env = HeronEnvCore("env")
    env.register_agent(FieldAgent("gen1", upstream_id="MG1"))
    env.register_agent(CoordinatorAgent("MG1", upstream_id="DSO"))
    env.register_agent(CoordinatorAgent("MG2", upstream_id="DSO"))
    assert sorted(env.heron_agents) == ["MG1", "MG2", "gen1"]


@pytest.mark.parametrize("delay", ["obs_delay", "act_delay", "msg_delay"])
@pytest.mark.parametrize("make", [TickConfig, TickConfig.deterministic, TickConfig.with_jitter])
def test_a_negative_delay_is_refused_by_name_however_it_is_given(make, delay):
    with pytest.raises(ConfigError, match=rf"TickConfig\.{delay} = -0\.5"):
        make(**{"tick_interval": 1.0, delay: -0.5})


def test_an_action_or_a_message_cannot_be_scheduled_before_now():
    scheduler = EventScheduler(start_time=5.0)
    with pytest.raises(ValueError, match="current time"):
        scheduler.schedule_action_effect("gen1", 0.0, delay=-1.0)
    with pytest.raises(ValueError, match="current time"):
        scheduler.schedule_message_delivery("gen1", "hello", delay=-1.0)


@pytest.mark.parametrize("protocol", ["barter", SetpointProtocol])
def test_what_is_no_protocol_is_refused_by_name(protocol):
    for kind in (FieldAgent, CoordinatorAgent, SystemAgent):
        with pytest.raises(ConfigError, match=r"a1: protocol = .*Protocol"):
            kind("a1", protocol=protocol)


@pytest.mark.parametrize("timing", [{"tick_interval": 1.0}, {}, 60.0, TickConfig])
def test_what_is_no_timing_is_refused_by_name(timing):
    for kind in (FieldAgent, CoordinatorAgent, SystemAgent):
        with pytest.raises(ConfigError, match=r"a1: tick_config = .*a TickConfig"):
            kind("a1", tick_config=timing)
