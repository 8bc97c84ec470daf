from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientSession

from controller.web.server import OperatorPage
from heron.errors import ConfigError
from heron.messaging.bus import InMemoryBus
from heron.messaging.tally import Tally
from heron.messaging.topics import MODE
from heron.messaging.wire import Alarm, Point, Status, Telemetry
from heron.powergrid.setups import read_setup


@dataclass
class Site:
    bus: InMemoryBus
    tally: Tally
    page: OperatorPage
    session: ClientSession
    url: str
    held: dict[str, str] = field(default_factory=dict)

    async def json(self, path: str, **options: Any) -> tuple[int, Any]:
        async with self.session.get(self.url + path, **options) as answer:
            return answer.status, await answer.json()

    async def wish(self, body: Any, **headers: str) -> tuple[int, Any]:
        async with self.session.post(self.url + "/mode", json=body, headers=headers) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    held: dict[str, str] = {}
    tally = Tally()
    async with InMemoryBus() as bus:
        page = OperatorPage(read_setup("ieee34_ieee13").config, tally, bus, lambda: held)
        async with page.serve(0) as port, ClientSession() as session:
            yield Site(bus, tally, page, session, f"http://127.0.0.1:{port}", held)


async def test_the_state_shows_the_sites_structure_and_the_newest_values(site: Site) -> None:
    points = {"p_mw": Point(value=-0.25), "soc": Point(value=0.4, quality="stale")}
    telemetry = Telemetry(agent="ess1", sequence=1, time_s=0.0, points=points)
    status = Status(agent="ess1", online=True, role="device", mode="fallback", detail="expired")
    site.tally.take("telemetry", "ess1", telemetry, 0.0)
    site.tally.take("status", "ess1", status, 0.0)
    code, state = await site.json("/state")
    assert code == 200
    assert [area["name"] for area in state["areas"]] == ["DSO", "MG1", "MG2", "MG3"]
    ess = state["areas"][1]["devices"][1]
    assert (ess["name"], ess["online"], ess["mode"]) == ("ess1", True, "fallback")
    assert ess["points"] == {
        "p_mw": {"value": -0.25, "quality": "good"},
        "soc": {"value": 0.4, "quality": "stale"},
    }


async def test_a_button_publishes_the_operators_wish(site: Site) -> None:
    async with site.bus.subscribe(MODE) as wishes:
        code, answer = await site.wish({"agent": "ess1", "mode": "stopped", "reason": "smoke"})
        agent, wish = await anext(wishes)
    assert (code, answer["sent"]["agent"], agent) == (202, "ess1", "ess1")
    assert (wish.mode, wish.issuer, wish.reason) == ("stopped", "operator:web", "smoke")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"agent": "ess1", "mode": "turbo"}, 400),
        ({"agent": "ess9", "mode": "stopped"}, 404),
        ({"agent": "../all", "mode": "stopped"}, 404),
        (["ess1"], 400),
        ({}, 400),
    ],
)
async def test_a_wish_that_makes_no_sense_is_not_published(
    site: Site, body: Any, code: int
) -> None:
    before = site.bus.counters.published
    assert (await site.wish(body))[0] == code
    assert site.bus.counters.published == before


async def test_a_wish_without_a_broker_is_refused(site: Site) -> None:
    site.bus.lose()
    code, answer = await site.wish({"agent": "ess1", "mode": "stopped"})
    assert (code, answer["error"]) == (
        503,
        "broker memory: not connected, heron/site/mode/ess1 was not sent",
    )


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}]
)
async def test_what_a_foreign_page_sends_is_refused(site: Site, headers: dict[str, str]) -> None:
    before = site.bus.counters.published
    assert (await site.wish({"agent": "all", "mode": "stopped"}, **headers))[0] == 403
    assert site.bus.counters.published == before


async def test_a_form_post_is_refused(site: Site) -> None:
    async with site.session.post(site.url + "/mode", data={"agent": "all"}) as answer:
        assert answer.status == 415


async def test_health_names_what_is_wrong(site: Site) -> None:
    assert await site.json("/healthz") == (200, {"ok": True, "reasons": []})
    site.held["MG2"] = "gen2 is offline"
    site.bus.lose()
    code, health = await site.json("/healthz")
    assert (code, health["ok"]) == (503, False)
    assert health["reasons"] == ["MG2: gen2 is offline", "no connection to memory"]


async def test_metrics_are_in_prometheus_text(site: Site) -> None:
    telemetry = Telemetry(agent="ess1", sequence=1, time_s=0.0, points={"soc": Point(value=0.4)})
    site.tally.take("telemetry", "ess1", telemetry, 0.0)
    site.held["MG1"] = "x"
    async with site.session.get(site.url + "/metrics") as answer:
        lines = (await answer.text()).splitlines()
    assert 'heron_soc{agent="ess1"} 0.4' in lines
    assert 'heron_coordinator_held{agent="MG1"} 1' in lines
    assert all(line.startswith(("# HELP ", "# TYPE ", "heron_")) for line in lines)


async def test_the_page_comes_with_a_policy_against_foreign_content(site: Site) -> None:
    async with site.session.get(site.url + "/") as answer:
        assert answer.status == 200
        assert "<title>HERON</title>" in await answer.text()
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


async def test_a_taken_port_is_one_line(site: Site) -> None:
    port = int(site.url.rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=f"--http = {port}: the port is taken"):
        async with site.page.serve(port):
            pass


async def test_what_a_killed_edge_left_on_the_broker_is_shown_as_offline(site: Site) -> None:
    device = Status(agent="ess1", online=True, role="device", mode="closed_loop", process="edge-1")
    for online in (True, False):
        edge = Status(agent="edge-1", online=online, role="edge")
        for status in (device, edge):
            site.tally.take("status", status.agent, status, 0.0)
        _, state = await site.json("/state")
        assert state["areas"][1]["devices"][1]["online"] is online
        async with site.session.get(site.url + "/metrics") as answer:
            text = await answer.text()
        assert f'heron_agent_online{{agent="ess1"}} {int(online)}' in text


async def test_what_is_said_for_information_is_no_alarm(site: Site) -> None:
    for severity in ("info", "warning"):
        alarm = Alarm(agent="MG1", severity=severity, text=f"of {severity}")
        site.tally.take("alarm", "MG1", alarm, 0.0)
    _, state = await site.json("/state")
    assert [alarm["text"] for alarm in state["alarms"]] == ["of warning"]
