"""Configuration of each device type: what a user writes under ``device_state_config``.

Every key is accepted as the guide spells it (``p_max_MW``) and in lower case (``p_max_mw``).
Powers are positive when they inject into the grid, so a battery charges at negative power.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import (
    AliasChoices,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from heron.powergrid.costs import quadratic_cost
from heron.powergrid.device_base import (
    DeviceConfig,
    Efficiency,
    Fraction,
    PositiveMw,
    either,
)
from heron.powergrid.envelope import StorageLimits, TapLimits
from heron.powergrid.plain_numbers import PlainNumbers
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.storage_limits import Curve, PowerTaper, taper_problems

__all__ = [
    "ANY_POWER_MW",
    "DAY_S",
    "DEVICE_CONFIGS",
    "AutonomousMode",
    "ControllableLoadConfig",
    "CustomDeviceConfig",
    "DeviceConfig",
    "EVChargerConfig",
    "GeneratorConfig",
    "InverterSourceConfig",
    "PVConfig",
    "StorageConfig",
    "TapControl",
    "TransformerConfig",
    "WindTurbineConfig",
    "guide_spelling",
]

DAY_S = 86_400.0
ANY_POWER_MW = 1e4
"""Range of a device whose configuration says nothing about its power."""

AutonomousMode = Literal["off", "volt_var", "volt_var_volt_watt"]
"""What an inverter does by itself, by the category B curves of IEEE 1547-2018: its reactive
power follows its own voltage, and its set-point's reactive power is ignored; with volt-watt its
active power gives way to high voltage, too."""


class GeneratorConfig(DeviceConfig):
    """A dispatchable generator. Cost in $/h is ``a P^2 + b P + c`` with P in MW."""

    p_max_mw: PositiveMw = Field(10.0, validation_alias=either("p_max_MW", "p_max_mw"))
    p_min_mw: float = Field(0.0, ge=0.0, validation_alias=either("p_min_MW", "p_min_mw"))
    q_max_mvar: float = Field(5.0, validation_alias=either("q_max_MVAr", "q_max_mvar"))
    q_min_mvar: float = Field(-5.0, validation_alias=either("q_min_MVAr", "q_min_mvar"))
    s_rated_mva: PositiveMw = Field(12.0, validation_alias=either("s_rated_MVA", "s_rated_mva"))
    cost_curve_coefs: tuple[float, float, float] = (0.02, 10.0, 0.0)
    startup_time_hr: float = Field(0.0, ge=0.0)
    shutdown_time_hr: float = Field(0.0, ge=0.0)
    startup_cost_usd: float = Field(0.0, ge=0.0)
    unit_commitment: bool = False

    @property
    def p_range_mw(self) -> tuple[float, float]:
        """From the technical minimum to the maximum."""
        return (self.p_min_mw, self.p_max_mw)

    @property
    def q_range_mvar(self) -> tuple[float, float]:
        """Configured reactive range."""
        return (self.q_min_mvar, self.q_max_mvar)

    @property
    def s_max_mva(self) -> float | None:
        """Rating."""
        return self.s_rated_mva

    def cost_usd_per_h(self, reading: DeviceReading) -> float:
        """Fuel; nothing while it stands still, if it may be switched off."""
        p = reading.p_mw
        if not reading.connected or (self.unit_commitment and p <= 0.0):
            return 0.0
        a, b, c = self.cost_curve_coefs
        return quadratic_cost(p, a, b, c)

    @property
    def has_one_off(self) -> bool:
        """Whether it is ever started."""
        return self.unit_commitment

    def one_off_usd(
        self, before: DeviceReading, after: DeviceReading, time_s: float, dt_s: float
    ) -> float:
        """Return the cost of the start, if it started."""
        started = self.unit_commitment and before.p_mw <= 0.0 < after.p_mw
        return self.startup_cost_usd if started else 0.0


class StorageConfig(DeviceConfig):
    """A battery. ``p_max_mw`` discharges, ``p_min_mw`` (negative) charges.

    Attributes:
        charge_taper: Share of ``p_min_mw`` that it takes, by state of charge: corners
            ``[soc, share]``, linear between them and flat beyond; None for all of it.
        discharge_taper: Share of ``p_max_mw`` that it gives, by state of charge.
    """

    e_capacity_mwh: PositiveMw = Field(
        5.0, validation_alias=either("e_capacity_MWh", "e_capacity_mwh")
    )
    p_max_mw: PositiveMw = Field(1.0, validation_alias=either("p_max_MW", "p_max_mw"))
    p_min_mw: float = Field(-1.0, lt=0.0, validation_alias=either("p_min_MW", "p_min_mw"))
    s_rated_mva: PositiveMw | None = Field(
        None, validation_alias=either("s_rated_MVA", "s_rated_mva")
    )
    q_max_mvar: float = Field(0.0, ge=0.0, validation_alias=either("q_max_MVAr", "q_max_mvar"))
    q_min_mvar: float = Field(0.0, le=0.0, validation_alias=either("q_min_MVAr", "q_min_mvar"))
    soc_max: Fraction = 0.9
    soc_min: Fraction = 0.1
    init_soc: Fraction = 0.5
    ch_eff: Efficiency = 0.95
    dsc_eff: Efficiency = 0.95
    self_discharge_per_h: float = Field(0.0, ge=0.0, lt=1.0)
    charge_taper: Curve | None = None
    discharge_taper: Curve | None = None
    degradation_usd_per_mwh: float = Field(0.0, ge=0.0)
    autonomous: AutonomousMode = "off"

    @property
    def p_range_mw(self) -> tuple[float, float]:
        """Charging (negative) to discharging (positive)."""
        return (self.p_min_mw, self.p_max_mw)

    @property
    def q_range_mvar(self) -> tuple[float, float]:
        """Configured reactive range."""
        return (self.q_min_mvar, self.q_max_mvar)

    @property
    def s_max_mva(self) -> float | None:
        """Rating of the inverter."""
        return self.s_rated_mva

    @property
    def storage_limits(self) -> StorageLimits | None:
        """Its window, capacity and efficiencies."""
        return StorageLimits(
            e_capacity_mwh=self.e_capacity_mwh,
            soc_min=self.soc_min,
            soc_max=self.soc_max,
            ch_eff=self.ch_eff,
            dsc_eff=self.dsc_eff,
            self_discharge_per_h=self.self_discharge_per_h,
            charge_taper=_taper(self.charge_taper, rising=True),
            discharge_taper=_taper(self.discharge_taper, rising=False),
            p_charge_mw=-self.p_min_mw,
            p_discharge_mw=self.p_max_mw,
        )

    def cost_usd_per_h(self, reading: DeviceReading) -> float:
        """Degradation, by the energy that passes the terminals."""
        return self.degradation_usd_per_mwh * abs(reading.p_mw)

    def stored_mwh(self, reading: DeviceReading) -> float:
        """Energy in the battery, before the losses of taking it out."""
        return (reading.soc or 0.0) * self.e_capacity_mwh

    @field_validator("charge_taper", "discharge_taper")
    @classmethod
    def _taper_falls_towards_its_end(
        cls, curve: Curve | None, info: ValidationInfo
    ) -> Curve | None:
        if curve is not None:
            for expected in taper_problems(curve, rising=info.field_name == "charge_taper"):
                raise ValueError(f"{curve!r}: expected {expected}")
        return curve

    @model_validator(mode="after")
    def _charge_window_is_ordered(self) -> Self:
        if not self.soc_min < self.soc_max:
            raise ValueError(f"soc_min {self.soc_min} must be below soc_max {self.soc_max}")
        if not self.soc_min <= self.init_soc <= self.soc_max:
            raise ValueError(f"init_soc {self.init_soc} is outside [soc_min, soc_max]")
        return self


def _taper(curve: Curve | None, *, rising: bool) -> PowerTaper | None:
    return None if curve is None else PowerTaper(curve, rising=rising)


class InverterSourceConfig(DeviceConfig):
    """What PV and wind share: power comes from a profile and can only be curtailed.

    Attributes:
        p_rated_mw: Output at a profile value of 1.
        s_rated_mva: Rating; None for 1.1 times ``p_rated_mw``.
        profile: Column of the data set, per unit of ``p_rated_mw``.
        curtailment_usd_per_mwh: Cost of energy thrown away.
    """

    p_rated_mw: PositiveMw = Field(
        validation_alias=either("p_rated_MW", "p_rated_mw", "p_max_MW", "p_max_mw")
    )
    s_rated_mva: PositiveMw | None = Field(
        None, validation_alias=either("s_rated_MVA", "s_rated_mva")
    )
    q_max_mvar: float | None = Field(None, validation_alias=either("q_max_MVAr", "q_max_mvar"))
    q_min_mvar: float | None = Field(None, validation_alias=either("q_min_MVAr", "q_min_mvar"))
    profile: str = ""
    curtailment_usd_per_mwh: float = Field(0.0, ge=0.0)
    autonomous: AutonomousMode = "off"

    @property
    def p_range_mw(self) -> tuple[float, float]:
        """Zero to rated."""
        return (0.0, self.p_rated_mw)

    @property
    def s_max_mva(self) -> float | None:
        """Rating, 1.1 times the rated power unless given."""
        return 1.1 * self.p_rated_mw if self.s_rated_mva is None else self.s_rated_mva

    @property
    def q_range_mvar(self) -> tuple[float, float]:
        """Configured range; 0.3 of the rating either way unless given."""
        s = self.s_max_mva or 0.0
        low = -0.3 * s if self.q_min_mvar is None else self.q_min_mvar
        high = 0.3 * s if self.q_max_mvar is None else self.q_max_mvar
        return (low, high)

    def cost_usd_per_h(self, reading: DeviceReading) -> float:
        """Energy that sun or wind offered and that was not taken."""
        if reading.available_mw is None:
            return 0.0
        curtailed_mw = reading.available_mw - reading.p_mw
        return self.curtailment_usd_per_mwh * curtailed_mw if curtailed_mw > 0.0 else 0.0


class PVConfig(InverterSourceConfig):
    """A photovoltaic inverter."""


class WindTurbineConfig(InverterSourceConfig):
    """A wind turbine with curtailment."""

    curtailment_usd_per_mwh: float = Field(5.0, ge=0.0)


class TapControl(PlainNumbers):
    """How a tap changer regulates the voltage of its own bus while nobody commands it.

    Attributes:
        v_set_pu: Wanted voltage, mean of the phases.
        bandwidth_pu: Width of the dead band around it; at least one step of the tap.
        delay_s: Plant seconds that the voltage must be out of band before the tap moves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    v_set_pu: float = Field(1.0, gt=0.8, lt=1.2)
    bandwidth_pu: float = Field(2.0 / 120.0, gt=0.0, le=0.2)
    delay_s: float = Field(0.0, ge=0.0)


class TransformerConfig(DeviceConfig):
    """A transformer with a discrete tap changer; its action is the tap position.

    Attributes:
        bus: Bus whose voltage it reads and regulates; empty for the output of its element.
        element: Name of the transformer or regulator in the network data.
        tap_step_pu: Voltage per tap.
        tap_cost_usd: Wear of one tap move.
        init_tap: Position after a reset; None for the one nearest to neutral.
        safe_tap: Position to which it goes when it hears nothing. None: it regulates by itself if
            it has a ``local_control``, and else stays where it is.
        local_control: How it regulates by itself; None for not at all.
        tap_time_s: Plant seconds that one move takes.
        max_tap_moves: Most moves in each ``tap_moves_interval_s``; None for no limit.
        tap_moves_interval_s: Intervals counted from the start of the data year; None for every
            step of the plant.
    """

    bus: str = ""
    element: str
    tap_min: int = Field(-16, ge=-32)
    tap_max: int = Field(16, le=32)
    tap_step_pu: float = Field(0.00625, gt=0.0, le=0.05)
    tap_cost_usd: float = Field(0.1, ge=0.0)
    init_tap: int | None = None
    safe_tap: int | None = None
    local_control: TapControl | None = None
    tap_time_s: float = Field(0.0, ge=0.0)
    max_tap_moves: int | None = Field(None, ge=1)
    tap_moves_interval_s: float | None = Field(None, gt=0.0)
    s_rated_mva: PositiveMw = Field(5.0, validation_alias=either("s_rated_MVA", "s_rated_mva"))

    @property
    def p_range_mw(self) -> tuple[float, float]:
        """A transformer injects nothing."""
        return (0.0, 0.0)

    @property
    def start_tap(self) -> int:
        """Position after a reset."""
        nearest = min(max(0, self.tap_min), self.tap_max)
        return nearest if self.init_tap is None else self.init_tap

    @property
    def tap_limits(self) -> TapLimits:
        """Its range, and how fast it may move."""
        return TapLimits(
            tap_min=self.tap_min,
            tap_max=self.tap_max,
            tap_time_s=self.tap_time_s,
            max_moves=self.max_tap_moves,
            moves_interval_s=self.tap_moves_interval_s,
        )

    @property
    def safe_setpoint(self) -> Setpoint:
        """Where the tap goes when nothing is heard."""
        return Setpoint(0.0, 0.0, self.safe_tap)

    def one_off_usd(
        self, before: DeviceReading, after: DeviceReading, time_s: float, dt_s: float
    ) -> float:
        """Wear of the moves of this step."""
        if before.tap is None or after.tap is None:
            return 0.0
        return self.tap_cost_usd * abs(after.tap - before.tap)

    @model_validator(mode="after")
    def _taps_are_in_range(self) -> Self:
        for key, tap in (("init_tap", self.init_tap), ("safe_tap", self.safe_tap)):
            if tap is not None and not self.tap_min <= tap <= self.tap_max:
                raise ValueError(f"{key} {tap} is outside {self.tap_min} to {self.tap_max}")
        control = self.local_control
        if control is not None and control.bandwidth_pu < self.tap_step_pu:
            band = f"bandwidth_pu {control.bandwidth_pu}"
            raise ValueError(f"{band}: a band narrower than a step, {self.tap_step_pu}, hunts")
        return self


class ControllableLoadConfig(DeviceConfig):
    """A load that may be reduced. It injects negative power.

    Attributes:
        p_rated_mw: Demand at a profile value of 1 (an amount, positive).
        sheddable: Share of the demand that may be taken off.
        discomfort_usd_per_mwh: Cost of energy not served.
    """

    p_rated_mw: PositiveMw = Field(validation_alias=either("p_rated_MW", "p_rated_mw"))
    power_factor: float = Field(0.95, gt=0.0, le=1.0)
    sheddable: Fraction = 0.5
    profile: str = ""
    discomfort_usd_per_mwh: float = Field(200.0, ge=0.0)

    @property
    def p_range_mw(self) -> tuple[float, float]:
        """Full demand (negative) to nothing; the device itself keeps what cannot be shed."""
        return (-self.p_rated_mw, 0.0)

    def cost_usd_per_h(self, reading: DeviceReading) -> float:
        """Discomfort of the demand that is not served.

        ``available_mw`` of a load is what it would take unshed, as an injection (negative).
        """
        if reading.available_mw is None:
            return 0.0
        return self.discomfort_usd_per_mwh * max(0.0, reading.p_mw - reading.available_mw)


class EVChargerConfig(DeviceConfig):
    """A charging point: charges (negative power) while a car is connected.

    Attributes:
        arrival_hour: Hour of day at which the car comes.
        departure_hour: Hour of day at which it leaves, with ``soc_target`` wanted.
        init_soc: What is in a car that comes.
        init_soc_spread: By how much that differs from day to day, either way: drawn evenly, by
            the seed of the plant's reset.
        v2g: Whether it may discharge.
    """

    e_capacity_mwh: PositiveMw = Field(
        0.06, validation_alias=either("e_capacity_MWh", "e_capacity_mwh")
    )
    p_max_charge_mw: PositiveMw = Field(
        0.011, validation_alias=either("p_max_charge_MW", "p_max_charge_mw")
    )
    v2g: bool = False
    arrival_hour: float = Field(18.0, ge=0.0, lt=24.0)
    departure_hour: float = Field(7.0, ge=0.0, lt=24.0)
    init_soc: Fraction = 0.4
    init_soc_spread: Fraction = 0.0
    soc_target: Fraction = 0.9
    ch_eff: Efficiency = 0.93
    dsc_eff: Efficiency = 0.93
    unserved_usd_per_mwh: float = Field(300.0, ge=0.0)

    @property
    def p_range_mw(self) -> tuple[float, float]:
        """Charging is negative; discharging only with ``v2g``."""
        return (-self.p_max_charge_mw, self.p_max_charge_mw if self.v2g else 0.0)

    @property
    def storage_limits(self) -> StorageLimits | None:
        """The car's battery."""
        return StorageLimits(self.e_capacity_mwh, ch_eff=self.ch_eff, dsc_eff=self.dsc_eff)

    def one_off_usd(
        self, before: DeviceReading, after: DeviceReading, time_s: float, dt_s: float
    ) -> float:
        """Energy that the car lacks when it leaves, counted in the step in which it leaves."""
        until_departure_s = (self.departure_hour * 3600.0 - time_s) % DAY_S or DAY_S
        if until_departure_s > dt_s or after.soc is None:
            return 0.0
        missing = max(0.0, self.soc_target - after.soc) * self.e_capacity_mwh
        return self.unserved_usd_per_mwh * missing


class CustomDeviceConfig(DeviceConfig):
    """What a user's device has whose type declares no configuration of its own.

    Takes any key. Its power range comes from ``p_min_MW`` and ``p_max_MW`` (or ``p_rated_MW``)
    and ``q_min_MVAr`` and ``q_max_MVAr`` where they stand; declare a model to have keys checked.
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    bus: str = ""

    @property
    def p_range_mw(self) -> tuple[float, float]:
        """What the keys say; from zero if only the highest power is given."""
        high = self._number("p_max_mw", "p_rated_mw")
        low = self._number("p_min_mw")
        if high is None:
            return (-ANY_POWER_MW if low is None else low, ANY_POWER_MW)
        return (0.0 if low is None else low, high)

    @property
    def q_range_mvar(self) -> tuple[float, float]:
        """What the keys say; zero where nothing is said."""
        return (self._number("q_min_mvar") or 0.0, self._number("q_max_mvar") or 0.0)

    def _number(self, *names: str) -> float | None:
        for key, value in (self.model_extra or {}).items():
            if key.lower() in names:
                return float(value)
        return None


def guide_spelling(config: DeviceConfig) -> dict[str, Any]:
    """Return what was set in a configuration, under the guide's keys (``p_max_MW``)."""
    fields = type(config).model_fields
    said: dict[str, Any] = {}
    for name in config.model_fields_set:
        field = fields.get(name)
        alias = field.validation_alias if field is not None else None
        key = str(alias.choices[0]) if isinstance(alias, AliasChoices) else name
        said[key] = getattr(config, name)
    return said


DEVICE_CONFIGS: Mapping[str, type[DeviceConfig]] = {
    "Generator": GeneratorConfig,
    "ESS": StorageConfig,
    "PV": PVConfig,
    "WindTurbine": WindTurbineConfig,
    "Transformer": TransformerConfig,
    "ControllableLoad": ControllableLoadConfig,
    "EVCharger": EVChargerConfig,
}
"""Device types that ship, by their name in a setup. Users add theirs with the registry in
`heron.powergrid.agents`."""
