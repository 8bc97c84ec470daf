"""What agents send each other by themselves, in every mode, and who joins a site late."""

import numpy as np
import pytest

from heron.agents import CoordinatorAgent
from heron.envs import HeronEnvCore
from heron.messaging import BROADCAST, InMemoryBroker, Message, MessageType, agent_channel
from heron.protocols import SetpointProtocol
from heron.scheduling import TickConfig

ALARM = {"alarm": 1}


def site_of(toy, devices=("b1", "b2"), **timing):
    ticks = TickConfig(tick_interval=10.0, **timing)
    return CoordinatorAgent(
        "MG1",
        protocol=SetpointProtocol(),
        config={"agents": [toy.Battery(name, tick_config=ticks) for name in devices]},
        tick_config=ticks,
    )


def distributed(toy, **timing):
    env = HeronEnvCore("site")
    env.register_agent(site_of(toy, **timing))
    env.configure_agents_for_distributed()
    return env, *env.heron_agents.values()


def payloads(agent):
    return [dict(message.payload) for message in agent.receive_messages()]


def test_messages_wait_for_their_reader_while_commands_and_reports_pass(toy):
    env, site, first, second = distributed(toy)
    first.send_message("MG1", ALARM)
    site.send_message("b2", {"content": "a key that commands have, too"})
    env.get_observations()
    env.apply_actions({"MG1": [1.0, -1.0]})
    env.decide()
    assert [first.p_mw, second.p_mw] == [1.0, -1.0]
    assert payloads(site) == [ALARM]
    assert payloads(second) == [{"content": "a key that commands have, too"}]
    assert payloads(site) == []


def test_messages_wait_for_their_reader_in_event_driven_time(toy):
    env, site, first, _ = distributed(toy)
    env.setup_event_driven()
    env.setup_default_handlers()
    first.send_message("MG1", ALARM)
    env.run_event_driven(100.0)
    assert env.message_broker.published > 20
    assert payloads(site) == [ALARM]


def test_what_an_agent_sends_another_commands_nobody(toy):
    env, _, first, second = distributed(toy)
    second.send_message("b1", {"content": [2.0]}, MessageType.ACTION)
    env.apply_actions({"MG1": [0.5, 0.5]})
    assert first.p_mw == 0.5
    assert [m.message_type for m in first.receive_messages()] == [MessageType.ACTION]


@pytest.mark.parametrize("centralized", [True, False])
def test_in_event_driven_time_a_message_arrives_after_its_senders_delay(toy, centralized):
    env = HeronEnvCore("site", InMemoryBroker())
    env.register_agent(site_of(toy, msg_delay=7.0))
    if not centralized:
        env.configure_agents_for_distributed()
    site, first, _ = env.heron_agents.values()
    env.setup_event_driven()
    env.setup_default_handlers()
    env.run_event_driven(5.5)
    first.send_message("MG1", ALARM)
    env.run_event_driven(12.4)
    assert site.receive_messages() == []
    env.run_event_driven(12.6)
    (message,) = site.receive_messages()
    assert (message.sender_id, message.timestamp) == ("b1", 5.5)
    env.stop_event_driven()
    first.send_message("MG1", ALARM)
    assert payloads(site) == [ALARM]


def test_messages_of_one_sender_arrive_in_their_order_however_delays_scatter(toy):
    delays = (30.0, 0.0, 2.0, 9.0, 0.0)
    env, site, first, _ = distributed(toy, measured={"msg_delay": delays})
    env.setup_event_driven()
    env.setup_default_handlers()
    for k in range(40):
        first.send_message("MG1", {"k": k})
        env.run_event_driven(env.time_s + 3.0)
    env.run_event_driven(env.time_s + 100.0)
    assert [m["k"] for m in payloads(site)] == list(range(40))


def test_a_broadcast_reaches_all_others_once_in_order_with_the_rest(toy):
    env, site, first, second = distributed(toy)
    for k, recipient in enumerate(["MG1", BROADCAST, "MG1"]):
        env.time_s = float(k)
        first.send_message(recipient, {"k": k})
    assert [m["k"] for m in payloads(site)] == [0, 1, 2]
    assert [m["k"] for m in payloads(second)] == [1]
    assert payloads(first) == payloads(site) == payloads(second) == []


def test_a_message_bears_the_time_of_the_environment_whoever_sends_it(toy):
    env, site, first, _ = distributed(toy)
    env.time_s = 900.0
    env.apply_actions({"MG1": [1.0, -1.0]})
    first.send_message("MG1", ALARM)
    assert [m.timestamp for m in site.receive_messages()] == [900.0]


def test_messages_of_a_former_episode_are_forgotten(toy):
    env = HeronEnvCore("site", InMemoryBroker())
    env.register_agent(site_of(toy))
    site, first, _ = env.heron_agents.values()
    first.send_message("MG1", ALARM)
    env.reset_agents()
    assert payloads(site) == []


def test_an_environments_broker_is_its_agents_unless_they_have_their_own(toy):
    own, shared = InMemoryBroker(), InMemoryBroker()
    env = HeronEnvCore("site", shared)
    env.register_agent(toy.Battery("lone", message_broker=own))
    env.register_agent(site_of(toy))
    assert env.centralized
    brokers = {name: agent.message_broker for name, agent in env.heron_agents.items()}
    assert brokers == {"lone": own, "MG1": shared, "b1": shared, "b2": shared}


# --- who joins later ------------------------------------------------------------------------


def test_an_agent_that_joins_a_distributed_environment_is_reached_over_the_broker_only(toy):
    env = HeronEnvCore("site")
    env.configure_agents_for_distributed()
    env.register_agent(site_of(toy))
    site, first, second = env.heron_agents.values()
    heard = []
    env.message_broker.subscribe(agent_channel("MG1"), heard.append)
    assert {agent.message_broker for agent in env.heron_agents.values()} == {env.message_broker}
    first.state.charge.soc = 0.9
    assert site.observe().vector()[0] == 0.5  # nothing was reported yet
    env.get_observations()
    assert site.observe().vector()[0] == np.float32(0.9)
    assert [m.sender_id for m in heard] == ["b1", "b2"]
    env.apply_actions({"MG1": [1.0, 2.0]})
    assert [first.p_mw, second.p_mw] == [1.0, 2.0]


def test_joining_before_or_after_gives_the_same_trajectory(toy):
    socs = []
    for early in (True, False):
        env = toy.Env(toy.build(n_sites=1)) if early else toy.Env(toy.Battery("lone"))
        env.configure_agents_for_distributed()
        env.register_agent(toy.Battery("lone") if early else toy.build(n_sites=1))
        for _ in range(5):
            env.step(900.0)
        socs.append(sorted(env.socs()))
        assert env.message_broker.published > 20
    assert socs[0] == socs[1]


def test_a_switch_to_messages_or_back_in_event_driven_time_shows_nothing_early(toy):
    env = HeronEnvCore("site")
    env.register_agent(site_of(toy, msg_delay=5.0))
    site, first, _ = env.heron_agents.values()
    env.setup_event_driven()
    env.setup_default_handlers()
    env.run_event_driven(6.0)
    first.state.charge.soc = 0.9
    for switch in (env.configure_agents_for_distributed, env.configure_agents_for_centralized):
        switch()
        assert site.observe().vector()[0] == 0.5
    env.run_event_driven(16.0)
    assert site.observe().vector()[0] == np.float32(0.9)


def test_what_a_foreigner_publishes_to_an_agent_can_be_received(toy):
    env, site, *_ = distributed(toy)
    foreign = Message("site", "scada", "MG1", payload=ALARM)
    from_elsewhere = toy.Battery("scada", message_broker=env.message_broker, env_id="site")
    from_elsewhere.send_message("MG1", ALARM)
    env.decide()
    assert site.receive_messages() == [foreign]
