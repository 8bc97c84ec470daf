"""The edge as a process, before a simulator and a broker that are processes too."""

import asyncio
import json
import os
import signal
import sqlite3
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path

import pytest

from edge.links.connection import ModbusConnection
from edge.links.modbus import ModbusDeviceLink
from edge.links.transports import tcp_client
from edge.timing import PlantTime
from heron.cli.processes import memory_mb
from heron.errors import BrokerUnavailable
from heron.messaging.bus import Bus
from heron.messaging.embedded import EmbeddedBroker, free_port
from heron.messaging.mqtt import MqttBus
from heron.messaging.topics import ACTED, CLOCK, COMMAND, MODE, STATUS, TELEMETRY, Topic
from heron.messaging.wire import Command, Message, ModeRequest, Status
from heron.powergrid.registers import site_plan
from heron.powergrid.setups import read_setup
from heron.testing.faults import FaultyPort

SETUP = "ieee34_ieee13"
STEP_S = 900.0
WANTED_MW = 0.3
START_S = 60.0
"""Wall seconds that a process may take to start on a busy machine."""


class Site:
    """Broker, simulator and edge as processes, and a coordinator that always says the same."""

    def __init__(self, bus: Bus, broker_url: str, stack: AsyncExitStack) -> None:
        self.bus = bus
        self.url = broker_url
        self.stack = stack
        self.modes: dict[str, str | None] = {}
        self.clocks: list[tuple[int, int]] = []
        self.acted: list[int] = []
        self.online: set[str] = set()
        self.points: dict[str, dict[str, float | None]] = {}
        self.historical: set[int] = set()
        self.sequences: dict[str, set[int]] = {}
        self.sequence = int(time.time() * 1000)
        self._changed = asyncio.Condition()

    async def process(self, *argv: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "heron.cli.main",
            *argv,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.stack.push_async_callback(end, process)
        return process

    async def simulator(self, *options: str, port: int = 0) -> tuple[Process, int]:
        process = await self.process(
            *("simulate", "--setup", SETUP, "--port", str(port), "--broker", self.url),
            *("--json", *options),
        )
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            ready = json.loads(await process.stdout.readline())
        return process, ready["port"]

    async def edge(self, port: int, *options: str) -> Process:
        return await self.process(
            *("edge", "--setup", SETUP, "--modbus", f"127.0.0.1:{port}", "--broker", self.url),
            *("--json", *options),
        )

    async def until(self, true: Callable[[], bool], within_s: float = START_S) -> None:
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(true)

    async def hear(self) -> None:
        async with asyncio.TaskGroup() as group:
            for topic in (TELEMETRY, STATUS, CLOCK, ACTED):
                group.create_task(self._hear(topic))

    async def _hear(self, topic: Topic) -> None:
        async with self.bus.subscribe(topic) as messages:
            async for agent, message in messages:
                await self._take(topic, agent, message)
                async with self._changed:
                    self._changed.notify_all()

    async def _take(self, topic: Topic, agent: str, message: Message) -> None:
        match topic.name:
            case "telemetry":
                self.points[agent] = {n: p.value for n, p in message.points.items()}
                self.sequences.setdefault(agent, set()).add(message.sequence)
                if message.historical:
                    self.historical.add(message.sequence)
                if message.mode is not None:
                    self.modes[agent] = message.mode
                    await self.command(agent, message.step)
            case "status":
                (self.online.add if message.online else self.online.discard)(agent)
            case "clock":
                self.clocks.append((message.epoch, message.step))
            case "acted":
                self.acted.append(message.step)

    async def command(self, agent: str, step: int) -> None:
        self.sequence += 1
        with suppress(BrokerUnavailable):
            await self.bus.publish(
                COMMAND,
                Command(
                    agent=agent,
                    sequence=self.sequence,
                    step=step,
                    p_mw=WANTED_MW,
                    ttl_s=3 * STEP_S,
                    issuer="MG1",
                ),
                agent=agent,
            )

    def epochs(self) -> set[int]:
        return {epoch for epoch, _ in self.clocks}


async def end(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await process.communicate()


async def stopped(process: Process) -> dict:
    """Send SIGTERM; return the summary that it printed."""
    process.send_signal(signal.SIGTERM)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


@asynccontextmanager
async def a_site(broker: EmbeddedBroker) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(broker)
        here = Status(agent="historian", online=True, role="system")
        bus = await stack.enter_async_context(MqttBus(broker.url, status=here))
        site = Site(bus, broker.url, stack)
        ears = asyncio.create_task(site.hear())
        yield site
        ears.cancel()
        with suppress(asyncio.CancelledError):
            await ears


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with a_site(EmbeddedBroker()) as site:
        yield site


def ess1_link(connection: ModbusConnection, times: PlantTime) -> ModbusDeviceLink:
    unit = site_plan(read_setup(SETUP).config).devices["ess1"]
    return ModbusDeviceLink(
        "ess1", connection, unit.unit_id, unit.table, times, reversion_s=unit.reversion_s
    )


async def test_a_killed_simulator_is_found_again(site: Site) -> None:
    lockstep = ("--pace", "lockstep", "--wait-for", "edge-1")
    first, port = await site.simulator(*lockstep)
    edge = await site.edge(port)
    await site.until(lambda: len(site.acted) >= 3)
    first.kill()
    await first.wait()
    site.acted.clear()
    before = site.epochs()
    await site.simulator(*lockstep, port=port)
    await site.until(lambda: len(site.epochs() - before) == 1 and len(set(site.acted)) >= 3)
    assert site.modes["ess1"] == "closed_loop"
    summary = await stopped(edge)
    assert summary["modbus"]["lost"] == 1
    assert summary["overruns"] == 0


async def test_a_restarted_broker_is_found_again() -> None:
    broker = EmbeddedBroker()
    async with a_site(broker) as site:
        _, port = await site.simulator("--pace", "lockstep", "--wait-for", "edge-1")
        edge = await site.edge(port)
        await site.until(lambda: len(site.acted) >= 3)
        number = int(broker.url.rpartition(":")[2])
        await broker.__aexit__(None, None, None)
        async with EmbeddedBroker(port=number):
            site.acted.clear()
            await site.until(lambda: len(set(site.acted)) >= 3)
            summary = await stopped(edge)
        assert summary["mqtt"]["connections"] == 2
        assert summary["modbus"]["errors"] == 0


async def test_a_device_reverts_by_itself_when_its_edge_is_killed(site: Site) -> None:
    pace = ("--pace", "x900")
    _, port = await site.simulator(*pace)
    edge = await site.edge(port, *pace)
    await site.until(lambda: (site.points.get("ess1") or {}).get("p_mw") == WANTED_MW)
    edge.kill()
    await edge.wait()
    killed = time.monotonic()
    connection = ModbusConnection(
        f"127.0.0.1:{port}", tcp_client("127.0.0.1", port, 0.5), now=time.monotonic
    )
    async with connection, asyncio.timeout(20.0):
        await connection.wait_connected()
        link = ess1_link(connection, PlantTime())
        while True:
            shown = (await link.read()).values
            if shown["p_mw"].value == 0.0:
                break
            assert shown["p_mw"].value == pytest.approx(WANTED_MW)
            await asyncio.sleep(0.2)
    # Three control intervals of silence, at 900 plant seconds a second, and one step to obey.
    assert 1.0 < time.monotonic() - killed < 6.0
    assert shown["p_set_mw"].value == 0.0
    await site.until(lambda: "edge-1" not in site.online)


async def test_a_stopped_edge_leaves_the_safe_setpoint(site: Site) -> None:
    _, port = await site.simulator("--pace", "x900")
    edge = await site.edge(port, "--pace", "x900")
    await site.until(lambda: (site.points.get("ess1") or {}).get("p_mw") == WANTED_MW)
    assert (memory_mb(edge.pid) or 0.0) < 120.0
    await stopped(edge)
    connection = ModbusConnection(
        f"127.0.0.1:{port}", tcp_client("127.0.0.1", port, 0.5), now=time.monotonic
    )
    async with connection:
        await connection.wait_connected()
        shown = await ess1_link(connection, PlantTime()).read()
    assert shown.values["p_set_mw"].value == 0.0
    await site.until(lambda: not site.online & {"edge-1", "ess1"})


async def test_monitor_mode_puts_no_write_on_the_wire(site: Site) -> None:
    pace = ("--pace", "x900")
    _, port = await site.simulator(*pace)
    async with FaultyPort(("127.0.0.1", port)) as recorder:
        edge = await site.edge(recorder.port, *pace, "--mode", "monitor")
        await site.until(lambda: "ess1" in site.points)
        for mode in ("closed_loop", "fallback", "stopped"):
            request = ModeRequest(agent="all", mode=mode, issuer="operator")
            await site.bus.publish(MODE, request, agent="all")
        before = sum(recorder.seen.values())
        await site.until(lambda: sum(recorder.seen.values()) > before + 50)
        summary = await stopped(edge)
        assert recorder.writes_seen() == 0
        assert {function for _, function in recorder.seen} == {3}
    assert summary["modbus"]["writes"] == 0
    assert set(summary["devices"].values()) == {"stopped"}


async def test_a_broker_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heron.cli.main", "edge", "--setup", SETUP),
        *("--broker", "mqtt://127.0.0.1:1", "--modbus", "127.0.0.1:1"),
        stderr=asyncio.subprocess.PIPE,
        cwd=tmp_path,
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    ours = [line for line in errors.decode().splitlines() if line.startswith("heron: ")]
    assert len(ours) == 1
    assert "mqtt://127.0.0.1:1" in ours[0]


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--agents", "ess1,ess9", "ess9"),
        ("--modbus", "127.0.0.1:99999", "port 1 to 65535"),
        ("--pace", "fast", "real or xK"),
        ("--setup", "nowhere", "nowhere"),
    ],
)
async def test_a_bad_option_is_one_clear_line(option: str, value: str, text: str) -> None:
    argv = {"--setup": SETUP, "--broker": "mqtt://127.0.0.1:1", option: value}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heron.cli.main", "edge"),
        *(part for pair in argv.items() for part in pair),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 1
    (line,) = errors.decode().splitlines()
    assert line.startswith("heron: ")
    assert text in line


async def test_a_second_edge_on_the_same_devices_is_refused(site: Site) -> None:
    _, port = await site.simulator("--pace", "x60")
    await site.edge(port, "--pace", "x60")
    await site.until(lambda: site.modes.get("ess1") == "closed_loop")
    second = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heron.cli.main", "edge", "--setup", SETUP, "--pace", "x60"),
        *("--modbus", f"127.0.0.1:{port}", "--broker", site.url, "--edge-id", "edge-2"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await second.communicate()
    assert second.returncode == 1
    (line,) = [text for text in errors.decode().splitlines() if text.startswith("heron: ")]
    assert "ess1" in line
    assert "looked after by edge-1 already" in line
    assert {"edge-1", "ess1"} <= site.online


async def test_the_edge_is_light() -> None:
    solvers = ["pandapower", "pandas", "scipy", "numba"]
    learners = ["torch", "ray", "gymnasium", "onnxruntime"]
    heavy = [*solvers, *learners, "aiomqtt"]
    code = f"import edge.build, edge.runtime, sys; print([m for m in {heavy} if m in sys.modules])"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"


async def test_a_site_file_runs_and_its_telemetry_survives_a_broker_outage(
    tmp_path: Path,
) -> None:
    broker = EmbeddedBroker()
    async with a_site(broker) as site:
        _, port = await site.simulator("--pace", "x60")
        http = free_port()
        path = tmp_path / "SITE.yml"
        path.write_text(
            f"broker: {broker.url}\n"
            f'http: "127.0.0.1:{http}"\n'
            "period_s: 0.2\n"
            "store: edge.db\n"
            "store_listener: historian\n"
            f'links: [{{name: plant, address: "127.0.0.1:{port}"}}]\n'
            "devices:\n"
            "  - {name: ess1, type: ESS, link: plant, unit: 2, mode: monitor,"
            " config: {p_max_MW: 0.5, p_min_MW: -0.5}}\n"
            "meters:\n"
            "  - {name: MG1, link: plant, unit: 201, nominal_v: 24900}\n"
        )
        edge = await site.process("edge", str(path), "--json", "--log-json")
        await site.until(lambda: all(site.points.get(a) for a in ("ess1", "MG1")))
        assert await health_of(http) == (200, True)
        number = broker.port
        await broker.__aexit__(None, None, None)
        await until_stored(tmp_path / "edge.db", 30)
        assert await health_of(http) == (503, False)
        async with EmbeddedBroker(port=number):
            # What is stored follows while new telemetry comes, so it is a matter of time only.
            await site.until(lambda: len(site.historical) >= 30 and not missing_at(site))
            summary = await stopped(edge)
        assert summary["modbus"]["writes"] == 0
        assert summary["devices"] == {"ess1": "monitor"}


def missing_at(site: Site) -> set[int]:
    """Return the sequences between the first and the last that were never heard."""
    heard = site.sequences["ess1"] | site.sequences["MG1"]
    return set(range(min(heard), max(heard))) - heard


async def health_of(port: int) -> tuple[int, bool]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body)["ok"]


async def until_stored(path: Path, count: int) -> None:
    async with asyncio.timeout(START_S):
        while True:
            with closing(sqlite3.connect(path)) as db:
                (kept,) = db.execute("SELECT COUNT(*) FROM telemetry").fetchone()
            if kept >= count:
                return
            await asyncio.sleep(0.1)
