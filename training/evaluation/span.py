"""How to call the time that a figure is of: a day, or an episode that is longer or shorter."""

from __future__ import annotations

import math

from heron.powergrid.device_configs import DAY_S
from heron.powergrid.setups.models import SetupConfig


def episode_days(config: SetupConfig) -> float:
    """Return the length of a setup's episodes in days."""
    return config.max_episode_steps * config.step_s / DAY_S


def is_a_day(days: float) -> bool:
    """Return whether an episode of so many days is one day."""
    return math.isclose(days, 1.0)


def span(days: float) -> str:
    """Return what the figures of episodes of so many days are of: ``day`` or ``episode``."""
    return "day" if is_a_day(days) else "episode"


def each(days: float) -> str:
    """Return ``a day`` or ``an episode``."""
    return "a day" if is_a_day(days) else "an episode"


def episodes(days: float) -> str:
    """Return the episodes with their length: ``days``, ``episodes of 3 days (...)``."""
    if is_a_day(days):
        return "days"
    hours = days * DAY_S / 3600.0
    length = f"{days:g} days" if days > 1.0 else f"{hours:g} hours"
    return f"episodes of {length} (all figures an episode)"
