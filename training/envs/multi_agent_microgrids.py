"""Three (or any number of) microgrids on one feeder."""

from __future__ import annotations

from typing import Any

from heron.powergrid.agents import MicrogridView, PowerGridAgent, build_agents
from heron.powergrid.quantities import Measurements
from heron.powergrid.setups import load_setup
from simulator import Plant
from training.envs.networked_grid_env import NetworkedGridEnv


class MultiAgentMicrogrids(NetworkedGridEnv):
    """The feeder and the microgrids of a setup, one agent a microgrid.

    ``MultiAgentMicrogrids(load_setup("ieee34_ieee13"))`` is the guide's case: the IEEE 34-bus
    feeder with three IEEE 13-bus microgrids.

    Attributes:
        dso: The feeder's operator, above the microgrids.
    """

    def _build_net(self) -> Plant:
        return Plant(self.setup)

    def _build_agents(self) -> dict[str, PowerGridAgent]:
        self.dso = build_agents(self.setup, env_id=self.env_id)
        return dict(self.dso.microgrids)

    def _update_agents(self, measurements: Measurements) -> None:
        """Hand each coordinator its view, with the price that holds from now on."""
        config, profiles = self.setup.config, self.setup.profiles
        time_s = measurements.time_s
        price = profiles.mean(config.price_profile, time_s, config.step_s)
        day_ahead = profiles.day_ahead(time_s, config.price_profile) if config.forecast else ()
        self.dso.update_from(time_s, measurements.meters["head"], price, day_ahead)
        for name, agent in self.agent_dict.items():
            meter = measurements.meters[name]
            agent.update_from(MicrogridView(time_s, meter, measurements.devices, price, day_ahead))


def make_env(setup: str, overrides: dict[str, Any]) -> MultiAgentMicrogrids:
    """Build the environment of a setup, by name or path, with some of its keys overridden."""
    config = load_setup(setup)
    config.update(overrides)
    return MultiAgentMicrogrids(config)
