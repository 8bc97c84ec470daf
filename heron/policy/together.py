"""Policies of one site that decide on the same step.

Most policies decide by themselves. Some share something that should hear all of them before it
answers any, such as a network's shield: these propose first, and act when all have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt


class Acting(Protocol):
    """Anything that decides for one coordinator."""

    def act(self, obs: Any) -> npt.NDArray[np.float32]:
        """Return the normalised action for a scaled observation."""
        ...


@runtime_checkable
class Proposing(Protocol):
    """A policy that says what it would do before it is told what it may."""

    def begin(self) -> None:
        """Forget the episode before."""
        ...

    def propose(self, obs: Any) -> None:
        """Take an observation; `act` on the same one comes when all have proposed."""
        ...

    def act(self, obs: Any) -> npt.NDArray[np.float32]:
        """Return the normalised action for a scaled observation."""
        ...


def begin(policies: Mapping[str, Acting]) -> None:
    """Let an episode begin."""
    for policy in policies.values():
        if isinstance(policy, Proposing):
            policy.begin()


def decide(
    policies: Mapping[str, Acting], observations: Mapping[str, Any]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return each coordinator's action for its observation, (obs_dim,), by agent."""
    for agent, obs in observations.items():
        policy = policies[agent]
        if isinstance(policy, Proposing):
            policy.propose(obs)
    return {agent: policies[agent].act(obs) for agent, obs in observations.items()}
