"""The page beyond loopback: nobody gets in, or commands anything, without the token."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar

from controller.cli import run
from controller.web.gate import COOKIE, FAILURES, is_loopback, read_token
from controller.web.server import OperatorPage
from heron.errors import ConfigError
from heron.messaging.bus import InMemoryBus
from heron.messaging.tally import Tally
from heron.messaging.topics import LIMITS, MODE, POLICY
from heron.powergrid.setups import read_setup
from heron.testing.certificates import Authority

TOKEN = "correct horse battery staple"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
STOP = {"agent": "all", "mode": "stopped"}


@pytest.fixture
async def bus() -> AsyncIterator[InMemoryBus]:
    async with InMemoryBus() as bus:
        yield bus


def page_of(bus: InMemoryBus, token: str | None = TOKEN, **options: Any) -> OperatorPage:
    config = read_setup("ieee34_ieee13").config
    return OperatorPage(config, Tally(), bus, dict, token=token, **options)


@pytest.fixture
async def url(bus: InMemoryBus) -> AsyncIterator[str]:
    async with page_of(bus).serve(0, "0.0.0.0") as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        yield session


async def test_without_the_token_nothing_is_shown_and_nothing_is_sent(
    url: str, session: ClientSession, bus: InMemoryBus
) -> None:
    for path in ("/state", "/metrics"):
        async with session.get(url + path) as answer:
            assert answer.status == 401
    for path in ("/mode", "/policy", "/limits"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{COOKIE}=guess"}):
            async with session.post(url + path, json=STOP, headers=headers) as answer:
                assert answer.status == 401
    assert bus.counters.published == 0
    async with session.get(url + "/", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/login")
    async with session.get(url + "/healthz") as answer:
        assert answer.status == 200


async def test_a_program_shows_the_token_with_each_request(
    url: str, session: ClientSession, bus: InMemoryBus
) -> None:
    async with bus.subscribe(MODE) as wishes:
        async with session.post(url + "/mode", json=STOP, headers=BEARER) as answer:
            assert answer.status == 202
        assert (await anext(wishes))[1].mode == "stopped"


async def test_a_person_logs_in_once_and_out_again(url: str, session: ClientSession) -> None:
    async with session.post(url + "/login", data={"token": "wrong"}) as answer:
        assert answer.status == 401
    login = session.post(url + "/login", data={"token": TOKEN}, allow_redirects=False)
    async with login as answer:
        assert answer.status == 303
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
    async with session.get(url + "/state") as answer:
        assert answer.status == 200
    async with session.post(url + "/logout", allow_redirects=False) as answer:
        assert answer.status == 303
    async with session.get(url + "/state") as answer:
        assert answer.status == 401


async def test_a_foreign_pages_request_is_refused_even_with_a_session(
    url: str, session: ClientSession
) -> None:
    await (await session.post(url + "/login", data={"token": TOKEN})).read()
    foreign = {"Origin": "http://evil.example"}
    async with session.post(url + "/mode", json=STOP, headers=foreign) as answer:
        assert answer.status == 403


async def test_after_many_wrong_tokens_none_is_looked_at_for_a_minute(bus: InMemoryBus) -> None:
    clock = [0.0]
    async with (
        page_of(bus, now=lambda: clock[0]).serve(0) as port,
        ClientSession() as session,
    ):
        url = f"http://127.0.0.1:{port}/login"
        for _ in range(FAILURES):
            async with session.post(url, data={"token": "wrong"}) as answer:
                assert answer.status == 401
        async with session.post(url, data={"token": TOKEN}) as answer:
            assert answer.status == 429
        clock[0] += 61.0
        async with session.post(url, data={"token": TOKEN}, allow_redirects=False) as answer:
            assert answer.status == 303


async def test_a_session_ends_after_half_a_day(bus: InMemoryBus) -> None:
    clock = [0.0]
    async with (
        page_of(bus, now=lambda: clock[0]).serve(0) as port,
        ClientSession(cookie_jar=CookieJar(unsafe=True)) as session,
    ):
        url = f"http://127.0.0.1:{port}"
        await (await session.post(url + "/login", data={"token": TOKEN})).read()
        clock[0] += 13 * 3600.0
        async with session.get(url + "/state") as answer:
            assert answer.status == 401


async def test_over_tls_the_cookie_never_goes_without(bus: InMemoryBus, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    own = authority.sign("page")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(own.certificate, own.key)
    client = ssl.create_default_context(cafile=authority.file)
    async with page_of(bus).serve(0, "127.0.0.1", server) as port, ClientSession() as session:
        login = session.post(
            f"https://127.0.0.1:{port}/login",
            data={"token": TOKEN},
            allow_redirects=False,
            ssl=client,
        )
        async with login as answer:
            assert "Secure" in answer.headers["Set-Cookie"]


async def test_beyond_loopback_a_token_is_demanded(bus: InMemoryBus) -> None:
    with pytest.raises(ConfigError, match=r"--http-host = '0\.0\.0\.0'"):
        async with page_of(bus, None).serve(0, "0.0.0.0"):
            pass


def test_a_short_or_missing_token_is_refused_before_anything_starts(
    tmp_path: Path,
) -> None:
    short = tmp_path / "short"
    short.write_text("hunter2\n")
    with pytest.raises(ConfigError, match="at least 16 characters"):
        read_token(short)
    argv = ["--setup", "ieee34_ieee13", "--policy", "rule", "--http", "0", "--http-token-file"]
    with pytest.raises(ConfigError, match="No such file"):
        run([*argv, str(tmp_path / "none")])
    (tmp_path / "token").write_text(TOKEN)
    with pytest.raises(ConfigError, match="both, or neither"):
        run([*argv, str(tmp_path / "token"), "--http-cert", "x.pem"])


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False)]
)
def test_loopback_is_told_from_the_rest(host: str, own: bool) -> None:
    assert is_loopback(host) is own


async def test_wishes_for_policies_and_limits_reach_whom_they_are_for(
    url: str, session: ClientSession, bus: InMemoryBus
) -> None:
    async with bus.subscribe(POLICY) as policies, bus.subscribe(LIMITS) as limits:
        promote = {"agent": "MG2", "action": "promote"}
        async with session.post(url + "/policy", json=promote, headers=BEARER) as answer:
            assert answer.status == 202
        _, wish = await anext(policies)
        assert (wish.agent, wish.action, wish.issuer) == ("MG2", "promote", "operator:web")
        export = {"agent": "MG1", "p_export_max_mw": 0.25}
        async with session.post(url + "/limits", json=export, headers=BEARER) as answer:
            assert answer.status == 202
        assert (await anext(limits))[1].p_export_max_mw == 0.25


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/policy", {"agent": "MG2", "action": "delete"}, 400),
        ("/policy", {"agent": "MG9", "action": "report"}, 404),
        ("/limits", {"agent": "ess1", "p_export_max_mw": 0.1}, 404),
        ("/limits", {"agent": "MG1", "p_export_max_mw": -1}, 400),
        ("/limits", {"agent": "MG1", "p_export_max_mw": "lots"}, 400),
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused(
    url: str, session: ClientSession, bus: InMemoryBus, path: str, body: Any, code: int
) -> None:
    async with session.post(url + path, json=body, headers=BEARER) as answer:
        assert answer.status == code
    assert bus.counters.published == 0
