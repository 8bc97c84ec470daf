"""The guide's ``message_broker`` key: the same day over every broker that it may name."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from heron.errors import BrokerUnavailable, ConfigError
from heron.messaging import InMemoryBroker, agent_channel
from heron.messaging.embedded import EmbeddedBroker, free_port
from heron.messaging.mqtt_broker import MqttBroker
from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids

Choose = Callable[[], Any]


@pytest.fixture(params=["in_memory", "an address", "an object", "an object over mqtt"])
async def choose(request: pytest.FixtureRequest) -> AsyncIterator[Choose]:
    """Yield what makes a value of the key."""
    if request.param == "in_memory":
        yield lambda: "in_memory"
    elif request.param == "an object":
        with InMemoryBroker() as broker:
            yield lambda: broker
    else:
        async with EmbeddedBroker() as server:
            if request.param == "an address":
                yield lambda: server.url
            else:
                with MqttBroker(server.url) as over_mqtt:
                    yield lambda: over_mqtt


def day_of(**options: Any) -> tuple[list[Any], MultiAgentMicrogrids]:
    env = MultiAgentMicrogrids({**load_setup("single_microgrid"), **options})
    rng = np.random.default_rng(0)
    env.reset(seed=3)
    told = []
    for _ in range(3):
        actions = {
            a: rng.uniform(-1.0, 1.0, env.action_space(a).shape).astype(np.float32)
            for a in env.agents
        }
        observations, rewards, *_ = env.step(actions)
        told.append((rewards, {a: o.tolist() for a, o in observations.items()}))
    return told, env


@pytest.mark.parametrize("event_driven", [False, True])
async def test_a_distributed_environment_gives_the_same_day_over_the_broker_that_it_names(
    choose: Choose, event_driven: bool
) -> None:
    direct, _ = day_of(event_driven=event_driven)
    named, env = day_of(event_driven=event_driven, centralized=False, message_broker=choose())
    assert named == direct
    agents = env.heron_agents
    assert {agent.message_broker for agent in agents.values()} == {env.message_broker}
    env.close()


async def test_agents_of_a_named_broker_can_write_to_each_other(choose: Choose) -> None:
    env = MultiAgentMicrogrids("single_microgrid", message_broker=choose())
    first, second, *_ = env.heron_agents.values()
    first.send_message(second.agent_id, {"alarm": 1})
    assert [dict(m.payload) for m in second.receive_messages()] == [{"alarm": 1}]
    env.close()


async def test_an_environment_closes_the_broker_that_it_opened_and_no_other(
    choose: Choose,
) -> None:
    chosen = choose()
    env = MultiAgentMicrogrids("single_microgrid", centralized=False, message_broker=chosen)
    env.close()
    env.close()
    if isinstance(chosen, str) and chosen.startswith("mqtt"):
        with pytest.raises(BrokerUnavailable, match="closed"):
            env.reset(seed=0)
    else:
        env.reset(seed=0)


async def test_environments_that_share_a_broker_leave_each_other_alone(choose: Choose) -> None:
    """Those that were given no name never hear each other's commands, nor what agents write."""
    actions = {"MG1": np.full(6, 0.8, np.float32)}
    alone = MultiAgentMicrogrids("single_microgrid")
    alone.reset(seed=1)
    expected = [alone.step(actions)[1] for _ in range(2)]
    chosen = choose()
    one, other = envs = [
        MultiAgentMicrogrids("single_microgrid", centralized=False, message_broker=chosen)
        for _ in range(2)
    ]
    for env in envs:
        env.reset(seed=1)
    told = [one.step(actions)[1]]
    other.heron_agents["MG1"].send_message("ess1", {"for": "its own"})
    for _ in range(3):
        other.step(actions)
    heard = one.heron_agents["ess1"].message_broker
    assert heard is not None
    assert heard.consume(agent_channel("ess1"), "ess1", one.env_id, clear=False) == []
    assert one.heron_agents["ess1"].receive_messages() == []
    assert [*told, one.step(actions)[1]] == expected
    for env in envs:
        env.close()


@pytest.mark.parametrize("broker", ["kafka", "", "localhost:1883", "mqtt:/", "mqtt://", 5, object])
def test_what_is_no_broker_is_refused_by_name(broker: Any) -> None:
    with pytest.raises(ConfigError, match=r"broker = .*mqtt://host:port"):
        MultiAgentMicrogrids("single_microgrid", centralized=False, message_broker=broker)


async def test_a_mistake_found_later_leaves_no_connection_behind() -> None:
    async with EmbeddedBroker() as server:
        before = threading.active_count()
        with pytest.raises(ConfigError, match="visibility_level"):
            MultiAgentMicrogrids(
                "single_microgrid", message_broker=server.url, visibility_level="nobody"
            )
        assert threading.active_count() == before


def test_a_broker_that_does_not_answer_is_said_in_one_line() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    with pytest.raises(BrokerUnavailable, match=url):
        MultiAgentMicrogrids("single_microgrid", centralized=False, message_broker=url)
