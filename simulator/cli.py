"""``heron simulate``: a plant that speaks Modbus."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from heron.cli.numbers import at_least
from heron.errors import ConfigError, ConfigProblem
from heron.messaging.bus import Bus
from heron.messaging.wire import Status
from heron.powergrid.registers import DEFAULT_PORT, ClockUnit, DeviceUnit
from heron.powergrid.registers.clock import PACE_RATED
from heron.powergrid.registers.custom import MapConfig, load_map
from heron.powergrid.setups import Setup, read_setup
from simulator.modbus.security import ServerTls
from simulator.pace import Pace
from simulator.runtime import NAME, RunOptions, Simulator

_DAY_S = 86_400.0


def run(argv: Sequence[str]) -> int:
    """Run the command.

    Raises:
        HeronError: A mistake in the options or the setup, a taken port, or no broker.
    """
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    setup = read_setup(arguments.setup)
    options = _options(arguments, setup)
    from simulator.plant import Plant

    simulator = Simulator(Plant(setup, arguments.engine), options, _bus(arguments))
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(simulator, lambda: _say_ready(simulator, arguments.json)))
    if arguments.json:
        print(json.dumps(_result(simulator)), flush=True)
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's loop where it is there: it serves more masters."""
    if find_spec("uvloop") is None:
        return asyncio.new_event_loop
    return cast("Callable[[], asyncio.AbstractEventLoop]", import_module("uvloop").new_event_loop)


async def _serve(simulator: Simulator, ready: Callable[[], None]) -> None:
    """Run until done, SIGTERM or Ctrl-C; both end it cleanly."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await simulator.run(ready)
    except asyncio.CancelledError:
        if not stopped:
            raise
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _options(arguments: argparse.Namespace, setup: Setup) -> RunOptions:
    pace = Pace.parse(arguments.pace)
    problems = []
    if arguments.steps is not None and arguments.steps < 1:
        problems.append(ConfigProblem("--steps", arguments.steps, "expected at least 1"))
    if not 0 <= arguments.port <= 65535:
        problems.append(ConfigProblem("--port", arguments.port, "expected 0 to 65535"))
    if arguments.wait_for and not arguments.broker:
        problems.append(ConfigProblem("--wait-for", ",".join(arguments.wait_for), "needs --broker"))
    longest = setup.config.step_s
    step_s = min(pace.rate * 1.0, longest) if pace.code == PACE_RATED else longest
    if arguments.plant_dt is not None:
        if pace.code != PACE_RATED:
            problems.append(
                ConfigProblem("--plant-dt", arguments.plant_dt, "only with --pace real or xK")
            )
        elif not 0.0 < arguments.plant_dt <= longest:
            expected = f"expected above 0 and at most the control step of {longest:g} s"
            problems.append(ConfigProblem("--plant-dt", arguments.plant_dt, expected))
        step_s = arguments.plant_dt
    maps = _maps(arguments.map, setup, problems)
    if problems:
        raise ConfigError(problems)
    return RunOptions(
        pace=pace,
        steps=arguments.steps,
        step_s=step_s,
        start_s=start_time_s(arguments.start, setup),
        seed=arguments.seed,
        host=arguments.host,
        port=arguments.port,
        wait_for=tuple(arguments.wait_for),
        min_step_wall_s=arguments.min_step_s,
        exit_when_finished=arguments.exit_when_finished,
        models=tuple(arguments.models),
        maps=maps,
        tls=None if arguments.tls is None else ServerTls(*arguments.tls),
    )


def _maps(
    entries: Sequence[str], setup: Setup, problems: list[ConfigProblem]
) -> dict[str, MapConfig]:
    """Read the maps of ``--map DEVICE=FILE``; add what is wrong with them to the problems."""
    maps: dict[str, MapConfig] = {}
    known = setup.config.device_ids
    for entry in entries:
        device, _, path = entry.partition("=")
        if device not in known or not path:
            expected = f"expected DEVICE=FILE, with one of {', '.join(known)}"
            problems.append(ConfigProblem("--map", entry, expected))
            continue
        try:
            maps[device] = load_map(Path(path))
        except ConfigError as error:
            problems += error.problems
    return maps


def start_time_s(text: str, setup: Setup) -> float:
    """Return the plant time that ``--start`` means.

    Raises:
        ConfigError: It means none.
    """
    profiles = setup.profiles
    kind, _, number = text.partition(":")
    days = {"test": profiles.test_days, "train": profiles.train_days}
    year_s = profiles.n_days * _DAY_S
    try:
        if text == "auto":
            return float(profiles.test_days[0]) * _DAY_S
        if kind in days and number and int(number) >= 0:
            return float(days[kind][int(number)]) * _DAY_S
        if kind == "day" and 0 <= int(number) < profiles.n_days:
            return int(number) * _DAY_S
        if 0.0 <= float(text) < year_s:
            return float(text)
    except (ValueError, IndexError):
        pass  # said below, with what would be right
    expected = (
        f"expected seconds (0 to below {year_s:.0f}), auto (first test day), "
        f"day:0 to day:{profiles.n_days - 1}, test:0 to test:{len(profiles.test_days) - 1} "
        f"or train:0 to train:{len(profiles.train_days) - 1}"
    )
    raise ConfigError([ConfigProblem("--start", text, expected)])


def _bus(arguments: argparse.Namespace) -> Bus | None:
    if not arguments.broker:
        return None
    from heron.messaging.mqtt import MqttBus

    status = Status(agent=NAME, online=True, role="simulator", detail=f"pid {os.getpid()}")
    return MqttBus(arguments.broker, site=arguments.site, status=status)


def _say_ready(simulator: Simulator, as_json: bool) -> None:
    ports = simulator.server.ports
    host = simulator.options.host
    if not as_json:
        where = ", ".join(f"{host}:{port}" for port in ports)
        devices, meters = len(simulator.plan.devices), len(simulator.plan.meters)
        pace = simulator.options.pace.name
        print(
            f"serving {devices} devices, {meters} meters and the clock on {where} (pace {pace})",
            flush=True,
        )
        return
    units = {
        unit.name: {
            "unit": unit.unit_id,
            "port": ports[unit.port_offset],
            "kind": _kind_of(unit),
        }
        for unit in simulator.plan
    }
    ready = {
        "ready": True,
        "setup": simulator.plant.setup.config.name,
        "engine": simulator.plant.engine.name,
        "host": host,
        "port": ports[0],
        "ports": list(ports),
        "epoch": simulator.epoch,
        "pace": simulator.options.pace.name,
        "step_s": simulator.options.step_s,
        "start_s": simulator.options.start_s,
        "units": units,
    }
    print(json.dumps(ready), flush=True)


def _kind_of(unit: object) -> str:
    if isinstance(unit, DeviceUnit):
        return "device"
    return "clock" if isinstance(unit, ClockUnit) else "meter"


def _result(simulator: Simulator) -> dict[str, object]:
    run_counters, modbus = simulator.counters, simulator.server.counters
    return {
        "ready": False,
        "steps": run_counters.steps,
        "failed_steps": run_counters.failed,
        "overruns": run_counters.overruns,
        "slowest_step_ms": round(run_counters.slowest_step_ms, 3),
        "modbus": {
            "reads": modbus.reads,
            "writes": modbus.writes,
            "refusals": modbus.refusals,
            "bad_frames": modbus.bad_frames,
            "connections": modbus.connections,
        },
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heron simulate",
        description="Run the plant of a setup and serve its devices and meters over Modbus TCP.",
    )
    add = parser.add_argument
    add("--setup", default="ieee34_ieee13", help="a shipped setup's name, or a path to one")
    add("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    add("--port", type=int, default=DEFAULT_PORT, help="first Modbus port; 0 takes a free one")
    add("--pace", default="real", help="real, xK (K times faster), max, or lockstep")
    add("--steps", type=int, help="plant steps until finished (default: no end)")
    add("--start", default="auto", metavar="WHEN", help="seconds, auto, day:N, test:N or train:N")
    add(
        "--seed",
        type=int,
        default=None,
        help="seed of what devices draw, such as the charge of cars that come",
    )
    add("--engine", default=None, help="power-flow engine (default: the setup's)")
    add("--plant-dt", type=float, help="plant seconds a step with real or xK (default: K)")
    add(
        "--min-step-s",
        type=at_least(0.0),
        default=0.0,
        help="least wall seconds a step (lockstep, max)",
    )
    add("--broker", default="", metavar="URL", help="mqtt://host:port for clock and account")
    add("--site", default="site", help="site in the MQTT topics")
    add("--wait-for", nargs="+", default=[], metavar="EDGE", help="edges that lock-step waits for")
    add("--models", nargs="+", type=int, default=[], metavar="ID", help="more SunSpec models")
    add(
        "--map", nargs="+", default=[], metavar="DEVICE=FILE", help="serve it with a map of its own"
    )
    add("--tls", nargs=3, type=Path, metavar=("CERT", "KEY", "CA"), help="Modbus/TCP Security")
    add("--exit-when-finished", action="store_true", help="end after the last step")
    add("--json", action="store_true", help="print ready line and result as JSON")
    add("--verbose", action="store_true", help="log what happens")
    return parser


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
