"""A policy behind the network's shield."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from heron.policy import PolicyCodec
from heron.powergrid.optimization.network_shield import NetworkShield

logger = logging.getLogger(__name__)


class NetworkShieldedPolicy:
    """One coordinator's policy behind the network's shield; itself a policy of the same codec.

    Args:
        policy: Has ``act(obs) -> action``.
        codec: Of the coordinator.
        shield: Shared by all coordinators.

    Attributes:
        note: Where the last action was moved, in words; empty if it was not.
        interventions: How many actions were moved so far.
    """

    def __init__(self, policy: Any, codec: PolicyCodec, shield: NetworkShield) -> None:
        self._policy = policy
        self._codec = codec
        self.shield = shield
        self._proposed: Any = None
        self.note = ""
        self.interventions = 0

    @property
    def codec(self) -> PolicyCodec:
        """Its observation and action."""
        return self._codec

    def begin(self) -> None:
        """Forget the episode before."""
        self.shield.begin()
        self._proposed, self.note = None, ""

    def propose(self, obs: npt.ArrayLike) -> None:
        """Tell the shield what the policy would do.

        Raises:
            PolicyError: The policy has no usable answer, or the observation is not finite.
        """
        self.shield.propose(self._codec.agent_id, obs, self._policy.act(obs))
        self._proposed = obs

    def act(self, obs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the policy's action, moved as far as the network asks.

        Raises:
            PolicyError: The policy has no usable answer, or the observation is not finite.
        """
        if self._proposed is not obs:
            self.propose(obs)
        self._proposed = None
        agent, before = self._codec.agent_id, self.note
        action, self.note = self.shield.answer(agent)
        self.interventions += bool(self.note)
        if self.note and not before:
            logger.info("shield_moves agent=%s %s", agent, self.note)
        elif before and not self.note:
            logger.info("shield_rests agent=%s interventions=%d", agent, self.interventions)
        return action
