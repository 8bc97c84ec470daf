"""The network's shield between an environment's actions and its devices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from heron.policy import PolicyCodec
from heron.policy.codec import FloatArray
from heron.powergrid.baselines import Baselines
from heron.powergrid.setups import Setup


class ActionGate:
    """Leads all agents' actions through one shield, on what they saw when they chose them.

    Args:
        setup: The setup.
        codecs: Of its agents.

    Attributes:
        shield: The `heron.powergrid.optimization.NetworkShield`, with its record.

    Raises:
        ConfigError: Its solvers are not installed, or it does not fit the setup.
    """

    def __init__(self, setup: Setup, codecs: Mapping[str, PolicyCodec]) -> None:
        self.shield = Baselines(setup, codecs).network_shield
        self._seen: Mapping[str, FloatArray] = {}

    def begin(self, observations: Mapping[str, FloatArray]) -> None:
        """Let an episode begin with what the agents see."""
        self.shield.begin()
        self._seen = observations

    def see(self, observations: Mapping[str, FloatArray]) -> None:
        """Take what the agents see now."""
        self._seen = observations

    def let_through(self, actions: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return the actions as far as the network allows them.

        Raises:
            PolicyError: An action is not finite.
        """
        for agent, action in actions.items():
            self.shield.propose(agent, self._seen[agent], np.clip(action, -1.0, 1.0))
        return {agent: self.shield.answer(agent)[0] for agent in actions}
