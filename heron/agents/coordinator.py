"""L2: the agent of a group of devices."""

from __future__ import annotations

from heron.agents.hierarchical import HierarchicalAgent
from heron.core.state import CoordinatorAgentState
from heron.core.visibility import COORDINATOR_LEVEL
from heron.scheduling.tick import COORDINATOR_TICK_S


class CoordinatorAgent(HierarchicalAgent):
    """Manages field agents; ``config["agents"]`` goes to `_build_subordinates`."""

    level = COORDINATOR_LEVEL
    default_tick_s = COORDINATOR_TICK_S

    def set_state(self) -> None:
        """Set an empty state; override to append features."""
        self.state = CoordinatorAgentState(self.agent_id)
