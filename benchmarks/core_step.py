"""What the synchronous environment costs beside its plant and beside the power flow.

A step of `MultiAgentMicrogrids` is: actions to set-points through the envelope, the plant's step,
accounts, features, observations. ``beside the plant`` is the whole less `Plant.step`, that is the
agents and the environment; ``beside the engine`` is the whole less the solver's `solve`, that is
with device physics and meters, too. The figures are of the tenth fastest step in a hundred: what
it takes when nothing else runs. A hundred method calls in plain Python are the peer in the same
run, so that machines, and a machine's moods, can be compared.

Run ``python -m benchmarks.core_step``. It prints one line a figure and exits 0.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
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
            self.spent_ns += time.perf_counter_ns() - start

    def take_ns(self) -> int:
        """Return what was spent since the last time."""
        spent, self.spent_ns = self.spent_ns, 0
        return spent


def measure(part: str, episodes: int) -> tuple[float, float, float]:
    """Time steps of the shipped setup.

    Args:
        part: ``plant`` or ``engine``.
        episodes: How many days to run.

    Returns:
        Microseconds of the step beside that part, of the part, and of the peer.
    """
    env = MultiAgentMicrogrids(load_setup(SETUP))
    env.reset(seed=0)
    rng, peer = np.random.default_rng(0), Peer()
    actions = {a: rng.uniform(-1, 1, env.action_space(a).shape) for a in env.agents}
    watch = Stopwatch(env.net, "step") if part == "plant" else Stopwatch(env.net.engine, "solve")
    beside: list[int] = []
    within: list[int] = []
    peers: list[int] = []
    for _ in range(episodes):
        env.reset()
        while env.agents:
            watch.take_ns()
            start = time.perf_counter_ns()
            env.step(actions)
            whole = time.perf_counter_ns() - start
            within.append(watch.take_ns())
            beside.append(whole - within[-1])
            if len(beside) % PEER_EVERY == 0:
                start = time.perf_counter_ns()
                peer.run()
                peers.append(time.perf_counter_ns() - start)
    return _quiet_us(beside), _quiet_us(within), _quiet_us(peers)


def _quiet_us(nanoseconds: list[int]) -> float:
    return float(np.percentile(nanoseconds, 10)) / 1000.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=EPISODES, help="days a case")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    results: dict[str, float] = {}
    for part in ("plant", "engine"):
        beside, within, peer = measure(part, options.episodes)
        results[f"step beside the {part}, us"] = beside
        results[f"the {part}, us"] = within
        results[f"100 calls in plain Python (beside the {part}), us"] = peer
        results[f"step beside the {part}, in hundred calls"] = beside / peer
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:52s} {value:10.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
