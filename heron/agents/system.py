"""L3: the system operator."""

from __future__ import annotations

from collections.abc import Mapping

from heron.agents.base import Agent
from heron.agents.hierarchical import HierarchicalAgent
from heron.core.state import SystemAgentState
from heron.core.visibility import SYSTEM_LEVEL
from heron.scheduling.tick import SYSTEM_TICK_S


class SystemAgent(HierarchicalAgent):
    """Manages coordinators; ``config["coordinators"]`` goes to `_build_subordinates`."""

    level = SYSTEM_LEVEL
    default_tick_s = SYSTEM_TICK_S
    config_keys = ("coordinators", "agents")

    @property
    def coordinators(self) -> Mapping[str, Agent]:
        """The subordinates."""
        return self.subordinates

    def set_state(self) -> None:
        """Set an empty state; override to append features."""
        self.state = SystemAgentState(self.agent_id)
