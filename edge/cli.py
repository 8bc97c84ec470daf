"""``heron edge``: look after devices and meters."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from edge.build import build_from_setup
from edge.lockstep import Patience
from edge.modes import Mode
from edge.runtime import EdgeRuntime, EdgeSettings, Parts, rate_of
from edge.timing import PlantTime
from heron import __version__
from heron.errors import ConfigError, ConfigProblem
from heron.messaging.mqtt import MqttBus
from heron.messaging.wire import Status
from heron.powergrid.registers import DEFAULT_PORT
from heron.powergrid.setups import read_setup

CLOSED, ADVISORY, MONITOR = Mode.CLOSED_LOOP.value, Mode.ADVISORY.value, Mode.MONITOR.value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heron edge", description="Read devices and meters, pass commands to them, report."
    )
    parser.add_argument("--setup", required=True, help="name or path of a setup")
    parser.add_argument("--modbus", default=f"127.0.0.1:{DEFAULT_PORT}", metavar="HOST:PORT")
    parser.add_argument("--connections", type=int, default=1, help="connections to each port")
    parser.add_argument("--broker", default="mqtt://127.0.0.1:1883", metavar="URL")
    parser.add_argument("--site", default="site")
    parser.add_argument("--edge-id", default="edge-1", help="name of this process")
    parser.add_argument("--agents", help="devices and meters, by commas; all by default")
    parser.add_argument("--mode", choices=[CLOSED, MONITOR, ADVISORY], default=CLOSED)
    timing = parser.add_mutually_exclusive_group()
    timing.add_argument(
        "--lockstep", action="store_true", help="act at each message of the plant's clock (default)"
    )
    timing.add_argument("--pace", help="run free: real or xK, plant seconds a wall second")
    parser.add_argument("--period", type=float, help="wall seconds between two cycles of a device")
    parser.add_argument("--command-wait", type=float, default=30.0, help="lock-step: wall seconds")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING"])
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a summary at the end")
    parser.add_argument("--json", action="store_true", help="print the summary at the end")
    return parser


def run(argv: Sequence[str]) -> int:
    """Run ``heron edge``; return the exit code.

    Raises:
        HeronError: A mistake in the options or the setup, or no broker.
    """
    args = _parser().parse_args(list(argv))
    logging.basicConfig(
        level=args.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    # Each of its time-outs would be one more line; the edge logs transitions.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    summary = _look_after(args)
    text = json.dumps(summary)
    if args.report is not None:
        args.report.write_text(text, encoding="utf-8")
    if args.json:
        print(text)
    return 0


def _look_after(args: argparse.Namespace) -> dict[str, object]:
    host, port = _address(args.modbus)
    rate = None if args.pace is None else rate_of(args.pace)
    if args.pace is not None and rate is None:
        raise ConfigError([ConfigProblem("--pace", args.pace, "expected real or xK, e.g. x60")])
    config = read_setup(args.setup).config
    time = PlantTime(rate=rate or 1.0, lockstep=rate is None)
    agents = args.agents.split(",") if args.agents else None
    if args.connections < 1:
        raise ConfigError([ConfigProblem("--connections", args.connections, "at least 1")])
    parts = build_from_setup(
        config,
        host,
        port,
        time,
        agents=agents,
        mode=Mode(args.mode),
        connections_per_port=args.connections,
    )
    settings = EdgeSettings(
        edge_id=args.edge_id,
        period_s=args.period or max(0.05, min(1.0, config.step_s / time.rate)),
        patience=Patience(command_s=args.command_wait),
    )
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(args, settings, time, parts))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop where it is there: three times as many devices a core."""
    if find_spec("uvloop") is None:
        return None
    return cast("Callable[[], asyncio.AbstractEventLoop]", import_module("uvloop").new_event_loop)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError([ConfigProblem("--modbus", text, "expected HOST:PORT, port 1 to 65535")])
    return host.strip("[]"), int(port)


async def _serve(
    args: argparse.Namespace, settings: EdgeSettings, time: PlantTime, parts: Parts
) -> dict[str, object]:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    birth = Status(agent=settings.edge_id, online=True, role="edge", version=__version__)
    async with MqttBus(args.broker, site=args.site, status=birth, announce=False) as bus:
        runtime = EdgeRuntime(settings, bus, time, parts)
        await runtime.run(stop)
    return runtime.summary()
