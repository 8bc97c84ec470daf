"""Environments over the plant, in PettingZoo's parallel form."""

from training.envs.multi_agent_microgrids import MultiAgentMicrogrids, make_env
from training.envs.networked_grid_env import NetworkedGridEnv

__all__ = ["MultiAgentMicrogrids", "NetworkedGridEnv", "make_env"]
