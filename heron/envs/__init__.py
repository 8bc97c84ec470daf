"""Environments: agents in synchronous and in event-driven time.

`HeronEnvCore` needs nothing but the library; `PettingZooParallelEnv` is imported when it is
first asked for, because it needs gymnasium and pettingzoo.
"""

from typing import TYPE_CHECKING, Any

from heron.envs.core import HeronEnvCore
from heron.envs.episode import Ending, EpisodeStatistics, TerminationConfig
from heron.envs.registry import make, register, registered

if TYPE_CHECKING:
    from heron.envs.pettingzoo_env import PettingZooParallelEnv
    from heron.envs.spaces import to_gym_space

__all__ = [
    "Ending",
    "EpisodeStatistics",
    "HeronEnvCore",
    "PettingZooParallelEnv",
    "TerminationConfig",
    "make",
    "register",
    "registered",
    "to_gym_space",
]


def __getattr__(name: str) -> Any:
    if name == "PettingZooParallelEnv":
        from heron.envs.pettingzoo_env import PettingZooParallelEnv

        return PettingZooParallelEnv
    if name == "to_gym_space":
        from heron.envs.spaces import to_gym_space

        return to_gym_space
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
