"""The coordinator of a microgrid: it knows its meter, its devices and the DSO's signal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.agents import Agent, HierarchicalAgent
from heron.core import COORDINATOR_LEVEL, CoordinatorAgentState, Observation, Policy
from heron.errors import ConfigError, ConfigProblem
from heron.policy.codec import ActionMapping, SetpointSpec
from heron.powergrid.agents.device import DEFAULT_DT_S, DeviceAgent, checked_interval
from heron.powergrid.agents.entries import device_parts, microgrid_parts
from heron.powergrid.agents.intake import Intake
from heron.powergrid.agents.registry import DEVICE_REGISTRY
from heron.powergrid.agents.straight_way import StraightWay, Tell
from heron.powergrid.agents.timed import TimedAgent
from heron.powergrid.agents.view import MicrogridView
from heron.powergrid.connection import ConnectionLimits
from heron.powergrid.features import MarketSignal, NetworkMetrics, Timeliness
from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups.models import MicrogridConfig
from heron.protocols import Coordination, Protocol, SetpointProtocol
from heron.scheduling import TickConfig
from heron.scheduling.dispatch import Dispatch

_HOOKS = (
    "_deliver",
    "_tell",
    "checked_action",
    "coordinate_subordinates",
    "protocol_context",
    "take_action",
)
"""What a class may change of the way of an action; where it does, that way is gone step by step."""


class GridAgent(TimedAgent):
    """A coordinator of power devices."""

    @property
    def devices(self) -> Mapping[str, DeviceAgent]:
        """Its devices by id, in the order of the configuration."""
        return cast("Mapping[str, DeviceAgent]", self.subordinates)

    @property
    def setpoints(self) -> dict[str, Setpoint]:
        """What is in force at each device, after the envelope."""
        return {name: device.setpoint for name, device in self.devices.items()}

    @property
    def proposals(self) -> dict[str, Setpoint]:
        """What was last proposed to each device, before the envelope."""
        return {name: device.proposal for name, device in self.devices.items()}


class PowerGridAgent(GridAgent):
    """A microgrid's coordinator.

    Its action is its devices' actions, concatenated (`SetpointProtocol`), or whatever its
    protocol declares. `update_from` is the only way into its features and its devices'.

    Args:
        net: Not needed; the plant holds the network. Kept for the guide's signature.
        grid_config: The microgrid's part of a setup: a mapping or a `MicrogridConfig`.
        protocol: How it coordinates; set-points if not given.
        policy: Decides.
        tick_config: Timing in event-driven mode.
        forecast: Whether it uses the day-ahead prices.
        observe_timing: Whether it sees how old its readings are (`Timeliness`) and what it told
            its devices last (`LastAction`).
        dt_s: Plant seconds of a control interval.
        kwargs: Passed to `CoordinatorAgent`.

    Attributes:
        rating_mva: Rating of its connection; infinite if it is not known.
        tell: Carries out an action that was checked; None where a protocol has to be run, which
            may fail.
    """

    tell: Tell | None
    _way: StraightWay | None = None

    def __init__(
        self,
        net: Any = None,
        grid_config: Mapping[str, Any] | MicrogridConfig | None = None,
        protocol: Protocol | None = None,
        policy: Policy | None = None,
        tick_config: TickConfig | None = None,
        *,
        forecast: bool = True,
        observe_timing: bool = False,
        dt_s: float = DEFAULT_DT_S,
        **kwargs: Any,
    ) -> None:
        name, devices, rating_kva = microgrid_parts(grid_config)
        self.net = net
        self.grid_config = grid_config
        self.forecast = forecast
        self.observe_timing = observe_timing
        self.dt_s = checked_interval(name, dt_s)
        self.rating_mva = rating_kva / 1000.0 if rating_kva else math.inf
        super().__init__(
            agent_id=name,
            policy=policy,
            protocol=protocol or SetpointProtocol(),
            config={"agents": devices},
            tick_config=tick_config,
            **kwargs,
        )

    def _prepare(self) -> None:
        self._intake = Intake(self, forecast=self.forecast)
        super()._prepare()

    @property
    def _market(self) -> MarketSignal:
        return self._intake.market

    @property
    def _metrics(self) -> NetworkMetrics:
        return self._intake.metrics

    def set_state(self) -> None:
        """Voltages, loading, balance, market and time."""
        self.state = CoordinatorAgentState(owner_id=self.agent_id, owner_level=COORDINATOR_LEVEL)
        self.state.features.extend(self._intake.features)
        if self.observe_timing:
            self.timeliness = Timeliness()
            self.state.features.append(self.timeliness)

    def _build_subordinates(
        self, configs: Sequence[Any], env_id: str | None, upstream_id: str | None
    ) -> dict[str, Agent]:
        """Build the device agents from their entries."""
        devices: dict[str, Agent] = {}
        for entry in configs:
            kind, name, config = device_parts(entry)
            if name in devices:
                where = f"{self.agent_id}.devices"
                raise ConfigError([ConfigProblem(where, name, "a name that is used once")])
            devices[name] = DEVICE_REGISTRY.find(kind)(
                agent_id=name,
                device_state_config=config,
                env_id=env_id,
                upstream_id=upstream_id or self.agent_id,
                dt_s=self.dt_s,
            )
        return devices

    def update_from(self, view: MicrogridView) -> None:
        """Fill its own and its devices' features from what is known now.

        Raises:
            StaleDataError: The view lacks a device.
        """
        self._intake.take(*view)

    @property
    def look(self) -> Callable[..., None]:
        """What does the same with the parts of a view, for whoever shows it one at every step."""
        if type(self).update_from is PowerGridAgent.update_from:
            return self._intake.take
        return self._look_by_a_view

    def _look_by_a_view(self, *parts: Any) -> None:
        """Leave what is shown to the class."""
        self.update_from(MicrogridView(*parts))

    def other_load_mw(self) -> float:
        """Return the load behind its meter, losses included, as last seen."""
        return float(self._metrics.load_MW)

    def setpoint_specs(self) -> tuple[SetpointSpec, ...]:
        """Return what each number of a policy's action means.

        Raises:
            ConfigError: The protocol declares an action that is discrete or not bounded.
        """
        if isinstance(self.protocol, SetpointProtocol):
            return tuple(s for device in self.devices.values() for s in device.setpoint_specs())
        action = self.action
        bounds = list(zip(action.low.tolist(), action.high.tolist(), strict=True))
        if action.dim_d or not np.isfinite(bounds).all():
            what = f"{type(self.protocol).__name__}.declare_action"
            expected = "continuous numbers with finite ranges, for a policy to fill"
            raise ConfigError([ConfigProblem(what, bounds, expected)])
        return tuple(
            SetpointSpec(self.agent_id, f"action_{i}", low, high, ActionMapping.LINEAR)
            for i, (low, high) in enumerate(bounds)
        )

    def from_normalised(self, action: ArrayLike) -> ArrayLike:
        """Return the agent's action for a policy's, which lies in [-1, 1].

        Devices map their own set-points; what another protocol declares is mapped here.
        """
        if isinstance(self.protocol, SetpointProtocol):
            return action
        values = np.asarray(action, dtype=np.float64).tolist()
        specs = self.setpoint_specs()
        return np.array([s.decode(x) for s, x in zip(specs, values, strict=True)])

    def complete(self) -> None:
        """Build everything and take stock of the devices."""
        super().complete()
        self._take_stock()
        if self.observe_timing:
            self._remember_commands_to(self.devices)

    def reset(self, seed: int | None = None, **kwargs: Any) -> None:
        """Reset itself and its devices; features that were put in others' places hold from now."""
        super().reset(seed, **kwargs)
        self._intake.adopt(self.state.features)
        self._intake.lead_to(self.devices.values())

    def add_subordinate(self, agent: Agent) -> None:
        """Take a device as the last; from now on it is told and read as the others are."""
        super().add_subordinate(agent)
        if self._complete:
            self._take_stock()
            if self.observe_timing:
                self._remember_commands_to({agent.agent_id: self.devices[agent.agent_id]})

    def _take_stock(self) -> None:
        """Find what every step needs of the devices: the ways of readings and of actions."""
        devices = list(self.devices.values())
        self._intake.lead_to(devices)
        self._way = StraightWay(self.action, devices) if StraightWay.is_open_to(devices) else None
        self._reconsider()

    def _choose_way(self) -> Tell | None:
        """Return what tells the devices without messages; None where there has to be a protocol."""
        way, kind = self._way, type(self)
        if way is None or type(self.protocol) is not SetpointProtocol or self.connection.given:
            return None
        if any(getattr(kind, hook) is not getattr(PowerGridAgent, hook) for hook in _HOOKS):
            return None
        return self._tell_and_remember if self.observe_timing else way.tell

    def _tell_and_remember(self, action: Sequence[float]) -> None:
        """Tell the devices, and keep in mind what each was told."""
        if self._way is not None:
            self._way.tell(action)
            for told, part in zip(self._told.values(), self._way.parts(action), strict=True):
                told.take(part.tolist())

    @property
    def protocol(self) -> Protocol:
        """How it coordinates its devices."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: Protocol) -> None:
        self._protocol = protocol
        if self._way is not None:
            self._reconsider()

    @property
    def connection(self) -> ConnectionLimits:
        """What the operator lets its connection carry; no limits until it says so."""
        return self._connection

    @connection.setter
    def connection(self, limits: ConnectionLimits) -> None:
        self._connection = self._intake.limits = limits
        if self._way is not None:
            self._reconsider()

    def _reconsider(self) -> None:
        """Choose the way of actions anew.

        Where a class has an `apply_action` of its own, it is that one's business.
        """
        self._straight = self._choose_way()
        own = type(self).apply_action is not HierarchicalAgent.apply_action
        self.tell = self._tell_own if own else self._straight

    def _tell_own(self, action: Sequence[float]) -> None:
        """Leave an action to the class."""
        self.apply_action(np.array(action, dtype=np.float64))

    def take_action(
        self,
        action: NDArray[np.float64] | None,
        observation: Observation | None = None,
        scheduler: Dispatch | None = None,
    ) -> None:
        """Keep the action and coordinate the devices, without messages where nothing needs them."""
        if action is None or scheduler is not None or self._straight is None:
            super().take_action(action, observation, scheduler)
        else:
            self._straight(action.tolist())

    @property
    def coordination(self) -> Coordination:
        """What its protocol decided last."""
        way = self._way
        if way is not None and way.told is not None:
            parts = way.parts(way.told)
            way.told = None
            self._coordination = Coordination(dict(zip(self.devices, parts, strict=True)))
        return self._coordination

    @coordination.setter
    def coordination(self, decided: Coordination) -> None:
        self._coordination = decided
        if self._way is not None:
            self._way.told = None
