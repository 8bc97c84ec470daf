"""`heron up`: the whole loop with one command.

Exit codes: 0 when the steps were done, or when it was told to run until stopped and was
stopped; 130 when it was stopped before its steps were done; 1 when something failed; 2 for a
wrong command line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import re
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from heron import __version__
from heron.cli.loop import LoopRunner
from heron.cli.main import EXIT_INTERRUPTED
from heron.cli.numbers import whole
from heron.cli.plan import LoopPlan, LoopResult
from heron.cli.report import build_report, write_report
from heron.errors import ConfigError, ConfigProblem, HeronError
from heron.files import require_writable_file
from heron.messaging.address import BrokerAddress
from heron.powergrid.agents import scheme_of
from heron.powergrid.setups import SetupConfig, read_setup

DEFAULT_SETUP = "ieee34_ieee13"
DEFAULT_PACE = "x900"
REFRESH_S = 0.25


def run(argv: Sequence[str]) -> int:
    """Run the command; see the module."""
    options = _parser().parse_args(argv)
    setup = read_setup(options.setup)
    if options.protocol is not None:
        scheme_of(options.protocol)
    if options.broker is not None:
        BrokerAddress.parse(options.broker)
    require_writable_file("--report", options.report)
    require_writable_file("--record", options.record)
    folder = _new_folder(options.runs)
    _log_to(folder / "up.log")
    plan = LoopPlan(
        setup=options.setup,
        step_s=setup.config.step_s,
        folder=folder,
        steps=options.steps,
        min_step_s=_min_step_s(options.pace, setup.config.step_s),
        free_rate=_free_rate(options.pace) if options.free else None,
        seed=options.seed,
        start=options.start,
        policy="none" if options.no_policy else options.policy,
        protocol=options.protocol,
        port=options.port,
        broker=options.broker,
        site=options.site,
        record=options.record,
        http=options.http,
        dso=setup.config.dso_config.name,
        controller=_for_the_controller(options),
    )
    result = LoopResult()
    report_path = options.report or folder / "report.json"
    live = not options.headless and not options.json and sys.stdout.isatty()
    failure: HeronError | None = None
    try:
        asyncio.run(_run(plan, result, setup.config, live=live, quiet=options.json))
    except HeronError as error:
        failure = error
    report = _report(plan, result, options.pace, failure)
    write_report(report_path, report)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        _print_summary(result, folder, report_path)
    if failure is not None:
        raise failure
    if result.outcome == "stopped" and plan.steps is not None:
        return EXIT_INTERRUPTED
    return 0


async def _run(
    plan: LoopPlan, result: LoopResult, config: SetupConfig, *, live: bool, quiet: bool
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if not quiet:
        print(f"heron up: {plan.setup}, log and report under {plan.folder}", flush=True)

    async def show() -> None:
        await _show_table(result, config)

    await LoopRunner(plan, result, stop, show if live else None).run()


async def _show_table(result: LoopResult, config: SetupConfig) -> None:
    from rich.live import Live

    from heron.cli.table import render

    with Live(auto_refresh=False) as live:
        while True:
            live.update(render(config, result.tally), refresh=True)
            await asyncio.sleep(REFRESH_S)


def _report(
    plan: LoopPlan, result: LoopResult, pace: str, failure: HeronError | None
) -> dict[str, Any]:
    first = result.first_closed_s
    counters = result.bus
    return build_report(
        result.tally,
        run={
            "version": __version__,
            "setup": plan.setup,
            "pace": pace,
            "seed": plan.seed,
            "start": plan.start,
            "steps_asked": plan.steps,
            "outcome": result.outcome if failure is None else "failed",
            "error": None if failure is None else str(failure),
            "wall_s": round(result.wall_s, 3),
            "time_to_first_closed_loop_step_s": None if first is None else round(first, 3),
        },
        edges=result.edges,
        memory_mb=result.memory_table(),
        bus={
            "dropped": counters.dropped,
            "invalid": counters.invalid,
            "connections": counters.connections,
        },
    )


def _print_summary(result: LoopResult, folder: Path, report_path: Path) -> None:
    tally = result.tally
    if tally.steps:
        total = tally.total
        print(
            f"{tally.steps} steps in {result.wall_s:.1f} s: reward {total.reward:.2f}, "
            f"cost {total.cost_usd:.2f} $, violation {total.violation_pu:.4f} pu in "
            f"{total.violating_steps} steps"
        )
    if result.first_closed_s is not None:
        print(f"first closed-loop step after {result.first_closed_s:.1f} s")
    print(f"log: {folder}/   report: {report_path}")


def _for_the_controller(options: argparse.Namespace) -> tuple[str, ...]:
    words = [word for candidate in options.candidate for word in ("--candidate", candidate)]
    if options.history is not None:
        words += ["--history", str(options.history)]
    return tuple(words)


def _min_step_s(pace: str, step_s: float) -> float:
    """Return the wall seconds that a step takes at least."""
    if pace == "max":
        return 0.0
    return step_s / (1.0 if pace == "real" else float(pace[1:]))


def _free_rate(pace: str) -> float:
    """Return the plant seconds a wall second when nobody waits for anybody.

    Raises:
        ConfigError: ``max`` has no rate.
    """
    if pace == "max":
        raise ConfigError([ConfigProblem("--pace", pace, "real or xK together with --free")])
    return 1.0 if pace == "real" else float(pace[1:])


def _new_folder(parent: Path) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        folder = parent / f"{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError([ConfigProblem("--runs", str(parent), str(error))]) from error
        return folder
    raise ConfigError([ConfigProblem("--runs", str(parent), "a folder with room for a new run")])


def _log_to(path: Path) -> None:
    logging.basicConfig(
        filename=path,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        force=True,
    )


def _pace(text: str) -> str:
    if text in ("real", "max") or (re.fullmatch(r"x\d+(\.\d+)?", text) and float(text[1:]) > 0):
        return text
    raise argparse.ArgumentTypeError(f"{text!r}: expected real, xK (for example x900) or max")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heron up",
        description="Run the whole loop: plant, broker, edge agents, coordinators and DSO.",
        epilog="Without --steps it runs until Ctrl-C.",
    )
    add = parser.add_argument
    add("--setup", default=DEFAULT_SETUP, help="name or path (default %(default)s)")
    add("--headless", action="store_true", help="no live table")
    add("--steps", type=whole(1), metavar="N", help="end after N steps of the plant")
    add(
        "--pace",
        type=_pace,
        default=DEFAULT_PACE,
        help="real, xK or max: plant seconds a wall second; every step waits for all agents "
        "(default %(default)s: a 15-minute step a second)",
    )
    add(
        "--free",
        action="store_true",
        help="nobody waits: the plant runs at its pace, and agents in their own time",
    )
    add("--policy", metavar="P", help="policy file or directory, none, or rule")
    add(
        "--candidate",
        action="append",
        default=[],
        metavar="AGENT=FILE|DIR",
        help="a policy that decides in the shadow, until `heron policy promote`; may be repeated",
    )
    add("--no-policy", action="store_true", help="the same as --policy none")
    add(
        "--protocol",
        metavar="P",
        help="how the site coordinates, in place of what the setup says: setpoint, price, p2p, "
        "consensus, system, or module:NAME or FILE.py:NAME",
    )
    add("--seed", type=whole(0), default=0)
    add(
        "--start",
        default="auto",
        metavar="WHEN",
        help="seconds of plant time, day:N, test:N, train:N, or auto (the first test day)",
    )
    add("--port", type=whole(1, 65535), help="Modbus port of the simulator (default: a free one)")
    add(
        "--http", type=whole(1, 65535), metavar="PORT", help="serve the operator's page on loopback"
    )
    add("--broker", metavar="URL", help="mqtt://host:port (default: the embedded broker)")
    add("--site", default="site", help="name of the site in the topics (default %(default)s)")
    add("--report", type=Path, metavar="FILE", help="report (default: in the run's folder)")
    add("--record", type=Path, metavar="FILE", help="write every message, one JSON line each")
    add("--history", type=Path, metavar="FILE", help="keep a history in this SQLite file")
    add("--runs", type=Path, default=Path("runs"), help="parent of the run's folder")
    add("--json", action="store_true", help="print the report instead of the table")
    return parser
