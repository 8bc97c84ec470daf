"""``heron setups``: which setups there are, what is in one, and what is wrong with it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Any

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.networks import Grid, compose
from heron.powergrid.setups import (
    Setup,
    check_setup,
    get_available_setups,
    load_profile_names,
    read_setup,
    stated_protocol,
)
from heron.powergrid.setups.loader import find_config
from heron.powergrid.setups.schema import json_schema_text

CHECKS = "heron.setup_checks"
"""Entry points of what looks at a setup beside the library: functions of a `Setup`."""


def run(argv: Sequence[str]) -> int:
    """Run the command; return its exit code."""
    args = _parser().parse_args(argv)
    try:
        match args.verb:
            case "list":
                return _list(args.json)
            case "schema":
                print(json_schema_text(), end="")
                return 0
            case "show":
                return _show(args.setup, args.json)
            case _:
                return _check(args.setup, args.json)
    except ConfigError as error:
        return _fail(error.problems or (), str(error), args.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="heron setups", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, says in (
        ("list", "name the setups that ship"),
        ("show", "describe one"),
        ("schema", "print the JSON schema of config.yml"),
        ("check", "report every mistake in one; exit 1 if there is any"),
    ):
        sub = verbs.add_parser(verb, help=says, description=says)
        if verb in {"show", "check"}:
            sub.add_argument("setup", help="name of a shipped setup, or path to a config.yml")
        sub.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _list(as_json: bool) -> int:
    names = get_available_setups()
    if as_json:
        print(json.dumps({"setups": names}))
    else:
        print("\n".join(names))
    return 0


def _show(name: str, as_json: bool) -> int:
    setup = read_setup(name)
    grid = compose(setup.config)
    if as_json:
        print(json.dumps(_described(setup, grid)))
        return 0
    config, profiles = setup.config, setup.profiles
    print(f"{config.name}: {len(grid.buses)} buses, {len(grid.loads)} loads, {setup.path}")
    print(
        f"  step {config.step_s:g} s, {config.max_episode_steps} steps an episode,"
        f" engine {config.engine}, protocol {config.protocol},"
        f" band {config.v_limits_pu[0]}-{config.v_limits_pu[1]} pu,"
        f" penalty {config.penalty:g} $ per pu node hour"
    )
    print(
        f"  data {config.dataset_path or 'of ieee34_ieee13'}: {profiles.n_days} days at"
        f" {profiles.step_s:g} s, {len(profiles.train_days)} to train and"
        f" {len(profiles.test_days)} to test"
    )
    for area in grid.areas:
        load_kw = sum(load.kw for load in grid.loads if load.area == area)
        names = ", ".join(p or "constant" for p in load_profile_names(config, profiles, area))
        print(f"  {area}: {load_kw:.0f} kW of load ({names})")
        for device in (d for d in grid.devices if d.area == area):
            entry = config.device(device.device_id)
            low, high = entry.device_state_config.p_range_mw
            q_low, q_high = entry.device_state_config.q_range_mvar
            print(
                f"    {entry.name} ({entry.type}) at {device.bus}: {low:g} to {high:g} MW,"
                f" {q_low:g} to {q_high:g} Mvar"
            )
    return 0


def _described(setup: Setup, grid: Grid) -> dict[str, Any]:
    return {
        "path": None if setup.path is None else str(setup.path),
        "config": setup.config.model_dump(mode="json"),
        "profiles": {
            "columns": list(setup.profiles.names),
            "step_s": setup.profiles.step_s,
            "days": setup.profiles.n_days,
            "train_days": setup.profiles.train_days.tolist(),
            "test_days": setup.profiles.test_days.tolist(),
        },
        "buses": len(grid.buses),
        "load_kw": {
            area: round(sum(load.kw for load in grid.loads if load.area == area), 3)
            for area in grid.areas
        },
        "devices": {d.device_id: {"bus": d.bus, "phases": d.phases} for d in grid.devices},
    }


def _check(name: str, as_json: bool) -> int:
    problems = check_setup(name)
    problems += _protocol_problems(name)
    solved = False
    if not problems:
        found, solved = _plant_problems(name)
        problems += found
    if problems:
        return _fail(problems, "", as_json)
    if as_json:
        print(json.dumps({"ok": True, "problems": [], "solved": solved}))
    else:
        untried = "" if solved else "; the power flow was not tried, the plant is not installed"
        print(f"{name}: no mistake found{untried}")
    return 0


def _plant_problems(name: str) -> tuple[list[ConfigProblem], bool]:
    """Return what the plant finds wrong, and whether there is a plant to ask."""
    problems: list[ConfigProblem] = []
    asked = False
    for point in entry_points(group=CHECKS):
        try:
            check = point.load()
        except ModuleNotFoundError:  # an installation without the plant
            continue
        asked = True
        problems += check(read_setup(name))
    source = str(find_config(name))
    return [
        ConfigProblem(p.where, p.value, p.expected, p.source or source) for p in problems
    ], asked


def _protocol_problems(name: str) -> list[ConfigProblem]:
    """Return why a protocol of the user's own cannot be had; reading a setup does not load it."""
    # Only this check needs the agents.
    from heron.powergrid.agents import scheme_of

    try:
        stated = stated_protocol(name)
    except ConfigError:  # `check_setup` has said why
        return []
    try:
        scheme_of(stated)
    except ConfigError as error:
        source = str(find_config(name))
        return [ConfigProblem(p.where, p.value, p.expected, source) for p in error.problems]
    return []


def _fail(problems: Sequence[ConfigProblem], message: str, as_json: bool) -> int:
    if as_json:
        listed = [
            {"source": p.source, "where": p.where, "value": repr(p.value), "expected": p.expected}
            for p in problems
        ]
        print(json.dumps({"ok": False, "problems": listed or [{"expected": message}]}))
    else:
        print("\n".join(str(p) for p in problems) or message, file=sys.stderr)
    return 1
