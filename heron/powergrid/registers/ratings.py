"""A nameplate, and the SunSpec models and scale factors that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from heron.powergrid.device_configs import DeviceConfig, InverterSourceConfig
from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.scales import (
    INT16,
    INT32,
    NOMINAL_LL_V,
    UINT16,
    exponent_for,
)
from heron.powergrid.registers.sunspec import ModelChoice

_FIXED_EXPONENTS = {"Hz_SF": -3, "PF_SF": -3, "V_SF": -2, "TotWh_SF": 0, "TotVarh_SF": 0}


@dataclass(frozen=True, slots=True)
class Ratings:
    """What stands on a device's nameplate; positive = injects.

    Attributes:
        p_mw: Lowest and highest active power.
        q_mvar: Lowest and highest reactive power.
        s_mva: Apparent power.
        e_mwh: Energy that it stores; None where it stores none.
        phases: Phases that it is connected to.
        curtail_only: Its power comes from sun or wind, so it takes a ceiling.
    """

    p_mw: tuple[float, float]
    q_mvar: tuple[float, float]
    s_mva: float
    e_mwh: float | None
    phases: tuple[str, ...]
    curtail_only: bool

    @classmethod
    def of(cls, config: DeviceConfig) -> Ratings:
        """Read the ratings from a device's configuration."""
        largest = max(abs(x) for x in (*config.p_range_mw, *config.q_range_mvar))
        return cls(
            p_mw=config.p_range_mw,
            q_mvar=config.q_range_mvar,
            s_mva=config.s_max_mva or max(largest, 1e-3),
            e_mwh=getattr(config, "e_capacity_mwh", None),
            phases=config.phases,
            curtail_only=isinstance(config, InverterSourceConfig),
        )

    @property
    def w_max_mw(self) -> float:
        """What 100 % of active power means (702 ``WMax``)."""
        return max(abs(x) for x in self.p_mw)

    @property
    def has_q(self) -> bool:
        """Whether it can be asked for reactive power."""
        return self.q_mvar[0] < self.q_mvar[1]


def usual_models(ratings: Ratings) -> tuple[ModelChoice, ...]:
    """Return the models of every DER, with the finest scale factors that its ratings allow."""
    head_room = 1.25 * 1e6 * max(ratings.s_mva, ratings.w_max_mw)
    amps = head_room / (math.sqrt(3.0) * NOMINAL_LL_V)
    power = exponent_for(head_room, INT16)
    rated = exponent_for(head_room, UINT16)
    fine = exponent_for(head_room, INT32)
    fine = max(0, fine)
    measured = {**_FIXED_EXPONENTS, "W_SF": power, "VA_SF": power, "Var_SF": power}
    measured |= {"A_SF": exponent_for(amps, INT16), "Tmp_SF": -1}
    capacity = {"W_SF": rated, "VA_SF": rated, "Var_SF": rated, "PF_SF": -3, "V_SF": -2}
    capacity |= {"A_SF": exponent_for(amps, UINT16), "S_SF": -3}
    control = {"PF_SF": -3, "WMaxLimPct_SF": -2, "WSet_SF": fine, "WSetPct_SF": -2}
    control |= {"VarSet_SF": fine, "VarSetPct_SF": -2}
    choices = [
        ModelChoice(1),
        ModelChoice(701, exponents=measured),
        ModelChoice(702, exponents=capacity),
        ModelChoice(704, exponents=control),
    ]
    if ratings.e_mwh is not None:
        energy = exponent_for(1.25e6 * ratings.e_mwh, UINT16)
        choices.append(ModelChoice(713, exponents={"WH_SF": energy, "Pct_SF": -2}))
    choices.append(ModelChoice(715))
    return tuple(choices)


def nameplate(device_id: str, ratings: Ratings) -> Mapping[str, Raw]:
    """Return the points of identity, ratings and settings."""
    low, high = (1e6 * x for x in ratings.p_mw)
    var_low, var_high = (1e6 * x for x in ratings.q_mvar)
    values: dict[str, Raw] = {
        "1.Mn": "HERON-HIL",
        "1.Md": "Emulated DER",
        "1.SN": device_id[:32],
        "1.Vr": "1",
        "702.VNomRtg": NOMINAL_LL_V,
        "702.VNom": NOMINAL_LL_V,
        "702.NorOpCatRtg": 1,
        "702.CtrlModes": 0b111,
    }
    for suffix in ("Rtg", ""):
        values[f"702.WMax{suffix}"] = 1e6 * ratings.w_max_mw
        values[f"702.VAMax{suffix}"] = 1e6 * ratings.s_mva
        values[f"702.VarMaxInj{suffix}"] = max(var_high, 0.0)
        values[f"702.VarMaxAbs{suffix}"] = max(-var_low, 0.0)
        if ratings.e_mwh is not None:
            values[f"702.WChaRteMax{suffix}"] = max(-low, 0.0)
            values[f"702.WDisChaRteMax{suffix}"] = max(high, 0.0)
    if ratings.e_mwh is not None:
        values["713.WHRtg"] = 1e6 * ratings.e_mwh
        values["713.SoH"] = 100.0
    return values
