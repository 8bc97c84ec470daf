"""Fits the timing of a deployed run from its recording, and predicts what the run got.

The recording of ``heron up --record FILE`` holds every message with the wall time at which it was
heard. The plant's clock messages turn wall seconds into plant seconds; then a coordinator's
decisions give its interval, its telemetry's age gives the observation delay, and the time from a
command to its result the action delay.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.setups import read_setup
from training.envs import MultiAgentMicrogrids
from training.envs.event_mode import ObservedPolicy
from training.envs.timing import Timing
from training.evaluation.sources import policies_of

LOCKSTEP = "lockstep"


@dataclass
class Recording:
    """What matters of a recorded run.

    Attributes:
        clocks: (wall s, plant s) of each step of the plant.
        accounts: (plant s at the end, length s, reward) of each step of the plant.
        decisions: Wall times of each coordinator's decisions.
        telemetry: Wall times at which each device or meter reported.
        responses_s: Wall seconds from each command to its result.
        first_effect_s: Wall time of the first result that was written; None if there is none.
        lockstep: Whether the plant waited for the agents.
    """

    clocks: list[tuple[float, float]] = field(default_factory=list)
    accounts: list[tuple[float, float, float]] = field(default_factory=list)
    decisions: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    telemetry: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    responses_s: list[float] = field(default_factory=list)
    first_effect_s: float | None = None
    lockstep: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was measured, what the fitted timing predicts, and how far apart they are.

    Attributes:
        timing: Fitted, in plant seconds.
        rate: Plant seconds a wall second; 0 in lock-step, where the plant waits.
        first_time_s: Plant time from which returns are compared: the measurement that led to
            the first effect of a command.
        steps: Control steps that are compared.
        recorded_return: Sum of the rewards of the deployed run.
        predicted_return: Of the event-driven run under the fitted timing.
        synchronous_return: Of the synchronous step, for comparison.
    """

    timing: Timing
    rate: float
    first_time_s: float
    steps: int
    recorded_return: float
    predicted_return: float
    synchronous_return: float

    @property
    def error(self) -> float:
        """Distance of the prediction from the recorded return, as a share of it."""
        return abs(self.predicted_return - self.recorded_return) / abs(self.recorded_return)

    def text(self) -> str:
        """Return it for people."""
        t = self.timing
        return (
            f"fitted at {self.rate:.4g} plant s a wall s: observation {t.obs_delay_s:.3g} s, "
            f"action {t.act_delay_s:.3g} s, jitter {t.jitter_ratio:.2f}, "
            f"decision interval x{t.tick_ratio:.4f}\n"
            f"{self.steps} steps from plant time {self.first_time_s:.0f} s: recorded "
            f"{self.recorded_return:.2f}, predicted {self.predicted_return:.2f} "
            f"({100 * self.error:.2f} % off), synchronous {self.synchronous_return:.2f}"
        )


def read_recording(path: Path) -> Recording:
    """Read a recording.

    Raises:
        ConfigError: The file cannot be read, is no recording, or holds no closed loop.
    """
    found = Recording()
    sent: dict[tuple[str, int], float] = {}
    ends: list[tuple[float, float]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        for text in lines:
            _take(json.loads(text), found, sent, ends)
    except OSError as error:
        raise ConfigError([ConfigProblem("--from-recording", str(path), str(error))]) from error
    except (ValueError, KeyError, TypeError) as error:
        expected = "a file that `heron up --record` wrote"
        raise ConfigError([ConfigProblem("--from-recording", str(path), expected)]) from error
    if found.first_effect_s is None or len(found.clocks) < 2 or not ends:
        expected = "a run in which commands took effect"
        raise ConfigError([ConfigProblem("--from-recording", str(path), expected)])
    start = found.clocks[0][1]
    for (end_s, reward), before in zip(ends, [start, *(e for e, _ in ends)], strict=False):
        found.accounts.append((end_s, end_s - before, reward))
    return found


def _take(
    entry: dict[str, Any],
    found: Recording,
    sent: dict[tuple[str, int], float],
    ends: list[tuple[float, float]],
) -> None:
    at_s, agent, message = entry["at_s"], entry["agent"], entry["message"]
    match entry["topic"]:
        case "clock":
            found.lockstep = message["pace"] == LOCKSTEP
            if not found.clocks or message["time_s"] > found.clocks[-1][1]:
                found.clocks.append((at_s, message["time_s"]))
        case "account":
            ends.append((message["time_s"], message["reward"]))
        case "decision":
            found.decisions[agent].append(at_s)
        case "telemetry":
            found.telemetry[agent].append(at_s)
        case "command":
            sent[agent, message["sequence"]] = at_s
        case "result" if message["written"]:
            command_s = sent.pop((agent, message["sequence"]), None)
            if command_s is not None:
                found.responses_s.append(at_s - command_s)
                if found.first_effect_s is None:
                    found.first_effect_s = at_s


def rate_of(recording: Recording) -> float:
    """Return the plant seconds a wall second, by least squares; 0 in lock-step."""
    if recording.lockstep:
        return 0.0
    wall, plant = np.array(recording.clocks).T
    return float(np.polyfit(wall - wall[0], plant - plant[0], 1)[0])


def fit(recording: Recording, step_s: float) -> Timing:
    """Return the timing that the recording shows, in plant seconds.

    A timing has one jitter for intervals and delays alike. It is that of the decision
    intervals, because when a policy decides matters more than how its delays scatter.

    In lock-step the plant stands still while messages travel: nothing is late.
    """
    rate = rate_of(recording)
    if rate == 0.0:
        return Timing("recorded")
    ages = [_age(recording.telemetry, at_s) for d in recording.decisions.values() for at_s in d]
    intervals = np.concatenate([np.diff(times) for times in recording.decisions.values()])
    interval_s = float(np.median(intervals)) * rate if intervals.size else step_s
    responses = np.array(recording.responses_s)
    # A plant that moves in steps shows a reading that is half a step old on average.
    plant_step_s = float(np.median(np.diff([plant for _, plant in recording.clocks])))
    scatter = float(intervals.std() / intervals.mean()) if intervals.size > 1 else 0.0
    return Timing(
        "recorded",
        obs_delay_s=float(np.mean(ages)) * rate + plant_step_s / 2.0,
        act_delay_s=float(responses.mean()) * rate,
        jitter_ratio=min(1.0, scatter),
        tick_ratio=interval_s / step_s,
        device_tick_s=plant_step_s,
    )


def _age(telemetry: dict[str, list[float]], at_s: float) -> float:
    """Return the mean age, wall s, of the newest reports at a wall time."""
    newest = [max((t for t in times if t <= at_s), default=at_s) for times in telemetry.values()]
    return float(np.mean([at_s - t for t in newest])) if newest else 0.0


def predict(path: Path, setup_name: str, policy: str | None, seed: int = 0) -> Prediction:
    """Fit the timing of a recording and run the same time again under it.

    Args:
        path: The recording.
        setup_name: Setup that was run.
        policy: Policies that were run; None: those that ship.
        seed: Of the jitter.

    Raises:
        ConfigError: The recording cannot be used, or there is no such setup or policy.
    """
    recording = read_recording(path)
    setup = read_setup(setup_name)
    step_s = setup.config.step_s
    rate = rate_of(recording)
    timing = fit(recording, step_s)
    # The simulated run measures first and acts later, so it begins that much earlier; the
    # recorded devices were at rest then, too.
    delay_s = timing.obs_delay_s + timing.act_delay_s
    first_s = max(recording.clocks[0][1], _first_time_s(recording, rate) - delay_s)
    steps = int((recording.accounts[-1][0] - first_s) // step_s)
    if steps < 1:
        expected = "at least one whole control step of closed loop"
        raise ConfigError([ConfigProblem("--from-recording", str(path), expected)])
    policies, _ = policies_of(policy, setup)
    returns = []
    for options in ({"event_driven": True, "timing": timing}, {}):
        env = MultiAgentMicrogrids(setup, through_registers=True, **options)
        returns.append(_run(env, policies, first_s, steps, seed))
    recorded = _between(recording.accounts, first_s, first_s + steps * step_s)
    return Prediction(timing, rate, first_s, steps, recorded, *returns)


def _first_time_s(recording: Recording, rate: float) -> float:
    """Return the plant time at which the first command took effect."""
    assert recording.first_effect_s is not None
    before = [clock for clock in recording.clocks if clock[0] <= recording.first_effect_s]
    wall_s, plant_s = before[-1] if before else recording.clocks[0]
    return plant_s + rate * max(0.0, recording.first_effect_s - wall_s)


def _between(
    accounts: Sequence[tuple[float, float, float]], first_s: float, last_s: float
) -> float:
    """Return the reward between two plant times; steps that straddle them count in part."""
    total = 0.0
    for end_s, length_s, reward in accounts:
        if length_s > 0.0:
            inside = min(end_s, last_s) - max(end_s - length_s, first_s)
            total += reward * max(0.0, inside) / length_s
    return total


def _run(env: MultiAgentMicrogrids, policies: Any, start_s: float, steps: int, seed: int) -> float:
    """Return the reward of the whole over some control steps."""
    observations, _ = env.reset(seed=seed, options={"start_s": start_s})
    timed = env.event_mode is not None
    if timed:
        for agent_id, agent in env.agent_dict.items():
            agent.policy = ObservedPolicy(policies[agent_id], env.codecs[agent_id])
    total = 0.0
    for _ in range(steps):
        actions = {} if timed else {a: policies[a].act(observations[a]) for a in env.agent_dict}
        observations, *_ = env.step(actions)
        env.agents = list(env.possible_agents)
        assert env.accounts is not None
        total += env.accounts.reward
    return total
