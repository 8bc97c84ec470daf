"""The coordinator of a microgrid: it knows its meter, its devices and the DSO's signal."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from heron.agents import Agent
from heron.core import COORDINATOR_LEVEL, CoordinatorAgentState, Policy
from heron.errors import ConfigError, ConfigProblem, StaleDataError
from heron.policy.codec import ActionMapping, SetpointSpec
from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.agents.device import DEFAULT_DT_S, DeviceAgent
from heron.powergrid.agents.entries import device_parts, microgrid_parts
from heron.powergrid.agents.registry import DEVICE_REGISTRY
from heron.powergrid.agents.straight_way import StraightWay, Tell
from heron.powergrid.agents.terminals import Terminals
from heron.powergrid.agents.timed import TimedAgent
from heron.powergrid.agents.view import MicrogridView
from heron.powergrid.connection import ConnectionLimits
from heron.powergrid.features import (
    BusVoltages,
    LineFlows,
    MarketSignal,
    NetworkMetrics,
    Timeliness,
    TimeOfDay,
)
from heron.powergrid.quantities import DeviceReading, MeterReading, Setpoint
from heron.powergrid.setups.models import MicrogridConfig
from heron.protocols import Coordination, Protocol, SetpointProtocol
from heron.scheduling import TickConfig

_hypot = math.hypot


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
        self.dt_s = dt_s
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
        self._seen_last: tuple[MeterReading, Mapping[str, DeviceReading]] | None = None
        self._measured = self._measured_voltages
        super()._prepare()

    def set_state(self) -> None:
        """Voltages, loading, balance, market and time."""
        self.state = CoordinatorAgentState(owner_id=self.agent_id, owner_level=COORDINATOR_LEVEL)
        self._voltages = BusVoltages()
        self._flows = LineFlows()
        self._metrics = NetworkMetrics()
        self._market = MarketSignal(forecast=self.forecast)
        self._clock = TimeOfDay()
        self.state.features.extend(
            [self._voltages, self._flows, self._metrics, self._market, self._clock]
        )
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
        self._look(*view)

    @property
    def look(self) -> Callable[..., None]:
        """What does the same with the parts of a view, for whoever shows it one at every step."""
        if type(self).update_from is PowerGridAgent.update_from:
            return self._look
        return self._look_by_a_view

    def _look_by_a_view(self, *parts: Any) -> None:
        """Leave what is shown to the class."""
        self.update_from(MicrogridView(*parts))

    def _look(  # noqa: PLR0917 - the parts of a `MicrogridView`, in its order
        self,
        time_s: float,
        meter: MeterReading,
        readings: Mapping[str, DeviceReading],
        price: float,
        day: tuple[float, ...],
        limits: ConnectionLimits,
        age_s: float,
    ) -> None:
        market = self._market
        market.update(time_s, price, day)
        self._clock.update(time_s)
        row = market.cell.numbers
        price, energy_value = row[0], STORED_ENERGY_VALUE * row[1]
        v_min, v_max = meter.v_min_pu, meter.v_max_pu
        injected = 0.0
        for name, terminals, take_reading, take_prices in self._inlets:
            try:
                reading = readings[name]
            except KeyError:
                raise StaleDataError(f"{self.agent_id}: no reading of {name}") from None
            take_reading(reading)
            terminals.energy_value = energy_value
            if take_prices is not None:
                take_prices(time_s, price, day)
            injected += reading.p_mw
            if reading.connected:
                # conditions: this runs every step, and min() and max() cost several times as much
                v_low, v_high = reading.v_min_pu, reading.v_max_pu
                v_min = v_low if v_low < v_min else v_min
                v_max = v_high if v_high > v_max else v_max
        bus = self._voltages
        bus.cell.numbers, bus.measured = (v_min, v_max), self._measured
        self._seen_last = (meter, readings)
        p_mw, q_mvar = meter.p_mw, meter.q_mvar
        self._metrics.cell.numbers = (p_mw, q_mvar, injected - p_mw, v_min - 1.0, v_max - 1.0)
        self._flows.cell.numbers = (_hypot(p_mw, q_mvar) / self.rating_mva,)
        if self.timeliness is not None:
            self.timeliness.age = age_s / self.dt_s
        self.time_s = time_s
        if limits is not self._connection:
            self.connection = limits

    def _measured_voltages(self) -> list[float]:
        """Return the voltages of the last view: at the connection, then at each device."""
        if self._seen_last is None:
            return []
        meter, readings = self._seen_last
        return [meter.v_pu, *(readings[name].v_pu for name in self.devices)]

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
        self._inlets = [_inlet(device) for device in devices]
        self._way = StraightWay(self.action, devices) if StraightWay.is_open_to(devices) else None
        self._reconsider()

    def _choose_way(self) -> Tell | None:
        """Return what tells the devices without messages; None where there has to be a protocol."""
        way, commands = self._way, type(self.protocol) is SetpointProtocol
        if way is None or not commands or self.connection.given:
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
        self._connection = limits
        if self._way is not None:
            self._reconsider()

    def _reconsider(self) -> None:
        """Choose the way of actions anew.

        Where a class has an `apply_action` of its own, it is that one's business.
        """
        self._straight = self._choose_way()
        own = type(self).apply_action is not PowerGridAgent.apply_action
        self.tell = self._tell_own if own else self._straight

    def _tell_own(self, action: Sequence[float]) -> None:
        """Leave an action to the class."""
        self.apply_action(np.array(action, dtype=np.float64))

    def apply_action(self, action: ArrayLike) -> None:
        """Carry out an action now.

        Raises:
            ValueError: It has the wrong shape or is not finite; no device is told anything.
        """
        if self._straight is None:
            super().apply_action(action)
        else:
            self._straight(self.checked_action(action).tolist())

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


_TakeReading: TypeAlias = Callable[[DeviceReading], None]
_TakePrices: TypeAlias = Callable[[float, float, tuple[float, ...]], None]
_Inlet: TypeAlias = tuple[str, Terminals, _TakeReading, _TakePrices | None]
"""A device, its terminals, and what takes its readings and, if it has a use for them, prices."""


def _inlet(device: DeviceAgent) -> _Inlet:
    """Return where what is known goes; what a class leaves as it is needs no way round by it."""
    kind, terminals = type(device), device.terminals
    own = kind.take_reading is not DeviceAgent.take_reading
    prices = kind.take_prices is not DeviceAgent.take_prices
    take_reading = device.take_reading if own else terminals.show
    return device.agent_id, terminals, take_reading, device.take_prices if prices else None
