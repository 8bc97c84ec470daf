"""``heron feeder``: what a feeder or a setup's network is, and its power flow."""

from __future__ import annotations

import argparse
import cmath
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heron.errors import ConfigError, ConfigProblem, PowerFlowDiverged
from heron.powergrid.networks import (
    Grid,
    available_feeders,
    compose,
    grid_of,
    load_feeder,
)
from simulator.engines import available_engines

if TYPE_CHECKING:
    from simulator.engines import Engine, Solution


def run(argv: Sequence[str]) -> int:
    """Run the command; return its exit code.

    Raises:
        ConfigError: Unknown name, or a file with mistakes.
    """
    args = _parser().parse_args(argv)
    grid = find_grid(args.name)
    if args.loads != "zip":
        grid = with_loads(grid, _read_json(args.loads), args.loads)
    if args.loading:
        grid = replace(grid, line_ratings=True)
    move_taps = args.taps == "control"
    if args.taps not in {"published", "control"}:
        grid = with_taps(grid, _read_json(args.taps), args.taps)
    if not (args.solve or args.plot or args.loading):
        _describe(grid, as_json=args.json)
        return 0
    from simulator.engines import make_engine

    engine = make_engine(args.engine, grid)
    try:
        solution = solve(engine, move_taps=move_taps)
    except PowerFlowDiverged as error:
        if args.json:
            print(json.dumps(document(engine, None)))
        print(f"heron: feeder: {error}", file=sys.stderr)
        return 1
    if args.plot:
        from simulator.feeder_plot import draw

        draw(engine, solution, Path(args.plot))
    if args.json:
        loading = {"loading_pct": loadings(engine, solution)} if args.loading else {}
        print(json.dumps(document(engine, solution) | loading))
    else:
        _print_solution(engine, solution)
        if args.loading:
            _print_loading(engine, solution)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="heron feeder", description=__doc__)
    parser.add_argument(
        "name", help=f"{', '.join(available_feeders())}, a feeder's .json, or any setup"
    )
    parser.add_argument("--solve", action="store_true", help="solve its power flow")
    parser.add_argument("--engine", default="threephase", choices=available_engines())
    parser.add_argument(
        "--taps",
        default="published",
        metavar="published|control|FILE",
        help="hold the published taps, let the regulators move, or hold those of a JSON file"
        " {regulator: position or ratio}",
    )
    parser.add_argument(
        "--loads",
        default="zip",
        metavar="zip|FILE",
        help="the feeder's own loads, or those of a JSON file {load: [kW, kvar]}; each keeps its"
        " model (constant power, current or impedance)",
    )
    parser.add_argument(
        "--loading",
        action="store_true",
        help="solve, and say how loaded each rated line and transformer is",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--plot", metavar="FILE", help="draw the one-line diagram with voltages")
    return parser


def find_grid(name: str) -> Grid:
    """Return the network of a feeder or of a setup.

    Raises:
        ConfigError: There is no such feeder or setup, or it has mistakes.
    """
    from heron.powergrid.setups import get_available_setups, read_setup

    if name in available_feeders() or name.endswith(".json"):
        return grid_of(load_feeder(name))
    if name in get_available_setups() or Path(name).exists():
        return compose(read_setup(name).config)
    known = ", ".join([*available_feeders(), *get_available_setups()])
    raise ConfigError([ConfigProblem("name", name, f"expected a path or one of {known}")])


def with_loads(grid: Grid, loads: Mapping[str, Any], source: str = "") -> Grid:
    """Return the grid with the (kW, kvar) of the named loads replaced.

    Raises:
        ConfigError: Unknown loads, or values that are not two finite numbers.
    """
    known = {x.name for x in grid.loads}
    problems = [
        ConfigProblem(name, value, "no such load", source)
        for name, value in loads.items()
        if name not in known
    ]
    problems += [
        ConfigProblem(name, value, "expected [kW, kvar]", source)
        for name, value in loads.items()
        if not (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)))
    ]
    if problems:
        raise ConfigError(problems)
    changed = tuple(
        x.model_copy(update={"kw": float(loads[x.name][0]), "kvar": float(loads[x.name][1])})
        if x.name in loads
        else x
        for x in grid.loads
    )
    return replace(grid, loads=changed)


def with_taps(grid: Grid, taps: Mapping[str, Any], source: str = "") -> Grid:
    """Return the grid with the named regulators at other positions.

    A position is a whole number (most have -16 to 16), a ratio with a decimal point (0.9 to 1.1),
    or a pair [ratio, position] as OpenDSS gives it.

    Raises:
        ConfigError: Unknown regulators or positions.
    """
    known = {r.name: r for r in grid.regulators}
    problems, positions = [], {}
    for name, value in taps.items():
        if name not in known:
            problems.append(ConfigProblem(name, value, "no such regulator", source))
            continue
        step_pu, most = known[name].step_pu, known[name].max_tap
        position = _position(value, step_pu, most)
        if position is None:
            expected = (
                f"expected a position from {-most} to {most}, or the ratio of one:"
                f" 1 + {step_pu} x position"
            )
            problems.append(ConfigProblem(name, value, expected, source))
        else:
            positions[name] = position
    if problems:
        raise ConfigError(problems)
    changed = tuple(
        r.model_copy(update={"tap": positions.get(r.name, r.tap)}) for r in grid.regulators
    )
    return replace(grid, regulators=changed)


def _position(value: Any, step_pu: float, most: int) -> int | None:
    """Return the regulator position that a user wrote, or None if it is none."""
    is_pair = isinstance(value, list) and len(value) == 2
    if is_pair:
        value = value[1]
    if not _is_number(value):
        return None
    is_ratio = not is_pair and isinstance(value, float) and 0.9 <= value <= 1.1
    steps = (value - 1.0) / step_pu if is_ratio else float(value)
    position = round(steps)
    return position if abs(steps - position) < 1e-6 and abs(position) <= most else None


def solve(engine: Engine, *, move_taps: bool) -> Solution:
    """Solve the grid at its nominal loads, with its devices idle.

    Raises:
        PowerFlowDiverged: There is no solution.
    """
    import numpy as np

    from simulator.engines import Injections

    idle = np.zeros(len(engine.grid.devices))
    injections = Injections(np.ones(len(engine.grid.loads)), idle, idle)
    return engine.solve(injections, engine.initial_state(), move_taps=move_taps)


def document(engine: Engine, solution: Solution | None) -> dict[str, Any]:
    """Return the power flow as plain data; without a solution its figures are null."""
    if solution is None:
        return {
            "buses": {},
            "losses_kw": None,
            "source_kw": None,
            "source_kvar": None,
            "taps": {},
            "converged": False,
        }
    buses: dict[str, dict[str, list[float]]] = {}
    for (bus, phase), v in zip(engine.nodes, solution.v_pu.tolist(), strict=True):
        buses.setdefault(bus, {})[phase] = [abs(v), math.degrees(cmath.phase(v))]
    regulators = (r.name for r in engine.grid.regulators)
    return {
        "buses": buses,
        "losses_kw": solution.losses_mw * 1e3,
        "source_kw": solution.source_p_mw * 1e3,
        "source_kvar": solution.source_q_mvar * 1e3,
        "taps": dict(zip(regulators, solution.state.taps.tolist(), strict=True)),
        "converged": True,
    }


def loadings(engine: Engine, solution: Solution) -> dict[str, float]:
    """Return the loading of each rated line and transformer in percent, by its name."""
    names = (branch.name for branch in engine.grid.branches)
    return dict(zip(names, solution.loading_pct.tolist(), strict=True))


def _describe(grid: Grid, *, as_json: bool) -> None:
    summary = {
        "name": grid.name,
        "areas": list(grid.areas),
        "source_bus": grid.source_bus,
        "buses": len(grid.buses),
        "nodes": len(grid.nodes),
        "lines": len(grid.lines),
        "transformers": len(grid.transformers),
        "regulators": [r.name for r in grid.regulators],
        "capacitors": [c.name for c in grid.capacitors],
        "loads": len(grid.loads),
        "load_kw": sum(x.kw for x in grid.loads),
        "load_kvar": sum(x.kvar for x in grid.loads),
        "devices": [d.device_id for d in grid.devices],
    }
    if as_json:
        print(json.dumps(summary))
        return
    for key, value in summary.items():
        shown = ", ".join(value) or "none" if isinstance(value, list) else value
        print(f"{key:13} {shown:g}" if isinstance(shown, float) else f"{key:13} {shown}")


def _print_solution(engine: Engine, solution: Solution) -> None:
    print(f"{'bus':16} {'phase':5} {'pu':>8} {'degrees':>9}")
    for (bus, phase), v in zip(engine.nodes, solution.v_pu.tolist(), strict=True):
        print(f"{bus:16} {phase:5} {abs(v):8.5f} {math.degrees(cmath.phase(v)):9.3f}")
    taps = zip(engine.grid.regulators, solution.state.taps.tolist(), strict=True)
    for regulator, tap in taps:
        print(f"tap {regulator.name}: {tap:+d} ({1.0 + regulator.step_pu * tap:.5f})")
    print(
        f"source {solution.source_p_mw * 1e3:.2f} kW {solution.source_q_mvar * 1e3:.2f} kvar,"
        f" losses {solution.losses_mw * 1e3:.2f} kW"
    )


def _print_loading(engine: Engine, solution: Solution) -> None:
    """Print the loading, the highest first, and what has no rating."""
    loading = loadings(engine, solution)
    rating = {x.name: f"{x.ampacity_a:g} A" for x in engine.grid.rated_lines}
    rating |= {x.name: f"{x.kva:g} kVA" for x in engine.grid.transformers}
    print(f"\n{'branch':24} {'rating':>10} {'loading':>9}")
    for name in sorted(loading, key=lambda x: -loading[x]):
        print(f"{name:24} {rating[name]:>10} {loading[name]:7.1f} %")
    unrated = [x.name for x in engine.grid.lines if x.closed and x.name not in rating]
    if unrated:
        print(f"without a rating: {', '.join(unrated)}")


def _read_json(path: str) -> dict[str, Any]:
    try:
        data = json.loads(Path(path).read_text())
    except OSError as error:
        expected = f"cannot be read: {error.strerror}"
        raise ConfigError([ConfigProblem("file", path, expected)]) from error
    except ValueError as error:
        raise ConfigError([ConfigProblem("file", path, f"is not JSON: {error}")]) from error
    if not isinstance(data, dict):
        raise ConfigError([ConfigProblem("file", path, "expected one JSON object")])
    return data


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
