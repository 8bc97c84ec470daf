"""Who may use the operator's page where others than this machine can reach it.

A program shows the token in each request (``Authorization: Bearer``); a person types it once and
gets a session in a cookie that scripts cannot read and other sites cannot send.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from heron.errors import ConfigError, ConfigProblem

COOKIE: Final = "heron_session"
SESSION_S: Final = 12 * 3600.0
SHORTEST_TOKEN: Final = 16
FAILURES: Final = 10
FAILURES_IN_S: Final = 60.0
"""So many wrong tokens in so many seconds, and no more are looked at for a while."""
OPEN: Final = frozenset({"/login", "/healthz"})
"""Paths that need no token."""
LOGIN = Path(__file__).parent / "login.html"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        ConfigError: It cannot be read, or is too short to keep anybody out.
    """
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([ConfigProblem("--http-token-file", str(path), str(error))]) from error
    if len(token) < SHORTEST_TOKEN:
        expected = f"a token of at least {SHORTEST_TOKEN} characters"
        raise ConfigError([ConfigProblem("--http-token-file", str(path), expected)])
    return token


class Gate:
    """Lets in who knows the token.

    Args:
        token: What must be shown.
        secure: Whether the page is served over TLS; the cookie then never goes without.
        now: Monotonic clock.
    """

    def __init__(
        self, token: str, *, secure: bool, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._token = token.encode()
        self._secure = secure
        self._now = now
        self._sessions: dict[str, float] = {}
        self._failures: deque[float] = deque(maxlen=FAILURES)

    def add_routes(self, app: web.Application) -> None:
        """Add the login to an application."""
        app.router.add_get("/login", self._page)
        app.router.add_post("/login", self._login)
        app.router.add_post("/logout", self._logout)

    def middleware(self) -> Middleware:
        """Return what turns away whoever is not let in."""

        @web.middleware
        async def only_those_let_in(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path in OPEN or self._knows(request):
                return await handler(request)
            if request.method == "GET" and request.path == "/":
                raise web.HTTPSeeOther("/login")
            return web.json_response({"error": "log in, or show the token"}, status=401)

        return only_those_let_in

    def _knows(self, request: web.Request) -> bool:
        until = self._sessions.get(request.cookies.get(COOKIE, ""))
        if until is not None and until > self._now():
            return True
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return kind.lower() == "bearer" and self._is_right(token)

    def _is_right(self, token: str) -> bool:
        if self._too_many_failures():
            return False
        right = hmac.compare_digest(token.encode(), self._token)
        if not right:
            self._failures.append(self._now())
        return right

    def _too_many_failures(self) -> bool:
        failures = self._failures
        return len(failures) == FAILURES and self._now() - failures[0] < FAILURES_IN_S

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(LOGIN, headers={"Cache-Control": "no-store"})

    async def _login(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        token = form.get("token", "")
        if self._too_many_failures():
            return web.json_response({"error": "too many wrong tokens: wait a minute"}, status=429)
        if not isinstance(token, str) or not self._is_right(token.strip()):
            return web.json_response({"error": "wrong token"}, status=401)
        now = self._now()
        self._sessions = {s: until for s, until in self._sessions.items() if until > now}
        session = secrets.token_urlsafe(32)
        self._sessions[session] = now + SESSION_S
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(
            COOKIE,
            session,
            max_age=int(SESSION_S),
            httponly=True,
            samesite="Strict",
            secure=self._secure,
        )
        return answer

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        self._sessions.pop(request.cookies.get(COOKIE, ""), None)
        answer = web.Response(status=303, headers={"Location": "/login"})
        answer.del_cookie(COOKIE)
        return answer
