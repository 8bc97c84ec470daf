"""What a recording of a deployed run says about time.

The recording of ``heron up --record FILE`` holds every message with the wall time at which it was
heard. A plant that runs in steps is as its registers show it from one step to the next, and a
set-point that is written during a step holds for the whole of it: what matters of an instant is the
step in which it lies. So every wall time is read as the plant time of the last step before it, and
delays are whole steps.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.quantities import Setpoint

LOCKSTEP = "lockstep"


@dataclass(frozen=True, slots=True)
class Write:
    """A set-point that was written to a device.

    Attributes:
        at_s: Wall time at which it was heard of.
        device_id: Where.
        sequence: Of the command that asked for it.
        setpoint: As the envelope let it pass.
    """

    at_s: float
    device_id: str
    sequence: int
    setpoint: Setpoint


@dataclass(frozen=True, slots=True)
class DecisionMade:
    """A coordinator's decision.

    Attributes:
        at_s: Wall time at which it was heard.
        time_s: Plant time of the signal that it was made on.
        heard_s: Wall time at which that signal was heard, here as at the coordinator.
    """

    at_s: float
    time_s: float
    heard_s: float


@dataclass
class Recording:
    """What matters of a recorded run.

    Attributes:
        clocks: (wall s, plant s) of each step of the plant.
        accounts: (plant s at the end, length s, reward) of each step of the plant.
        decisions: Each coordinator's, in order.
        telemetry: Wall times at which each device or meter reported.
        commands: (wall s, device, sequence), in order.
        writes: In order.
        lockstep: Whether the plant waited for the agents.
        protocol: By which the coordinators negotiated; empty where they did not.
        action_dims: How many numbers each coordinator decides, where it was told.
        hearsay_s: Wall seconds by which a write is heard of later than the plant's clock.
    """

    clocks: list[tuple[float, float]] = field(default_factory=list)
    accounts: list[tuple[float, float, float]] = field(default_factory=list)
    decisions: dict[str, list[DecisionMade]] = field(default_factory=lambda: defaultdict(list))
    telemetry: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    commands: list[tuple[float, str, int]] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    lockstep: bool = False
    protocol: str = ""
    action_dims: dict[str, int] = field(default_factory=dict)
    hearsay_s: float = 0.0

    def plant_time(self, at_s: float) -> float:
        """Return the plant time of the last step of the plant before a wall time."""
        at = bisect_right(self.clocks, at_s, key=lambda clock: clock[0])
        return self.clocks[max(0, at - 1)][1]

    def effect_time(self, write: Write) -> float:
        """Return the plant time from which a written set-point holds."""
        return self.plant_time(write.at_s - self.hearsay_s)

    @property
    def plant_step_s(self) -> float:
        """How far the plant usually moves in one step, plant s."""
        return float(np.median(np.diff([plant for _, plant in self.clocks])))

    def reward(self, first_s: float, last_s: float) -> float:
        """Return the reward between two plant times; steps that straddle them count in part."""
        total = 0.0
        for end_s, length_s, reward in self.accounts:
            if length_s > 0.0:
                inside = min(end_s, last_s) - max(end_s - length_s, first_s)
                total += reward * max(0.0, inside) / length_s
        return total


def read_recording(path: Path) -> Recording:
    """Read a recording.

    Raises:
        ConfigError: The file cannot be read, is no recording, or holds no closed loop.
    """
    found = Recording()
    signals: dict[tuple[str, float], float] = {}
    ends: list[tuple[float, float]] = []
    try:
        for text in path.read_text(encoding="utf-8").splitlines():
            _take(json.loads(text), found, signals, ends)
    except OSError as error:
        raise ConfigError([ConfigProblem("--from-recording", str(path), str(error))]) from error
    except (ValueError, KeyError, TypeError) as error:
        expected = "a file that `heron up --record` wrote"
        raise ConfigError([ConfigProblem("--from-recording", str(path), expected)]) from error
    if not found.writes or not found.decisions or len(found.clocks) < 2 or not ends:
        expected = "a run in which commands took effect"
        raise ConfigError([ConfigProblem("--from-recording", str(path), expected)])
    start = found.clocks[0][1]
    for (end_s, reward), before in zip(ends, [start, *(e for e, _ in ends)], strict=False):
        found.accounts.append((end_s, end_s - before, reward))
    return found


def _take(
    entry: dict[str, Any],
    found: Recording,
    signals: dict[tuple[str, float], float],
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
        case "signal":
            signals.setdefault((agent, message["time_s"]), at_s)
        case "decision":
            time_s = message["time_s"]
            heard_s, known = signals.get((agent, time_s), at_s), found.decisions[agent]
            # A coordinator whose edge repeats itself decides once more on the same signal.
            if not known or time_s > known[-1].time_s:
                known.append(DecisionMade(at_s, time_s, heard_s))
            if message.get("action"):
                found.action_dims[agent] = len(message["action"])
        case "market":
            found.protocol = message["protocol"]
        case "telemetry":
            found.telemetry[agent].append(at_s)
        case "command":
            found.commands.append((at_s, agent, message["sequence"]))
        case "result" if message["written"]:
            setpoint = Setpoint(
                message["applied_p_mw"], message["applied_q_mvar"], message.get("applied_tap")
            )
            found.writes.append(Write(at_s, agent, message["sequence"], setpoint))
