"""Models beyond the usual ones that an emulated DER may serve: older inverters, curves, batteries.

The installed base speaks 103 or 113 with 120-124 and 160; newer devices have the curves 705, 706,
711 and 712; batteries have 802. All show the same measurements as 701 and 713, in their own units
and scales. The controls of 123 and the curves of 705, 706 and 712 can be commanded. Each curve
model has three curves: the first is in force and read-only, the others are there to be written and
then adopted. All begin as the defaults of IEEE 1547-2018 category B, disabled. The droop of 711 is
read-only: the emulated grid's frequency does not change.

Source: the SunSpec model definitions; IEEE Std 1547-2018, tables 8 and 10 and clause 6.5.2.7.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.ieee1547 import VOLT_VAR_B, VOLT_WATT_B
from heron.powergrid.quantities import DeviceReading
from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.functions import CURVE_POINTS, CURVES, IN_FORCE
from heron.powergrid.registers.ratings import Ratings
from heron.powergrid.registers.scales import INT16, NOMINAL_HZ, NOMINAL_LL_V, UINT16, exponent_for
from heron.powergrid.registers.sunspec import ModelChoice

STORAGE_MODELS = frozenset({124, 802})
OPTIONAL_MODELS = frozenset({103, 113, 120, 121, 122, 123, 124, 160, 703, 705, 706, 711, 712, 802})
_BATTERY_V = 800.0
_VOLTAGE_CURVE = {"V_SF": -2, "DeptRef_SF": -2, "RspTms_SF": 0}


def checked(model_ids: tuple[int, ...]) -> tuple[int, ...]:
    """Return the models in ascending order, each once.

    Raises:
        ConfigError: One of them cannot be served by a DER.
    """
    unknown = sorted(set(model_ids) - OPTIONAL_MODELS)
    if unknown:
        names = ", ".join(str(m) for m in sorted(OPTIONAL_MODELS))
        problems = [ConfigProblem("models", m, f"expected some of {names}") for m in unknown]
        raise ConfigError(problems)
    return tuple(sorted(set(model_ids)))


def choices(ratings: Ratings, model_ids: tuple[int, ...]) -> tuple[ModelChoice, ...]:
    """Return how each model is laid out; storage models only where energy is stored."""
    return tuple(
        ModelChoice(m, _REPEATS.get(m, {}), _exponents(m, ratings))
        for m in model_ids
        if ratings.e_mwh is not None or m not in STORAGE_MODELS
    )


_REPEATS: Mapping[int, Mapping[str, int]] = {
    160: {"module": 1},
    711: {"Ctl": 1},
    **{m: {"Crv": CURVES, "Pt": points} for m, points in CURVE_POINTS.items()},
}


def _exponents(model_id: int, ratings: Ratings) -> dict[str, int]:
    full = 1.25e6 * max(ratings.s_mva, ratings.w_max_mw)
    power, rated = exponent_for(full, INT16), exponent_for(full, UINT16)
    amps = exponent_for(full / (math.sqrt(3.0) * NOMINAL_LL_V), INT16)
    dc_amps = exponent_for(full / _BATTERY_V, INT16)
    energy = exponent_for(1.25e6 * (ratings.e_mwh or 1.0), UINT16)
    tables: dict[int, dict[str, int]] = {
        103: {"A_SF": amps, "V_SF": -2, "W_SF": power, "Hz_SF": -2, "VA_SF": power}
        | {"VAr_SF": power, "PF_SF": -2, "WH_SF": 0, "DCA_SF": dc_amps, "DCV_SF": -1}
        | {"DCW_SF": power, "Tmp_SF": -1},
        120: {"WRtg_SF": rated, "VARtg_SF": rated, "VArRtg_SF": power, "ARtg_SF": amps}
        | {"PFRtg_SF": -2, "WHRtg_SF": energy, "AhrRtg_SF": 0}
        | {"MaxChaRte_SF": rated, "MaxDisChaRte_SF": rated},
        121: {"WMax_SF": rated, "VRef_SF": -1, "VRefOfs_SF": -1, "VMinMax_SF": -1}
        | {"VAMax_SF": rated, "VArMax_SF": power, "PFMin_SF": -2},
        122: {"VArAval_SF": power, "WAval_SF": rated},
        123: {"WMaxLimPct_SF": -2, "OutPFSet_SF": -2, "VArPct_SF": -2},
        124: {"WChaMax_SF": rated, "WChaDisChaGra_SF": 0, "VAChaMax_SF": rated}
        | {"ChaState_SF": -2, "InOutWRte_SF": -2},
        160: {"DCA_SF": dc_amps, "DCV_SF": -1, "DCW_SF": rated, "DCWH_SF": 0},
        703: {"V_SF": -2, "Hz_SF": -3},
        705: _VOLTAGE_CURVE,
        706: _VOLTAGE_CURVE,
        711: {"Db_SF": -3, "K_SF": -3, "RspTms_SF": 0},
        712: {"W_SF": -2, "DeptRef_SF": -2},
        802: {"AHRtg_SF": 0, "WHRtg_SF": energy, "WChaDisChaMax_SF": rated, "SoC_SF": -2}
        | {"V_SF": -1, "CellV_SF": -3, "A_SF": dc_amps, "AMax_SF": dc_amps, "W_SF": power},
    }
    return tables.get(model_id, {})


def fixed_values(ratings: Ratings, model_ids: tuple[int, ...]) -> dict[str, Raw]:
    """Return the ratings, settings and curves of the models, by point name."""
    values: dict[str, Raw] = {}
    for model_id in model_ids:
        if model_id in _CURVES:
            values |= _CURVES[model_id]
    return values | _only(_rating_values(ratings), model_ids)


def _only(values: Mapping[str, Raw], model_ids: tuple[int, ...]) -> dict[str, Raw]:
    return {n: v for n, v in values.items() if int(n.split(".", 1)[0]) in model_ids}


def _rating_values(ratings: Ratings) -> dict[str, Raw]:
    w_max, s_va = 1e6 * ratings.w_max_mw, 1e6 * ratings.s_mva
    amps = s_va / (math.sqrt(3.0) * NOMINAL_LL_V)
    var_high, var_low = 1e6 * max(ratings.q_mvar[1], 0.0), 1e6 * min(ratings.q_mvar[0], 0.0)
    values: dict[str, Raw] = {
        "120.DERTyp": 4 if ratings.e_mwh is None else 82,
        "120.WRtg": w_max,
        "120.VARtg": s_va,
        "120.ARtg": amps,
        "121.WMax": w_max,
        "121.VRef": NOMINAL_LL_V,
        "121.VRefOfs": 0.0,
        "121.VAMax": s_va,
        "122.TmSrc": "PLANT",
        "123.Conn": 1,
        "123.WMaxLimPct": 100.0,
        "123.WMaxLimPct_RvrtTms": 0,
        "123.WMaxLim_Ena": 0,
        "123.OutPFSet": 1.0,
        "123.OutPFSet_Ena": 0,
        "123.VArPct_Ena": 0,
        "123.VArPct_Mod": 0,
        "703.ES": 1,
        "703.ESVHi": 105.0,
        "703.ESVLo": 91.7,
        "703.ESHzHi": 60.1,
        "703.ESHzLo": 59.5,
        "703.ESDlyTms": 300,
        "703.ESDlyRemTms": 0,
    }
    for quadrant, var in ((1, var_high), (2, var_high), (3, var_low), (4, var_low)):
        values |= {f"120.VArRtgQ{quadrant}": var, f"121.VArMaxQ{quadrant}": var}
        values[f"120.PFRtgQ{quadrant}"] = -0.8 if quadrant in (1, 3) else 0.8
    if ratings.e_mwh is not None:
        charge, discharge = 1e6 * max(-ratings.p_mw[0], 0.0), 1e6 * max(ratings.p_mw[1], 0.0)
        values |= {
            "120.WHRtg": 1e6 * ratings.e_mwh,
            "120.MaxChaRte": charge,
            "120.MaxDisChaRte": discharge,
            "124.WChaMax": charge,
            "124.WChaGra": 100,
            "124.WDisChaGra": 100,
            "124.StorCtl_Mod": 0,
            "802.WHRtg": 1e6 * ratings.e_mwh,
            "802.AHRtg": 1e6 * ratings.e_mwh / _BATTERY_V,
            "802.WChaRteMax": charge,
            "802.WDisChaRteMax": discharge,
            "802.Typ": 4,
            "802.LocRemCtl": 0,
            "802.AlmRst": 0,
            "802.SetOp": 1,
            "802.SetInvState": 3,
        }
    return values


def _curve_head(model_id: int, group: str) -> dict[str, Raw]:
    return {
        f"{model_id}.Ena": 0,
        f"{model_id}.Adpt{group}Req": 0,
        f"{model_id}.Adpt{group}Rslt": 1,
        f"{model_id}.RvrtTms": 0,
        f"{model_id}.RvrtRem": 0,
    }


def _curves(model_id: int, one: Mapping[str, Raw]) -> dict[str, Raw]:
    """Return the values of a model whose curves all begin alike."""
    values = _curve_head(model_id, "Crv")
    for n in range(1, CURVES + 1):
        head = f"{model_id}.Crv[{n}]."
        values |= {f"{head}{name}": value for name, value in one.items()}
        values[f"{head}ActPt"] = CURVE_POINTS[model_id]
        values[f"{head}ReadOnly"] = int(n == IN_FORCE)
    return values


def _pairs(x: str, xs: Iterable[float], y: str, ys: Iterable[float]) -> dict[str, Raw]:
    """Return the points of a curve in per cent."""
    values: dict[str, Raw] = {}
    for i, (a, b) in enumerate(zip(xs, ys, strict=True), 1):
        values |= {f"Pt[{i}].{x}": 100.0 * a, f"Pt[{i}].{y}": 100.0 * b}
    return values


_CURVES: Mapping[int, dict[str, Raw]] = {
    705: _curves(
        705,
        {"DeptRef": 3, "Pri": 1, "VRef": 100.0, "VRefAutoEna": 0, "RspTms": VOLT_VAR_B.response_s}
        | _pairs("V", VOLT_VAR_B.v_pu, "Var", VOLT_VAR_B.q_share),
    ),
    706: _curves(
        706,
        {"DeptRef": 0, "RspTms": VOLT_WATT_B.response_s}
        | _pairs("V", VOLT_WATT_B.v_pu, "W", (1.0, VOLT_WATT_B.p2_share)),
    ),
    711: _curve_head(711, "Ctl")
    | {"711.Ctl[1].ReadOnly": 1, "711.Ctl[1].DbOf": 0.036, "711.Ctl[1].DbUf": 0.036}
    | {"711.Ctl[1].KOf": 0.05, "711.Ctl[1].KUf": 0.05, "711.Ctl[1].RspTms": 5},
    712: _curves(
        712,
        {"DeptRef": 3, "Pri": 1} | _pairs("W", (0.0, 0.2, 0.5, 1.0), "Var", (0.0, 0.0, 0.0, -0.44)),
    ),
}


def reading_values(
    ratings: Ratings, model_ids: tuple[int, ...], reading: DeviceReading
) -> dict[str, Raw]:
    """Return the points of the models that show a reading."""
    if not model_ids:
        return {}
    watts, var = 1e6 * reading.p_mw, 1e6 * reading.q_mvar
    va = math.hypot(watts, var)
    v_ln = reading.v_pu * NOMINAL_LL_V / math.sqrt(3.0)
    amps = va / max(3.0 * v_ln, 1.0)
    on = reading.connected
    inverter: dict[str, Raw] = {
        "A": amps,
        "W": watts,
        "VA": va,
        "VAr": var,
        "PF": 100.0 if va == 0.0 else 100.0 * abs(watts) / va,
        "Hz": NOMINAL_HZ,
        "St": 4 if on else 1,
        "DCW": watts,
        "Evt1": 0 if on else 1 << 4,
        "Evt2": 0,
    }
    for phase in "ABC":
        inverter |= {f"Aph{phase}": amps, f"PhVph{phase}": v_ln}
    values: dict[str, Raw] = {f"{m}.{n}": v for m in (103, 113) for n, v in inverter.items()}
    stores = ratings.e_mwh is not None
    values |= {
        "122.PVConn": 0 if stores else 0b111 * on,
        "122.StorConn": 0b111 * on if stores else 0,
        "122.ECPConn": int(on),
        "160.module[1].ID": 1,
        "160.module[1].DCW": max(watts, 0.0),
    }
    if stores and reading.soc is not None:
        percent = 100.0 * reading.soc
        state = 6 if watts == 0.0 else 3 if watts > 0.0 else 4
        values |= {"124.ChaState": percent, "124.ChaSt": state}
        values |= {"802.SoC": percent, "802.ChaSt": state, "802.State": 3 if on else 1}
        values |= {"802.V": _BATTERY_V, "802.A": watts / _BATTERY_V, "802.W": watts}
        values |= {"802.Evt1": 0, "802.Evt2": 0, "802.EvtVnd1": 0, "802.EvtVnd2": 0}
    return _only(values, model_ids)


def failed_values(ratings: Ratings, model_ids: tuple[int, ...]) -> dict[str, Raw]:
    """Return the points of a device that cannot measure."""
    nothing = DeviceReading(0.0, 0.0, 1.0, 1.0, 1.0, soc=0.0)
    values: dict[str, Raw] = dict.fromkeys(reading_values(ratings, model_ids, nothing))
    for model_id in {103, 113} & set(model_ids):
        values[f"{model_id}.St"] = 7
    return values
