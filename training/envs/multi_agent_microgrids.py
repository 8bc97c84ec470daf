"""Three (or any number of) microgrids on one feeder."""

from __future__ import annotations

from heron.powergrid.agents import PowerGridAgent, build_agents
from heron.powergrid.quantities import Measurements
from simulator import Plant
from training.envs.networked_grid_env import NetworkedGridEnv


class MultiAgentMicrogrids(NetworkedGridEnv):
    """The feeder and the microgrids of a setup, one agent a microgrid.

    ``MultiAgentMicrogrids(load_setup("ieee34_ieee13"))`` is the guide's case: the IEEE 34-bus
    feeder with three IEEE 13-bus microgrids.
    """

    def _build_net(self) -> Plant:
        return Plant(self.setup)

    def _build_agents(self) -> dict[str, PowerGridAgent]:
        self.dso = build_agents(self.setup)
        return dict(self.dso.coordinators)

    def _update_agents(self, measurements: Measurements) -> None:
        self.dso.update_from(measurements)
