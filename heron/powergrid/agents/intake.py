"""How what is known reaches a coordinator: its own features, and its devices' terminals.

It is the way in, as `StraightWay` is the way out. Every step of training passes here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from heron.core import FeatureProvider
from heron.errors import StaleDataError
from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.agents.device import DeviceAgent
from heron.powergrid.agents.terminals import Terminals
from heron.powergrid.connection import NO_LIMITS, ConnectionLimits
from heron.powergrid.features import (
    BusVoltages,
    LineFlows,
    MarketSignal,
    NetworkMetrics,
    TimeOfDay,
)
from heron.powergrid.quantities import DeviceReading, MeterReading

if TYPE_CHECKING:
    from heron.powergrid.agents.power_grid_agent import PowerGridAgent

_hypot = math.hypot

_TakeReading: TypeAlias = Callable[[DeviceReading], None]
_TakePrices: TypeAlias = Callable[[float, float, tuple[float, ...]], None]
_Inlet: TypeAlias = tuple[str, Terminals, _TakeReading, _TakePrices | None]
"""A device, its terminals, and what takes its readings and, if it has a use for them, prices."""


class Intake:
    """Fills a coordinator's features and its devices' from what is known at one instant.

    Args:
        agent: The coordinator.
        forecast: Whether it uses the day-ahead prices.

    Attributes:
        voltages: Feature of what the meter and the devices measure.
        flows: Feature of the loading of its connection.
        metrics: Feature of its balance.
        market: Feature of prices.
        clock: Feature of the time.
        limits: What its connection may carry, as the agent knows it.
    """

    __slots__ = (
        "_agent",
        "_balance",
        "_extremes",
        "_inlets",
        "_loading",
        "_measured",
        "_seen_last",
        "clock",
        "flows",
        "limits",
        "market",
        "metrics",
        "voltages",
    )

    def __init__(self, agent: PowerGridAgent, *, forecast: bool) -> None:
        self._agent = agent
        self.voltages = BusVoltages()
        self.flows = LineFlows()
        self.metrics = NetworkMetrics()
        self.market = MarketSignal(forecast=forecast)
        self.clock = TimeOfDay()
        self.adopt(())
        self.limits = NO_LIMITS
        self._measured = self._measured_voltages
        self._inlets: list[_Inlet] = []
        self._seen_last: tuple[MeterReading, Mapping[str, DeviceReading]] | None = None

    @property
    def features(self) -> list[FeatureProvider]:
        """The features that it fills, in the order of a microgrid's state."""
        return [self.voltages, self.flows, self.metrics, self.market, self.clock]

    def adopt(self, features: Iterable[FeatureProvider]) -> None:
        """Fill those of the features that are of its kinds from now on, the first of each."""
        for feature in reversed(list(features)):
            match feature:
                case BusVoltages():
                    self.voltages = feature
                case LineFlows():
                    self.flows = feature
                case NetworkMetrics():
                    self.metrics = feature
                case MarketSignal():
                    self.market = feature
                case TimeOfDay():
                    self.clock = feature
        self._extremes = self.voltages.cell
        self._loading = self.flows.cell
        self._balance = self.metrics.cell

    def lead_to(self, devices: Iterable[DeviceAgent]) -> None:
        """Find where readings and prices go; what a class leaves as it is needs no way round it."""
        self._inlets = [_inlet(device) for device in devices]

    def take(  # noqa: PLR0917 - the parts of a `MicrogridView`, in its order
        self,
        time_s: float,
        meter: MeterReading,
        readings: Mapping[str, DeviceReading],
        price: float,
        day: tuple[float, ...],
        limits: ConnectionLimits,
        age_s: float,
    ) -> None:
        """Take in what is known now; see `MicrogridView`.

        Raises:
            StaleDataError: A device has no reading.
        """
        market = self.market
        market.update(time_s, price, day)
        self.clock.update(time_s)
        known = market.cell.numbers
        price, energy_value = known[0], STORED_ENERGY_VALUE * known[1]
        v_min, v_max = meter.v_min_pu, meter.v_max_pu
        injected = 0.0
        agent = self._agent
        for name, terminals, take_reading, take_prices in self._inlets:
            try:
                reading = readings[name]
            except KeyError:
                raise StaleDataError(f"{agent.agent_id}: no reading of {name}") from None
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
        self._extremes.numbers, self.voltages.measured = (v_min, v_max), self._measured
        self._seen_last = (meter, readings)
        p_mw, q_mvar = meter.p_mw, meter.q_mvar
        self._balance.numbers = (p_mw, q_mvar, injected - p_mw, v_min - 1.0, v_max - 1.0)
        self._loading.numbers = (_hypot(p_mw, q_mvar) / agent.rating_mva,)
        if agent.timeliness is not None:
            agent.timeliness.age = age_s / agent.dt_s
        agent.time_s = time_s
        if limits is not self.limits:
            agent.connection = limits

    def _measured_voltages(self) -> list[float]:
        """Return the voltages of the last view: at the connection, then at each device."""
        if self._seen_last is None:
            return []
        meter, readings = self._seen_last
        return [meter.v_pu, *(readings[name].v_pu for name, *_ in self._inlets)]


def _inlet(device: DeviceAgent) -> _Inlet:
    kind, terminals = type(device), device.terminals
    prices = kind.take_prices is not DeviceAgent.take_prices
    take_reading = terminals.show if device.shows_simply else device.on_reading
    return device.agent_id, terminals, take_reading, device.take_prices if prices else None
