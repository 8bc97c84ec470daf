"""What the configurations of all device types share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AliasChoices, ConfigDict, Field, model_validator

from heron.powergrid.envelope import DeviceLimits, StorageLimits, TapLimits
from heron.powergrid.plain_numbers import PlainNumbers
from heron.powergrid.quantities import DeviceReading, Setpoint

PositiveMw = Annotated[float, Field(gt=0.0, le=1e4)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Efficiency = Annotated[float, Field(gt=0.0, le=1.0)]


def either(*names: str) -> AliasChoices:
    """Return the spellings under which a key is accepted."""
    return AliasChoices(*names)


class DeviceConfig(PlainNumbers):
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
    def tap_limits(self) -> TapLimits | None:
        """What its tap changer must keep within; None where there is none."""
        return None

    @property
    def safe_setpoint(self) -> Setpoint:
        """What it does when communication is lost."""
        return Setpoint(self.safe_p_mw, self.safe_q_mvar)

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
            tap=self.tap_limits,
        )

    def cost_usd_per_h(self, reading: DeviceReading) -> float:
        """Return what it costs to run as the reading shows; override it in a new device."""
        return 0.0

    @property
    def has_one_off(self) -> bool:
        """Whether anything but the running cost may ever come up."""
        return type(self).one_off_usd is not DeviceConfig.one_off_usd

    def one_off_usd(
        self, before: DeviceReading, after: DeviceReading, time_s: float, dt_s: float
    ) -> float:
        """Return what a step costs beside its running cost; override it in a new device.

        Args:
            before: Reading before the step.
            after: Reading of the step.
            time_s: Plant time at which the step began.
            dt_s: Its length.
        """
        return 0.0

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
