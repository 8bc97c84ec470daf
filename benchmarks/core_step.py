"""What the synchronous environment costs beside its engine, the plant.

A step of `MultiAgentMicrogrids` is: actions to set-points through the envelope, the plant's step
(device physics, power flow, meters), accounts, features, observations. The engine is
`Plant.step`, called directly with the same set-points from the same state; ``beside the engine``
is what the environment's step takes more than that. The two are timed in turn, a step of the one
and a step of the other, so that each finds the machine and its caches as the other left them:
nothing is run warm in a loop of its own. The time inside the environment's own call of the plant,
taken by a stopwatch in a second run, is printed as a check; it should be the same.

The figures are of the tenth fastest step in a hundred: what it takes when nothing else runs. A
hundred method calls in plain Python are the peer in the same run, so that machines, interpreters
and a machine's moods can be compared.

Run ``python -m benchmarks.core_step``. It prints one line a figure and exits 0.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids

SETUP = "ieee34_ieee13"
EPISODES = 30
PEER_EVERY = 4
"""Steps between two runs of the peer."""


class Peer:
    """A hundred method calls that do next to nothing."""

    def __init__(self) -> None:
        self._total = 0.0

    def add(self, x: float) -> None:
        """Add a number and keep it small."""
        self._total = (self._total + x) % 1000.0

    def run(self) -> None:
        """Make the calls."""
        for i in range(100):
            self.add(0.5 * i)


class Stopwatch:
    """Wraps a method and keeps how long each call took, in nanoseconds."""

    def __init__(self, owner: Any, name: str) -> None:
        self.spent_ns = 0
        self._call: Callable[..., Any] = getattr(owner, name)
        setattr(owner, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method and take the time."""
        start = time.perf_counter_ns()
        try:
            return self._call(*args, **kwargs)
        finally:
            self.spent_ns = time.perf_counter_ns() - start


def measure(episodes: int) -> dict[str, float]:
    """Time steps of the shipped setup, in turn with steps of its plant alone.

    Args:
        episodes: How many days to run.

    Returns:
        Microseconds by name.
    """
    env = MultiAgentMicrogrids(load_setup(SETUP))
    env.reset(seed=0)
    rng, peer, plant = np.random.default_rng(0), Peer(), env.net
    actions = {a: rng.uniform(-1, 1, env.action_space(a).shape) for a in env.agents}
    step_s = env.setup.config.step_s
    steps: list[int] = []
    direct: list[int] = []
    peers: list[int] = []
    for _ in range(episodes):
        env.reset()
        while env.agents:
            before = plant.state
            steps.append(_time_ns(partial(env.step, actions)))
            after = plant.state
            plant.restore(before)
            direct.append(_time_ns(partial(plant.step, after.setpoints, step_s)))
            plant.restore(after)
            if len(steps) % PEER_EVERY == 0:
                peers.append(_time_ns(peer.run))
    step, engine, hundred = _quiet_us(steps), _quiet_us(direct), _quiet_us(peers)
    return {
        "step of the environment, us": step,
        "the engine alone: Plant.step, us": engine,
        "step beside the engine, us": step - engine,
        "step beside the engine, by stopwatch, us": _by_stopwatch_us(env, actions, episodes),
        "100 calls in plain Python, us": hundred,
        "step beside the engine, in hundred calls": (step - engine) / hundred,
    }


def _by_stopwatch_us(env: MultiAgentMicrogrids, actions: dict[str, Any], episodes: int) -> float:
    """Return what is left of a step when the time inside its call of the plant is taken off."""
    watch, beside = Stopwatch(env.net, "step"), []
    for _ in range(episodes):
        env.reset()
        while env.agents:
            whole_ns = _time_ns(partial(env.step, actions))
            beside.append(whole_ns - watch.spent_ns)
    return _quiet_us(beside)


def _time_ns(call: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    result = call()  # kept until the clock is read: to free it is the caller's
    elapsed = time.perf_counter_ns() - start
    del result
    return elapsed


def _quiet_us(nanoseconds: list[int]) -> float:
    return float(np.percentile(nanoseconds, 10)) / 1000.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=EPISODES, help="days a case")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    results = measure(options.episodes)
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:42s} {value:10.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
