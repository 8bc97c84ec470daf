"""How fast the power-flow engines are, beside pandapower (and grid2op) in the same run.

Run: ``python -m benchmarks.grid_speed [--json] [--grid2op PYTHON]``. Times are CPU time of this one
process, the best of several repeats; injections change at every solve, each started from the last
one. Three kinds of them:

- ``held``: every load and device drawn anew, taps held;
- ``day``: loads follow the setup's profiles in steps of 15 minutes, set-points are random within
  the devices' ranges, taps move: the engine's part of an environment step;
- ``jumps``: every load and device drawn anew, taps move: worse than any day.

The reference is one ``pandapower.runpp`` with its default solver, without any tap control.
grid2op is timed where the given interpreter (default: this one) can import it with lightsim2grid.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import pandapower as pp

from heron.powergrid.networks import Grid, compose, grid_of, load_feeder
from heron.powergrid.setups import Setup, read_setup
from heron.powergrid.setups.models import SetupConfig
from simulator.engines import Engine, Injections, make_engine
from simulator.engines.batch import make_batch_engine
from simulator.engines.pandapower_net import pandapower_net
from simulator.fleet import Fleet

REPEATS = 5
Kind = Literal["held", "day", "jumps"]
KINDS: tuple[Kind, ...] = ("held", "day", "jumps")
BATCHES = (1, 16, 64, 256)
GRID2OP = """
import json, time, warnings
warnings.simplefilter("ignore")
import grid2op
from lightsim2grid import LightSimBackend
from grid2op.Backend import PandaPowerBackend
rates = {}
for name, backend in (("lightsim2grid", LightSimBackend()), ("pandapower", PandaPowerBackend())):
    env = grid2op.make("rte_case14_realistic", test=True, backend=backend)
    idle = env.action_space({})
    best = None
    for repeat in range(3):
        env.reset()
        start, steps = time.process_time(), 0
        while steps < (1000 if name == "lightsim2grid" else 50):
            *_, done, _ = env.step(idle)
            steps += 1
            if done:
                env.reset()
        spent = (time.process_time() - start) / steps * 1e6
        best = spent if best is None else min(best, spent)
    rates[name] = best
print(json.dumps({"version": grid2op.__version__, "us": rates}))
"""
FIRST_CALL = """
import time
import numpy as np
from heron.powergrid.networks import compose
from heron.powergrid.setups import read_setup
from simulator.engines import Injections, make_engine
import simulator.engines.fixed_point
grid = compose(read_setup("ieee34_ieee13").config)
start = time.perf_counter()
engine = make_engine("threephase", grid)
idle = np.zeros(len(grid.devices))
engine.solve(Injections(np.full(len(grid.loads), 0.5), idle, idle), engine.initial_state())
print(time.perf_counter() - start)
"""


def best(run: Callable[[], object], count: int) -> float:
    """Return microseconds of CPU for each of the ``count`` solves that ``run`` does."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times) / count * 1e6


def draws(grid: Grid, n: int, seed: int = 0) -> list[Injections]:
    rng = np.random.default_rng(seed)
    n_devices = len(grid.devices)
    return [
        Injections(
            rng.uniform(0.3, 0.9, len(grid.loads)),
            rng.uniform(0.0, 0.4, n_devices),
            rng.uniform(-0.05, 0.1, n_devices),
        )
        for _ in range(n)
    ]


def pandapower_default(grid: Grid, n: int = 6) -> float:
    """Time ``runpp``, loads set before each call.

    Its defaults fail here: the DC start on a switch without reactance, ten iterations on loads
    that follow their voltage. The other options are as they come.
    """
    net = pandapower_net(grid)
    p, q = net.load.p_mw.to_numpy().copy(), net.load.q_mvar.to_numpy().copy()

    def run() -> None:
        for injections in draws(grid, n):
            net.load["p_mw"] = p * injections.load_scale
            net.load["q_mvar"] = q * injections.load_scale
            net.sgen["p_mw"] = injections.p_mw
            net.sgen["q_mvar"] = injections.q_mvar
            pp.runpp(net, init="flat", max_iteration=50, tolerance_mva=1e-7)

    return best(run, n)


def day(setup: Setup, grid: Grid, n: int, seed: int) -> list[Injections]:
    """Return what a random policy injects over ``n`` steps of 15 minutes."""
    fleet = Fleet(setup, grid)
    rng = np.random.default_rng(seed)
    devices = [setup.config.device(d).device_state_config for d in setup.config.device_ids]
    p, q = (np.array([getattr(d, f) for d in devices]) for f in ("p_range_mw", "q_range_mvar"))
    start_s = rng.integers(0, 360) * 86_400.0
    return [
        Injections(
            fleet.load_scale(setup.profiles.means(start_s + 900.0 * k, 900.0)),
            rng.uniform(p[:, 0], p[:, 1]),
            rng.uniform(q[:, 0], q[:, 1]),
        )
        for k in range(n)
    ]


def walk(setup: Setup, grid: Grid, kind: Kind, n: int, seed: int = 0) -> list[Injections]:
    return day(setup, grid, n, seed) if kind == "day" else draws(grid, n, seed)


def single(setup: Setup, engine: Engine, kind: Kind, n: int = 288) -> tuple[float, float]:
    """Return the time of a solve and the tap steps that it took on average."""
    injections = walk(setup, engine.grid, kind, n)
    moves = 0

    def run() -> None:
        nonlocal moves
        moves = 0
        state = engine.initial_state()
        for each in injections:
            solution = engine.solve(each, state, move_taps=kind != "held")
            state = solution.state
            moves += solution.tap_moves

    return best(run, n), moves / n


def batch(setup: Setup, name: str, grid: Grid, n: int, kind: Kind) -> float:
    engine = make_batch_engine(name, grid)
    steps = 6 if n >= 64 else 24
    walks = [walk(setup, grid, kind, steps, seed=k) for k in range(n)]
    rounds = [
        [np.stack([getattr(w[k], f) for w in walks]) for f in Injections.__slots__]
        for k in range(steps)
    ]

    def run() -> None:
        state = engine.initial_state(n)
        for scale, p, q in rounds:
            state = engine.solve(scale, p, q, state, move_taps=kind != "held").state

    return best(run, n * steps)


def composite(n_microgrids: int) -> Grid:
    """Return the 34-bus feeder with many small 13-bus microgrids."""
    buses = ("850", "816", "824", "828", "830", "854", "832", "858", "834", "860", "836", "844")
    raw = read_setup("ieee34_ieee13").config.model_dump()
    first = raw["microgrid_configs"][0]
    raw["microgrid_configs"] = [
        {
            **first,
            "name": f"M{k}",
            "connection_bus": f"Bus {buses[k % len(buses)]}",
            "load_scale": 0.4 / n_microgrids,
            "devices": [{**d, "name": f"{d['name']}_{k}"} for d in first["devices"][2:]],
        }
        for k in range(n_microgrids)
    ]
    return compose(SetupConfig.model_validate(raw))


def growth() -> list[dict[str, Any]]:
    grids = [grid_of(load_feeder(n)) for n in ("ieee13", "ieee34", "ieee123")]
    grids += [composite(k) for k in (4, 16, 32, 63)]
    rows = []
    for grid in grids:
        start = time.process_time()
        engine = make_engine("threephase", grid)
        built = time.process_time() - start
        injections = draws(grid, 200)
        if grid.devices:
            p = np.full(len(grid.devices), 0.5 / len(grid.devices))
            injections = [Injections(i.load_scale, p, 0.1 * p) for i in injections]
        iterations = 0

        def run(engine: Engine = engine, injections: list[Injections] = injections) -> None:
            nonlocal iterations
            iterations, state = 0, engine.initial_state()
            for each in injections:
                solution = engine.solve(each, state, move_taps=False)
                state = solution.state
                iterations += solution.iterations

        us = best(run, len(injections))
        per_iteration = us * len(injections) / iterations
        rows.append(
            {
                "buses": len(grid.buses),
                "nodes": len(grid.nodes),
                "us": us,
                "us_per_iteration": per_iteration,
                "ns_per_node_and_iteration": per_iteration / len(grid.nodes) * 1e3,
                "build_ms": built * 1e3,
            }
        )
    return rows


def grid2op(python: str) -> dict[str, Any]:
    """Time steps of grid2op that change nothing, or say why not."""
    done = subprocess.run([python, "-c", GRID2OP], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no output"]
        return {"skipped": f"{python}: {reason[0]}"}
    timed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return timed


def measure(python: str) -> dict[str, Any]:
    setup = read_setup("ieee34_ieee13")
    grid = compose(setup.config)
    reference = pandapower_default(grid)
    rows: list[dict[str, Any]] = [{"what": "pandapower runpp", "us": reference, "ratio": 1.0}]

    def add(what: str, us: float, **more: float) -> None:
        rows.append({"what": what, "us": us, "ratio": reference / us, **more})

    for name in ("balanced", "threephase"):
        engine = make_engine(name, grid)
        for kind in KINDS:
            us, moves = single(setup, engine, kind)
            add(f"{name}, {kind}", us, tap_moves=moves)
    for name in ("balanced", "threephase"):
        for kind in KINDS:
            for n in BATCHES:
                add(f"{name}, {kind}, batch of {n}", batch(setup, name, grid, n, kind))
    command = [sys.executable, "-c", FIRST_CALL]
    first = [float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in "123"]
    return {
        "grid": grid.name,
        "engines": rows,
        "growth": growth(),
        "first_call_s": min(first),
        "grid2op": grid2op(python),
    }


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--grid2op", metavar="PYTHON", default=sys.executable)
    args = parser.parse_args(argv)
    result = measure(args.grid2op)
    if args.json:
        print(json.dumps(result))
        return
    print(
        f"{'ieee34_ieee13, 99 buses: one solve of one scenario':55} {'us':>9} {'x pandapower':>13}"
    )
    for row in result["engines"]:
        moves = f"  {row['tap_moves']:.1f} tap steps" if row.get("tap_moves") else ""
        print(f"{row['what']:55} {row['us']:9.1f} {row['ratio']:13.0f}{moves}")
    head = ("buses", "nodes", "us", "us/iteration", "ns/node", "build ms")
    print("\n{:>6} {:>6} {:>8} {:>13} {:>8} {:>9}".format(*head))
    for row in result["growth"]:
        print("{:6} {:6} {:8.1f} {:13.2f} {:8.1f} {:9.1f}".format(*row.values()))
    first = result["first_call_s"]
    print(f"\nfirst engine and solve after import, compiled code cached: {first:.2f} s")
    peer = result["grid2op"]
    if "skipped" in peer:
        print(f"\ngrid2op was left out: {peer['skipped']}")
        return
    print(
        f"\ngrid2op {peer['version']}, rte_case14_realistic (14 buses), a step that changes nothing"
    )
    for name, us in peer["us"].items():
        print(f"  with {name:20} {us:9.0f} us")


if __name__ == "__main__":
    main(sys.argv[1:])
