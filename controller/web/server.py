"""A small HTTP server: page, state, health, metrics, and what an operator wishes.

It decides nothing. A button publishes a request, as any operator's tool may, and whom it is for
says yes or no: the page then shows the mode, the policy or the limit that is reported. On loopback
it asks nobody who they are; beyond it, it asks for a token (`controller.web.gate`).
"""

from __future__ import annotations

import errno
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Container
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import ValidationError

from controller.web.gate import Gate, is_loopback
from controller.web.metrics import prometheus
from controller.web.state import loop_state
from heron.errors import BrokerUnavailable, ConfigError, ConfigProblem
from heron.messaging.bus import Bus
from heron.messaging.tally import Tally
from heron.messaging.topics import LIMITS, MODE, POLICY, Topic
from heron.messaging.wire import LimitRequest, Message, ModeRequest, PolicyRequest
from heron.powergrid.setups import SetupConfig

LOOPBACK = "127.0.0.1"
PAGE = Path(__file__).parent / "page.html"
ISSUER = "operator:web"
EVERYBODY = "all"
MAX_BODY_BYTES = 4096

M = TypeVar("M", bound=Message)


class OperatorPage:
    """Answers requests from what the tally knows.

    Args:
        config: Names and structure of the site.
        tally: Filled by an observer.
        bus: For the operator's wishes.
        held: Coordinators that cannot decide, with the reason.
        token: What everybody must show; None asks for nothing, and serves loopback only.
        now: Monotonic clock.
    """

    def __init__(
        self,
        config: SetupConfig,
        tally: Tally,
        bus: Bus,
        held: Callable[[], dict[str, str]],
        *,
        token: str | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = token
        self._config = config
        self._tally = tally
        self._bus = bus
        self._held = held
        self._now = now
        self._microgrids = frozenset(config.microgrid_ids)
        self._led = self._microgrids | {*config.device_ids}
        self._switched = self._led | {EVERYBODY}

    def application(self, *, secure: bool = False) -> web.Application:
        """Return the routes.

        Args:
            secure: Whether they are served over TLS.
        """
        middlewares: list[Middleware] = [_no_foreign_origin]
        gate = None
        if self._token is None:
            middlewares.append(_only_this_host)
        else:
            gate = Gate(self._token, secure=secure, now=self._now)
            middlewares.append(gate.middleware())
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=middlewares)
        if gate is not None:
            gate.add_routes(app)
        app.router.add_get("/", self._page)
        app.router.add_get("/state", self._state)
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_post("/mode", self._mode)
        app.router.add_post("/policy", self._policy)
        app.router.add_post("/limits", self._limits)
        return app

    @asynccontextmanager
    async def serve(
        self, port: int, host: str = LOOPBACK, tls: ssl.SSLContext | None = None
    ) -> AsyncIterator[int]:
        """Serve while the context is entered; gives the port (0 takes a free one).

        Raises:
            ConfigError: The port is taken, or others could reach the page without a token.
        """
        if self._token is None and not is_loopback(host):
            expected = "a loopback address, or a --http-token-file that keeps others out"
            raise ConfigError([ConfigProblem("--http-host", host, expected)])
        runner = web.AppRunner(self.application(secure=tls is not None), access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port, ssl_context=tls)
            try:
                await site.start()
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
                why = "the port is taken" if taken else f"cannot serve on {host}: {error}"
                raise ConfigError([ConfigProblem("--http", port, why)]) from error
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
        return await self._wish(request, MODE, ModeRequest, self._switched)

    async def _policy(self, request: web.Request) -> web.StreamResponse:
        return await self._wish(request, POLICY, PolicyRequest, self._led)

    async def _limits(self, request: web.Request) -> web.StreamResponse:
        return await self._wish(request, LIMITS, LimitRequest, self._microgrids)

    async def _wish(
        self, request: web.Request, topic: Topic[M], model: type[M], agents: Container[str]
    ) -> web.StreamResponse:
        """Pass an operator's wish on; 202: it was sent, whom it is for decides."""
        if request.content_type != "application/json":
            return _refused(415, "expected application/json")
        try:
            body: Any = json.loads(await request.text())
            reason = str(body.get("reason", ""))[:200]
            wish = model.model_validate({**body, "reason": reason, "issuer": ISSUER})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            return _refused(400, f"{where}: {first['msg']}")
        except (ValueError, AttributeError) as error:
            return _refused(400, f"expected a JSON object: {str(error).splitlines()[0]}")
        agent = str(wish.model_dump()["agent"])
        if agent not in agents:
            return _refused(404, f"nobody of that name: {agent!r}")
        try:
            await self._bus.publish(topic, wish, agent=agent)
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
async def _no_foreign_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what another site's page makes a browser send."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.split("//", 1)[-1] != request.host:
        return _refused(403, "foreign origin")
    return await handler(request)


@web.middleware
async def _only_this_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse names that are not this machine's: DNS rebinding would make them same-origin."""
    if request.host.rsplit(":", 1)[0] not in ("127.0.0.1", "localhost", "[::1]"):
        return _refused(403, "unknown host")
    return await handler(request)
