"""RLlib's runner of environments, of which a process may build one after the other."""

from __future__ import annotations

import gymnasium as gym
from ray.rllib.env.multi_agent_env_runner import MultiAgentEnvRunner

REGISTERED = "rllib-multi-agent-env-v0"
"""The one name under which RLlib's runner registers its environment, whichever that is."""


class EnvRunner(MultiAgentEnvRunner):
    """Steps one environment after the other."""

    def make_env(self) -> None:
        """Build the environments; see RLlib's runner.

        The name is freed before: a second run of the process, or a runner that starts again,
        would otherwise be warned that it takes the place of the first.
        """
        gym.registry.pop(REGISTERED, None)
        super().make_env()
