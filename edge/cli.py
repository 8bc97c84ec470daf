"""``heron edge``: look after devices and meters."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from edge.build import build_from_setup
from edge.fallback import FallbackName
from edge.lockstep import Patience
from edge.reload import SiteKeeper
from edge.runtime import EdgeRuntime, EdgeSettings, Job, Parts, rate_of
from edge.service import keep_watchdog, set_up_logging, spare_what_stays
from edge.site import load_site, notes
from edge.store import StoreAndForward, TelemetryStore
from edge.timing import PlantTime
from edge.web import serve
from heron import __version__
from heron.cli.numbers import at_least
from heron.errors import ConfigError, ConfigProblem
from heron.files import require_writable_file, write_text
from heron.messaging.mqtt import MqttBus
from heron.messaging.presence import require_alone
from heron.messaging.wire import Status
from heron.powergrid.data_year import plant_time_now_s
from heron.powergrid.kept_orders import KeptOrders
from heron.powergrid.modes import Mode
from heron.powergrid.registers import DEFAULT_PORT
from heron.powergrid.setups import read_setup

logger = logging.getLogger(__name__)

CLOSED, ADVISORY, MONITOR = Mode.CLOSED_LOOP.value, Mode.ADVISORY.value, Mode.MONITOR.value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heron edge", description="Read devices and meters, pass commands to them, report."
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("site_file", nargs="?", type=Path, metavar="SITE.yml", help="a real site")
    what.add_argument("--setup", help="name or path of a setup, served by `heron simulate`")
    parser.add_argument("--site", default="site", help="site in the MQTT topics")
    parser.add_argument("--edge-id", default="edge-1", help="name of this process")
    parser.add_argument("--broker", default="mqtt://127.0.0.1:1883", metavar="URL")
    parser.add_argument("--modbus", default=f"127.0.0.1:{DEFAULT_PORT}", metavar="HOST:PORT")
    parser.add_argument("--connections", type=int, default=1, help="connections to each port")
    parser.add_argument("--agents", help="devices and meters, by commas; all by default")
    parser.add_argument("--mode", choices=[CLOSED, MONITOR, ADVISORY], default=CLOSED)
    parser.add_argument("--fallback", choices=list(FallbackName), default=FallbackName.SAFE)
    timing = parser.add_mutually_exclusive_group()
    timing.add_argument(
        "--lockstep", action="store_true", help="act at each message of the plant's clock (default)"
    )
    timing.add_argument("--pace", help="run free: real or xK, plant seconds a wall second")
    parser.add_argument("--period", type=float, help="wall seconds between two cycles of a device")
    parser.add_argument(
        "--command-wait", type=at_least(0.0), default=30.0, help="lock-step: wall seconds"
    )
    parser.add_argument("--store", type=Path, help="file that keeps telemetry for the broker")
    parser.add_argument(
        "--orders", type=Path, metavar="FILE", help="keep operators' orders over restarts"
    )
    parser.add_argument("--http", metavar="HOST:PORT", help="serve /healthz and /metrics")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING"])
    parser.add_argument("--log-json", action="store_true", help="log JSON lines")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a summary at the end")
    parser.add_argument("--json", action="store_true", help="print the summary at the end")
    return parser


def run(argv: Sequence[str]) -> int:
    """Run ``heron edge``; return the exit code.

    Raises:
        HeronError: A mistake in the options, the setup or the site, or no broker.
    """
    args = _parser().parse_args(list(argv))
    set_up_logging(args.log_level, as_json=args.log_json)
    require_writable_file("--report", args.report)
    edge = _from_setup(args) if args.site_file is None else _from_site(args)
    spare_what_stays()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        summary = runner.run(edge.run())
    text = json.dumps(summary)
    if args.report is not None:
        write_text(args.report, text)
    if args.json:
        print(text)
    return 0


class _Edge:
    """All that one process runs, before it runs."""

    def __init__(
        self,
        settings: EdgeSettings,
        time: PlantTime,
        parts: Parts,
        *,
        devices: Sequence[str],
        site: str,
        broker: str,
        store: Path | None,
        store_max_mb: float = 100.0,
        store_listener: str | None = None,
        http: str | None,
        orders: Path | None,
        beside: Callable[[EdgeRuntime], Coroutine[None, None, None]] | None = None,
    ) -> None:
        self._settings = settings
        self._time = time
        self._parts = parts
        self._devices = tuple(devices)
        self._site = site
        self._broker = broker
        self._store = store
        self._store_bytes = int(1e6 * store_max_mb)
        self._store_listener = store_listener
        self._http = http
        self._orders = None if orders is None else KeptOrders(orders)
        self._beside = beside

    async def run(self) -> dict[str, object]:
        """Run until SIGTERM or Ctrl-C; return the summary."""
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        edge_id = self._settings.edge_id
        birth = Status(agent=edge_id, online=True, role="edge", version=__version__)
        beside: list[Job] = [keep_watchdog]
        async with AsyncExitStack() as stack:
            bus = await stack.enter_async_context(
                MqttBus(self._broker, site=self._site, status=birth, announce=False)
            )
            await require_alone(bus, edge_id, self._devices)
            send, store = None, None
            if self._store is not None:
                store = stack.enter_context(TelemetryStore(self._store, self._store_bytes))
                forward = StoreAndForward(bus, store, self._time.now, listener=self._store_listener)
                send = forward.send
                beside.append(forward.run)
            runtime = EdgeRuntime(
                self._settings, bus, self._time, self._parts, send, orders=self._orders
            )
            if self._http is not None:
                await stack.enter_async_context(serve(runtime, self._http, store))
            if self._beside is not None:
                beside.append(partial(self._beside, runtime))
            await runtime.run(stop, *beside)
        return runtime.summary()


def _from_setup(args: argparse.Namespace) -> _Edge:
    host, port = _address("--modbus", args.modbus)
    if args.http is not None:
        _address("--http", args.http)
    rate = None if args.pace is None else rate_of(args.pace)
    problems = []
    if args.pace is not None and rate is None:
        problems.append(ConfigProblem("--pace", args.pace, "expected real or xK, e.g. x60"))
    if args.connections < 1:
        problems.append(ConfigProblem("--connections", args.connections, "expected at least 1"))
    if args.period is not None and args.period <= 0:
        problems.append(ConfigProblem("--period", args.period, "expected above 0"))
    if problems:
        raise ConfigError(problems)
    config = read_setup(args.setup).config
    time = PlantTime(rate=rate or 1.0, lockstep=rate is None)
    parts = build_from_setup(
        config,
        host,
        port,
        time,
        agents=args.agents.split(",") if args.agents else None,
        mode=Mode(args.mode),
        fallback=FallbackName(args.fallback),
        connections_per_port=args.connections,
    )
    settings = EdgeSettings(
        edge_id=args.edge_id,
        period_s=args.period or max(0.05, min(1.0, config.step_s / time.rate)),
        patience=Patience(command_s=args.command_wait),
    )
    return _Edge(
        settings,
        time,
        parts,
        devices=tuple(parts.devices),
        site=args.site,
        broker=args.broker,
        store=args.store,
        http=args.http,
        orders=args.orders,
    )


def _from_site(args: argparse.Namespace) -> _Edge:
    site = load_site(args.site_file)
    for note in notes(site):
        logger.warning("%s", note)
    time = PlantTime(calendar_s=plant_time_now_s if site.clock == "wall" else None)
    keeper = SiteKeeper(args.site_file, time)
    first = keeper.prepare(site)
    return _Edge(
        EdgeSettings(edge_id=site.edge_id, period_s=site.period_s, clock=site.clock),
        time,
        Parts({}, {}),
        devices=[device.name for device in site.devices],
        site=site.site,
        broker=site.broker,
        store=site.store,
        store_max_mb=site.store_max_mb,
        store_listener=site.store_listener,
        http=site.http,
        orders=site.orders,
        beside=lambda runtime: keeper.run(first, runtime),
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop where it is there: three times as many devices a core."""
    if find_spec("uvloop") is None:
        return None
    return cast("Callable[[], asyncio.AbstractEventLoop]", import_module("uvloop").new_event_loop)


def _address(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError([ConfigProblem(option, text, "expected HOST:PORT, port 1 to 65535")])
    return host.strip("[]"), int(port)
