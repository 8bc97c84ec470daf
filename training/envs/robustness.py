"""What is drawn anew for each episode so that a policy does not rely on one exact world.

Delays and jitter are drawn as a `Timing`, which gives the `TickConfig` that the event-driven mode
uses; losses of messages, wrong sensors, other loads and other lines come beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from heron.errors import ConfigError, ConfigProblem
from training.envs.timing import Timing

Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
_RANGES = ("obs_delay_s", "act_delay_s", "msg_delay_s", "jitter_ratio", "dropout")


class Robustness(BaseModel):
    """What an episode draws; all zero draws nothing.

    Attributes:
        obs_delay_s: Least and greatest delay of a measurement until it is seen, plant seconds.
        act_delay_s: Of a set-point until it takes effect.
        msg_delay_s: Of a message, either way.
        jitter_ratio: Of every delay, as a share of it.
        dropout: Probability that what a coordinator is to see, or what it says, is lost in a
            step; the last that arrived then stands.
        sensor_bias_pu: Standard deviation of an offset of the voltages of a sensor.
        sensor_gain: Standard deviation of a gain of the powers of a sensor.
        soc_bias: Standard deviation of an offset of a state of charge.
        profile_spread: Standard deviation of the logarithm of a factor on each load, sun and
            wind series.
        line_spread: Standard deviation of the logarithm of a factor on each line's impedance.
        networks: Networks that are drawn with ``line_spread``; an episode has one of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    obs_delay_s: Range = (0.0, 0.0)
    act_delay_s: Range = (0.0, 0.0)
    msg_delay_s: Range = (0.0, 0.0)
    jitter_ratio: Range = (0.0, 0.0)
    dropout: Range = (0.0, 0.0)
    sensor_bias_pu: float = Field(0.0, ge=0, le=0.1)
    sensor_gain: float = Field(0.0, ge=0, le=0.5)
    soc_bias: float = Field(0.0, ge=0, le=0.5)
    profile_spread: float = Field(0.0, ge=0, le=1)
    line_spread: float = Field(0.0, ge=0, le=1)
    networks: int = Field(4, ge=1, le=64)

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        for name in _RANGES:
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = ({low:g}, {high:g}): expected the least first")
        if self.dropout[1] > 0.9 or self.jitter_ratio[1] > 1.0:
            raise ValueError("dropout: at most 0.9; jitter_ratio: at most 1")
        return self

    @property
    def late(self) -> bool:
        """Whether anything can be late or lost."""
        return any(getattr(self, name)[1] > 0.0 for name in _RANGES if name != "jitter_ratio")

    @property
    def wrong(self) -> bool:
        """Whether sensors can be wrong."""
        return self.sensor_bias_pu > 0.0 or self.sensor_gain > 0.0 or self.soc_bias > 0.0

    def timing(self, rng: np.random.Generator) -> Timing:
        """Draw the delays of one episode."""
        obs, act, msg, jitter = (rng.uniform(*getattr(self, name)) for name in _RANGES[:4])
        return Timing("drawn", obs, act, msg, jitter_ratio=jitter)


ROBUSTNESS: Mapping[str, Robustness] = {
    "scada": Robustness(
        obs_delay_s=(0.0, 4.0),
        act_delay_s=(0.0, 3.0),
        msg_delay_s=(0.0, 1.0),
        jitter_ratio=(0.0, 0.5),
    ),
    "field": Robustness(
        obs_delay_s=(0.0, 900.0),
        act_delay_s=(0.0, 300.0),
        msg_delay_s=(0.0, 60.0),
        jitter_ratio=(0.0, 0.5),
        dropout=(0.0, 0.2),
        sensor_bias_pu=0.003,
        sensor_gain=0.02,
        soc_bias=0.02,
        profile_spread=0.1,
        line_spread=0.1,
    ),
}
"""Named draws: about the ``scada`` timing preset; and a field in which much is off at once."""


def robustness_of(value: str | Mapping[str, Any] | Robustness | None) -> Robustness | None:
    """Return what a configuration says is to be drawn.

    Args:
        value: Name of a preset, a mapping of `Robustness`'s attributes, or one.

    Raises:
        ConfigError: The preset or a key is unknown, or values are out of range.
    """
    if value is None or isinstance(value, Robustness):
        return value
    if isinstance(value, str):
        if value not in ROBUSTNESS:
            expected = f"one of {', '.join(ROBUSTNESS)}, or KEY=VALUE pairs"
            raise ConfigError([ConfigProblem("robust", value, expected)])
        return ROBUSTNESS[value]
    try:
        return Robustness.model_validate(dict(value))
    except ValidationError as error:
        problems = [
            ConfigProblem(".".join(["robust", *(str(p) for p in e["loc"])]), e["input"], e["msg"])
            for e in error.errors()
        ]
        raise ConfigError(problems) from error


def parse_robustness(words: list[str]) -> dict[str, Any]:
    """Return the mapping that words of a command line say.

    Args:
        words: A preset's name first, if any; then ``KEY=VALUE``, where a range is ``LOW:HIGH``
            or its upper end.

    Raises:
        ConfigError: A word is neither, or a value is no number.
    """
    values: dict[str, Any] = {}
    for k, word in enumerate(words):
        key, equals, text = word.partition("=")
        if not equals:
            if k:
                raise ConfigError([ConfigProblem("robust", word, "KEY=VALUE after the preset")])
            preset = robustness_of(word)
            assert preset is not None
            values = preset.model_dump()
            continue
        try:
            numbers = [float(part) for part in text.split(":")]
        except ValueError as error:
            raise ConfigError([ConfigProblem("robust", word, "a number, or LOW:HIGH")]) from error
        if key in _RANGES:
            values[key] = (0.0, numbers[0]) if len(numbers) == 1 else tuple(numbers)
        else:
            values[key] = numbers[0] if len(numbers) == 1 else tuple(numbers)
    return values


def words_of(robustness: Robustness | None) -> list[str]:
    """Return the words of a command line that say the same; see `parse_robustness`."""
    if robustness is None:
        return []
    for name, preset in ROBUSTNESS.items():
        if preset == robustness:
            return [name]
    values = robustness.model_dump(exclude_defaults=True)
    return [
        f"{key}={value[0]:g}:{value[1]:g}" if isinstance(value, tuple) else f"{key}={value:g}"
        for key, value in values.items()
    ]
