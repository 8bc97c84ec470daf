"""Fits the timing of a deployed run from its recording, and predicts what the run got.

The timing has three parts: when the coordinators decide, how old the reports are on which they do,
and when each device does what was decided. The same hours are then run again in event-driven time
under that timing, from the state that the recorded set-points had led to.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from heron.errors import ConfigError, ConfigProblem
from heron.policy.together import decide
from heron.powergrid.agents import DeviceAgent
from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups import Setup, SetupConfig, as_setup
from training.envs import MultiAgentMicrogrids
from training.envs.event_mode import ActingPolicy, ObservedPolicy
from training.envs.timing import Timing
from training.evaluation.sources import policies_of
from training.gap.recording import Recording, read_recording

HEARSAY_S = (0.0, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.08)
"""Lags that are tried; see `hearsay`."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was measured, what the fitted timing predicts, and how far apart they are.

    Attributes:
        timing: Fitted, in plant seconds.
        rate: Plant seconds a wall second; 0 in lock-step, where the plant waits.
        first_time_s: Plant time from which returns are compared: every coordinator's second
            decision, before which the loop was closing.
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

    @property
    def synchronous_error(self) -> float:
        """The same of the synchronous step."""
        return abs(self.synchronous_return - self.recorded_return) / abs(self.recorded_return)

    def text(self) -> str:
        """Return it for people."""
        t = self.timing
        return (
            f"fitted at {self.rate:.4g} plant s a wall s: observation {t.age_s:.3g} s, "
            f"action {t.act_delay_s:.3g} s ({_spread(t):.3g} s standard deviation), "
            f"decision interval x{t.tick_ratio:.4f}\n"
            f"{self.steps} steps from plant time {self.first_time_s:.0f} s: recorded "
            f"{self.recorded_return:.2f}, predicted {self.predicted_return:.2f} "
            f"({100 * self.error:.2f} % off), synchronous {self.synchronous_return:.2f} "
            f"({100 * self.synchronous_error:.2f} % off)"
        )


def _spread(timing: Timing) -> float:
    """Return the standard deviation of all measured action delays."""
    delays = [delay for each in timing.act_delays_s.values() for delay in each]
    return float(np.std(delays)) if delays else 0.0


def rate_of(recording: Recording) -> float:
    """Return the plant seconds a wall second, by least squares; 0 in lock-step."""
    if recording.lockstep:
        return 0.0
    wall, plant = np.array(recording.clocks).T
    return float(np.polyfit(wall - wall[0], plant - plant[0], 1)[0])


def fit(recording: Recording, config: SetupConfig, first_s: float) -> Timing:
    """Return the timing that the recording shows, in plant seconds.

    In lock-step the plant stands still while messages travel: nothing is late.

    Args:
        recording: Of the run.
        config: Of the setup that ran.
        first_s: Plant time of the first decision that counts.
    """
    if recording.lockstep:
        return Timing("recorded")
    decided = {
        name: [at_s for made in each if (at_s := recording.plant_time(made.heard_s)) >= first_s]
        for name, each in recording.decisions.items()
    }
    intervals = {name: tuple(np.diff(each).tolist()) for name, each in decided.items()}
    intervals = {name: each for name, each in intervals.items() if each and min(each) > 0.0}
    delays = action_delays(recording, config, first_s)
    step_s = recording.plant_step_s
    return Timing(
        "recorded",
        act_delay_s=_mean([delay for each in delays.values() for delay in each], 0.0),
        act_delays_s=delays,
        tick_ratio=_mean([s for each in intervals.values() for s in each], config.step_s)
        / config.step_s,
        intervals_s=intervals,
        device_tick_s=step_s,
        # Reports are made once a step and seen at the step after the delay: half a step rounds.
        report_delay_s=max(0.0, report_age(recording, config) - step_s / 2.0),
    )


def report_age(recording: Recording, config: SetupConfig) -> float:
    """Return how old, in plant seconds, what coordinators decided on was on average."""
    ages = []
    for microgrid in config.microgrid_configs:
        sources = (microgrid.name, *(device.name for device in microgrid.devices))
        for made in recording.decisions.get(microgrid.name, ()):
            decided_s = recording.plant_time(made.heard_s)
            for source in sources:
                heard = recording.telemetry.get(source, [])
                at = bisect_right(heard, made.heard_s)
                if at:
                    ages.append(decided_s - recording.plant_time(heard[at - 1]))
    return _mean(ages, 0.0)


def action_delays(
    recording: Recording, config: SetupConfig, first_s: float
) -> dict[str, tuple[float, ...]]:
    """Return, by device, the plant seconds from each decision to its effect.

    A command belongs to the next decision that its coordinator tells of. It takes effect with the
    step of the plant in which it is first written, from the beginning of that step; one that was
    overtaken before it was written, with the one that overtook it.
    """
    coordinator = {d.name: m.name for m in config.microgrid_configs for d in m.devices}
    written: dict[tuple[str, int], float] = {}
    for write in recording.writes:
        written.setdefault((write.device_id, write.sequence), recording.effect_time(write))
    told = {name: [made.at_s for made in each] for name, each in recording.decisions.items()}
    effect: dict[str, float] = {}
    delays: dict[str, list[float]] = defaultdict(list)
    for at_s, device, sequence in reversed(recording.commands):
        name = coordinator.get(device, "")
        at = bisect_left(told.get(name, []), at_s)
        effect_s = written.get((device, sequence))
        if effect_s is not None:
            effect[device] = effect_s
        if device not in effect or at >= len(told.get(name, [])):
            continue
        decided_s = recording.plant_time(recording.decisions[name][at].heard_s)
        if decided_s >= first_s:
            delays[device].append(max(0.0, effect[device] - decided_s))
    return {device: tuple(reversed(each)) for device, each in delays.items()}


def _mean(values: Sequence[float], default: float) -> float:
    return float(np.mean(values)) if values else default


def predict(path: Path, setup: Setup | str, policy: str | None, seed: int = 0) -> Prediction:
    """Fit the timing of a recording and run the same time again under it.

    Args:
        path: The recording.
        setup: What was run, or its name or path.
        policy: Policies that were run; None: those that ship.
        seed: Of the jitter.

    Raises:
        ConfigError: The recording cannot be used or is of another site, or there is no such setup
            or policy.
    """
    recording = read_recording(path)
    setup = as_setup(setup)
    require_same_site(recording, setup, path)
    step_s = setup.config.step_s
    if not recording.lockstep:
        recording.hearsay_s = hearsay(recording, setup)
    first_s = _first_time_s(recording)
    timing = fit(recording, setup.config, first_s)
    steps = int((recording.accounts[-1][0] - first_s) // step_s)
    if steps < 1:
        expected = "at least one whole control step of closed loop"
        raise ConfigError([ConfigProblem("--from-recording", str(path), expected)])
    policies, _ = policies_of(policy, setup)
    returns = [
        _run(_warmed_up(recording, setup, first_s, options), policies, first_s, steps, seed)
        for options in ({"event_driven": True, "timing": timing}, {})
    ]
    recorded = recording.reward(first_s, first_s + steps * step_s)
    return Prediction(timing, rate_of(recording), first_s, steps, recorded, *returns)


def require_same_site(recording: Recording, setup: Setup, path: Path) -> None:
    """Refuse a setup that is not the one of a recording, as far as a recording tells.

    Args:
        recording: Of the run.
        setup: What is said to have run.
        path: The recording, for the message.

    Raises:
        ConfigError: Other coordinators decided, devices were commanded that the setup has not, or
            the coordinators decided something else than under the setup's protocol.
    """
    env = MultiAgentMicrogrids(setup)
    scheme, numbers = env.scheme, {name: codec.act_dim for name, codec in env.codecs.items()}
    name, devices = setup.config.name, setup.config.device_ids
    decided, written = set(recording.decisions), {write.device_id for write in recording.writes}
    if decided != set(numbers):
        _refuse_other("coordinators", path, decided, name, numbers)
    if not written <= set(devices):
        _refuse_other("devices", path, written, name, devices)
    if recording.protocol != (scheme.name if scheme.negotiates else ""):
        recorded = recording.protocol or "no market"
        _refuse_other("protocol", path, [recorded], name, [scheme.name])
    if any(numbers[agent] != found for agent, found in recording.action_dims.items()):
        recorded_words, words = (_words(each) for each in (recording.action_dims, numbers))
        _refuse_other("numbers decided", path, recorded_words, f"{name}, {scheme.name}", words)


def _words(numbers: Mapping[str, int]) -> list[str]:
    return [f"{agent} {number}" for agent, number in numbers.items()]


def _refuse_other(
    what: str, path: Path, recorded: Iterable[str], setup: str, own: Iterable[str]
) -> NoReturn:
    expected = f"a recording of the setup's {what} ({setup}: {', '.join(sorted(own))})"
    where = f"--from-recording: {path}: {what}"
    raise ConfigError([ConfigProblem(where, ", ".join(sorted(recorded)), expected)])


def _first_time_s(recording: Recording) -> float:
    """Return the plant time from which on every coordinator decides regularly."""
    if recording.lockstep:
        return recording.clocks[0][1]
    second = (made[min(1, len(made) - 1)] for made in recording.decisions.values())
    return max(recording.plant_time(made.heard_s) for made in second)


def hearsay(recording: Recording, setup: Setup) -> float:
    """Return by how many wall seconds writes are heard of later than the plant's clock.

    A write is told of when it has been read back, and the plant's next step may have come before
    that. With the right lag the recorded set-points, given to the plant again, lead to the recorded
    accounts.
    """

    def distance(lag_s: float) -> float:
        recording.hearsay_s = lag_s
        rewards = _replay(MultiAgentMicrogrids(setup, through_registers=True), recording)
        recorded = (reward for _, _, reward in recording.accounts)
        return sum(abs(a - b) for a, b in zip(rewards, recorded, strict=False))

    return min(HEARSAY_S, key=distance)


def _warmed_up(
    recording: Recording, setup: Setup, first_s: float, options: Mapping[str, Any]
) -> MultiAgentMicrogrids:
    """Return an environment that has come to a plant time with the recorded set-points."""
    env = MultiAgentMicrogrids(setup, through_registers=True, **options)
    _replay(env, recording, first_s)
    return env


def _replay(
    env: MultiAgentMicrogrids, recording: Recording, until_s: float = math.inf
) -> list[float]:
    """Let the plant run with the recorded set-points; return the reward of each step."""
    env.reset(seed=0, options={"start_s": recording.clocks[0][1]})
    rewards: list[float] = []
    by_step: dict[float, dict[str, Setpoint]] = defaultdict(dict)
    for write in recording.writes:
        by_step[recording.effect_time(write)][write.device_id] = write.setpoint
    for (_, start_s), (_, end_s) in pairwise(recording.clocks):
        if end_s > until_s:
            break
        held = by_step.get(start_s, {})
        rewards.append(env.advance(held, end_s - start_s).reward)
        for device_id, setpoint in held.items():
            device = env.get_heron_agent(device_id)
            if isinstance(device, DeviceAgent):
                device.hold(setpoint)
    return rewards


def _run(
    env: MultiAgentMicrogrids,
    policies: Mapping[str, ActingPolicy],
    first_s: float,
    steps: int,
    seed: int,
) -> float:
    """Return the reward of the whole over some control steps, from where the environment is."""
    mode = env.event_mode
    if mode is not None:
        env.refresh()
        mode.start(first_s, seed)
        for agent_id, agent in env.agent_dict.items():
            agent.policy = ObservedPolicy(policies[agent_id], env.codecs[agent_id])
    total = 0.0
    for _ in range(steps):
        actions = {}
        if mode is None:
            actions = decide(policies, env.observations())
        env.step(actions)
        env.agents = list(env.possible_agents)
        assert env.accounts is not None
        total += env.accounts.reward
    return total
