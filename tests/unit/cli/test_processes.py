from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiomqtt
import pytest

from heron.cli.processes import Child, ChildFailed, memory_mb
from heron.messaging.embedded import EmbeddedBroker, free_port
from heron.messaging.mqtt import MqttBus


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_child_that_fails_tells_its_own_error_line(tmp_path: Path) -> None:
    broker = f"mqtt://127.0.0.1:{free_port()}"
    argv = ["controller", "--setup", "no_such_setup", "--broker", broker]
    async with Child("controller", argv, tmp_path / "c.log") as child:
        with pytest.raises(ChildFailed, match=r"controller ended with \d: .*no_such_setup"):
            await child.fails()
    assert "no_such_setup" in (tmp_path / "c.log").read_text()


async def test_leaving_ends_the_child(tmp_path: Path) -> None:
    async with EmbeddedBroker() as broker:
        argv = ["controller", "--setup", "ieee34_ieee13", "--broker", broker.url]
        async with Child("controller", argv, tmp_path / "c.log") as child:
            pid = child.pid
            assert alive(pid)
        assert not alive(pid)


async def test_a_killed_child_is_told_by_its_signal(tmp_path: Path) -> None:
    async with EmbeddedBroker() as broker:
        argv = ["controller", "--setup", "ieee34_ieee13", "--broker", broker.url]
        async with Child("controller", argv, tmp_path / "c.log") as child:
            os.kill(child.pid, signal.SIGKILL)
            with pytest.raises(ChildFailed, match="controller was killed by SIGKILL"):
                await child.fails()


async def test_a_broker_does_not_outlive_its_parent() -> None:
    code = (
        "import asyncio\nfrom heron.messaging.embedded import EmbeddedBroker\n"
        "async def main():\n"
        "    async with EmbeddedBroker() as broker:\n"
        "        print(broker.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())"
    )
    parent = subprocess.Popen(  # noqa: ASYNC220 - it is killed, not awaited
        [sys.executable, "-c", code], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    async with asyncio.timeout(5):
        while _running(pid):  # noqa: ASYNC110 - another process' end has no event
            await asyncio.sleep(0.01)


def _running(pid: int) -> bool:
    """A zombie that nobody waits for does not run."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def test_a_taken_port_is_said_in_one_line() -> None:
    from heron.errors import BrokerUnavailable

    async with EmbeddedBroker() as first:
        with pytest.raises(BrokerUnavailable, match="the port is taken"):
            async with EmbeddedBroker(first.port):
                pass
        async with MqttBus(first.url):
            pass
    async with EmbeddedBroker(first.port):
        pass


async def test_the_memory_of_the_broker_levels_off() -> None:
    batch, size = 500, 300
    async with (
        EmbeddedBroker() as broker,
        aiomqtt.Client("127.0.0.1", broker.port) as subscriber,
        aiomqtt.Client("127.0.0.1", broker.port) as publisher,
    ):
        for filter_ in ("one/+", "two/+", "three/+", "four/+"):
            await subscriber.subscribe(filter_, qos=1)
        arrived = aiter(subscriber.messages)

        async def send_batch() -> None:
            for number in range(batch):
                topic = ("one", "two", "three", "four")[number % 4]
                await publisher.publish(f"{topic}/agent", bytes(size), qos=1)
                await anext(arrived)

        # the logs are full when each has had its 64 KB: four batches
        before = memory_mb(broker.pid) or 0.0
        for _ in range(4):
            await send_batch()
        full = memory_mb(broker.pid) or 0.0
        for _ in range(4):
            await send_batch()
        after = memory_mb(broker.pid) or 0.0
    assert before < full
    assert after - full < 0.25 * (full - before)


def test_a_log_that_the_broker_would_refuse_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="log_bytes is 1000, must be at least 4096"):
        EmbeddedBroker(log_bytes=1000)


async def test_a_broker_that_is_not_there_is_said_in_one_line() -> None:
    from heron.errors import BrokerUnavailable
    from heron.messaging.mqtt import Patience

    address = f"mqtt://127.0.0.1:{free_port()}"
    with pytest.raises(BrokerUnavailable, match=address) as caught:
        async with MqttBus(address, patience=Patience(first_s=0.0)):
            pass
    assert "\n" not in str(caught.value)


def test_memory_of_a_process_that_is_gone_is_unknown() -> None:
    assert (memory_mb(os.getpid()) or 0.0) > 5.0
    assert memory_mb(2**30) is None


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["heron: edge: no broker", "  more"], "edge: no broker"),
        (
            [
                "  | ExceptionGroup: unhandled (1 sub-exception)",
                "  +-+---------------- 1 ----------------",
                "    | KeyError: 'ess9'",
                "    +------------------------------------",
            ],
            "KeyError: 'ess9'",
        ),
        (["Traceback (most recent call last):", "heron.x.OddError: why"], "heron.x.OddError: why"),
        (["something", "last words"], "last words"),
        ([], ""),
    ],
)
def test_what_a_child_died_of_is_said(lines: list[str], why: str) -> None:
    assert str(ChildFailed("edge", 1, lines)) == "edge ended with 1" + (f": {why}" if why else "")
