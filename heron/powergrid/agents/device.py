"""The base of all device agents: it proposes, the envelope decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from heron.agents import FieldAgent
from heron.core import FIELD_LEVEL, FieldAgentState, Policy
from heron.errors import ConfigError, ConfigProblem
from heron.policy.codec import ActionMapping, SetpointSpec
from heron.powergrid.agents.part_decoder import PartDecoder, part_decoder
from heron.powergrid.agents.terminals import Terminals
from heron.powergrid.device_configs import CustomDeviceConfig, DeviceConfig
from heron.powergrid.envelope import Admitted, DeviceLimits, EnvelopeResult, admit
from heron.powergrid.features import (
    ElectricalBasePh,
    InverterBasedSource,
    PowerLimits,
    Row,
    RowFeature,
    StatusBlock,
    StorageBlock,
)
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.setups.problems import problems_of
from heron.protocols import Protocol
from heron.scheduling import TickConfig

FeatureT = TypeVar("FeatureT")
Vector = NDArray[np.float64]
DEFAULT_DT_S = 900.0


class DeviceAgent(FieldAgent):
    """One power device.

    A new device overrides what is its own: `set_state` (its features), `set_action` (its action
    space), `apply_action` or `setpoint_specs` (what an action means), `update_state` and
    `update_cost_safety`. However it does so, what it leaves in its electrical feature or
    proposes goes through the envelope, and ``setpoint`` is what passed.

    Args:
        agent_id: Unique name.
        device_state_config: Its configuration: a mapping or a `DeviceConfig`.
        kwargs: Passed to `FieldAgent`.

    Attributes:
        config_model: Model that checks ``device_state_config``.
        config: The checked configuration, unless a subclass replaced it.
        terminals: Its last reading and the set-point in force.
    """

    config_model: ClassVar[type[DeviceConfig]] = CustomDeviceConfig
    config: Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Lead an overridden `apply_action` through the envelope."""
        super().__init_subclass__(**kwargs)
        own = cls.__dict__.get("apply_action")
        if own is not None:
            cls.apply_action = _through_the_envelope(own)  # type: ignore[method-assign]

    def __init__(
        self,
        agent_id: str,
        policy: Policy | None = None,
        protocol: Protocol | None = None,
        device_state_config: Mapping[str, Any] | DeviceConfig | None = None,
        *,
        tick_config: TickConfig | None = None,
        dt_s: float = DEFAULT_DT_S,
        **kwargs: Any,
    ) -> None:
        own_config = self.__dict__.get("config")
        checked = self._check(agent_id, device_state_config)
        super().__init__(
            agent_id=agent_id,
            policy=policy,
            protocol=protocol,
            tick_config=tick_config,
            config=checked,
            **kwargs,
        )
        if own_config is not None:
            self.config = own_config
        self.device_config = checked
        dt_s = checked_interval(agent_id, dt_s)
        self.terminals = Terminals(checked.limits, checked.safe_setpoint, dt_s)
        self._specs: tuple[SetpointSpec, ...] | None = None
        self._decode: PartDecoder | None = None

    @classmethod
    def _check(cls, agent_id: str, config: Mapping[str, Any] | DeviceConfig | None) -> DeviceConfig:
        if isinstance(config, DeviceConfig):
            return config
        try:
            return cls.config_model.model_validate(dict(config or {}))
        except ValidationError as error:
            raise ConfigError(problems_of(error, agent_id)) from error

    def complete(self) -> None:
        """Find the features that readings fill."""
        super().complete()
        self.find_rows()

    def find_rows(self) -> None:
        """Find the features that readings fill, where the state may have got others."""
        terminals = self.terminals
        self._wider: list[tuple[Row, int]] = []
        terminals.electrical = self._row_of(ElectricalBasePh)
        terminals.source = self._row_of(InverterBasedSource)
        terminals.status = self._row_of(StatusBlock)
        terminals.storage = self._row_of(StorageBlock)

    def _row_of(self, kind: type[RowFeature]) -> Row | None:
        feature = self.find_feature(kind)
        if feature is None:
            return None
        if len(feature.row) > len(kind.fields):
            self._wider.append((feature.cell, len(kind.fields)))
        return feature.cell

    def find_feature(self, kind: type[FeatureT]) -> FeatureT | None:
        """Return the first feature of a class, or None."""
        for feature in self.state.features:
            if isinstance(feature, kind):
                return feature
        return None

    # --- what a new device overrides ----------------------------------------------------

    def set_state(self) -> None:
        """Start an empty state; override it and append features."""
        self.state = FieldAgentState(owner_id=self.agent_id, owner_level=FIELD_LEVEL)

    def set_action(self) -> None:
        """Declare one normalised number for each set-point."""
        size = len(self.setpoint_specs())
        self.action.set_specs(dim_c=size, range=(-np.ones(size), np.ones(size)))

    def setpoint_specs(self) -> tuple[SetpointSpec, ...]:
        """Return what each number of the action means, in order: active, then reactive power."""
        if self._specs is None:
            self._specs = self._make_specs()
        return self._specs

    p_mapping: ClassVar[str] = ActionMapping.LINEAR

    def _make_specs(self) -> tuple[SetpointSpec, ...]:
        limits = self.limits
        specs = []
        if limits.p_min_mw < limits.p_max_mw:
            low, high = limits.p_min_mw, limits.p_max_mw
            specs.append(SetpointSpec(self.agent_id, "p_mw", low, high, self.p_mapping))
        if limits.q_min_mvar < limits.q_max_mvar:
            low, high = limits.q_min_mvar, limits.q_max_mvar
            specs.append(SetpointSpec(self.agent_id, "q_mvar", low, high, ActionMapping.CENTRED))
        return tuple(specs)

    def update_state(
        self, reading: DeviceReading | None = None, dt: float | None = None, **kwargs: Any
    ) -> None:
        """Take feedback into the state.

        Args:
            reading: What the device shows.
            dt: Hours that have passed; a device without a plant advances itself by them.
            kwargs: For overrides.
        """
        if reading is not None:
            self.take_reading(reading)
        if dt is not None:
            self.advance(dt)

    def advance(self, dt: float) -> None:
        """Let ``dt`` hours pass without a plant; what stores energy overrides it."""

    def update_cost_safety(self) -> None:
        """Cost of one step as the last reading shows it; no device is unsafe by itself."""
        reading = self.reading
        self.cost = 0.0
        if reading is not None:
            self.cost = self.device_config.cost_usd_per_h(reading) * self.dt_s / 3600.0
        self.safety = 0.0

    def respond_to_price(self, price: float) -> Vector:
        """Return the action that serves the device's own interest at a price, $/MWh.

        Args:
            price: A number; a vector of one, such as a coordinator's action, counts as its number.

        Raises:
            ValueError: It is no single number.
        """
        if not isinstance(price, float):
            price = self._single(price)
        return self.action_for(self._best_p_mw(price))

    def _single(self, price: ArrayLike) -> float:
        numbers = np.asarray(price, dtype=float)
        if numbers.size != 1:
            shape = f"a price of shape {numbers.shape}"
            raise ValueError(f"{self.agent_id}: {shape}, expected one number in $/MWh")
        return float(numbers.reshape(()))

    def offered_mw(self, price: float) -> float:
        """Return the power that it would inject at a price, within its envelope."""
        wanted = Setpoint(self._best_p_mw(price), 0.0, self.setpoint.tap)
        applied = self.admit(wanted).applied
        return 0.0 if applied is None else applied.p_mw

    def _best_p_mw(self, price: float) -> float:
        """Return the active power that pays at a price; as little as possible by default."""
        return min(max(0.0, self.limits.p_min_mw), self.limits.p_max_mw)

    # --- readings, proposals, the envelope ----------------------------------------------

    @property
    def limits(self) -> DeviceLimits:
        """Its envelope."""
        return self.terminals.limits

    @limits.setter
    def limits(self, limits: DeviceLimits) -> None:
        self.terminals.limits = limits

    @property
    def reading(self) -> DeviceReading | None:
        """What it showed last; None before the first."""
        return self.terminals.reading

    @reading.setter
    def reading(self, reading: DeviceReading | None) -> None:
        self.terminals.reading = reading

    @property
    def setpoint(self) -> Setpoint:
        """The set-point in force, after the envelope; `command` is the way to another."""
        return self.terminals.setpoint

    def hold(self, setpoint: Setpoint) -> None:
        """Take a set-point that is in force at the device already: written, or recorded there.

        A proposal goes through `command`, which asks the envelope.
        """
        self.terminals.setpoint = setpoint

    @property
    def proposal(self) -> Setpoint:
        """What was last proposed, before the envelope."""
        return self.terminals.proposal

    @property
    def result(self) -> EnvelopeResult | None:
        """What the envelope last said."""
        return self.terminals.result

    @property
    def dt_s(self) -> float:
        """Plant seconds until the next set-point can come."""
        return self.terminals.dt_s

    @dt_s.setter
    def dt_s(self, dt_s: float) -> None:
        self.terminals.dt_s = dt_s

    @property
    def energy_value(self) -> float:
        """What stored energy is worth, $/MWh; set by the coordinator."""
        return self.terminals.energy_value

    @energy_value.setter
    def energy_value(self, usd_per_mwh: float) -> None:
        self.terminals.energy_value = usd_per_mwh

    @property
    def safe_setpoint(self) -> Setpoint:
        """What the device does when it hears nothing."""
        return self.device_config.safe_setpoint

    def take_reading(self, reading: DeviceReading) -> None:
        """Fill the features from what the device shows."""
        further = [(row, row.numbers[n:]) for row, n in self._wider]
        self.terminals.show(reading)
        for row, rest in further:
            row.numbers += rest

    def on_reading(self, reading: DeviceReading) -> None:
        """Hand a reading to `update_state`, as whoever read the device does in every clock."""
        self.update_state(reading=reading)

    @property
    def shows_simply(self) -> bool:
        """Whether a reading fills the shipped fields of its features and that is all."""
        kind, base = type(self), DeviceAgent
        as_shipped = (
            kind.take_reading is base.take_reading
            and kind.update_state is base.update_state
            and kind.on_reading is base.on_reading
        )
        return as_shipped and not self._wider

    def take_prices(self, time_s: float, price: float, day: tuple[float, ...]) -> None:
        """Take in what the coordinator knows of prices; a store overrides it.

        Args:
            time_s: Plant time now.
            price: Price now, $/MWh.
            day: Prices of this plant day as they are known or expected, or empty.
        """

    def propose(self, action: ArrayLike) -> Setpoint:
        """Return the set-point that a normalised action asks for.

        Raises:
            ValueError: The action has the wrong shape or is not finite.
        """
        return self.part_decoder().setpoint(self.checked_action(action).tolist(), 0)

    def part_decoder(self) -> PartDecoder:
        """Return what turns its part of an action into a set-point, at every step."""
        if self._decode is None:
            self._decode = part_decoder(self.setpoint_specs(), self.terminals)
        return self._decode

    def action_for(self, p_mw: float, q_mvar: float = 0.0) -> Vector:
        """Return the action that asks for a power: the inverse of `propose`."""
        wanted = {"p_mw": p_mw, "q_mvar": q_mvar}
        return np.array([spec.encode(wanted[spec.quantity]) for spec in self.setpoint_specs()])

    def admit(self, setpoint: Setpoint, dt_s: float | None = None) -> EnvelopeResult:
        """Ask the envelope, on the latest reading; changes nothing.

        Args:
            setpoint: What is proposed.
            dt_s: Plant seconds until the next set-point; the agent's own if not given.
        """
        if dt_s is None:
            dt_s = self.dt_s
        return admit(setpoint, self.limits, self.reading, self.setpoint, dt_s)

    def command(self, setpoint: Setpoint, dt_s: float | None = None) -> EnvelopeResult:
        """Propose a set-point to the envelope and take over what it lets pass."""
        return self.terminals.command(setpoint, dt_s)

    def apply_action(self, action: ArrayLike) -> None:
        """Propose what an action asks for; the envelope leaves ``setpoint``."""
        self.command(self.propose(action))

    def reset(self, seed: int | None = None, **kwargs: Any) -> None:
        """Return to the start; features that were put in others' places are filled from now."""
        self.find_rows()
        super().reset(seed, **kwargs)

    def reset_agent(self, **kwargs: Any) -> None:
        """Forget readings and set-points."""
        self.terminals.forget(self.safe_setpoint)

    @property
    def was_limited(self) -> bool:
        """Whether the envelope changed or refused the last proposal."""
        return self.result is not None and not isinstance(self.result, Admitted)

    def limits_feature(self) -> PowerLimits:
        """Return its ranges as a feature, to append in `set_state`."""
        limits = self.limits
        return PowerLimits(
            p_max_MW=limits.p_max_mw,
            p_min_MW=limits.p_min_mw,
            q_max_MVAr=limits.q_max_mvar,
            q_min_MVAr=limits.q_min_mvar,
        )

    def electrical_feature(self) -> ElectricalBasePh:
        """Return a terminal feature scaled by the rating, to append in `set_state`."""
        limits = self.limits
        rating = limits.s_max_mva or max(abs(limits.p_min_mw), abs(limits.p_max_mw))
        return ElectricalBasePh(base_MVA=rating or 1.0)


def checked_interval(agent_id: str, dt_s: float) -> float:
    """Return a control interval.

    Raises:
        ConfigError: It is none.
    """
    if not (isinstance(dt_s, (int, float)) and 0.0 < dt_s < math.inf):
        expected = "plant seconds, finite and above 0"
        raise ConfigError([ConfigProblem(f"{agent_id}: dt_s", dt_s, expected)])
    return dt_s


def _through_the_envelope(own: Callable[..., None]) -> Callable[..., None]:
    """Let the envelope see what an overridden `apply_action` did to the electrical feature."""

    @wraps(own)
    def apply_action(self: DeviceAgent, action: ArrayLike, *args: Any, **kwargs: Any) -> None:
        before = self.result
        own(self, self.checked_action(action), *args, **kwargs)
        electrical = self.find_feature(ElectricalBasePh)
        if self.result is before and electrical is not None:
            self.command(Setpoint(float(electrical.p_MW), float(electrical.q_MVAr)))

    return apply_action
