"""When an agent acts: its tick, its delays and how they scatter."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np

from heron.core.streams import stream
from heron.errors import ConfigError, ConfigProblem

FIELD_TICK_S = 1.0
COORDINATOR_TICK_S = 60.0
SYSTEM_TICK_S = 300.0

_SHORTEST_TICK_RATIO = 0.01
_BLOCK = 128
_MEASURABLE = ("tick_interval", "obs_delay", "act_delay", "msg_delay")


class JitterType(StrEnum):
    """How intervals and delays scatter around their nominal value."""

    NONE = "none"
    UNIFORM = "uniform"
    GAUSSIAN = "gaussian"


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)


@dataclass(slots=True)
class TickConfig:
    """Timing of one agent; all times in plant seconds.

    Attributes:
        tick_interval: Between two ticks.
        obs_delay: From the measurement to the agent's seeing it.
        act_delay: From the decision to its effect (a coordinator's effect is to send).
        msg_delay: From sending a message to its delivery.
        jitter_type: Distribution of the scatter.
        jitter_ratio: Half width (uniform) or standard deviation (Gaussian) over the nominal
            value, 0 to 1.
        min_delay: No jittered delay or interval is shorter; a nominal delay of zero stays zero.
        rng: Where jitter is drawn from. Agents never share it: each takes its own stream with
            `for_agent`.
        seed: Seed of those streams.
        measured: Intervals or delays that were measured, in seconds, by the name of the attribute
            (``tick_interval``, ``obs_delay``, ``act_delay``, ``msg_delay``). They come in their
            order, and from the start again after the last, instead of what is nominal.
    """

    tick_interval: float = FIELD_TICK_S
    obs_delay: float = 0.0
    act_delay: float = 0.0
    msg_delay: float = 0.0
    jitter_type: JitterType = JitterType.NONE
    jitter_ratio: float = 0.0
    min_delay: float = 0.0
    rng: np.random.Generator | None = dataclasses.field(default=None, repr=False, compare=False)
    seed: int | None = None
    measured: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    _position: dict[str, int] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _drawn: list[float] = dataclasses.field(
        default_factory=list, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        problems = [
            ConfigProblem(f"TickConfig.{name}", value, "a finite number of seconds, at least 0")
            for name in ("obs_delay", "act_delay", "msg_delay", "min_delay")
            if not (_is_finite(value := getattr(self, name)) and value >= 0)
        ]
        if not (_is_finite(self.tick_interval) and self.tick_interval > 0):
            problems.append(
                ConfigProblem("TickConfig.tick_interval", self.tick_interval, "above 0 s")
            )
        if not (_is_finite(self.jitter_ratio) and 0 <= self.jitter_ratio <= 1):
            problems.append(ConfigProblem("TickConfig.jitter_ratio", self.jitter_ratio, "0 to 1"))
        for name, values in self.measured.items():
            where, least = f"TickConfig.measured.{name}", 0.0
            if name not in _MEASURABLE:
                problems.append(ConfigProblem(where, values, f"one of {', '.join(_MEASURABLE)}"))
            if name == "tick_interval":
                least = math.ulp(0.0)
            if not values or not all(math.isfinite(x) and x >= least for x in values):
                expected = f"finite seconds, {'above' if least else 'at least'} 0, one or more"
                problems.append(ConfigProblem(where, values, expected))
        if self.jitter_type not in tuple(JitterType):
            problems.append(
                ConfigProblem(
                    "TickConfig.jitter_type", self.jitter_type, f"one of {', '.join(JitterType)}"
                )
            )
        if problems:
            raise ConfigError(problems)
        self.jitter_type = JitterType(self.jitter_type)
        if self.rng is None and self.jittered:
            self.rng = stream(self.seed, "jitter")

    @classmethod
    def deterministic(
        cls,
        tick_interval: float = FIELD_TICK_S,
        obs_delay: float = 0.0,
        act_delay: float = 0.0,
        msg_delay: float = 0.0,
    ) -> Self:
        """Return timing without jitter."""
        return cls(tick_interval, obs_delay, act_delay, msg_delay)

    @classmethod
    def with_jitter(  # noqa: PLR0917 - the order of the fields
        cls,
        tick_interval: float = FIELD_TICK_S,
        obs_delay: float = 0.0,
        act_delay: float = 0.0,
        msg_delay: float = 0.0,
        jitter_type: JitterType = JitterType.GAUSSIAN,
        jitter_ratio: float = 0.1,
        min_delay: float = 0.0,
        seed: int | None = None,
    ) -> Self:
        """Return timing that scatters by ``jitter_ratio``."""
        return cls(
            tick_interval,
            obs_delay,
            act_delay,
            msg_delay,
            jitter_type,
            jitter_ratio,
            min_delay,
            seed=seed,
        )

    @property
    def jittered(self) -> bool:
        """Tell whether anything scatters."""
        return self.jitter_type is not JitterType.NONE and self.jitter_ratio > 0

    def for_agent(self, agent_id: str, seed: int | None = None) -> Self:
        """Return a copy that draws from the agent's own stream.

        Args:
            agent_id: Names the stream, so that agents which were given one TickConfig, or one
                seed, still scatter independently.
            seed: Replaces the configured seed.
        """
        seed = self.seed if seed is None else seed
        if seed is None and self.rng is not None:
            rng: np.random.Generator | None = self.rng.spawn(1)[0]
        else:
            rng = stream(seed, "jitter", agent_id) if self.jittered else None
        return dataclasses.replace(self, rng=rng, seed=seed)

    def next_tick_interval(self) -> float:
        """Draw the next interval; never below 1 % of the nominal one."""
        interval = self.tick_interval
        if self.measured and "tick_interval" in self.measured:
            return self._next_measured("tick_interval")
        if self.rng is None:
            return interval
        return max(self._scatter(interval), _SHORTEST_TICK_RATIO * interval)

    def next_obs_delay(self) -> float:
        """Draw the next observation delay."""
        if self.measured and "obs_delay" in self.measured:
            return self._next_measured("obs_delay")
        return self.obs_delay if self.rng is None else self._scatter(self.obs_delay)

    def next_act_delay(self) -> float:
        """Draw the next action delay."""
        if self.measured and "act_delay" in self.measured:
            return self._next_measured("act_delay")
        return self.act_delay if self.rng is None else self._scatter(self.act_delay)

    def next_msg_delay(self) -> float:
        """Draw the next message delay."""
        if self.measured and "msg_delay" in self.measured:
            return self._next_measured("msg_delay")
        return self.msg_delay if self.rng is None else self._scatter(self.msg_delay)

    def _next_measured(self, name: str) -> float:
        values, at = self.measured[name], self._position.get(name, 0)
        self._position[name] = (at + 1) % len(values)
        return values[at]

    def _scatter(self, nominal: float) -> float:
        rng = self.rng
        if nominal == 0.0 or rng is None or self.jitter_type is JitterType.NONE:
            return nominal
        # drawn in blocks: one number at a time costs ten times as much
        if not self._drawn:
            uniform = self.jitter_type is JitterType.UNIFORM
            block = rng.uniform(-1.0, 1.0, _BLOCK) if uniform else rng.standard_normal(_BLOCK)
            self._drawn = (1.0 + self.jitter_ratio * block).tolist()
        return max(nominal * self._drawn.pop(), self.min_delay, 0.0)
