"""What a step of a grid environment returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from heron.policy.codec import FloatArray

DIVERGED_PENALTY = 1000.0
"""What each agent loses when no power-flow solution is found, which also ends the episode: about
what a day of doing nothing costs on the setup that ships."""

StepReturn: TypeAlias = tuple[
    dict[str, FloatArray],
    dict[str, float],
    dict[str, bool],
    dict[str, bool],
    dict[str, dict[str, Any]],
]
"""Observations, rewards, terminations, truncations and infos by agent."""


def diverged_return(
    agents: Sequence[str], observations: dict[str, FloatArray], cause: str, step: int
) -> StepReturn:
    """Return what a step returns that the power flow did not solve.

    Args:
        agents: Who took part.
        observations: What they see: nothing has changed.
        cause: Why there is no solution.
        step: Steps taken in the episode before.
    """
    return (
        observations,
        dict.fromkeys(agents, -DIVERGED_PENALTY),
        dict.fromkeys(agents, True),
        dict.fromkeys(agents, False),
        {agent: {"power_flow_diverged": cause, "step": step} for agent in agents},
    )
