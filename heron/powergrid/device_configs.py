"""Configuration of each device type: what a user writes under ``device_state_config``.

Every key is accepted as the guide spells it (``p_max_MW``) and in lower case (``p_max_mw``).
Powers are positive when they inject into the grid, so a battery charges at negative power.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from heron.powergrid.envelope import DeviceLimits, StorageLimits
from heron.powergrid.quantities import DeviceReading


def _either(*names: str) -> AliasChoices:
    return AliasChoices(*names)


DAY_S = 86_400.0
ANY_POWER_MW = 1e4
"""Range of a device whose configuration says nothing about its power."""

PositiveMw = Annotated[float, Field(gt=0.0, le=1e4)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Efficiency = Annotated[float, Field(gt=0.0, le=1.0)]
AutonomousMode = Literal["off", "volt_var", "volt_var_volt_watt"]
"""What an inverter does by itself, by the category B curves of IEEE 1547-2018: its reactive
power follows its own voltage, and its set-point's reactive power is ignored; with volt-watt its
active power gives way to high voltage, too."""


class DeviceConfig(BaseModel):
    """What all devices share.

    Attributes:
        bus: Bus that it is connected to, in its microgrid's own naming ("Bus 633").
        phases: Phases that it is connected to; three-phase devices are balanced.
        ramp_mw_per_min: Largest change of active power; None for no limit.
        envelope_v_pu: Terminal voltages (low, high) between which the safety envelope lets
            a set-point pass unchanged; None leaves voltage to the policy.
        safe_p_mw: Active power of the safe set-point when communication is lost.
        safe_q_mvar: Reactive power of the safe set-point.
        reversion_s: Plant seconds after which a device that hears nothing returns to its
            safe set-point by itself; None for three control intervals.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )

    bus: str
    phases: tuple[str, ...] = ("a", "b", "c")
    ramp_mw_per_min: float | None = Field(default=None, gt=0.0)
    envelope_v_pu: tuple[float, float] | None = None
    safe_p_mw: float = 0.0
    safe_q_mvar: float = 0.0
    reversion_s: float | None = Field(default=None, gt=0.0)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return a field by the guide's spelling, e.g. ``config.p_max_MW``."""
            field = name.lower()
            if field != name and field in type(self).model_fields:
                return getattr(self, field)
            return super().__getattr__(name)

    @property
    def p_range_mw(self) -> tuple[float, float]:
        """Lowest and highest active power, positive = injects."""
        raise NotImplementedError

    @property
    def q_range_mvar(self) -> tuple[float, float]:
        """Lowest and highest reactive power, positive = injects."""
        return (0.0, 0.0)

    @property
    def s_max_mva(self) -> float | None:
        """Apparent-power rating; None for no circle."""
        return None

    @property
    def storage_limits(self) -> StorageLimits | None:
        """What the state of charge must keep within; None where nothing is stored."""
        return None

    @property
    def limits(self) -> DeviceLimits:
        """The safety envelope."""
        p_low, p_high = self.p_range_mw
        q_low, q_high = self.q_range_mvar
        return DeviceLimits(
            p_min_mw=p_low,
            p_max_mw=p_high,
            q_min_mvar=q_low,
            q_max_mvar=q_high,
            s_max_mva=self.s_max_mva,
            ramp_mw_per_min=self.ramp_mw_per_min,
            storage=self.storage_limits,
            v_band_pu=self.envelope_v_pu,
        )

    def cost_usd_per_h(self, reading: DeviceReading) -> float:
        """Return what it costs to run as the reading shows; override it in a new device."""
        return 0.0

    def cost_usd(
        self, before: DeviceReading, after: DeviceReading, time_s: float, dt_s: float
    ) -> float:
        """Return the cost of one step: the running cost, and what happens once.

        Args:
            before: Reading before the step.
            after: Reading of the step.
            time_s: Plant time at which the step began.
            dt_s: Its length.
        """
        return self.cost_usd_per_h(after) * dt_s / 3600.0

    def stored_mwh(self, reading: DeviceReading) -> float:
        """Return the stored energy that belongs to the microgrid and is worth money.

        Asked for devices that show a state of charge.
        """
        return 0.0

    @model_validator(mode="after")
    def _phases_are_known(self) -> Self:
        unknown = sorted(set(self.phases) - {"a", "b", "c"})
        if unknown or not self.phases or len(set(self.phases)) != len(self.phases):
            raise ValueError(f"phases {self.phases!r}: expected distinct ones of a, b, c")
        if self.envelope_v_pu is not None and self.envelope_v_pu[0] >= self.envelope_v_pu[1]:
            raise ValueError(f"envelope_v_pu {self.envelope_v_pu!r}: expected low < high")
        return self

    @model_validator(mode="after")
    def _envelope_can_be_built(self) -> Self:
        _ = self.limits
        return self


class GeneratorConfig(DeviceConfig):
    """A dispatchable generator. Cost in $/h is ``a P^2 + b P + c`` with P in MW."""

    p_max_mw: PositiveMw = Field(10.0, validation_alias=_either("p_max_MW", "p_max_mw"))
    p_min_mw: float = Field(0.0, ge=0.0, validation_alias=_either("p_min_MW", "p_min_mw"))
    q_max_mvar: float = Field(5.0, validation_alias=_either("q_max_MVAr", "q_max_mvar"))
    q_min_mvar: float = Field(-5.0, validation_alias=_either("q_min_MVAr", "q_min_mvar"))
    s_rated_mva: PositiveMw = Field(12.0, validation_alias=_either("s_rated_MVA", "s_rated_mva"))
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
        return a * p * p + b * p + c

    def cost_usd(
        self, before: DeviceReading, after: DeviceReading, time_s: float, dt_s: float
    ) -> float:
        """Fuel, and the start if it started."""
        started = self.unit_commitment and before.p_mw <= 0.0 < after.p_mw
        running = self.cost_usd_per_h(after) * dt_s / 3600.0
        return running + self.startup_cost_usd if started else running


class StorageConfig(DeviceConfig):
    """A battery. ``p_max_mw`` discharges, ``p_min_mw`` (negative) charges."""

    e_capacity_mwh: PositiveMw = Field(
        5.0, validation_alias=_either("e_capacity_MWh", "e_capacity_mwh")
    )
    p_max_mw: PositiveMw = Field(1.0, validation_alias=_either("p_max_MW", "p_max_mw"))
    p_min_mw: float = Field(-1.0, lt=0.0, validation_alias=_either("p_min_MW", "p_min_mw"))
    s_rated_mva: PositiveMw | None = Field(
        None, validation_alias=_either("s_rated_MVA", "s_rated_mva")
    )
    q_max_mvar: float = Field(0.0, ge=0.0, validation_alias=_either("q_max_MVAr", "q_max_mvar"))
    q_min_mvar: float = Field(0.0, le=0.0, validation_alias=_either("q_min_MVAr", "q_min_mvar"))
    soc_max: Fraction = 0.9
    soc_min: Fraction = 0.1
    init_soc: Fraction = 0.5
    ch_eff: Efficiency = 0.95
    dsc_eff: Efficiency = 0.95
    self_discharge_per_h: float = Field(0.0, ge=0.0, lt=1.0)
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
        )

    def cost_usd_per_h(self, reading: DeviceReading) -> float:
        """Degradation, by the energy that passes the terminals."""
        return self.degradation_usd_per_mwh * abs(reading.p_mw)

    def stored_mwh(self, reading: DeviceReading) -> float:
        """Energy in the battery, before the losses of taking it out."""
        return (reading.soc or 0.0) * self.e_capacity_mwh

    @model_validator(mode="after")
    def _charge_window_is_ordered(self) -> Self:
        if not self.soc_min < self.soc_max:
            raise ValueError(f"soc_min {self.soc_min} must be below soc_max {self.soc_max}")
        if not self.soc_min <= self.init_soc <= self.soc_max:
            raise ValueError(f"init_soc {self.init_soc} is outside [soc_min, soc_max]")
        return self


class InverterSourceConfig(DeviceConfig):
    """What PV and wind share: power comes from a profile and can only be curtailed.

    Attributes:
        p_rated_mw: Output at a profile value of 1.
        s_rated_mva: Rating; None for 1.1 times ``p_rated_mw``.
        profile: Column of the data set, per unit of ``p_rated_mw``.
        curtailment_usd_per_mwh: Cost of energy thrown away.
    """

    p_rated_mw: PositiveMw = Field(
        validation_alias=_either("p_rated_MW", "p_rated_mw", "p_max_MW", "p_max_mw")
    )
    s_rated_mva: PositiveMw | None = Field(
        None, validation_alias=_either("s_rated_MVA", "s_rated_mva")
    )
    q_max_mvar: float | None = Field(None, validation_alias=_either("q_max_MVAr", "q_max_mvar"))
    q_min_mvar: float | None = Field(None, validation_alias=_either("q_min_MVAr", "q_min_mvar"))
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
        return self.curtailment_usd_per_mwh * max(0.0, reading.available_mw - reading.p_mw)


class PVConfig(InverterSourceConfig):
    """A photovoltaic inverter."""


class WindTurbineConfig(InverterSourceConfig):
    """A wind turbine with curtailment."""

    curtailment_usd_per_mwh: float = Field(5.0, ge=0.0)


class TransformerConfig(DeviceConfig):
    """A transformer with a discrete tap changer; its action is the tap position.

    Attributes:
        element: Name of the transformer or regulator in the network data.
        tap_step_pu: Voltage per tap.
        tap_cost_usd: Wear of one tap move.
    """

    element: str
    tap_min: int = Field(-16, ge=-32)
    tap_max: int = Field(16, le=32)
    tap_step_pu: float = Field(0.00625, gt=0.0, le=0.05)
    tap_cost_usd: float = Field(0.1, ge=0.0)
    s_rated_mva: PositiveMw = Field(5.0, validation_alias=_either("s_rated_MVA", "s_rated_mva"))

    @property
    def p_range_mw(self) -> tuple[float, float]:
        """A transformer injects nothing."""
        return (0.0, 0.0)


class ControllableLoadConfig(DeviceConfig):
    """A load that may be reduced. It injects negative power.

    Attributes:
        p_rated_mw: Demand at a profile value of 1 (an amount, positive).
        sheddable: Share of the demand that may be taken off.
        discomfort_usd_per_mwh: Cost of energy not served.
    """

    p_rated_mw: PositiveMw = Field(validation_alias=_either("p_rated_MW", "p_rated_mw"))
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
        v2g: Whether it may discharge.
    """

    e_capacity_mwh: PositiveMw = Field(
        0.06, validation_alias=_either("e_capacity_MWh", "e_capacity_mwh")
    )
    p_max_charge_mw: PositiveMw = Field(
        0.011, validation_alias=_either("p_max_charge_MW", "p_max_charge_mw")
    )
    v2g: bool = False
    arrival_hour: float = Field(18.0, ge=0.0, lt=24.0)
    departure_hour: float = Field(7.0, ge=0.0, lt=24.0)
    init_soc: Fraction = 0.4
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

    def cost_usd(
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
