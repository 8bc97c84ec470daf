"""A DER as a SunSpec device: what it shows (701, 713) and how it is commanded (704, 715).

Two ways to command active power, as real devices have them: a dispatchable device (generator,
battery, charger, load) takes ``WSet`` in watts; PV and wind take a ceiling ``WMaxLimPct`` in per
cent of their rated power. Reactive power is ``VarSet`` in var for both. Each comes with a
reversion value and a time-out, written by the same request: a device that hears nothing for that
long goes back to its safe set-point by itself.

Sign: SunSpec's 701 and 704 count injected power as positive, as we do.

Source: SunSpec DER Information Model Specification 1.0, models 701-704, 713, 715.
"""

from __future__ import annotations

import math
from functools import cached_property

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers import more_models
from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.discovery import Discovered
from heron.powergrid.registers.ratings import Ratings, nameplate, usual_models
from heron.powergrid.registers.scales import (
    NOMINAL_HZ,
    NOMINAL_LL_V,
)
from heron.powergrid.registers.sunspec import SunSpecLayout, fixed_values, lay_out
from heron.powergrid.registers.table import Block, RegisterMap, Words, Write, coalesce

LARGEST_HOLE = 32
"""Registers that are read along rather than asked around: a request costs more."""
WATTS = 1
"""WSetMod: the set-point is in watts."""
VARS = 4
"""VarSetMod: the set-point is in var."""
_CEILINGS = (("704.WMaxLimPctEna", "704.WMaxLimPct"), ("123.WMaxLim_Ena", "123.WMaxLimPct"))
_PHASE_INDEX = {"a": 1, "b": 2, "c": 3}


class DerTable:
    """The register table of one DER, and both directions of its codec.

    Args:
        device_id: Whose.
        ratings: Its nameplate, from which the scale factors follow.
        safe: Where it goes back to when it hears nothing.
        models: More models to be served behind the usual ones; see `more_models`.
    """

    def __init__(
        self,
        device_id: str,
        ratings: Ratings,
        safe: Setpoint,
        models: tuple[int, ...] = (),
    ) -> None:
        self.device_id = device_id
        self.ratings = ratings
        self.safe = safe
        more = more_models.choices(ratings, more_models.checked(models))
        self.models = tuple(choice.model_id for choice in more)
        self.choices = (*usual_models(ratings), *more)
        self.layout: SunSpecLayout = lay_out(self.choices)
        self.nominal_ll_v = NOMINAL_LL_V

    def on(self, found: Discovered) -> DerTable:
        """Return the table for a device of any maker, as it was discovered.

        Addresses, scale factors and the nominal voltage are the device's own.

        Raises:
            ConfigError: It lacks models that a reading or a command needs.
        """
        has = {placed.model_id for placed in found.layout.models}
        needed = {701, 702, 704} | ({713} if self.stores else set())
        problems = [
            ConfigProblem(self.device_id, sorted(has), f"it needs SunSpec model {model_id}")
            for model_id in sorted(needed - has)
        ]
        if problems:
            raise ConfigError(problems)
        table = DerTable(self.device_id, self.ratings, self.safe)
        table.layout = found.layout
        for point in ("702.VNom", "702.VNomRtg"):
            nominal = found.layout.registers.number(found.words, point)
            if nominal:
                table.nominal_ll_v = nominal
                break
        return table

    @property
    def registers(self) -> RegisterMap:
        """All points."""
        return self.layout.registers

    @property
    def _nominal_ln_v(self) -> float:
        return self.nominal_ll_v / math.sqrt(3.0)

    @property
    def stores(self) -> bool:
        """Whether it has a state of charge."""
        return self.ratings.e_mwh is not None

    def fixed_values(self) -> dict[str, Raw]:
        """Return what never changes: identity, headers, scale factors, ratings."""
        return {
            **fixed_values(self.layout, self.choices),
            **nameplate(self.device_id, self.ratings),
            **more_models.fixed_values(self.ratings, self.models),
        }

    # --- what it shows ---

    @cached_property
    def telemetry(self) -> tuple[Block, ...]:
        """The reads that give a whole reading; the scale factors of 701 are among them."""
        blocks = [self.registers.block("701.ACType", "701.Tmp_SF")]
        if self.stores:
            blocks.append(self.registers.block("713.WHRtg", "713.Pct_SF"))
        return tuple(blocks)

    @cached_property
    def _phase_points(self) -> tuple[str, ...]:
        return tuple(f"701.VL{_PHASE_INDEX[p]}" for p in sorted(self.ratings.phases))

    def reading_values(self, reading: DeviceReading) -> dict[str, Raw]:
        """Return the points that show a reading.

        The reading has the mean, lowest and highest phase voltage but not whose they are: the
        phases show them in rising order.
        """
        watts, var = reading.p_mw * 1e6, reading.q_mvar * 1e6
        va = math.hypot(watts, var)
        v_ln = self._nominal_ln_v
        phases = self.ratings.phases
        values: dict[str, Raw] = {
            "701.ACType": 2 if len(phases) == 3 else len(phases) - 1,
            "701.St": int(reading.connected),
            "701.InvSt": 3 if reading.connected else 0,
            "701.ConnSt": int(reading.connected),
            "701.Alrm": 0 if reading.connected else 1 << 4,
            "701.MnAlrmInfo": None,
            "701.W": watts,
            "701.Var": var,
            "701.VA": va,
            "701.PF": 1.0 if va == 0.0 else abs(watts) / va,
            "701.Hz": NOMINAL_HZ,
            "701.LNV": reading.v_pu * v_ln,
            "701.LLV": reading.v_pu * self.nominal_ll_v,
            "701.A": va / max(math.sqrt(3.0) * reading.v_pu * self.nominal_ll_v, 1.0),
        }
        for name, v_pu in zip(
            self._phase_points, _phase_voltages(reading, len(phases)), strict=True
        ):
            values[name] = v_pu * v_ln
        if reading.soc is not None and self.ratings.e_mwh is not None:
            values["713.SoC"] = 100.0 * reading.soc
            values["713.WHAvail"] = 1e6 * reading.soc * self.ratings.e_mwh
            values["713.Sta"] = 0
        return values | more_models.reading_values(self.ratings, self.models, reading)

    def failed_values(self, cause: str) -> dict[str, Raw]:
        """Return the points of a device that cannot measure: nothing old looks fresh."""
        names = ("W", "Var", "VA", "PF", "Hz", "LNV", "LLV", "A")
        values: dict[str, Raw] = {f"701.{name}": None for name in names}
        values.update(dict.fromkeys(self._phase_points))
        values.update({"701.InvSt": 6, "701.Alrm": 1 << 16, "701.MnAlrmInfo": cause[:64]})
        if self.stores:
            values.update({"713.SoC": None, "713.WHAvail": None, "713.Sta": 2})
        return values | more_models.failed_values(self.ratings, self.models)

    def decode_reading(self, words: Words) -> dict[str, float | None]:
        """Return the reading's fields by name; None where the device gives no value."""
        number = self.registers.number
        v_ln = self._nominal_ln_v
        watts, var = number(words, "701.W"), number(words, "701.Var")
        mean = number(words, "701.LNV")
        phases = [number(words, name) for name in self._phase_points]
        known = [v for v in phases if v is not None] or ([] if mean is None else [mean])
        points: dict[str, float | None] = {
            "p_mw": None if watts is None else watts / 1e6,
            "q_mvar": None if var is None else var / 1e6,
            "v_pu": None if mean is None else mean / v_ln,
            "v_min_pu": min(known) / v_ln if known else None,
            "v_max_pu": max(known) / v_ln if known else None,
            "connected": number(words, "701.ConnSt"),
        }
        if self.stores:
            soc = number(words, "713.SoC")
            points["soc"] = None if soc is None else soc / 100.0
        return points

    # --- how it is commanded ---

    @cached_property
    def controls(self) -> tuple[Block, ...]:
        """The reads that give the set-point back."""
        return (self.registers.block("704.WMaxLimPctEna", "704.VarSetPct_SF"),)

    @cached_property
    def sweep(self) -> tuple[Block, ...]:
        """The fewest reads that give a reading and the set-point; models have no gaps between."""
        return coalesce((*self.telemetry, *self.controls), LARGEST_HOLE)

    def encode_setpoint(
        self, setpoint: Setpoint, reversion_s: float | None = None
    ) -> tuple[Write, ...]:
        """Return the writes that command a set-point, each one request.

        Args:
            setpoint: What is asked.
            reversion_s: Plant seconds without a write after which the device returns to its safe
                set-point; None switches reversion off.

        Raises:
            ValueError: A value is not finite or does not fit its register.
        """
        timeout = 0 if reversion_s is None else max(1, math.ceil(reversion_s))
        writes = [self._active_power(setpoint.p_mw, timeout)]
        if self.ratings.has_q:
            writes.append(
                self.registers.run(
                    {
                        "704.VarSetEna": 1,
                        "704.VarSetMod": VARS,
                        "704.VarSetPri": 0,
                        "704.VarSet": setpoint.q_mvar * 1e6,
                        "704.VarSetRvrt": self.safe.q_mvar * 1e6,
                        "704.VarSetPct": None,
                        "704.VarSetPctRvrt": None,
                        "704.VarSetEnaRvrt": 1,
                        "704.VarSetRvrtTms": timeout,
                    }
                )
            )
        return tuple(writes)

    def _active_power(self, p_mw: float, timeout_s: int) -> Write:
        if self.ratings.curtail_only:
            return self.registers.run(
                {
                    "704.WMaxLimPctEna": 1,
                    "704.WMaxLimPct": 100.0 * p_mw / self.ratings.w_max_mw,
                    "704.WMaxLimPctRvrt": 100.0 * self.safe.p_mw / self.ratings.w_max_mw,
                    "704.WMaxLimPctEnaRvrt": 1,
                    "704.WMaxLimPctRvrtTms": timeout_s,
                }
            )
        return self.registers.run(
            {
                "704.WSetEna": 1,
                "704.WSetMod": WATTS,
                "704.WSet": p_mw * 1e6,
                "704.WSetRvrt": self.safe.p_mw * 1e6,
                "704.WSetPct": None,
                "704.WSetPctRvrt": None,
                "704.WSetEnaRvrt": 1,
                "704.WSetRvrtTms": timeout_s,
            }
        )

    def decode_setpoint(self, words: Words) -> Setpoint | None:
        """Return the set-point that the device holds, or None where none is in force.

        The ceiling ``WMaxLimPct`` and the set-point ``WSet`` may both be enabled, by different
        masters: the lower one counts. A device whose reactive function is off shows 0 Mvar.
        """
        in_force = [
            p for p in (self.active_set(words), self.active_ceiling(words)) if p is not None
        ]
        if not in_force:
            return None
        return Setpoint(min(in_force), self.reactive_set(words) or 0.0)

    def active_set(self, words: Words) -> float | None:
        """Return the active power that ``WSet`` commands, MW; None while it is off."""
        number = self.registers.number
        if number(words, "704.WSetEna") != 1:
            return None
        if number(words, "704.WSetMod") == WATTS:
            watts = number(words, "704.WSet")
            return None if watts is None else watts / 1e6
        percent = number(words, "704.WSetPct")
        return None if percent is None else percent / 100.0 * self.ratings.w_max_mw

    def active_ceiling(self, words: Words) -> float | None:
        """Return the active power that ``WMaxLimPct`` allows, MW; None while it is off.

        Where the older model 123 is served too, its ceiling counts as well.
        """
        number = self.registers.number
        ceilings = []
        for enable, point in self._ceilings:
            if number(words, enable) == 1:
                percent = number(words, point)
                if percent is not None:
                    ceilings.append(percent / 100.0 * self.ratings.w_max_mw)
        return min(ceilings, default=None)

    @cached_property
    def _ceilings(self) -> tuple[tuple[str, str], ...]:
        return tuple(pair for pair in _CEILINGS if pair[1] in self.registers)

    def reactive_set(self, words: Words) -> float | None:
        """Return the reactive power that ``VarSet`` commands, Mvar; None while it is off."""
        number = self.registers.number
        if number(words, "704.VarSetEna") != 1:
            return None
        mode = number(words, "704.VarSetMod")
        if mode == VARS:
            var = number(words, "704.VarSet")
            return None if var is None else var / 1e6
        bases = {
            0: self.ratings.w_max_mw,
            1: max(abs(x) for x in self.ratings.q_mvar),
            3: self.ratings.s_mva,
        }
        percent = number(words, "704.VarSetPct")
        if percent is None or mode is None or int(mode) not in bases:
            return None
        return percent / 100.0 * bases[int(mode)]

    def quantise(self, setpoint: Setpoint) -> Setpoint:
        """Return the set-point as the registers hold it."""
        words = Words((w.address, w.data) for w in self.encode_setpoint(setpoint))
        held = self.decode_setpoint(words)
        if held is None:
            raise ValueError(f"{self.device_id}: {setpoint} does not fit the registers")
        return held

    @cached_property
    def heartbeat_block(self) -> Block:
        """The read that gives the device's heartbeat and whether it obeys remote control."""
        return self.registers.block("715.LocRemCtl", "715.ControllerHb")

    def encode_heartbeat(self, beat: int) -> Write:
        """Return the write of the controller's heartbeat, a counter."""
        return self.registers.run({"715.ControllerHb": beat % 0xFFFFFFFF})

    def heartbeat_writes(self, beat: int) -> tuple[Write, ...]:
        """Return the write of the controller's heartbeat, as every `DeviceTable` does."""
        return (self.encode_heartbeat(beat),) if "715.ControllerHb" in self.registers else ()

    def resolution(self, point: str) -> float:
        """Return the step of one of the reading's fields, or of ``p_set`` and ``q_set``.

        Raises:
            KeyError: No such field.
        """
        v_ln = self._nominal_ln_v
        p_set = ("704.WSet", 1e6)
        if self.ratings.curtail_only:
            p_set = ("704.WMaxLimPct", 100.0 / self.ratings.w_max_mw)
        points = {
            "p_mw": ("701.W", 1e6),
            "q_mvar": ("701.Var", 1e6),
            "v_pu": ("701.LNV", v_ln),
            "v_min_pu": ("701.LNV", v_ln),
            "v_max_pu": ("701.LNV", v_ln),
            "connected": ("701.ConnSt", 1.0),
            "p_set": p_set,
            "q_set": ("704.VarSet", 1e6),
        }
        if self.stores:
            points["soc"] = ("713.SoC", 100.0)
        name, divisor = points[point]
        return self.registers[name].resolution / divisor


def _phase_voltages(reading: DeviceReading, phases: int) -> tuple[float, ...]:
    low, high = reading.v_min_pu, reading.v_max_pu
    if phases == 1:
        return (reading.v_pu,)
    if phases == 2:
        return (low, high)
    middle = 3.0 * reading.v_pu - low - high
    return (low, min(max(middle, low), high), high)
