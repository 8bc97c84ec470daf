"""The distribution system operator: it sees the feeder's head and tells coordinators the price."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from numpy.typing import ArrayLike

from heron.agents import Agent, SystemAgent
from heron.core import SYSTEM_LEVEL, Policy, SystemAgentState
from heron.core.observation import Observation
from heron.messaging import MessageType
from heron.powergrid.agents.device import DEFAULT_DT_S
from heron.powergrid.agents.power_grid_agent import PowerGridAgent
from heron.powergrid.features import MarketSignal, NetworkMetrics, TimeOfDay
from heron.powergrid.quantities import MeterReading, Setpoint
from heron.powergrid.setups.models import MicrogridConfig
from heron.protocols import Coordination, Protocol
from heron.scheduling.dispatch import Dispatch

CoordinatorFactory = Callable[[MicrogridConfig, str | None, str], PowerGridAgent]


class DSOAgent(SystemAgent):
    """The operator of the feeder, above the microgrids' coordinators.

    Args:
        agent_id: Name of the feeder's area.
        microgrids: Configuration of each microgrid, or mappings as in the guide.
        build: Makes a coordinator from (configuration, env_id, upstream_id); a plain
            `PowerGridAgent` if not given.
        protocol: How it coordinates; nothing if not given.
        policy: Decides.
        forecast: Whether it passes on the day-ahead prices.
        kwargs: Passed to `SystemAgent`.
    """

    def __init__(
        self,
        agent_id: str = "DSO",
        microgrids: Sequence[MicrogridConfig | Mapping[str, Any]] = (),
        build: CoordinatorFactory | None = None,
        protocol: Protocol | None = None,
        policy: Policy | None = None,
        *,
        forecast: bool = True,
        dt_s: float = DEFAULT_DT_S,
        **kwargs: Any,
    ) -> None:
        self.forecast = forecast
        self.dt_s = dt_s
        self._build_coordinator = build
        super().__init__(
            agent_id=agent_id,
            policy=policy,
            protocol=protocol,
            config={"coordinators": list(microgrids)},
            **kwargs,
        )

    def set_state(self) -> None:
        """The head, the market and the time."""
        self.state = SystemAgentState(owner_id=self.agent_id, owner_level=SYSTEM_LEVEL)
        self._metrics = NetworkMetrics()
        self._market = MarketSignal(forecast=self.forecast)
        self._clock = TimeOfDay()
        self.state.features.extend([self._metrics, self._market, self._clock])

    def _build_subordinates(
        self, configs: Sequence[Any], env_id: str | None, upstream_id: str | None
    ) -> dict[str, Agent]:
        """Build the coordinators."""
        built: dict[str, Agent] = {}
        for config in configs:
            above = upstream_id or self.agent_id
            if self._build_coordinator is None:
                agent = PowerGridAgent(
                    grid_config=config,
                    env_id=env_id,
                    upstream_id=above,
                    forecast=self.forecast,
                    dt_s=self.dt_s,
                )
            else:
                agent = self._build_coordinator(config, env_id, above)
            built[agent.agent_id] = agent
        return built

    def coordinate_subordinates(
        self,
        observation: Observation | None,
        action: ArrayLike | None,
        scheduler: Dispatch | None = None,
    ) -> Coordination:
        """Run the protocol; a coordinator that waits for an answer gets one, be it empty."""
        result = super().coordinate_subordinates(observation, action, scheduler)
        for name, agent in self.subordinates.items():
            told = name in result.signals or name in result.actions
            if not told and getattr(agent, "negotiates", False):
                self._tell(agent, MessageType.SIGNAL, {}, scheduler)
        return result

    def protocol_context(self) -> Mapping[str, Any]:
        """Add what each microgrid's connection can carry in one interval, for trades."""
        hours = self.dt_s / 3600.0
        limits = {name: m.rating_mva * hours for name, m in self.microgrids.items()}
        return {**super().protocol_context(), "limits_mwh": limits}

    @property
    def microgrids(self) -> Mapping[str, PowerGridAgent]:
        """The coordinators by name, in the order of the configuration."""
        return cast("Mapping[str, PowerGridAgent]", self.subordinates)

    @property
    def setpoints(self) -> dict[str, Setpoint]:
        """What is in force at every device of every microgrid, after the envelope."""
        return {
            name: device.setpoint
            for microgrid in self.microgrids.values()
            for name, device in microgrid.devices.items()
        }

    def update_from(
        self,
        time_s: float,
        head: MeterReading,
        price_usd_per_mwh: float,
        day_ahead: tuple[float, ...] = (),
    ) -> None:
        """Fill its features from the meter at the head and the market."""
        p_mw = head.p_mw
        v_min, v_max = head.v_min_pu - 1.0, head.v_max_pu - 1.0
        self._metrics.cell.numbers = (p_mw, head.q_mvar, p_mw, v_min, v_max)
        self._market.update(time_s, price_usd_per_mwh, day_ahead)
        self._clock.update(time_s)
        self.time_s = time_s
