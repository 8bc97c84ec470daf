"""What happens to a system from outside, and what is watched for: data, no behaviour."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from heron.core.streams import stream
from heron.errors import ConfigError, ConfigProblem


@dataclass(frozen=True, slots=True)
class Disturbance:
    """Something that happens at a known time: a custom event with a name.

    Attributes:
        time_s: Plant seconds.
        name: Names the handler.
        payload: What the handler needs, e.g. ``{"line": "L12"}``.
    """

    time_s: float
    name: str
    payload: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.time_s) or not self.name:
            raise ConfigError(
                [ConfigProblem("disturbance", (self.time_s, self.name), "a finite time and a name")]
            )


def poisson_disturbances(
    name: str,
    per_hour: float,
    *,
    start_s: float,
    end_s: float,
    seed: int | None = None,
    payload: Mapping[str, Any] | None = None,
) -> tuple[Disturbance, ...]:
    """Draw disturbances that come independently of each other at a mean rate.

    Args:
        name: Names the handler, and the random stream: two names under one seed are independent.
        per_hour: Mean number in an hour of plant time, at least 0.
        start_s: None before this plant time.
        end_s: None at or after this plant time.
        seed: Of the stream; the same seed gives the same times.
        payload: Given to each.

    Raises:
        ConfigError: A negative rate, or an end before the start.
    """
    problems = []
    if not (per_hour >= 0 and math.isfinite(per_hour)):
        problems.append(ConfigProblem("per_hour", per_hour, "a finite number, at least 0"))
    if not (math.isfinite(start_s) and start_s <= end_s < math.inf):
        problems.append(ConfigProblem("end_s", end_s, f"finite and at least start_s = {start_s}"))
    if problems:
        raise ConfigError(problems)
    rng = stream(seed, "disturbance", name)
    found = []
    time_s = start_s
    while per_hour > 0:
        time_s += rng.exponential(3600.0 / per_hour)
        if time_s >= end_s:
            break
        found.append(Disturbance(time_s, name, dict(payload or {})))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is watched for; it fires when it becomes true, not while it stays so.

    Attributes:
        name: Names the handler, if there is one.
        holds: Looked at whenever the plant has been advanced.
        wake: Agents that tick at once when it fires, beside their own ticks.
        cooldown_s: Plant seconds for which it stays silent after it fired.
    """

    name: str
    holds: Callable[[], bool]
    wake: tuple[str, ...] = ()
    cooldown_s: float = 0.0

    def __post_init__(self) -> None:
        if not self.cooldown_s >= 0:
            raise ConfigError(
                [ConfigProblem(f"condition {self.name}: cooldown_s", self.cooldown_s, "at least 0")]
            )


@dataclass(frozen=True, slots=True)
class Occurrence:
    """What did happen: a line of the environment's event log."""

    time_s: float
    name: str
    payload: Mapping[str, Any]
