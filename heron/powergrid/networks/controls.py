"""Settings of the automatic controls that a feeder carries.

The controls are part of the network: they act on local measurements only, without any agent.
"""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict, Field, model_validator

from heron.powergrid.plain_numbers import PlainNumbers


class RegulatorControl(PlainNumbers):
    """Line-drop compensation of one regulator bank, on a 120 V base.

    Attributes:
        v_set: Wanted voltage, V.
        bandwidth_v: Width of the dead band, V.
        r_v: Resistive setting, V.
        x_v: Reactive setting, V.
        pt_ratio: Potential transformer ratio.
        ct_primary_a: Primary rating of the current transformer, A.
        delay_s: Time that the voltage must be out of band before the tap moves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    v_set: float = Field(gt=90, lt=150)
    bandwidth_v: float = Field(2.0, gt=0)
    r_v: float = 0.0
    x_v: float = 0.0
    pt_ratio: float = Field(gt=0)
    ct_primary_a: float = Field(gt=0)
    delay_s: float = Field(0.0, ge=0)


class CapacitorControl(PlainNumbers):
    """Voltage control of a switched capacitor, on a 120 V base.

    The capacitor closes below ``on_v`` and opens above ``off_v``, measured as the mean of the
    phases at its own bus.

    Attributes:
        on_v: Voltage below which it switches on, V.
        off_v: Voltage above which it switches off, V; above ``on_v``.
        pt_ratio: Potential transformer ratio.
        delay_s: Time that the voltage must be out of band before it switches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    on_v: float = Field(gt=90, lt=150)
    off_v: float = Field(gt=90, lt=150)
    pt_ratio: float = Field(gt=0)
    delay_s: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _limits_are_ordered(self) -> Self:
        if self.on_v >= self.off_v:
            raise ValueError(f"on_v {self.on_v} must be below off_v {self.off_v}")
        return self
