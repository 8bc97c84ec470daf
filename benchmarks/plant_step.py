"""How long a whole step of the plant takes: profiles, devices, network and readings.

And how long one of the environment takes, which adds the agents: their observations, the safety
envelope, the accounts.

Run: ``python -m benchmarks.plant_step [--json]``. Random set-points for every device at every step
of 15 minutes, so that regulators move far more than in operation, and once with idle devices. CPU
time of this one process, the best of several repeats; the reference is the same plant on
pandapower, in the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups import Setup, read_setup
from simulator import BatchPlant, Plant
from training.envs import MultiAgentMicrogrids

REPEATS = 5
NOON_S = 150.5 * 86_400.0


def best(run: Callable[[], object], steps: int) -> float:
    """Return microseconds of CPU for each of the steps that ``run`` does."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times) / steps * 1e6


def ranges(setup: Setup) -> tuple[np.ndarray, np.ndarray]:
    devices = [setup.config.device(d).device_state_config for d in setup.config.device_ids]
    return np.array([d.p_range_mw for d in devices]), np.array([d.q_range_mvar for d in devices])


def single(setup: Setup, engine: str, steps: int, *, idle: bool = False) -> float:
    plant = Plant(setup, engine)
    rng = np.random.default_rng(0)
    p, q = ranges(setup)
    actions: list[Mapping[str, Setpoint]] = [
        {
            name: Setpoint(*values)
            for name, *values in zip(
                setup.config.device_ids,
                rng.uniform(p[:, 0], p[:, 1]).tolist(),
                rng.uniform(q[:, 0], q[:, 1]).tolist(),
                strict=True,
            )
        }
        for _ in range(steps)
    ]

    def run() -> None:
        plant.reset(start_s=NOON_S)
        for action in actions:
            plant.step({} if idle else action, 900.0)

    return best(run, steps)


def environment(setup: Setup, engine: str, steps: int) -> float:
    named = replace(setup, config=setup.config.model_copy(update={"engine": engine}))
    env = MultiAgentMicrogrids(named)
    rng = np.random.default_rng(0)
    actions = [
        {agent: rng.uniform(-1.0, 1.0, env.action_space(agent).shape) for agent in env.agents}
        for _ in range(steps)
    ]

    def run() -> None:
        env.reset(seed=0)
        for action in actions:
            env.step(action)

    return best(run, steps)


def batch(setup: Setup, engine: str, n: int, steps: int) -> float:
    plants = BatchPlant(setup, n, engine)
    rng = np.random.default_rng(0)
    p, q = ranges(setup)
    starts = rng.uniform(0.0, 360 * 86_400.0, n)
    actions = [
        (
            rng.uniform(p[:, 0], p[:, 1], (n, len(p))),
            rng.uniform(q[:, 0], q[:, 1], (n, len(q))),
        )
        for _ in range(steps)
    ]

    def run() -> None:
        plants.reset(starts)
        for action in actions:
            plants.step(*action, 900.0)

    return best(run, steps * n)


def measure(name: str) -> list[dict[str, object]]:
    setup = read_setup(name)
    reference = single(setup, "pandapower", 4)
    rows: list[dict[str, object]] = [{"what": "pandapower", "us": reference, "ratio": 1.0}]

    def add(what: str, us: float) -> None:
        rows.append({"what": what, "us": us, "ratio": reference / us})

    with_agents = environment(setup, "pandapower", 4)
    rows.append({"what": "pandapower, environment", "us": with_agents, "ratio": 1.0})

    def versus(us: float) -> dict[str, object]:
        return {"us": us, "ratio": with_agents / us}

    for engine in ("balanced", "threephase"):
        add(f"{engine}, idle", single(setup, engine, 96, idle=True))
        add(f"{engine}, random", single(setup, engine, 96))
        rows.append({"what": f"{engine}, environment", **versus(environment(setup, engine, 90))})
        for n in (1, 16, 64, 256):
            add(f"{engine}, random, batch of {n}", batch(setup, engine, n, max(4, 256 // n)))
    return rows


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setup", default="ieee34_ieee13")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    rows = measure(args.setup)
    if args.json:
        print(json.dumps({"setup": args.setup, "steps": rows}))
        return
    print(f"{args.setup + ', microseconds a step and scenario':45} {'us':>9} {'x pandapower':>13}")
    for row in rows:
        print(f"{row['what']:45} {row['us']:9.1f} {row['ratio']:13.0f}")


if __name__ == "__main__":
    main(sys.argv[1:])
