"""Fits the timing of a deployed run from its recording, and predicts what the run got.

The timing has three parts: when the coordinators decide, how old the reports are on which they do,
and when each device does what was decided. The same hours are then run again in event-driven time
under that timing, from the state that the recorded set-points had led to.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.agents import DeviceAgent
from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups import Setup, SetupConfig, read_setup
from training.envs import MultiAgentMicrogrids
from training.envs.event_mode import ActingPolicy, ObservedPolicy
from training.envs.timing import Timing
from training.evaluation.sources import policies_of
from training.gap.recording import Recording, read_recording


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
            f"action {t.act_delay_s:.3g} s, jitter {t.jitter_ratio:.2f}, "
            f"decision interval x{t.tick_ratio:.4f}\n"
            f"{self.steps} steps from plant time {self.first_time_s:.0f} s: recorded "
            f"{self.recorded_return:.2f}, predicted {self.predicted_return:.2f} "
            f"({100 * self.error:.2f} % off), synchronous {self.synchronous_return:.2f} "
            f"({100 * self.synchronous_error:.2f} % off)"
        )


def rate_of(recording: Recording) -> float:
    """Return the plant seconds a wall second, by least squares; 0 in lock-step."""
    if recording.lockstep:
        return 0.0
    wall, plant = np.array(recording.clocks).T
    return float(np.polyfit(wall - wall[0], plant - plant[0], 1)[0])


def fit(recording: Recording, config: SetupConfig) -> Timing:
    """Return the timing that the recording shows, in plant seconds.

    In lock-step the plant stands still while messages travel: nothing is late.
    """
    if recording.lockstep:
        return Timing("recorded")
    intervals = np.concatenate(
        [np.diff([made.time_s for made in each]) for each in recording.decisions.values()]
    )
    interval_s = float(np.median(intervals)) if intervals.size else config.step_s
    scatter = float(intervals.std() / intervals.mean()) if intervals.size > 1 else 0.0
    delays = action_delays(recording, config)
    together = np.array([delay for each in delays.values() for delay in each])
    own = np.array([delay - np.mean(each) for each in delays.values() for delay in each])
    step_s = recording.plant_step_s
    mean_s = float(together.mean()) if together.size else 0.0
    return Timing(
        "recorded",
        act_delay_s=mean_s,
        jitter_ratio=min(1.0, float(own.std()) / mean_s) if mean_s else 0.0,
        tick_jitter_ratio=min(1.0, scatter),
        tick_ratio=interval_s / config.step_s,
        device_tick_s=step_s,
        # Reports are made once a step and seen at the step after the delay: half a step rounds.
        report_delay_s=max(0.0, report_age(recording, config) - step_s / 2.0),
        act_delays_s={device: float(np.mean(each)) for device, each in delays.items()},
    )


def report_age(recording: Recording, config: SetupConfig) -> float:
    """Return how old, in plant seconds, what coordinators decided on was on average."""
    ages = []
    for microgrid in config.microgrid_configs:
        sources = (microgrid.name, *(device.name for device in microgrid.devices))
        for made in recording.decisions.get(microgrid.name, ()):
            for source in sources:
                heard = recording.telemetry.get(source, [])
                at = bisect_right(heard, made.heard_s)
                if at:
                    ages.append(made.time_s - recording.plant_time(heard[at - 1]))
    return float(np.mean(ages)) if ages else 0.0


def action_delays(recording: Recording, config: SetupConfig) -> dict[str, list[float]]:
    """Return, by device, the plant seconds from each decision to its effect.

    A command belongs to the next decision that its coordinator tells of. It takes effect with the
    step of the plant in which it is first written, from the beginning of that step.
    """
    coordinator = {d.name: m.name for m in config.microgrid_configs for d in m.devices}
    written: dict[tuple[str, int], float] = {}
    for write in recording.writes:
        written.setdefault((write.device_id, write.sequence), write.at_s)
    told = {name: [made.at_s for made in each] for name, each in recording.decisions.items()}
    delays: dict[str, list[float]] = defaultdict(list)
    for at_s, device, sequence in recording.commands:
        name = coordinator.get(device, "")
        at = bisect_left(told.get(name, []), at_s)
        effect_s = written.get((device, sequence))
        if effect_s is not None and at < len(told.get(name, [])):
            decided_s = recording.decisions[name][at].time_s
            delays[device].append(max(0.0, recording.plant_time(effect_s) - decided_s))
    # The first came while the loop was closing.
    return {device: each[1:] for device, each in delays.items() if len(each) > 1}


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
    timing = fit(recording, setup.config)
    first_s = _first_time_s(recording)
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


def _first_time_s(recording: Recording) -> float:
    """Return the plant time from which on every coordinator decides regularly."""
    if recording.lockstep:
        return recording.clocks[0][1]
    return max(made[min(1, len(made) - 1)].time_s for made in recording.decisions.values())


def _warmed_up(
    recording: Recording, setup: Setup, first_s: float, options: Mapping[str, object]
) -> MultiAgentMicrogrids:
    """Return an environment that has come to a plant time with the recorded set-points."""
    env = MultiAgentMicrogrids(setup, through_registers=True, **options)
    env.reset(seed=0, options={"start_s": recording.clocks[0][1]})
    writes, position = recording.writes, 0
    for (_, start_s), (wall_s, end_s) in zip(recording.clocks, recording.clocks[1:], strict=False):
        if end_s > first_s:
            break
        held: dict[str, Setpoint] = {}
        while position < len(writes) and writes[position].at_s < wall_s:
            held[writes[position].device_id] = writes[position].setpoint
            position += 1
        env.advance(held, end_s - start_s)
        for device_id, setpoint in held.items():
            device = env.get_heron_agent(device_id)
            if isinstance(device, DeviceAgent):
                device.setpoint = setpoint
    return env


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
            actions = {a: policies[a].act(obs) for a, obs in env.observations().items()}
        env.step(actions)
        env.agents = list(env.possible_agents)
        assert env.accounts is not None
        total += env.accounts.reward
    return total
