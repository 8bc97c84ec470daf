"""``/healthz`` and ``/metrics``: what a supervisor and Prometheus ask for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from edge.runtime import EdgeRuntime
from edge.store import TelemetryStore
from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.link import Quality
from heron.powergrid.modes import Mode

REQUEST_S = 5.0
LARGEST_REQUEST = 8192


def health(runtime: EdgeRuntime) -> tuple[bool, dict[str, object]]:
    """Return whether all is well, and what is not.

    Well is: the broker hears us, every link is up, and every device's data is good.
    """
    links = {c.address: c.connected for c in runtime.connections}
    bad = [
        name
        for name, cycle in runtime.units.devices.items()
        if cycle.sensor.snapshot.quality is not Quality.GOOD
    ]
    fallback = [
        name for name, cycle in runtime.units.devices.items() if cycle.modes.mode is Mode.FALLBACK
    ]
    broker = runtime.broker_connected
    well = broker and all(links.values()) and not bad
    return well, {
        "ok": well,
        "edge": runtime.settings.edge_id,
        "broker": broker,
        "links": links,
        "without_good_data": bad,
        "in_fallback": fallback,
    }


def metrics(runtime: EdgeRuntime, store: TelemetryStore | None = None) -> str:
    """Return everything that is counted, in Prometheus' text format."""
    return "".join(f"{line}\n" for line in (*_metric_lines(runtime), *_store_lines(store)))


def _store_lines(store: TelemetryStore | None) -> Iterator[str]:
    if store is None:
        return
    yield "# TYPE heron_edge_store_messages gauge"
    yield f"heron_edge_store_messages {len(store)}"
    for name, count in (("dropped", store.dropped), ("lost", store.lost)):
        yield f"# TYPE heron_edge_store_{name}_total counter"
        yield f"heron_edge_store_{name}_total {count}"


def _metric_lines(runtime: EdgeRuntime) -> Iterator[str]:
    counters = runtime.units.counters
    for name, count in (
        ("cycles", counters.cycles),
        ("overruns", counters.overruns),
        ("failed_reads", counters.failed_reads),
        ("failed_writes", counters.failed_writes),
        ("setpoints_written", counters.written),
        ("refused_commands", counters.refused_commands),
    ):
        yield f"# TYPE heron_edge_{name}_total counter"
        yield f"heron_edge_{name}_total {count}"
    yield "# TYPE heron_edge_clipped_total counter"
    for reason, number in sorted(counters.clipped.items()):
        yield f'heron_edge_clipped_total{{reason="{reason}"}} {number}'
    yield "# TYPE heron_edge_link_up gauge"
    for i, c in enumerate(runtime.connections):
        yield f'heron_edge_link_up{{link="{c.address}",connection="{i}"}} {int(c.connected)}'
    for name in ("reads", "writes", "timeouts", "rejected", "connects", "lost"):
        yield f"# TYPE heron_edge_modbus_{name}_total counter"
        for i, c in enumerate(runtime.connections):
            labels = f'link="{c.address}",connection="{i}"'
            yield f"heron_edge_modbus_{name}_total{{{labels}}} {getattr(c.counters, name)}"
    yield "# TYPE heron_edge_mode gauge"
    for device, cycle in runtime.units.devices.items():
        for mode in Mode:
            labels = f'device="{device}",mode="{mode}"'
            yield f"heron_edge_mode{{{labels}}} {int(cycle.modes.mode is mode)}"
    yield "# TYPE heron_edge_value gauge"
    for device, cycle in runtime.units.devices.items():
        for point, value in cycle.sensor.snapshot.values.items():
            if value.quality is Quality.GOOD:
                yield f'heron_edge_value{{device="{device}",point="{point}"}} {value.value:.9g}'
    yield "# TYPE heron_edge_cycle_seconds summary"
    times = sorted(counters.cycle_s)
    for share in (0.5, 0.99):
        if times:
            value_s = times[min(len(times) - 1, int(share * len(times)))]
            yield f'heron_edge_cycle_seconds{{quantile="{share}"}} {value_s:.6f}'
    yield f"heron_edge_cycle_seconds_count {counters.cycles}"


@asynccontextmanager
async def serve(
    runtime: EdgeRuntime, address: str, store: TelemetryStore | None = None
) -> AsyncIterator[int]:
    """Answer on HOST:PORT while the context is entered; give the port.

    Raises:
        ConfigError: The port is taken, or the host is not this machine.
    """
    host, _, port = address.rpartition(":")

    def healthz() -> tuple[int, str, str]:
        well, what = health(runtime)
        return (200 if well else 503), "application/json", json.dumps(what)

    def metrics_page() -> tuple[int, str, str]:
        return 200, "text/plain; version=0.0.4", metrics(runtime, store)

    pages = {"/healthz": healthz, "/metrics": metrics_page}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_S):
                request = await reader.readuntil(b"\r\n\r\n")
            writer.write(_reply(request, pages))
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(answer, host, int(port), limit=LARGEST_REQUEST)
    except OSError as error:
        problem = ConfigProblem("http", address, f"cannot be listened on: {error.strerror}")
        raise ConfigError([problem]) from error
    async with server:
        yield server.sockets[0].getsockname()[1]


def _reply(request: bytes, pages: dict[str, Callable[[], tuple[int, str, str]]]) -> bytes:
    words = request.split(b"\r\n", 1)[0].split(b" ")
    path = words[1].decode("latin-1").split("?", 1)[0] if len(words) == 3 else ""
    if words[0] != b"GET":
        status, kind, body = 405, "text/plain", "only GET\n"
    elif path in pages:
        status, kind, body = pages[path]()
    else:
        status, kind, body = 404, "text/plain", f"expected one of {', '.join(pages)}\n"
    text = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
    content = body.encode()
    head = (
        f"HTTP/1.1 {status} {text[status]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content
