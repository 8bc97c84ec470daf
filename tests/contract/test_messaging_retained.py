"""What a broker kept of a topic that is not retained is of any age: nobody obeys it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiomqtt
import pytest

from heron.messaging import Message as AgentMessage
from heron.messaging.embedded import EmbeddedBroker
from heron.messaging.mqtt import MqttBus
from heron.messaging.mqtt_broker import MqttBroker
from heron.messaging.topics import COMMAND, STATUS, TOPICS, Topic
from heron.messaging.wire import Command, Status
from heron.testing.brokers import Cable, mosquitto


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=pytest.mark.broker)])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    async with AsyncExitStack() as stack, asyncio.timeout(30):
        if request.param == "embedded":
            yield (await stack.enter_async_context(EmbeddedBroker())).port
        else:
            url = await stack.enter_async_context(mosquitto())
            yield int(url.rsplit(":", 1)[1])


async def keep(port: int, path: str, payload: bytes) -> None:
    """Publish as somebody would who wants the broker to keep it."""
    async with aiomqtt.Client("127.0.0.1", port) as client:
        await client.publish(path, payload, qos=1, retain=True)


def command(sequence: int) -> Command:
    return Command(agent="bat", sequence=sequence, p_mw=0.5, ttl_s=60, issuer="MG1")


@pytest.mark.parametrize("topic", [t for t in TOPICS if not t.retain], ids=lambda t: t.name)
async def test_nothing_but_what_is_retained_by_the_table_comes_out_of_the_past(
    port: int, topic: Topic[Any], caplog: pytest.LogCaptureFixture
) -> None:
    await keep(port, topic.path("site", "bat"), b"{}")
    # A clear end: what is kept comes before what is sent afterwards.
    born = Status(agent="bat", online=True, role="device")
    url = f"mqtt://127.0.0.1:{port}"
    with caplog.at_level(logging.WARNING):
        async with MqttBus(url) as bus, bus.subscribe(topic) as kept, bus.subscribe(STATUS) as end:
            await bus.publish(STATUS, born, agent="bat")
            await anext(end)
            assert (kept.waiting, bus.counters.out_of_time, bus.counters.invalid) == (0, 1, 0)
    (record,) = caplog.records
    assert f"message_retained topic={topic.path('site', 'bat')} " in record.getMessage()


async def test_a_retained_command_is_obeyed_when_it_is_sent_and_never_again(port: int) -> None:
    path = COMMAND.path("site", "bat")
    async with (
        Cable(port) as cable,
        MqttBus(f"mqtt://127.0.0.1:{cable.port}") as edge,
        edge.subscribe(COMMAND) as commands,
    ):
        await keep(port, path, command(1).model_dump_json().encode())
        assert (await anext(commands))[1].sequence == 1
        cable.cut()
        await edge.wait_lost()
        cable.mend()
        await edge.wait_connected()
        async with MqttBus(f"mqtt://127.0.0.1:{port}") as controller:
            await controller.publish(COMMAND, command(2), agent="bat")
        assert (await anext(commands))[1].sequence == 2
        assert commands.waiting == 0


async def test_the_agents_broker_takes_no_message_of_the_past(port: int) -> None:
    sent = AgentMessage("env", "MG1", "bat", payload={"x": 1.0})
    url = f"mqtt://127.0.0.1:{port}"

    def exchange() -> None:
        with MqttBroker(url) as here, MqttBroker(url) as there:
            arrived = threading.Event()
            there.subscribe("c", lambda got: arrived.set())
            here.publish("c", sent)
            assert arrived.wait(5.0)
            assert there.consume("c", "bat", "env") == [sent]

    text = '{"origin": "x", "number": 9, "env_id": "env", "sender_id": "s", "recipient_id": "bat",'
    text += ' "message_type": "action", "payload": {"x": 5.0}, "timestamp": 0.0}'
    await keep(port, "heron-agents/c", text.encode())
    await asyncio.to_thread(exchange)
