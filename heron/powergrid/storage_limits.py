"""What a device that stores energy can give and take: its window, and its power by charge.

Used by the envelope, by whoever plans with a store, and by the physics of the emulated plant, so
that all mean the same by a feasible power.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

_INF = math.inf
_NEGLIGIBLE = 1e-12

FloatArray = npt.NDArray[np.float64]
Curve = tuple[tuple[float, float], ...]
"""Corners (state of charge 0-1, share of the full power 0-1), rising in charge."""


class PowerTaper:
    """A power that falls as the store comes nearer to one end, held to throughout a step.

    Between the corners the share is linear in the state of charge, beyond them it is flat. A
    power held for a step obeys the curve at every moment of it, which is to say at its end.

    Args:
        curve: Corners; the share falls, or stays, in the direction of ``rising``.
        rising: Whether the power raises the state of charge (charging) or lowers it.

    Raises:
        ValueError: The corners are not such a curve.
    """

    def __init__(self, curve: Sequence[tuple[float, float]], *, rising: bool) -> None:
        wrong = next(taper_problems(curve, rising=rising), None)
        if wrong is not None:
            raise ValueError(f"{tuple(curve)}: expected {wrong}")
        # Seen in the direction of the power, the share never grows: one solution for both.
        self._sign = 1.0 if rising else -1.0
        ordered = curve if rising else tuple(reversed(curve))
        self._x = np.array([self._sign * soc for soc, _ in ordered])
        self._share = np.array([share for _, share in ordered])
        slopes = np.diff(self._share) / np.diff(self._x)
        # Segment n lies before corner n; the first and the last are flat.
        self._slope = np.concatenate([[0.0], slopes, [0.0]])
        self._from = np.concatenate([self._x[:1], self._x])
        self._level = np.concatenate([self._share[:1], self._share])

    def limit_mw(
        self, full_mw: float, soc: FloatArray | float, soc_per_mw: FloatArray | float
    ) -> FloatArray:
        """Return the largest power, as an amount, that obeys the curve to the end of a step.

        Args:
            full_mw: Power at a share of 1, an amount.
            soc: (...,) state of charge that a step without any power would end at.
            soc_per_mw: By how much 1 MW held for the step changes it, an amount.
        """
        x = self._sign * np.asarray(soc, dtype=np.float64)
        gain = np.asarray(soc_per_mw, dtype=np.float64)
        # Power minus limit, where the step ends on each corner: grows from corner to corner.
        at_corners = (self._x - x[..., None]) / gain[..., None] - full_mw * self._share
        segment = (at_corners < 0.0).sum(axis=-1)
        slope = full_mw * self._slope[segment]
        level = full_mw * self._level[segment]
        p_mw = (level + slope * (x - self._from[segment])) / (1.0 - slope * gain)
        return np.asarray(np.clip(p_mw, 0.0, full_mw))


def taper_problems(curve: Sequence[tuple[float, float]], *, rising: bool) -> Iterator[str]:
    """Yield what a curve of power over state of charge should be and is not."""
    socs, shares = [soc for soc, _ in curve], [share for _, share in curve]
    if len(curve) < 2 or any(not a < b for a, b in pairwise(socs)):
        yield "two or more corners, rising in state of charge"
    elif not all(0.0 <= x <= 1.0 for x in (*socs, *shares)):
        yield "states of charge and shares from 0 to 1"
    elif rising and any(a < b for a, b in pairwise(shares)):
        yield "shares that do not grow as the store fills"
    elif not rising and any(a > b for a, b in pairwise(shares)):
        yield "shares that do not grow as the store empties"


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """What a device that stores energy must keep within.

    Attributes:
        e_capacity_mwh: Capacity.
        soc_min: Lowest state of charge, 0-1.
        soc_max: Highest state of charge, 0-1.
        ch_eff: Efficiency of charging: stored over taken from the grid.
        dsc_eff: Efficiency of discharging: given to the grid over taken from the store.
        self_discharge_per_h: Share of the stored energy lost in an hour.
        charge_taper: Share of ``p_charge_mw`` by state of charge; None for no such limit.
        discharge_taper: Share of ``p_discharge_mw`` by state of charge; None for none.
        p_charge_mw: Full charging power, an amount; counts with its taper only.
        p_discharge_mw: Full discharging power, an amount; counts with its taper only.
    """

    e_capacity_mwh: float
    soc_min: float = 0.0
    soc_max: float = 1.0
    ch_eff: float = 1.0
    dsc_eff: float = 1.0
    self_discharge_per_h: float = 0.0
    charge_taper: PowerTaper | None = None
    discharge_taper: PowerTaper | None = None
    p_charge_mw: float = _INF
    p_discharge_mw: float = _INF

    def p_range_mw(self, soc: float, dt_s: float) -> tuple[float, float]:
        """Return the powers that keep the store within its limits for ``dt_s``.

        Args:
            soc: State of charge now, 0-1; outside the window only the way back is open.
            dt_s: Length of the step, above zero.

        Returns:
            Strongest charging (zero or negative) and strongest discharging (zero or positive).
        """
        h = dt_s / 3600.0
        if self.self_discharge_per_h >= _NEGLIGIBLE:
            soc, h = self._decayed(soc, h)
        # conditions, not max(): every store passes here at every step
        room = self.soc_max - soc if soc < self.soc_max else 0.0
        stock = soc - self.soc_min if soc > self.soc_min else 0.0
        takes = room * self.e_capacity_mwh / (self.ch_eff * h)
        gives = stock * self.e_capacity_mwh * self.dsc_eff / h
        if self.charge_taper is not None:
            gain = self.ch_eff * h / self.e_capacity_mwh
            takes = min(takes, float(self.charge_taper.limit_mw(self.p_charge_mw, soc, gain)))
        if self.discharge_taper is not None:
            gain = h / (self.dsc_eff * self.e_capacity_mwh)
            gives = min(gives, float(self.discharge_taper.limit_mw(self.p_discharge_mw, soc, gain)))
        return -takes, gives

    def soc_after(self, soc: float, p_mw: float, dt_s: float) -> float:
        """Return the state of charge after ``dt_s`` at constant power, positive = discharges.

        Solves dE/dt = -k E - p / dsc_eff (or -k E - p ch_eff when charging) exactly, so that
        it does not matter how time is cut into steps.
        """
        soc, h = self._decayed(soc, dt_s / 3600.0)
        drawn = p_mw / self.dsc_eff if p_mw > 0.0 else p_mw * self.ch_eff
        return soc - drawn * h / self.e_capacity_mwh

    def decay(self, h: float) -> tuple[float, float]:
        """Return the share that self-discharge leaves after ``h`` hours.

        And the hours for which power counts in full: what is charged early decays, too.
        """
        if self.self_discharge_per_h < _NEGLIGIBLE:
            return 1.0, h
        decay = -math.log1p(-self.self_discharge_per_h)
        return math.exp(-decay * h), -math.expm1(-decay * h) / decay

    def _decayed(self, soc: float, h: float) -> tuple[float, float]:
        kept, effective_h = self.decay(h)
        return soc * kept, effective_h

    def problems(self) -> Iterator[tuple[str, object, str]]:
        """Yield (where, value, expected) of every mistake."""
        if not 0.0 < self.e_capacity_mwh < _INF:
            yield "storage.e_capacity_mwh", self.e_capacity_mwh, "finite and positive"
        if not 0.0 <= self.soc_min < self.soc_max <= 1.0:
            window = (self.soc_min, self.soc_max)
            yield "storage.soc_min, storage.soc_max", window, "0 <= low < high <= 1"
        for name, value in (("ch_eff", self.ch_eff), ("dsc_eff", self.dsc_eff)):
            if not 0.0 < value <= 1.0:
                yield f"storage.{name}", value, "above 0, at most 1"
        lost = self.self_discharge_per_h
        if not 0.0 <= lost < 1.0:
            yield "storage.self_discharge_per_h", lost, "at least 0, below 1"
        for name, taper, full in (
            ("p_charge_mw", self.charge_taper, self.p_charge_mw),
            ("p_discharge_mw", self.discharge_taper, self.p_discharge_mw),
        ):
            if taper is not None and not 0.0 < full < _INF:
                yield f"storage.{name}", full, "finite and positive where there is a taper"
