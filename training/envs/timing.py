"""How fast the agents of an environment are in event-driven time.

The policy decides once a control interval; everything around it takes time: a measurement until
it is seen, a decision until it is sent, a message until it arrives, a device until it has moved.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from heron.errors import ConfigError, ConfigProblem
from heron.scheduling import JitterType, TickConfig


@dataclass(frozen=True, slots=True)
class Timing:
    """Timing of a whole site, in plant seconds.

    Attributes:
        name: For tables.
        obs_delay_s: From a measurement to its being seen, at the coordinator.
        act_delay_s: From a set-point's arrival to its effect, at the device.
        msg_delay_s: Of a message, either way.
        jitter_ratio: Standard deviation (Gaussian) or half width (uniform) of every interval
            and delay, over its nominal value.
        jitter_type: Distribution of the scatter.
        tick_ratio: The coordinator's decision interval over the control interval that its
            policy was trained with.
        device_tick_s: How often a device reports; None: once a control interval.
        report_delay_s: Of a report of a device or of a coordinator's meter; None: ``msg_delay_s``.
        intervals_s: Decision intervals that were measured, in their order, by coordinator; those
            that are not named have ``tick_ratio``.
        act_delays_s: Action delays that were measured, in their order, by device; those that are
            not named have ``act_delay_s``.
    """

    name: str = "training"
    obs_delay_s: float = 0.0
    act_delay_s: float = 0.0
    msg_delay_s: float = 0.0
    jitter_ratio: float = 0.0
    jitter_type: JitterType = JitterType.GAUSSIAN
    tick_ratio: float = 1.0
    device_tick_s: float | None = None
    report_delay_s: float | None = None
    intervals_s: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    act_delays_s: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise ConfigError(problems)
        if not 0.0 < self.tick_ratio <= 100.0:
            raise ConfigError(
                [ConfigProblem("timing.tick_ratio", self.tick_ratio, "above 0, at most 100")]
            )
        for name in ("", *self.intervals_s):
            self.coordinator(1.0, 0, name)
        for name in ("", *self.act_delays_s):
            self.device(1.0, 0, name)

    def _problems(self) -> Iterator[ConfigProblem]:
        """Yield every value of the wrong kind."""
        for name in _NUMBERS:
            value = getattr(self, name)
            if not (_is_number(value) or (value is None and name in _OPTIONAL)):
                yield ConfigProblem(f"timing.{name}", value, "a finite number, at least 0")
        for name in _MEASURED:
            by_agent = getattr(self, name)
            if not isinstance(by_agent, Mapping):
                yield ConfigProblem(f"timing.{name}", by_agent, "numbers by agent")
                continue
            for agent, values in by_agent.items():
                listed = isinstance(values, tuple | list) and len(values) > 0
                if not (listed and all(map(_is_number, values))):
                    expected = "a list of finite numbers, at least 0"
                    yield ConfigProblem(f"timing.{name}[{agent}]", values, expected)

    def refuse_strangers(self, agents: Iterable[str]) -> None:
        """Refuse measured times of agents that there are not.

        Raises:
            ConfigError: With each of them.
        """
        known = set(agents)
        problems = [
            ConfigProblem(f"timing.{name}", agent, f"one of {', '.join(sorted(known))}")
            for name in _MEASURED
            for agent in getattr(self, name)
            if agent not in known
        ]
        if problems:
            raise ConfigError(problems)

    @property
    def ideal(self) -> bool:
        """Whether nothing is late and nothing scatters, so that it is the synchronous step."""
        delays = (self.obs_delay_s, self.act_delay_s, self.msg_delay_s, self.age_s)
        late = any(delays) or any(map(any, self.act_delays_s.values()))
        irregular = self.jitter_ratio or self.intervals_s or self.tick_ratio != 1.0
        return not late and not irregular

    @property
    def age_s(self) -> float:
        """How long a report takes to the coordinator."""
        return self.msg_delay_s if self.report_delay_s is None else self.report_delay_s

    def coordinator(self, step_s: float, seed: int, name: str = "") -> TickConfig:
        """Return the timing of a coordinator whose policy was trained with ``step_s``."""
        config = self._config(
            step_s * self.tick_ratio, seed, obs_delay=self.obs_delay_s, msg_delay=self.msg_delay_s
        )
        return replace(config, measured=_measured("tick_interval", self.intervals_s, name))

    def device(self, step_s: float, seed: int, name: str = "") -> TickConfig:
        """Return the timing of a device agent."""
        tick = step_s if self.device_tick_s is None else self.device_tick_s
        config = self._config(tick, seed, act_delay=self.act_delay_s, msg_delay=self.age_s)
        return replace(config, measured=_measured("act_delay", self.act_delays_s, name))

    def _config(
        self,
        tick_s: float,
        seed: int,
        *,
        obs_delay: float = 0.0,
        act_delay: float = 0.0,
        msg_delay: float = 0.0,
    ) -> TickConfig:
        return TickConfig(
            tick_s,
            obs_delay,
            act_delay,
            msg_delay,
            jitter_type=self.jitter_type,
            jitter_ratio=self.jitter_ratio,
            seed=seed,
        )


_NUMBERS = (
    "obs_delay_s",
    "act_delay_s",
    "msg_delay_s",
    "jitter_ratio",
    "tick_ratio",
    "device_tick_s",
    "report_delay_s",
)
_OPTIONAL = ("device_tick_s", "report_delay_s")
_MEASURED = ("intervals_s", "act_delays_s")


def _is_number(value: object) -> bool:
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return real and 0.0 <= float(value) < math.inf  # type: ignore[arg-type]


def _measured(
    what: str, by_agent: Mapping[str, tuple[float, ...]], name: str
) -> dict[str, tuple[float, ...]]:
    return {what: by_agent[name]} if name in by_agent else {}


PRESETS: Mapping[str, Timing] = {
    "training": Timing("training"),
    "testing": Timing("testing", 0.1, 0.2, 0.05, jitter_ratio=0.2, device_tick_s=30.0),
    "scada": Timing("scada", 2.0, 1.5, 0.5, jitter_ratio=0.4, device_tick_s=60.0),
}
"""The guide's three: nothing late; a local network; SCADA with polls a minute apart.

On a local network devices report each second; here each half minute, because a report is a
measurement and so a power flow. ``device_tick_s`` sets it."""


def timing_of(value: str | Mapping[str, Any] | Timing | None, jitter: float | None) -> Timing:
    """Return a timing from what an environment's configuration says.

    Args:
        value: Name of a preset, a mapping of `Timing`'s attributes, or one; None: ``training``.
        jitter: Replaces ``jitter_ratio``.

    Raises:
        ConfigError: The preset or a key is unknown, or a value is out of range.
    """
    if isinstance(value, Timing):
        timing = value
    elif isinstance(value, Mapping):
        unknown = sorted(set(value) - set(Timing.__dataclass_fields__))
        if unknown:
            known = ", ".join(Timing.__dataclass_fields__)
            raise ConfigError([ConfigProblem(f"timing.{k}", value[k], known) for k in unknown])
        timing = Timing(**value)
    else:
        name = "training" if value is None else value
        if name not in PRESETS:
            expected = f"one of {', '.join(PRESETS)}"
            raise ConfigError([ConfigProblem("timing", name, expected)])
        timing = PRESETS[name]
    return timing if jitter is None else replace(timing, jitter_ratio=jitter)
