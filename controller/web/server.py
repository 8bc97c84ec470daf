"""A small HTTP server on loopback: page, state, health, metrics, and mode requests.

It decides nothing. A button publishes a `wire.ModeRequest`, as any operator's tool may, and the
state machine at the edge says yes or no: the page then shows the mode that the device reports.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from controller.web.metrics import prometheus
from controller.web.state import loop_state
from heron.errors import BrokerUnavailable, ConfigError, ConfigProblem
from heron.messaging.bus import Bus
from heron.messaging.tally import Tally
from heron.messaging.topics import MODE
from heron.messaging.wire import ModeRequest
from heron.powergrid.setups import SetupConfig

LOOPBACK = "127.0.0.1"
PAGE = Path(__file__).parent / "page.html"
ISSUER = "operator:web"
EVERYBODY = "all"
MAX_BODY_BYTES = 4096

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OperatorPage:
    """Answers requests from what the tally knows.

    Args:
        config: Names and structure of the site.
        tally: Filled by an observer.
        bus: For mode requests.
        held: Coordinators that cannot decide, with the reason.
        now: Monotonic clock.
    """

    def __init__(
        self,
        config: SetupConfig,
        tally: Tally,
        bus: Bus,
        held: Callable[[], dict[str, str]],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._tally = tally
        self._bus = bus
        self._held = held
        self._now = now
        self._agents = {EVERYBODY, *config.device_ids}

    def application(self) -> web.Application:
        """Return the routes."""
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_only_this_host])
        app.router.add_get("/", self._page)
        app.router.add_get("/state", self._state)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/mode", self._mode)
        return app

    @asynccontextmanager
    async def serve(self, port: int, host: str = LOOPBACK) -> AsyncIterator[int]:
        """Serve while the context is entered; gives the port (0 takes a free one).

        Raises:
            ConfigError: The port is taken.
        """
        runner = web.AppRunner(self.application(), access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            try:
                await site.start()
            except OSError as error:
                raise ConfigError([ConfigProblem("--http", port, "the port is taken")]) from error
            yield int(runner.addresses[0][1])
        finally:
            await runner.cleanup()

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(PAGE, headers=_SAFE_HEADERS)

    async def _state(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(
            loop_state(self._config, self._tally, self._held(), self._bus.connected),
            headers=_SAFE_HEADERS,
        )

    async def _health(self, request: web.Request) -> web.StreamResponse:
        reasons = [f"{agent}: {why}" for agent, why in self._held().items()]
        if not self._bus.connected:
            reasons.append(f"no connection to {self._bus.address}")
        return web.json_response(
            {"ok": not reasons, "reasons": reasons}, status=503 if reasons else 200
        )

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text=prometheus(self._tally, self._held(), self._bus.counters))

    async def _mode(self, request: web.Request) -> web.StreamResponse:
        """Pass an operator's wish on; 202: it was sent, the device decides."""
        if request.content_type != "application/json":
            return _refused(415, "expected application/json")
        try:
            body: Any = json.loads(await request.text())
            wish = ModeRequest.model_validate(
                {
                    "agent": body.get("agent"),
                    "mode": body.get("mode"),
                    "reason": str(body.get("reason", ""))[:200],
                    "issuer": ISSUER,
                }
            )
        except (ValueError, AttributeError, ValidationError) as error:
            return _refused(400, f"expected agent and mode: {str(error).splitlines()[0]}")
        if wish.agent not in self._agents:
            return _refused(404, f"no device {wish.agent!r}")
        try:
            await self._bus.publish(MODE, wish, agent=wish.agent)
        except BrokerUnavailable as error:
            return _refused(503, str(error))
        return web.json_response({"sent": wish.model_dump()}, status=202)


_SAFE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def _refused(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)


@web.middleware
async def _only_this_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what another site's page makes a browser send (also by DNS rebinding)."""
    if request.host.rsplit(":", 1)[0] not in ("127.0.0.1", "localhost", "[::1]"):
        return _refused(403, "unknown host")
    origin = request.headers.get("Origin")
    if origin is not None and origin.split("//", 1)[-1] != request.host:
        return _refused(403, "foreign origin")
    return await handler(request)
