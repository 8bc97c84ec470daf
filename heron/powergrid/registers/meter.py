"""A meter as a SunSpec device: model 213, floating point, per phase; 203 behind it if wanted.

SunSpec meters count what the metered element takes as positive ("import"), so a microgrid's meter
shows the opposite of ours. The head's meter measures what the feeder takes from the upstream grid,
which is what the grid injects: the same number.

Source: SunSpec Meter Models; model 213 (``ac_meter_abcn_float``).
"""

from __future__ import annotations

import math
from functools import cached_property

from heron.powergrid.quantities import MeterReading
from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.scales import INT16, exponent_for
from heron.powergrid.registers.sunspec import ModelChoice, SunSpecLayout, fixed_values, lay_out
from heron.powergrid.registers.table import Block, RegisterMap, Words

_FULL_SCALE_MW = 10.0
"""Power at which the resolution of the 32-bit floats is stated."""
_PHASES = ("A", "B", "C")
METER_MODELS = (203,)
"""Models that a meter may serve behind the usual ones."""


def _exponents(nominal_ll_v: float) -> dict[str, int]:
    full = 1e6 * _FULL_SCALE_MW
    power = exponent_for(full, INT16)
    return {
        "A_SF": exponent_for(full / (math.sqrt(3.0) * nominal_ll_v), INT16),
        "V_SF": exponent_for(1.25 * nominal_ll_v, INT16),
        "Hz_SF": -2,
        "W_SF": power,
        "VA_SF": power,
        "VAR_SF": power,
        "PF_SF": -2,
        # 32 bits of Wh are full after 200 hours at full scale.
        "TotWh_SF": 3,
    }


class MeterTable:
    """The register table of one meter, and both directions of its codec.

    Args:
        meter_id: ``head`` or the microgrid's name.
        sign: 1 when the registers count as we do, -1 when the other way round.
        nominal_ll_v: Nominal line-to-line voltage where it measures.
        models: 203 to show the same in integers, for masters that know no other.
    """

    def __init__(
        self, meter_id: str, sign: int, nominal_ll_v: float, models: tuple[int, ...] = ()
    ) -> None:
        self.meter_id = meter_id
        self.sign = sign
        self.nominal_ll_v = nominal_ll_v
        self.models = tuple(m for m in METER_MODELS if m in models)
        integers = (ModelChoice(203, exponents=_exponents(nominal_ll_v)),)
        self.choices = (ModelChoice(1), ModelChoice(213), *(integers if self.models else ()))
        self.layout: SunSpecLayout = lay_out(self.choices)

    @property
    def registers(self) -> RegisterMap:
        """All points."""
        return self.layout.registers

    @property
    def _nominal_ln_v(self) -> float:
        return self.nominal_ll_v / math.sqrt(3.0)

    def fixed_values(self) -> dict[str, Raw]:
        """Return what never changes."""
        return {
            **fixed_values(self.layout, self.choices),
            "1.Mn": "HERON-HIL",
            "1.Md": "Emulated meter",
            "1.SN": self.meter_id[:32],
            "1.Vr": "1",
        }

    @cached_property
    def telemetry(self) -> tuple[Block, ...]:
        """The read that gives a whole reading."""
        return (self.registers.block("213.A", "213.PF"),)

    def reading_values(self, reading: MeterReading) -> dict[str, Raw]:
        """Return the points that show a reading; phases in rising order of voltage."""
        watts = self.sign * reading.p_mw * 1e6
        var = self.sign * reading.q_mvar * 1e6
        va = math.hypot(watts, var)
        low, high = reading.v_min_pu, reading.v_max_pu
        middle = min(max(3.0 * reading.v_pu - low - high, low), high)
        amps = va / max(math.sqrt(3.0) * reading.v_pu * self.nominal_ll_v, 1.0)
        values: dict[str, Raw] = {
            "213.W": watts,
            "213.VAR": var,
            "213.VA": va,
            "213.PF": 1.0 if va == 0.0 else watts / va,
            "213.Hz": 60.0,
            "213.A": amps,
            "213.PhV": reading.v_pu * self._nominal_ln_v,
            "213.PPV": reading.v_pu * self.nominal_ll_v,
            "213.Evt": 0,
        }
        for phase, v_pu in zip(_PHASES, (low, middle, high), strict=True):
            values[f"213.Aph{phase}"] = amps
            values[f"213.PhVph{phase}"] = v_pu * self._nominal_ln_v
        return values | self._integers(values)

    def energy_values(self, imported_wh: float, exported_wh: float) -> dict[str, Raw]:
        """Return the points of the counters."""
        values: dict[str, Raw] = {}
        for model in (213, *self.models):
            values |= {f"{model}.TotWhImp": imported_wh, f"{model}.TotWhExp": exported_wh}
        return values

    def _integers(self, values: dict[str, Raw]) -> dict[str, Raw]:
        """Return the same measurements as points of 203."""
        if not self.models:
            return {}
        same = {n.replace("213.", "203."): v for n, v in values.items()}
        factor = same["203.PF"]
        # 203 counts in per cent and has a line voltage for each pair of phases.
        same["203.PF"] = 100.0 * factor if isinstance(factor, (int, float)) else None
        same |= {f"203.PhVph{pair}": values["213.PPV"] for pair in ("AB", "BC", "CA")}
        return same

    def failed_values(self, cause: str) -> dict[str, Raw]:
        """Return the points of a meter that cannot measure; the cause has no register here."""
        del cause
        names = ("W", "VAR", "VA", "PF", "Hz", "A", "PhV", "PPV")
        values: dict[str, Raw] = {f"213.{name}": None for name in names}
        for phase in _PHASES:
            values[f"213.Aph{phase}"] = None
            values[f"213.PhVph{phase}"] = None
        values["213.Evt"] = 1 << 7
        return values | self._integers(values)

    def decode_reading(self, words: Words) -> dict[str, float | None]:
        """Return the reading's fields by name; None where the meter gives no value."""
        number = self.registers.number
        watts, var = number(words, "213.W"), number(words, "213.VAR")
        mean = number(words, "213.PhV")
        phases = [number(words, f"213.PhVph{phase}") for phase in _PHASES]
        known = [v for v in phases if v is not None] or ([] if mean is None else [mean])
        return {
            "p_mw": None if watts is None else self.sign * watts / 1e6,
            "q_mvar": None if var is None else self.sign * var / 1e6,
            "v_pu": None if mean is None else mean / self._nominal_ln_v,
            "v_min_pu": min(known) / self._nominal_ln_v if known else None,
            "v_max_pu": max(known) / self._nominal_ln_v if known else None,
        }

    def resolution(self, point: str) -> float:
        """Return the step of one of the reading's fields at full scale (10 MW, 1 pu).

        Raises:
            KeyError: No such field.
        """
        full_scale = dict.fromkeys(("p_mw", "q_mvar"), _FULL_SCALE_MW)
        full_scale |= dict.fromkeys(("v_pu", "v_min_pu", "v_max_pu"), 1.0)
        return full_scale[point] * self.registers["213.W"].resolution
