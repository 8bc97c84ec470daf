"""What every bus promises: one suite over memory, the embedded broker and mosquitto."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from heron.errors import BrokerUnavailable
from heron.messaging.bus import Bus, InMemoryBus, MemoryHub
from heron.messaging.embedded import EmbeddedBroker
from heron.messaging.mqtt import MqttBus
from heron.messaging.topics import COMMAND, SIGNAL, STATUS, TELEMETRY
from heron.messaging.wire import Command, Point, Status, SystemSignal, Telemetry
from heron.testing.brokers import Cable, mosquitto


class Net(Protocol):
    """A place where buses meet, and whose links can be cut."""

    async def join(
        self, site: str = "site", status: Status | None = None, announce: bool = True
    ) -> Bus: ...

    async def cut(self, bus: Bus) -> None: ...

    async def mend(self, bus: Bus) -> None: ...


class MemoryNet:
    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._hub = MemoryHub()

    async def join(
        self, site: str = "site", status: Status | None = None, announce: bool = True
    ) -> Bus:
        return await self._stack.enter_async_context(
            InMemoryBus(self._hub, site=site, status=status, announce=announce)
        )

    async def cut(self, bus: Bus) -> None:
        assert isinstance(bus, InMemoryBus)
        bus.lose()

    async def mend(self, bus: Bus) -> None:
        assert isinstance(bus, InMemoryBus)
        await bus.restore()


class BrokerNet:
    def __init__(self, stack: AsyncExitStack, url: str) -> None:
        self._stack = stack
        self._port = int(url.rsplit(":", 1)[1])
        self._cables: dict[Bus, Cable] = {}

    async def join(
        self, site: str = "site", status: Status | None = None, announce: bool = True
    ) -> Bus:
        cable = await self._stack.enter_async_context(Cable(self._port))
        bus = await self._stack.enter_async_context(
            MqttBus(f"mqtt://127.0.0.1:{cable.port}", site=site, status=status, announce=announce)
        )
        self._cables[bus] = cable
        return bus

    async def cut(self, bus: Bus) -> None:
        self._cables[bus].cut()
        async with asyncio.timeout(5):
            await bus.wait_lost()

    async def mend(self, bus: Bus) -> None:
        self._cables[bus].mend()
        async with asyncio.timeout(5):
            await bus.wait_connected()


@pytest.fixture(
    params=["memory", "embedded", pytest.param("mosquitto", marks=pytest.mark.broker)],
)
async def net(request: pytest.FixtureRequest) -> AsyncIterator[Net]:
    async with AsyncExitStack() as stack, asyncio.timeout(30):
        if request.param == "memory":
            yield MemoryNet(stack)
        elif request.param == "embedded":
            broker = await stack.enter_async_context(EmbeddedBroker())
            yield BrokerNet(stack, broker.url)
        else:
            yield BrokerNet(stack, await stack.enter_async_context(mosquitto()))


def telemetry(agent: str, sequence: int = 0) -> Telemetry:
    points = {"p_mw": Point(value=0.1 + 0.2), "soc": Point(value=None, quality="bad")}
    return Telemetry(agent=agent, sequence=sequence, time_s=900.0, points=points)


def command(agent: str, sequence: int = 0) -> Command:
    return Command(agent=agent, sequence=sequence, p_mw=0.5, ttl_s=2700, issuer="MG1")


def born(agent: str) -> Status:
    return Status(agent=agent, online=True, role="edge")


async def test_a_message_arrives_as_it_was_sent(net: Net) -> None:
    sender, receiver = await net.join(), await net.join()
    async with receiver.subscribe(TELEMETRY) as messages:
        await sender.publish(TELEMETRY, telemetry("gen1", 7), agent="gen1")
        assert await anext(messages) == ("gen1", telemetry("gen1", 7))


async def test_messages_of_a_topic_keep_their_order(net: Net) -> None:
    sender, receiver = await net.join(), await net.join()
    async with receiver.subscribe(COMMAND, agent="ess1") as messages:
        for k in range(100):
            await sender.publish(COMMAND, command("ess1", k), agent="ess1")
        assert [(await anext(messages))[1].sequence for _ in range(100)] == list(range(100))


async def test_a_subscription_to_one_agent_hears_no_other(net: Net) -> None:
    sender, receiver = await net.join(), await net.join()
    async with receiver.subscribe(TELEMETRY, agent="MG1") as messages:
        await sender.publish(TELEMETRY, telemetry("MG10"), agent="MG10")
        await sender.publish(TELEMETRY, telemetry("MG1"), agent="MG1")
        assert (await anext(messages))[0] == "MG1"


async def test_sites_do_not_hear_each_other(net: Net) -> None:
    here, there = await net.join("north"), await net.join("south")
    async with there.subscribe(TELEMETRY) as messages:
        await here.publish(TELEMETRY, telemetry("lost"), agent="lost")
        await here.publish(TELEMETRY, telemetry("meant"), agent="meant", site="south")
        assert (await anext(messages))[0] == "meant"


async def test_status_is_retained_for_those_who_come_later(net: Net) -> None:
    sender = await net.join(status=born("edge"))
    await sender.publish(STATUS, born("gen1"), agent="gen1")
    receiver = await net.join()
    async with receiver.subscribe(STATUS) as first:
        assert {(await anext(first))[0], (await anext(first))[0]} == {"edge", "gen1"}
        async with receiver.subscribe(STATUS, agent="gen1") as second:
            assert await anext(second) == ("gen1", born("gen1"))


async def test_a_command_is_not_retained(net: Net) -> None:
    sender = await net.join()
    await sender.publish(COMMAND, command("gen1", 1), agent="gen1")
    receiver = await net.join()
    async with receiver.subscribe(COMMAND) as messages:
        await sender.publish(COMMAND, command("gen1", 2), agent="gen1")
        assert (await anext(messages))[1].sequence == 2


async def test_overlapping_subscriptions_get_a_message_once_each(net: Net) -> None:
    sender, receiver = await net.join(), await net.join()
    async with (
        receiver.subscribe(TELEMETRY, agent="gen1") as one,
        receiver.subscribe(TELEMETRY) as every,
    ):
        for k in range(2):
            await sender.publish(TELEMETRY, telemetry("gen1", k), agent="gen1")
        for messages in (one, every):
            assert [(await anext(messages))[1].sequence for _ in range(2)] == [0, 1]


async def test_a_single_agent_is_still_heard_when_the_wildcard_leaves(net: Net) -> None:
    sender, receiver = await net.join(), await net.join()
    async with receiver.subscribe(TELEMETRY, agent="gen1") as one:
        async with receiver.subscribe(TELEMETRY):
            pass
        await sender.publish(TELEMETRY, telemetry("gen1", 5), agent="gen1")
        assert (await anext(one))[1].sequence == 5


async def test_a_full_queue_keeps_the_newest_of_each_agent(net: Net) -> None:
    sender, receiver = await net.join(), await net.join()
    async with receiver.subscribe(TELEMETRY, capacity=2) as messages:
        await sender.publish(TELEMETRY, telemetry("a", 0), agent="a")
        for k in range(9):
            await sender.publish(TELEMETRY, telemetry("b", k), agent="b")
        async with receiver.subscribe(COMMAND) as after:
            await sender.publish(COMMAND, command("end"), agent="end")
            await anext(after)
        taken = [await anext(messages), await anext(messages)]
    assert [(agent, message.sequence) for agent, message in taken] == [("a", 0), ("b", 8)]
    assert messages.dropped == receiver.counters.dropped == 8


async def test_a_lost_connection_publishes_the_will(net: Net) -> None:
    watcher, doomed = await net.join(), await net.join(status=born("edge"))
    async with watcher.subscribe(STATUS) as statuses:
        assert (await anext(statuses))[1].online
        await net.cut(doomed)
        agent, status = await anext(statuses)
        assert (agent, status.online) == ("edge", False)


async def test_leaving_says_offline(net: Net) -> None:
    watcher, leaver = await net.join(), await net.join(status=born("edge"))
    async with watcher.subscribe(STATUS) as statuses:
        assert (await anext(statuses))[1].online
        await leaver.__aexit__(None, None, None)
        assert not (await anext(statuses))[1].online


async def test_a_birth_can_wait_until_its_owner_is_ready(net: Net) -> None:
    watcher, owner = await net.join(), await net.join(status=born("edge"), announce=False)
    async with watcher.subscribe(STATUS) as statuses:
        await watcher.publish(STATUS, born("other"), agent="other")
        assert (await anext(statuses))[0] == "other"
        await owner.announce()
        assert await anext(statuses) == ("edge", born("edge"))


async def test_a_reconnected_bus_is_online_and_hears_again(net: Net) -> None:
    sender, receiver = await net.join(), await net.join(status=born("edge"))
    async with sender.subscribe(STATUS) as statuses, receiver.subscribe(COMMAND) as messages:
        await net.cut(receiver)
        await net.mend(receiver)
        online = [(await anext(statuses))[1].online for _ in range(3)]
        await sender.publish(COMMAND, command("gen1", 9), agent="gen1")
        assert (await anext(messages))[1].sequence == 9
    assert online == [True, False, True]
    assert receiver.counters.connections == 2


async def test_what_cannot_be_sent_is_raised_dropped_or_kept_by_topic(net: Net) -> None:
    sender, receiver = await net.join(), await net.join()
    async with (
        receiver.subscribe(COMMAND) as commands,
        receiver.subscribe(SIGNAL) as signals,
        receiver.subscribe(TELEMETRY) as measured,
    ):
        await net.cut(sender)
        with pytest.raises(BrokerUnavailable, match="command/gen1 was not sent"):
            await sender.publish(COMMAND, command("gen1"), agent="gen1")
        await sender.publish(TELEMETRY, telemetry("gen1", 1), agent="gen1")
        for k in (1, 2):
            signal = SystemSignal(agent="MG1", sequence=k, time_s=0.0, price_usd_per_mwh=40.0)
            await sender.publish(SIGNAL, signal, agent="MG1")
        await net.mend(sender)
        assert (await anext(signals))[1].sequence == 2
        await sender.publish(TELEMETRY, telemetry("gen1", 2), agent="gen1")
        await sender.publish(COMMAND, command("gen1", 3), agent="gen1")
        assert (await anext(measured))[1].sequence == 2
        assert (await anext(commands))[1].sequence == 3
    assert sender.counters.dropped == 1


async def test_a_message_of_another_model_is_refused(net: Net) -> None:
    bus = await net.join()
    with pytest.raises(TypeError, match="telemetry carries Telemetry, not Command"):
        await bus.publish(TELEMETRY, command("gen1"), agent="gen1")


async def test_a_subscription_ends_with_its_bus(net: Net) -> None:
    bus = await net.join()
    async with bus.subscribe(TELEMETRY) as messages:
        await bus.__aexit__(None, None, None)
        assert [message async for message in messages] == []
