"""The finer points of the Broker contract, in memory and over MQTT.

That messages arrive whole, in order and once, and between several brokers, is in
``test_controller_brokers.py``.
"""

from contextlib import AsyncExitStack

import pytest

from heron.errors import BrokerUnavailable
from heron.messaging import BROADCAST, InMemoryBroker, Message, MessageType
from heron.messaging.embedded import EmbeddedBroker
from heron.messaging.mqtt_broker import MqttBroker


async def in_memory(stack):
    return stack.enter_context(InMemoryBroker())


async def over_mqtt(stack):
    server = await stack.enter_async_context(EmbeddedBroker())
    return stack.enter_context(MqttBroker(server.url))


BROKERS = {"in_memory": in_memory, "over_mqtt": over_mqtt}


@pytest.fixture(params=list(BROKERS))
async def broker(request):
    async with AsyncExitStack() as stack:
        yield await BROKERS[request.param](stack)


def message(to="b", text="hello", env="env", **kwargs):
    return Message(env, "a", to, payload={"text": text}, **kwargs)


def texts(messages):
    return [m.payload["text"] for m in messages]


@pytest.mark.parametrize("other", ["a", "B", "b1", "b0", "", "b*"])
def test_only_the_recipient_of_exactly_this_id_gets_a_message(broker, other):
    broker.publish("c", message(to="b"))
    assert broker.consume("c", other, "env") == []
    assert len(broker.consume("c", "b", "env")) == 1


def test_channels_and_environments_are_apart(broker):
    broker.publish("c", message(env="one"))
    assert broker.consume("d", "b", "one") == []
    assert broker.consume("c", "b", "two") == []
    assert len(broker.consume("c", "b", "one")) == 1


def test_a_broadcast_reaches_everybody_once_and_in_order_with_the_rest(broker):
    broker.publish("c", message(text="1"))
    broker.publish("c", message(to=BROADCAST, text="2"))
    broker.publish("c", message(text="3"))
    assert texts(broker.consume("c", "b", "env")) == ["1", "2", "3"]
    assert texts(broker.consume("c", "z", "env")) == ["2"]
    assert broker.consume("c", "b", "env") == broker.consume("c", "z", "env") == []


def test_a_message_arrives_as_it_was_sent(broker):
    payload = {"f": 0.1, "n": None, "on": True, "deep": {"list": [1, 2.5, "x"]}}
    sent = Message("env", "a", "b", MessageType.STATE, payload, 12.5)
    broker.publish("c", sent)
    payload["deep"]["list"].append("changed")
    (got,) = broker.consume("c", "b", "env")
    assert got == sent
    assert got.message_type is MessageType.STATE
    assert got.timestamp == 12.5
    assert got.payload["deep"]["list"] == (1, 2.5, "x")
    with pytest.raises(TypeError):
        got.payload["f"] = 1.0


def test_subscribers_are_called_with_every_message_of_the_channel(broker):
    got = []
    broker.subscribe("c", got.append)
    broker.publish("c", message(text="1"))
    broker.publish("d", message(text="2"))
    broker.publish("c", message(to="z", text="3"))
    broker.consume("c", "b", "env")  # what was published through this broker is there by now
    assert texts(got) == ["1", "3"]
    assert texts(broker.consume("c", "z", "env")) == ["3"]


def test_a_subscriber_that_raises_is_heard_of_and_stops_nobody(broker):
    def fail(message):
        raise KeyError(message.payload["text"])

    broker.subscribe("c", fail)
    with pytest.raises(KeyError, match="bad"):
        broker.publish("c", message(text="bad"))
        broker.consume("c", "b", "env")  # over the network the error has come back by now
    broker.publish("d", message(text="good"))
    assert texts(broker.consume("d", "b", "env")) == ["good"]
    assert texts(broker.consume("c", "b", "env")) == ["bad"]


@pytest.mark.parametrize("name", ["", "agent/+", "agent/#", "a\0b"])
def test_a_channel_that_some_broker_cannot_carry_is_refused_by_all(broker, name):
    for use in (
        lambda: broker.create_channel(name),
        lambda: broker.publish(name, message()),
        lambda: broker.consume(name, "b", "env"),
        lambda: broker.subscribe(name, print),
    ):
        with pytest.raises(ValueError, match="cannot be a channel"):
            use()


def test_clearing_an_environment_drops_its_messages_only(broker):
    for env in ("one", "two"):
        broker.publish("c", message(env=env))
        broker.publish("c", message(to=BROADCAST, env=env))
    broker.clear_environment("one")
    assert broker.consume("c", "b", "one") == []
    assert len(broker.consume("c", "b", "two")) == 2
    broker.publish("c", message(env="one", text="new"))
    assert texts(broker.consume("c", "b", "one")) == ["new"]


def test_a_closed_broker_refuses_everything(broker):
    broker.publish("c", message())
    broker.close()
    broker.close()
    for use in (
        lambda: broker.publish("c", message()),
        lambda: broker.consume("c", "b", "env"),
        lambda: broker.create_channel("c"),
        lambda: broker.subscribe("c", print),
        lambda: broker.clear_environment("env"),
    ):
        with pytest.raises(BrokerUnavailable):
            use()


@pytest.mark.parametrize("value", [object(), b"bytes", {"a": {1, 2}}])
def test_what_cannot_be_sent_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"payload\.thing"):
        Message("env", "a", "b", payload={"thing": value})


def test_a_message_needs_sender_and_recipient():
    for sender, recipient in (("", "b"), ("a", "")):
        with pytest.raises(ValueError, match="empty"):
            Message("env", sender, recipient)


def test_a_full_queue_in_memory_drops_the_oldest_and_counts_it():
    broker = InMemoryBroker(capacity=2)
    for text in "123":
        broker.publish("c", message(text=text))
    assert texts(broker.consume("c", "b", "env")) == ["2", "3"]
    assert (broker.published, broker.dropped) == (3, 1)
    with pytest.raises(ValueError, match="capacity"):
        InMemoryBroker(capacity=0)
