"""Three (or any number of) microgrids on one feeder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import ArrayLike

from heron.powergrid.agents import MarketGridAgent, MicrogridView, PowerGridAgent
from heron.powergrid.quantities import Measurements, Setpoint
from heron.powergrid.setups import PriceFeed, SetupConfig, as_setup, load_setup
from heron.powergrid.setups.loader import find_config
from simulator import Plant
from training.envs.networked_grid_env import NetworkedGridEnv

GUIDES_SETUP = "ieee34_ieee13"


class MultiAgentMicrogrids(NetworkedGridEnv):
    """The feeder and the microgrids of a setup, one agent a microgrid.

    ``MultiAgentMicrogrids(load_setup("ieee34_ieee13"))`` is the guide's case: the IEEE 34-bus
    feeder with three IEEE 13-bus microgrids; so is a mapping without ``microgrid_configs``, such as
    ``MultiAgentMicrogrids({"centralized": False})``, with what it says in place of the setup's.

    Attributes:
        dso: The feeder's operator, above the microgrids.
        limits: What the operator lets each microgrid's connection carry; may be replaced at any
            time, and holds from the next view on.
    """

    def _completed(self, env_config: Any) -> Any:
        """Take the guide's case where a mapping names no microgrids of its own."""
        if isinstance(env_config, Mapping) and "microgrid_configs" not in env_config:
            return {**load_setup(GUIDES_SETUP), **env_config}
        return env_config

    def _build_net(self) -> Plant:
        return Plant(self.setup)

    def _build_agents(self) -> dict[str, PowerGridAgent]:
        self.limits = {m.name: m.limits for m in self.setup.config.microgrid_configs}
        self.dso = self.scheme.build(self.setup, env_id=self.env_id)
        if self.scheme.negotiates:
            self.register_agent(self.dso)
        return dict(self.dso.microgrids)

    def _take_inventory(self) -> None:
        super()._take_inventory()
        self._prices = PriceFeed(self.setup.config, self.setup.profiles)
        self._looks = [(name, agent.look) for name, agent in self.agent_dict.items()]

    def _apply(
        self,
        actions: Mapping[str, ArrayLike],
        plain: Mapping[str, Sequence[float]] | None = None,
    ) -> dict[str, Setpoint]:
        """Let the coordinators act; where they negotiate, show what they bring and be answered."""
        if not self.scheme.negotiates:
            return super()._apply(actions, plain)
        for name, agent in self.agent_dict.items():
            if isinstance(agent, MarketGridAgent):
                agent.bring(actions[name])
        self.share_states()
        instant = self._instant()
        observation = self.dso.observe()
        self.dso.coordinate_subordinates(observation, self.dso.act(observation), instant)
        instant.take_effect()
        return self.dso.setpoints

    def _update_agents(self, measurements: Measurements) -> None:
        """Hand each coordinator its view, with the price that holds from now on."""
        time_s, meters, devices = measurements.time_s, measurements.meters, measurements.devices
        price, day_ahead = self._prices.at(time_s)
        self.dso.update_from(time_s, meters["head"], price, day_ahead)
        limits = self.limits
        for name, look in self._looks:
            look(time_s, meters[name], devices, price, day_ahead, limits[name], 0.0)

    def _update_agent(
        self, name: str, measurements: Measurements, reported: Measurements | None = None
    ) -> None:
        """Hand one coordinator its view, or the feeder's operator the head and the prices.

        Time and prices are known; what is metered is as old as it was reported.
        """
        known = measurements if reported is None else reported
        time_s, meters = measurements.time_s, known.meters
        price, day_ahead = self._prices.at(time_s)
        agent = self.agent_dict.get(name)
        if agent is None:
            self.dso.update_from(time_s, meters["head"], price, day_ahead)
            return
        limits = self.limits[name]
        age_s = time_s - known.time_s
        agent.update_from(
            MicrogridView(time_s, meters[name], known.devices, price, day_ahead, limits, age_s)
        )
        if known is not measurements:
            for device_id, device in agent.devices.items():
                device.on_reading(measurements.devices[device_id])


def make_env(setup: str, overrides: dict[str, Any]) -> MultiAgentMicrogrids:
    """Build the environment of a setup, by name or path.

    Args:
        setup: Name or path; files beside it stay known as its own.
        overrides: Keys of the setup that are to be others, and options of the environment.
    """
    known = {*SetupConfig.model_fields, "dataset"}
    keys = {k: v for k, v in overrides.items() if k in known}
    options = {k: v for k, v in overrides.items() if k not in keys}
    changed = replace(as_setup({**load_setup(setup), **keys}), path=find_config(setup))
    return MultiAgentMicrogrids(changed, **options)
