"""When an episode ends, and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heron.errors import ConfigError, ConfigProblem


@dataclass(frozen=True)
class TerminationConfig:
    """When an episode ends.

    Attributes:
        max_steps: Truncated after so many steps; None: never.
        max_time_s: Truncated once so much plant time has passed since the start; None: never.
        terminal: By name, conditions under which the episode is over by its own nature.
    """

    max_steps: int | None = None
    max_time_s: float | None = None
    terminal: Mapping[str, Callable[[], bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = []
        if self.max_steps is not None and self.max_steps < 1:
            problems.append(ConfigProblem("max_steps", self.max_steps, "at least 1"))
        if self.max_time_s is not None and not self.max_time_s > 0:
            problems.append(ConfigProblem("max_time_s", self.max_time_s, "above 0 s"))
        if problems:
            raise ConfigError(problems)

    def check(self, n_steps: int, time_s: float = 0.0) -> Ending:
        """Say whether the episode is over.

        Args:
            n_steps: Steps taken.
            time_s: Plant time since its start.
        """
        for name, holds in self.terminal.items():
            if holds():
                return Ending(terminated=True, reason=name)
        if self.max_steps is not None and n_steps >= self.max_steps:
            return Ending(truncated=True, reason="max_steps")
        if self.max_time_s is not None and time_s >= self.max_time_s:
            return Ending(truncated=True, reason="max_time_s")
        return Ending()


@dataclass(frozen=True, slots=True)
class Ending:
    """Whether and why an episode is over; never both terminated and truncated.

    Attributes:
        terminated: It ended by its own nature.
        truncated: It was cut off.
        reason: The name of the condition, or the limit that was reached; "" while it goes on.
    """

    terminated: bool = False
    truncated: bool = False
    reason: str = ""

    @property
    def over(self) -> bool:
        """Whether it ended either way."""
        return self.terminated or self.truncated


class EpisodeStatistics:
    """Adds up an episode's rewards and whatever numbers its infos hold, per agent."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start an episode."""
        self.n_steps = 0
        self._rewards: dict[str, list[float]] = {}
        self._infos: dict[str, dict[str, list[float]]] = {}

    def record(
        self, rewards: Mapping[str, float], infos: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Take one step.

        Args:
            rewards: Per agent.
            infos: Per agent; entries that are numbers are kept, others not.
        """
        self.n_steps += 1
        for agent, reward in rewards.items():
            self._rewards.setdefault(agent, []).append(float(reward))
        for agent, info in (infos or {}).items():
            kept = self._infos.setdefault(agent, {})
            for name, value in info.items():
                if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
                    kept.setdefault(name, []).append(float(value))

    def total_reward(self, agent_id: str | None = None) -> float:
        """Return the sum of rewards of one agent, or of all."""
        chosen = self._rewards.values() if agent_id is None else [self._rewards.get(agent_id, [])]
        return sum(sum(rewards) for rewards in chosen)

    def summary(self) -> dict[str, Any]:
        """Return steps, total reward, and sum, mean, lowest and highest of each number."""
        agents = {
            agent: {
                "reward": _spread(rewards),
                **{name: _spread(v) for name, v in self._infos.get(agent, {}).items()},
            }
            for agent, rewards in self._rewards.items()
        }
        return {"n_steps": self.n_steps, "total_reward": self.total_reward(), "agents": agents}


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "sum": float(np.sum(values)),
        "mean": float(np.mean(values)),
        "min": float(np.min(values)),
        "max": float(np.max(values)),
    }
