import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from edge.reload import SiteKeeper
from edge.runtime import EdgeRuntime, EdgeSettings, Parts
from edge.site import load_site
from edge.store import TelemetryStore
from edge.timing import PlantTime
from edge.web import health, metrics, serve
from heron.errors import ConfigError
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.topics import COMMAND, STATUS
from heron.messaging.wire import Command, Status
from heron.powergrid.link import Quality
from heron.powergrid.modes import Authority, Mode
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers import site_plan
from heron.powergrid.registers.clock import PACE_LOCKSTEP, ClockReading
from heron.powergrid.setups import read_setup
from simulator import Plant
from simulator.modbus.server import ModbusServer
from simulator.modbus.site import EmulatedSite

HEAD = """
period_s: 0.5
links:
  - {name: yard, address: "plant:502"}
devices:
"""
ESS1 = """
  - name: ess1
    type: ESS
    link: yard
    unit: 2
    config: {p_max_MW: 0.5, p_min_MW: -0.5, s_rated_MVA: 0.6, q_min_MVAr: -0.18,
             q_max_MVAr: 0.18, e_capacity_MWh: 2.0, safe_p_mw: SAFE}
""".replace("SAFE", "0.05")
ESS3 = ESS1.replace("ess1", "ess3").replace("unit: 2", "unit: 6")
METER = "meters:\n  - {name: MG1, link: yard, unit: 201, nominal_v: 24900}\n"


def wall() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture(scope="module")
def plant() -> Iterator[Plant]:
    yield Plant(read_setup("ieee34_ieee13"))


class Rig:
    """An edge that follows a site file, before an emulated plant."""

    def __init__(self, path: Path, plant: Plant) -> None:
        measured = plant.reset(seed=1)
        config = plant.setup.config
        self.site = EmulatedSite(site_plan(config), measured.setpoints, lambda step: False)
        clock = ClockReading(1, 0, measured.time_s, 900.0, 0.0, PACE_LOCKSTEP, False)
        self.site.show_measurements(measured, clock)
        self.server = ModbusServer(self.site.units, "plant", 502)
        self.path = path
        hub = MemoryHub()
        self.bus, self.others = InMemoryBus(hub), InMemoryBus(hub)
        self.time = PlantTime(wall)
        self.keeper = SiteKeeper(path, self.time)
        settings = EdgeSettings(edge_id="edge-1", period_s=0.5)
        self.runtime = EdgeRuntime(settings, self.bus, self.time, Parts({}, {}))
        self.sequence = 0

    def write(self, *parts: str) -> None:
        beside = self.path.with_suffix(".new")
        beside.write_text(HEAD + "".join(parts))
        beside.replace(self.path)

    async def command(self, agent: str, p_mw: float) -> None:
        self.sequence += 1
        command = Command(agent=agent, sequence=self.sequence, p_mw=p_mw, ttl_s=60.0, issuer="MG1")
        await self.others.publish(COMMAND, command, agent=agent)

    def held(self, agent: str) -> Setpoint:
        return self.site.setpoints()[agent]

    def mode(self, agent: str) -> Mode:
        return self.runtime.units.devices[agent].modes.mode


@pytest.fixture
async def rig(tmp_path: Path, plant: Plant) -> AsyncIterator[Rig]:
    path = tmp_path / "SITE.yml"
    path.write_text(HEAD + ESS1)
    rig = Rig(path, plant)
    async with AsyncExitStack() as stack:
        for part in (rig.server, rig.bus, rig.others):
            await stack.enter_async_context(part)
        stop = asyncio.Event()
        first = rig.keeper.prepare(load_site(path))
        edge = asyncio.create_task(
            rig.runtime.run(stop, lambda: rig.keeper.run(first, rig.runtime))
        )
        await asyncio.sleep(1.5)
        yield rig
        stop.set()
        await edge


async def test_a_site_file_is_looked_after(rig: Rig) -> None:
    await rig.command("ess1", 0.3)
    await asyncio.sleep(1.0)
    assert rig.held("ess1").p_mw == 0.3


async def test_a_device_is_added_without_disturbing_the_others(rig: Rig) -> None:
    before, connections = rig.runtime.units.devices["ess1"], list(rig.runtime.connections)
    rig.write(ESS1, ESS3, METER)
    await asyncio.sleep(2.0)
    assert set(rig.runtime.units.by_name) == {"ess1", "ess3", "MG1"}
    assert rig.runtime.units.devices["ess1"] is before
    assert rig.runtime.connections == connections
    await rig.command("ess3", -0.2)
    await asyncio.sleep(1.0)
    assert rig.held("ess3").p_mw == -0.2


async def test_a_device_that_another_process_looks_after_is_added_once_it_has_gone(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """Two that drive one device would undo each other's commands."""
    there = Status(agent="ess3", online=True, role="device", process="edge-2")
    await rig.others.publish(STATUS, there, agent="ess3")
    await rig.command("ess1", 0.3)
    rig.write(ESS1, ESS3)
    await asyncio.sleep(20.0)
    assert set(rig.runtime.units.by_name) == {"ess1"}
    assert "looked after by edge-2 already" in caplog.text
    assert rig.held("ess1").p_mw == 0.3
    await rig.others.publish(STATUS, there.model_copy(update={"online": False}), agent="ess3")
    await asyncio.sleep(20.0)
    assert set(rig.runtime.units.by_name) == {"ess1", "ess3"}


async def test_a_device_is_added_only_when_the_broker_says_that_it_is_free(
    rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*args: object, **kwargs: object) -> None:
        """Take nothing: the broker is away."""

    monkeypatch.setattr(rig.bus, "publish", lost)
    rig.write(ESS1, ESS3)
    await asyncio.sleep(40.0)
    assert set(rig.runtime.units.by_name) == {"ess1"}
    assert "the broker does not say whether another process looks" in caplog.text
    monkeypatch.undo()
    await asyncio.sleep(40.0)
    assert set(rig.runtime.units.by_name) == {"ess1", "ess3"}


async def test_a_removed_device_is_left_at_its_safe_setpoint(rig: Rig) -> None:
    await rig.command("ess1", 0.3)
    await asyncio.sleep(1.0)
    rig.write(ESS3)
    await asyncio.sleep(2.0)
    assert set(rig.runtime.units.by_name) == {"ess3"}
    assert rig.held("ess1").p_mw == 0.05


async def test_a_changed_device_follows_its_new_limits(rig: Rig) -> None:
    rig.write(ESS1.replace("p_max_MW: 0.5", "p_max_MW: 0.1"))
    await asyncio.sleep(2.0)
    await rig.command("ess1", 0.3)
    await asyncio.sleep(1.0)
    assert rig.held("ess1").p_mw == 0.1


async def test_a_file_with_a_mistake_changes_nothing(rig: Rig) -> None:
    before = rig.runtime.units.devices["ess1"]
    for text in (ESS1.replace("unit: 2", "unit: 999"), "  - [", ESS1 + "    policy: none.onnx\n"):
        rig.write(text)
        await asyncio.sleep(1.5)
        assert rig.runtime.units.devices == {"ess1": before}
    rig.path.unlink()
    await asyncio.sleep(1.5)
    assert rig.runtime.units.devices == {"ess1": before}


async def test_what_an_operator_stopped_stays_stopped(rig: Rig) -> None:
    rig.runtime.units.devices["ess1"].modes.request(Mode.STOPPED, Authority.OPERATOR, "work")
    rig.write(ESS1.replace("p_max_MW: 0.5", "p_max_MW: 0.1"))
    await asyncio.sleep(2.0)
    assert rig.mode("ess1") is Mode.STOPPED


async def test_a_moved_link_is_opened_anew_and_the_old_one_closed(rig: Rig) -> None:
    (before,) = rig.runtime.connections
    rig.write(ESS1)
    rig.path.write_text(rig.path.read_text().replace("plant:502", "elsewhere:502"))
    os.utime(rig.path, (1, 1))
    await asyncio.sleep(2.0)
    (after,) = rig.runtime.connections
    assert (after.address, before.connected) == ("elsewhere:502", False)


async def test_a_monitored_device_of_a_site_is_never_written(rig: Rig) -> None:
    rig.write(ESS3 + "    mode: monitor\n")
    before = rig.held("ess3")
    await asyncio.sleep(2.0)
    writes = rig.runtime.connections[0].counters.writes
    await rig.command("ess3", 0.4)
    await asyncio.sleep(5.0)
    assert rig.runtime.units.devices["ess3"].sensor.snapshot.quality is Quality.GOOD
    assert rig.held("ess3") == before
    assert rig.runtime.connections[0].counters.writes == writes


async def get(port: int, request: str) -> tuple[str, str]:
    reader, writer = await asyncio.open_connection("edge", port)
    writer.write(f"{request}\r\nHost: edge\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return head.split("\r\n")[0], body


async def test_healthz_says_what_is_wrong(rig: Rig) -> None:
    async with serve(rig.runtime, "edge:9464") as port:
        status, body = await get(port, "GET /healthz HTTP/1.1")
        assert (status, json.loads(body)["ok"]) == ("HTTP/1.1 200 OK", True)
        await rig.server.close()
        await asyncio.sleep(5.0)
        status, body = await get(port, "GET /healthz HTTP/1.1")
        assert status == "HTTP/1.1 503 Service Unavailable"
        told = json.loads(body)
        assert (told["links"], told["without_good_data"]) == ({"plant:502": False}, ["ess1"])
        assert health(rig.runtime)[0] is False


async def test_metrics_can_be_scraped(rig: Rig, tmp_path: Path) -> None:
    with TelemetryStore(tmp_path / "telemetry.db", 1000) as store:
        page = await scrape(rig, store)
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
    assert lines["heron_edge_store_messages"] == "0"
    assert {f"heron_edge_store_{n}_total" for n in ("dropped", "lost")} <= lines.keys()
    assert lines['heron_edge_mode{device="ess1",mode="closed_loop"}'] == "1"
    assert lines['heron_edge_link_up{link="plant:502",connection="0"}'] == "1"
    assert float(lines["heron_edge_cycles_total"]) >= 2
    assert 0.0 < float(lines['heron_edge_value{device="ess1",point="soc"}']) < 1.0


async def scrape(rig: Rig, store: TelemetryStore) -> str:
    async with serve(rig.runtime, "edge:9464", store) as port:
        status, body = await get(port, "GET /metrics HTTP/1.1")
        assert status == "HTTP/1.1 200 OK"
        assert body.splitlines()[0] == metrics(rig.runtime).splitlines()[0]
        return body


async def test_anything_else_that_is_asked_is_refused(rig: Rig) -> None:
    async with serve(rig.runtime, "edge:9464") as port:
        assert (await get(port, "GET /etc/passwd HTTP/1.1"))[0].endswith("404 Not Found")
        assert (await get(port, "POST /metrics HTTP/1.1"))[0].endswith("405 Method Not Allowed")
        assert (await get(port, "nonsense"))[0].endswith("405 Method Not Allowed")


def test_a_site_needs_a_device_or_a_meter(tmp_path: Path) -> None:
    path = tmp_path / "SITE.yml"
    path.write_text('links:\n  - {name: yard, address: "plant:502"}\n')
    with pytest.raises(ConfigError, match="at least one device or meter"):
        load_site(path)
