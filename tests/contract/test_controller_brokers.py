"""What every agents' broker promises: one suite over memory, the embedded broker and mosquitto."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack

import numpy as np
import pytest

from heron.errors import BrokerUnavailable
from heron.messaging import BROADCAST, Broker, InMemoryBroker, Message, MessageType
from heron.messaging.embedded import EmbeddedBroker, free_port
from heron.messaging.mqtt_broker import MqttBroker
from heron.powergrid.setups import load_setup
from heron.testing.brokers import mosquitto

Join = Callable[[], Broker]


@pytest.fixture(params=["memory", "embedded", pytest.param("mosquitto", marks=pytest.mark.broker)])
async def join(request: pytest.FixtureRequest) -> AsyncIterator[Join]:
    """Give brokers that hear each other; in memory it is one and the same."""
    async with AsyncExitStack() as outer:
        with ExitStack() as stack:
            if request.param == "memory":
                shared = stack.enter_context(InMemoryBroker())
                yield lambda: shared
                return
            if request.param == "embedded":
                url = (await outer.enter_async_context(EmbeddedBroker())).url
            else:
                url = await outer.enter_async_context(mosquitto())
            yield lambda: stack.enter_context(MqttBroker(url))


def message(to: str, value: object = 0.0, *, env_id: str = "env", sender: str = "MG1") -> Message:
    return Message(env_id, sender, to, MessageType.ACTION, {"value": value}, timestamp=900.0)


def values(messages: list[Message]) -> list[object]:
    return [m.payload["value"] for m in messages]


async def test_a_message_arrives_as_it_was_sent(join: Join) -> None:
    broker = join()
    sent = message("ess1", {"p": np.array([0.1 + 0.2, -1.0]), "note": None, "on": True})
    broker.publish("agent/ess1", sent)
    assert broker.consume("agent/ess1", "ess1", "env") == [sent]


async def test_messages_keep_their_order_and_are_read_once(join: Join) -> None:
    broker = join()
    for k in range(50):
        broker.publish("c", message("ess1", k))
    assert values(broker.consume("c", "ess1", "env", clear=False)) == list(range(50))
    assert values(broker.consume("c", "ess1", "env")) == list(range(50))
    assert broker.consume("c", "ess1", "env") == []


async def test_nobody_reads_what_is_for_another(join: Join) -> None:
    broker = join()
    broker.publish("c", message("MG10", 10))
    broker.publish("c", message("MG1", 1))
    broker.publish("c", message("MG1", 2, env_id="other"))
    assert values(broker.consume("c", "MG1", "env")) == [1]
    assert values(broker.consume("c", "MG10", "env")) == [10]


async def test_a_broadcast_reaches_everybody_once(join: Join) -> None:
    broker = join()
    broker.publish("c", message(BROADCAST, 7))
    for reader in ("MG1", "MG2"):
        assert values(broker.consume("c", reader, "env")) == [7]
        assert broker.consume("c", reader, "env") == []


async def test_clearing_an_environment_leaves_the_others(join: Join) -> None:
    broker = join()
    broker.publish("c", message("ess1", 1))
    broker.publish("c", message("ess1", 2, env_id="other"))
    broker.clear_environment("env")
    assert broker.consume("c", "ess1", "env") == []
    assert values(broker.consume("c", "ess1", "other")) == [2]


async def test_one_broker_object_hears_the_other(join: Join) -> None:
    here, there = join(), join()
    there.create_channel("c")
    arrived = threading.Event()
    there.subscribe("c", lambda got: arrived.set())
    here.publish("c", message("ess1", 3))
    assert await asyncio.to_thread(arrived.wait, 5.0)
    assert values(there.consume("c", "ess1", "env")) == [3]


async def test_a_closed_broker_refuses(join: Join) -> None:
    broker = join()
    broker.close()
    broker.close()
    with pytest.raises(BrokerUnavailable, match="closed"):
        broker.publish("c", message("ess1"))


async def test_a_distributed_environment_gives_the_same_day_over_any_broker(join: Join) -> None:
    from training.envs import MultiAgentMicrogrids

    rewards = []
    for centralized in (True, False):
        env = MultiAgentMicrogrids(load_setup("ieee34_ieee13"))
        if not centralized:
            env.configure_agents_for_distributed(join())
        env.reset(seed=3)
        rng = np.random.default_rng(0)
        told = []
        for _ in range(4):
            actions = {
                a: rng.uniform(-1.0, 1.0, env.action_space(a).shape).astype(np.float32)
                for a in env.agents
            }
            told.append(env.step(actions)[1])
        rewards.append(told)
    assert rewards[0] == rewards[1]


def test_an_mqtt_broker_that_is_not_there_is_said_in_one_line() -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    with pytest.raises(BrokerUnavailable, match=url):
        MqttBroker(url)
