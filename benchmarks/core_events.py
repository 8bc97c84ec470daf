"""Events a second.

The bare scheduler, the peer of all the others; agents in event-driven time without and with a
power flow; the agents' part of a synchronous step. Seconds are CPU seconds of one core: everything
here computes and never waits, and what else the machine does shall not count.

Run ``python -m benchmarks.core_events``. It prints one line a case and exits 0.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heron.agents import CoordinatorAgent, FieldAgent
from heron.core import FeatureProvider, Observation
from heron.envs import HeronEnvCore
from heron.powergrid.quantities import Measurements
from heron.powergrid.setups import load_setup
from heron.protocols import SetpointProtocol
from heron.scheduling import Event, EventScheduler, EventType, JitterType, TickConfig
from training.envs import MultiAgentMicrogrids
from training.envs.timing import Timing

REPEATS = 3
SETUP = "ieee34_ieee13"


@dataclass
class Terminal(FeatureProvider):
    """What a device shows."""

    visibility = ("owner", "upper_level")

    p_mw: float = 0.0
    q_mvar: float = 0.0
    v_pu: float = 1.0


class Device(FieldAgent):
    """Takes a power and shows it."""

    def set_state(self) -> None:
        """One feature."""
        super().set_state()
        self.terminal = Terminal()
        self.state.features.append(self.terminal)

    def set_action(self) -> None:
        """One number."""
        self.action.set_specs(dim_c=1)

    def apply_action(self, action: np.ndarray) -> None:
        """Show what was asked for."""
        self.terminal.p_mw = float(action[0])


class HalfOf:
    """A policy as light as one can be."""

    def __init__(self, size: int) -> None:
        self._action = np.full(size, 0.5)

    def forward(self, observation: Observation) -> np.ndarray:
        """Return the same action, after looking at the observation."""
        observation.vector()
        return self._action


def build(jitter: bool) -> HeronEnvCore:
    """Three coordinators of two devices each, at the default rates of 60 s and 1 s."""
    kind = JitterType.GAUSSIAN if jitter else JitterType.NONE

    def ticks(interval: float, delay: float) -> TickConfig:
        ratio = 0.1 if jitter else 0.0
        return TickConfig(interval, delay, delay, delay, kind, ratio, seed=1)

    env = HeronEnvCore("benchmark")
    for i in range(3):
        devices = [Device(f"d{i}{j}", tick_config=ticks(1.0, 0.05)) for j in range(2)]
        env.register_agent(
            CoordinatorAgent(
                f"MG{i}",
                policy=HalfOf(2),
                protocol=SetpointProtocol(),
                config={"agents": devices},
                tick_config=ticks(60.0, 0.1),
            )
        )
    return env


def bare_scheduler(n_events: int) -> int:
    """Run events that do nothing but schedule the next."""
    scheduler = EventScheduler()

    def again(event: Event, scheduler: EventScheduler) -> None:
        scheduler.schedule(Event(event.timestamp + 1.0, EventType.CUSTOM, event.agent_id))

    scheduler.set_handler(EventType.CUSTOM, again)
    for i in range(9):
        scheduler.schedule(Event(0.1 * i, EventType.CUSTOM, f"agent{i}"))
    return scheduler.run_until(float(n_events), n_events)


def agents(n_events: int, jitter: bool) -> int:
    """Run 3 coordinators and 6 devices."""
    env = build(jitter)
    env.setup_event_driven()
    return env.run_event_driven(1e9, n_events)


def synchronous(n_steps: int) -> int:
    """Run the agents' part of a synchronous step: three actions down to six devices."""
    env = build(jitter=False)
    actions = {f"MG{i}": np.zeros(2) for i in range(3)}
    for _ in range(n_steps):
        env.apply_actions(actions)
    return n_steps


def microgrids_late(n_steps: int) -> tuple[float, float]:
    """Run the shipped setup in event-driven time; return events and power flows a second.

    Devices report each minute, delays and jitter are those of a slow SCADA system, and whoever
    measures or acts needs a power flow of that instant. The rates are those of the faster half of
    the control intervals.
    """
    timing = Timing("scada", 2.0, 1.5, 0.5, 0.4, device_tick_s=60.0)
    env = MultiAgentMicrogrids({**load_setup(SETUP), "event_driven": True, "timing": timing})
    mode = env.event_mode
    assert mode is not None
    solve, flows = env.net.step, [0]

    def counted(*args: Any, **kwargs: Any) -> Measurements:
        flows[0] += 1
        return solve(*args, **kwargs)

    env.net.step = counted  # type: ignore[method-assign]
    env.reset(seed=0)
    actions = {a: np.zeros(env.action_space(a).shape) for a in env.agents}
    intervals = []
    for _ in range(n_steps):
        events, flows[0], start = mode.events, 0, time.process_time()
        env.step(actions)
        intervals.append((time.process_time() - start, mode.events - events, flows[0]))
    intervals.sort(key=lambda interval: interval[0] / interval[1])
    seconds, n_events, n_flows = map(sum, zip(*intervals[: n_steps // 2], strict=True))
    return n_events / seconds, n_flows / seconds


def rate(run: Callable[[], int]) -> float:
    """Return events a second, the best of a few runs."""
    best = 0.0
    for _ in range(REPEATS):
        start = time.process_time()
        count = run()
        best = max(best, count / (time.process_time() - start))
    return best


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000, help="events a case")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    n = options.events
    results = {
        "bare scheduler, events/s": rate(lambda: bare_scheduler(n)),
        "3 coordinators + 6 devices, events/s": rate(lambda: agents(n, jitter=False)),
        "the same with Gaussian jitter, events/s": rate(lambda: agents(n, jitter=True)),
        "synchronous step of the same agents, us": 1e6 / rate(lambda: synchronous(n // 20)),
    }
    events, flows = microgrids_late(90)
    results["3 microgrids with a power flow, events/s"] = events
    results["the same, power flows/s"] = flows
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:45s} {value:12,.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
