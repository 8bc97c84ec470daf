"""The operator's page in a real browser: what a person sees, and what the buttons send."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

from controller.web.server import OperatorPage
from heron.messaging.bus import InMemoryBus
from heron.messaging.tally import Tally
from heron.messaging.topics import LIMITS, MODE, POLICY
from heron.messaging.wire import Alarm, MarketRecord, Point, PolicyReport, Status, Telemetry
from heron.powergrid.setups import read_setup

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]
TOKEN = "correct horse battery staple"


class Browser:
    """One tab, led over the DevTools protocol."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._sent = 0
        self.errors: list[str] = []

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol and return its result."""
        self._sent += 1
        await self._socket.send_json({"id": self._sent, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json()
            if message.get("method") == "Runtime.exceptionThrown":
                self.errors.append(str(message["params"]["exceptionDetails"]))
            if message.get("id") == self._sent:
                assert "error" not in message, message
                return message["result"]

    async def value(self, expression: str) -> Any:
        """Return what an expression of the page is."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression of the page is true."""
        promise = (
            "new Promise(done => { const look = () => { try { if ("
            + expression
            + ") return done(true); } catch (e) {} setTimeout(look, 50); }; look(); })"
        )
        async with asyncio.timeout(30):
            await self.call("Runtime.evaluate", expression=promise, awaitPromise=True)

    async def open(self, url: str, ready: str) -> None:
        """Go to a page and wait until it is ready."""
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(30):
            while not await self.value(f"document.readyState === 'complete' && !!({ready})"):
                await self.call("Page.getLayoutMetrics")


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    program = shutil.which("chromium")
    assert program is not None
    flags = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run"
    process = await asyncio.create_subprocess_exec(
        program,
        *flags.split(),
        "--remote-debugging-port=0",
        f"--user-data-dir={tmp_path / 'profile'}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(60):
            while "DevTools listening on" not in (
                line := (await process.stderr.readline()).decode()
            ):
                assert line, "the browser ended"
        draining = asyncio.create_task(process.stderr.read())
        port = line.rsplit(":", 1)[1].split("/", 1)[0]
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = await answer.json()
            page = next(tab for tab in tabs if tab["type"] == "page")
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Browser(socket)
                for domain in ("Page", "Runtime"):
                    await tab.call(f"{domain}.enable")
                yield tab
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await draining
    assert tab.errors == []


def filled() -> Tally:
    """What an observer would have gathered."""
    tally = Tally()
    points = {"p_mw": Point(value=-0.25), "soc": Point(value=0.4), "v_min_pu": Point(value=0.91)}
    messages: list[tuple[str, str, Any]] = [
        ("telemetry", "ess1", Telemetry(agent="ess1", sequence=1, time_s=0.0, points=points)),
        ("status", "ess1", Status(agent="ess1", online=True, role="device", mode="closed_loop")),
        ("status", "MG1", Status(agent="MG1", online=True, role="coordinator", mode="stopped")),
        ("alarm", "MG1", Alarm(agent="MG1", severity="warning", text="<b>bold</b> words")),
        (
            "market",
            "DSO",
            MarketRecord(
                agent="DSO", time_s=0.0, protocol="p2p", price_usd_per_mwh=41.5, energy_mwh=0.07
            ),
        ),
        ("policy_report", "MG1", PolicyReport(agent="MG1", active="constant 2")),
    ]
    for topic, agent, message in messages:
        tally.take(topic, agent, message, 0.0)
    return tally


@asynccontextmanager
async def served(bus: InMemoryBus, token: str | None = None) -> AsyncIterator[str]:
    config = read_setup("ieee34_ieee13").config
    async with OperatorPage(config, filled(), bus, dict, token=token).serve(0) as port:
        yield f"http://127.0.0.1:{port}/"


ROWS = "document.querySelectorAll('#rows tr').length === 11"


def choose(label: str, value: str) -> str:
    """Return what a person's choice in a list does."""
    return (
        f"(() => {{ const s = document.querySelector('[aria-label=\"{label}\"]');"
        f" s.value = '{value}'; s.onchange(); return true; }})()"
    )


async def test_a_person_sees_the_site_and_the_buttons_say_what_they_mean(
    browser: Browser,
) -> None:
    async with InMemoryBus() as bus, served(bus) as url:
        await browser.open(url, ROWS)
        text = await browser.value("document.body.innerText")
        assert "p2p at 41.50 $/MWh, 0.070 MWh traded" in text
        assert "MG1: constant 2 decides" in text
        assert "<b>bold</b> words" in text, "an alarm's text is text, never markup"
        row = "[...document.querySelectorAll('#rows tr')].find(r => r.cells[0].innerText === '{}')"
        assert await browser.value(row.format("MG1") + ".cells[1].innerText") == "stopped"
        assert await browser.value(row.format("ess1") + ".cells[4].innerText") == "40.0"
        low = row.format("ess1") + ".cells[5].className"
        assert await browser.value(low) == "out", "0.91 pu is marked"
        async with (
            asyncio.timeout(30),
            bus.subscribe(MODE) as modes,
            bus.subscribe(POLICY) as policies,
            bus.subscribe(LIMITS) as limits,
        ):
            await browser.value(choose("mode of ess1", "monitor"))
            agent, mode = await anext(modes)
            assert (agent, mode.mode, mode.issuer) == ("ess1", "monitor", "operator:web")
            await browser.until("$('say').textContent === 'asked ess1 for monitor'")
            await browser.value(choose("policy of MG1", "promote"))
            assert (await anext(policies))[1].action == "promote"
            await browser.value(
                "window.prompt = text => text.includes('exports') ? '0.25' : '';"
                "document.querySelector('[aria-label=\"limits of MG1\"]').onclick()"
            )
            _, limit = await anext(limits)
            assert (limit.p_export_max_mw, limit.p_import_max_mw) == (0.25, None)
            await browser.value("window.confirm = () => true; $('stopall').onclick()")
            agent, mode = await anext(modes)
            assert (agent, mode.mode) == ("all", "stopped")


async def test_a_person_logs_in_by_the_form(browser: Browser) -> None:
    async with InMemoryBus() as bus, served(bus, TOKEN) as url:
        await browser.open(url, "document.getElementById('token')")
        assert await browser.value("location.pathname") == "/login"
        await browser.value(
            f"document.getElementById('token').value = '{TOKEN}';"
            "document.getElementById('enter').click()"
        )
        async with asyncio.timeout(30):
            while not await browser.value(f"location.pathname === '/' && {ROWS}"):
                await browser.call("Page.getLayoutMetrics")
        assert await browser.value("document.cookie") == "", "scripts cannot read the session"
