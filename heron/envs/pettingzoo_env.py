"""Agents as a PettingZoo parallel environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pettingzoo import ParallelEnv

from heron.envs.core import HeronEnvCore
from heron.envs.spaces import to_gym_space
from heron.messaging.base import Broker


class PettingZooParallelEnv(HeronEnvCore, ParallelEnv):
    """A PettingZoo parallel environment whose agents are HERON agents.

    A subclass registers agents, calls `setup_spaces` (or sets ``observation_spaces`` and
    ``action_spaces``; our light spaces are turned into gymnasium's) and defines ``reset`` and
    ``step``.

    Attributes:
        possible_agents: Ids of the agents that act.
        agents: Those of the present episode.
    """

    metadata: dict[str, Any] = {"render_modes": [], "name": "heron_v0"}  # noqa: RUF012 - PettingZoo's

    def __init__(self, env_id: str | None = None, message_broker: Broker | None = None) -> None:
        super().__init__(env_id, message_broker)
        self.possible_agents: list[str] = []
        self.agents: list[str] = []
        self._observation_spaces: dict[str, Any] = {}
        self._action_spaces: dict[str, Any] = {}

    @property
    def observation_spaces(self) -> dict[str, Any]:
        """Observation space by agent id."""
        return self._observation_spaces

    @observation_spaces.setter
    def observation_spaces(self, spaces: Mapping[str, Any]) -> None:
        self._observation_spaces = {name: to_gym_space(s) for name, s in spaces.items()}

    @property
    def action_spaces(self) -> dict[str, Any]:
        """Action space by agent id."""
        return self._action_spaces

    @action_spaces.setter
    def action_spaces(self, spaces: Mapping[str, Any]) -> None:
        self._action_spaces = {name: to_gym_space(s) for name, s in spaces.items()}

    def observation_space(self, agent: str) -> Any:
        """Return an agent's observation space."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        """Return an agent's action space."""
        return self._action_spaces[agent]

    def setup_spaces(self, global_state: Mapping[str, Any] | None = None) -> None:
        """Set agents and spaces from the registered agents, as they observe and act.

        Args:
            global_state: What `get_observations` will be given, for its size.
        """
        self.possible_agents = list(self._registered)
        self.agents = list(self.possible_agents)
        self.observation_spaces = {
            name: self.observation_box(name, global_state) for name in self.possible_agents
        }
        self.action_spaces = {
            name: agent.get_action_space() for name, agent in self._registered.items()
        }
