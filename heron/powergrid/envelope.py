"""The safety envelope: the last word before the wire on what a device may be told.

`admit` is a pure function. A policy, an operator or a market proposes a set-point; the envelope
lets it pass (`Admitted`), cuts it back (`Limited`) or lets nothing pass (`Refused`), and says
why. The order of its rules is: finite numbers; a fresh reading of a connected device; power
limits; ramp; state of charge over the coming step; capability circle (active power first);
voltage. A later rule wins over an earlier one, except that no rule ever leads outside the power
limits, and that the voltage rule stays within what the other rules leave.

Sign: positive = injects into the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.quantities import ClipReason, DeviceReading, Setpoint

_INF = math.inf
_NEGLIGIBLE = 1e-12


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
    """

    e_capacity_mwh: float
    soc_min: float = 0.0
    soc_max: float = 1.0
    ch_eff: float = 1.0
    dsc_eff: float = 1.0
    self_discharge_per_h: float = 0.0

    def p_range_mw(self, soc: float, dt_s: float) -> tuple[float, float]:
        """Return the powers that keep the state of charge within its window for ``dt_s``.

        Args:
            soc: State of charge now, 0-1; outside the window only the way back is open.
            dt_s: Length of the step, above zero.

        Returns:
            Strongest charging (zero or negative) and strongest discharging (zero or positive).
        """
        soc, h = self._decayed(soc, dt_s / 3600.0)
        room = max(0.0, self.soc_max - soc) * self.e_capacity_mwh
        stock = max(0.0, soc - self.soc_min) * self.e_capacity_mwh
        return -room / (self.ch_eff * h), stock * self.dsc_eff / h

    def soc_after(self, soc: float, p_mw: float, dt_s: float) -> float:
        """Return the state of charge after ``dt_s`` at constant power, positive = discharges.

        Solves dE/dt = -k E - p / dsc_eff (or -k E - p ch_eff when charging) exactly, so that
        it does not matter how time is cut into steps.
        """
        soc, h = self._decayed(soc, dt_s / 3600.0)
        drawn = p_mw / self.dsc_eff if p_mw > 0.0 else p_mw * self.ch_eff
        return soc - drawn * h / self.e_capacity_mwh

    def _decayed(self, soc: float, h: float) -> tuple[float, float]:
        """Return what self-discharge leaves, and the hours for which power counts in full."""
        if self.self_discharge_per_h < _NEGLIGIBLE:
            return soc, h
        decay = -math.log1p(-self.self_discharge_per_h)
        return soc * math.exp(-decay * h), -math.expm1(-decay * h) / decay


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """The envelope of one device.

    Attributes:
        p_min_mw: Lowest active power, positive = injects.
        p_max_mw: Highest active power.
        q_min_mvar: Lowest reactive power.
        q_max_mvar: Highest reactive power.
        s_max_mva: Apparent-power rating; None for no circle.
        ramp_mw_per_min: Largest change of active power; None for no limit.
        storage: Limits of the store; None where nothing is stored.
        v_band_pu: Terminal voltages (low, high) between which a set-point passes; beyond
            them a set-point may not push the voltage further out. None for no such rule.
    """

    p_min_mw: float
    p_max_mw: float
    q_min_mvar: float = 0.0
    q_max_mvar: float = 0.0
    s_max_mva: float | None = None
    ramp_mw_per_min: float | None = None
    storage: StorageLimits | None = None
    v_band_pu: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        problems = [ConfigProblem(*found) for found in _limit_problems(self)]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The set-point passes as proposed."""

    proposed: Setpoint

    @property
    def applied(self) -> Setpoint:
        """What may be written: the proposal itself."""
        return self.proposed

    @property
    def reasons(self) -> tuple[ClipReason, ...]:
        """None: nothing was changed."""
        return ()


@dataclass(frozen=True, slots=True)
class Limited:
    """The set-point was cut back.

    Attributes:
        proposed: What was asked.
        applied: What may be written.
        reasons: Why, in the order of the rules.
    """

    proposed: Setpoint
    applied: Setpoint
    reasons: tuple[ClipReason, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing may be written on the strength of this proposal.

    Attributes:
        proposed: What was asked.
        reasons: Why.
    """

    proposed: Setpoint
    reasons: tuple[ClipReason, ...]

    @property
    def applied(self) -> None:
        """Nothing."""
        return


EnvelopeResult: TypeAlias = Admitted | Limited | Refused


def admit(
    proposed: Setpoint,
    limits: DeviceLimits,
    reading: DeviceReading | None,
    previous: Setpoint | None,
    dt_s: float,
) -> EnvelopeResult:
    """Decide what a device may be told.

    Args:
        proposed: What is asked of it.
        limits: Its envelope.
        reading: Its latest good reading; None when there is no fresh one.
        previous: The set-point in force, from which the ramp counts; None to count from
            ``reading.p_mw``.
        dt_s: Plant seconds until the next set-point can come.

    Returns:
        `Admitted`, `Limited` or `Refused`. The applied set-point is within the limits, and
        admitting it again under the same circumstances changes nothing.
    """
    p, q = proposed.p_mw, proposed.q_mvar
    if not (math.isfinite(p) and math.isfinite(q)):
        return Refused(proposed, (ClipReason.NOT_FINITE,))
    if reading is None or not _usable(reading, limits, previous, dt_s):
        return Refused(proposed, (ClipReason.STALE_DATA,))
    if not reading.connected:
        return Refused(proposed, (ClipReason.DISCONNECTED,))

    reasons: list[ClipReason] = []
    p = _admit_p(p, limits, reading, previous=previous, dt_s=dt_s, reasons=reasons)
    q = _admit_q(q, p, limits, reading, reasons=reasons)
    if p == proposed.p_mw and q == proposed.q_mvar:
        return Admitted(proposed)
    return Limited(proposed, Setpoint(p, q), tuple(dict.fromkeys(reasons)))


def _usable(
    reading: DeviceReading, limits: DeviceLimits, previous: Setpoint | None, dt_s: float
) -> bool:
    """Whether the circumstances are known well enough to decide on them."""
    total = reading.p_mw + reading.q_mvar + reading.v_pu + reading.v_min_pu + reading.v_max_pu
    if not (math.isfinite(total) and math.isfinite(dt_s) and dt_s > 0.0):
        return False
    if previous is not None and not math.isfinite(previous.p_mw):
        return False
    if limits.storage is None:
        return True
    return reading.soc is not None and 0.0 <= reading.soc <= 1.0


def _admit_p(
    p: float,
    limits: DeviceLimits,
    reading: DeviceReading,
    *,
    previous: Setpoint | None,
    dt_s: float,
    reasons: list[ClipReason],
) -> float:
    """Return the admissible active power; append to ``reasons`` each rule that changed it.

    The rules narrow one interval, and each that moves the value leaves its reason.
    """
    low, high = limits.p_min_mw, limits.p_max_mw
    if not low <= p <= high:
        p = _clip(p, low, high, ClipReason.POWER_LIMIT, reasons)
    if limits.ramp_mw_per_min is not None:
        start = reading.p_mw if previous is None else previous.p_mw
        start = min(max(start, low), high)
        reach = limits.ramp_mw_per_min * dt_s / 60.0
        low, high = max(low, start - reach), min(high, start + reach)
        if not low <= p <= high:
            p = _clip(p, low, high, ClipReason.RAMP, reasons)
    if limits.storage is not None and reading.soc is not None:
        low, high = _narrow(low, high, *limits.storage.p_range_mw(reading.soc, dt_s))
        if not low <= p <= high:
            p = _clip(p, low, high, ClipReason.STATE_OF_CHARGE, reasons)
    if limits.s_max_mva is not None:
        low, high = _narrow(low, high, -limits.s_max_mva, limits.s_max_mva)
        if not low <= p <= high:
            p = _clip(p, low, high, ClipReason.APPARENT_POWER, reasons)
    return _hold_voltage(
        p, reading.p_mw, (low, high), limits=limits, reading=reading, reasons=reasons
    )


def _admit_q(
    q: float,
    p: float,
    limits: DeviceLimits,
    reading: DeviceReading,
    *,
    reasons: list[ClipReason],
) -> float:
    """Return the admissible reactive power beside ``p``."""
    low, high = limits.q_min_mvar, limits.q_max_mvar
    if not low <= q <= high:
        q = _clip(q, low, high, ClipReason.POWER_LIMIT, reasons)
    if limits.s_max_mva is not None:
        beside = math.sqrt(max(0.0, limits.s_max_mva**2 - p**2))
        low, high = _narrow(low, high, -beside, beside)
        if not low <= q <= high:
            q = _clip(q, low, high, ClipReason.APPARENT_POWER, reasons)
    return _hold_voltage(
        q, reading.q_mvar, (low, high), limits=limits, reading=reading, reasons=reasons
    )


def _hold_voltage(
    x: float,
    present: float,
    interval: tuple[float, float],
    *,
    limits: DeviceLimits,
    reading: DeviceReading,
    reasons: list[ClipReason],
) -> float:
    """Let a power not grow while the voltage is too high, nor fall while it is too low.

    ``present`` is the power at the terminals now. When phases lie on both sides of the band,
    the power stays as it is.
    """
    if limits.v_band_pu is None:
        return x
    low, high = interval
    v_low, v_high = limits.v_band_pu
    present = min(max(present, low), high)
    if reading.v_max_pu > v_high:
        high = present
    if reading.v_min_pu < v_low:
        low = present
    return x if low <= x <= high else _clip(x, low, high, ClipReason.VOLTAGE, reasons)


def _clip(
    x: float, low: float, high: float, reason: ClipReason, reasons: list[ClipReason]
) -> float:
    """Bring a value into its interval and note the reason; called for values outside."""
    reasons.append(reason)
    return low if x < low else high


def _narrow(low: float, high: float, new_low: float, new_high: float) -> tuple[float, float]:
    """Intersect two intervals; where they do not meet, the new one's nearer end remains."""
    return (
        min(max(low, new_low), new_high),
        max(min(high, new_high), new_low),
    )


def _limit_problems(limits: DeviceLimits) -> list[tuple[str, object, str]]:
    """Return (where, value, expected) of every mistake in the limits."""
    found: list[tuple[str, object, str]] = []
    low, high, s = limits.p_min_mw, limits.p_max_mw, limits.s_max_mva
    if not -_INF < low <= high < _INF:
        found.append(("p_min_mw, p_max_mw", (low, high), "finite, low <= high"))
    if not -_INF < limits.q_min_mvar <= limits.q_max_mvar < _INF:
        q_range = (limits.q_min_mvar, limits.q_max_mvar)
        found.append(("q_min_mvar, q_max_mvar", q_range, "finite, low <= high"))
    if s is not None and not (0.0 < s < _INF and low <= s and high >= -s):
        found.append(("s_max_mva", s, "finite, positive, and meets the active-power range"))
    if limits.ramp_mw_per_min is not None and not 0.0 < limits.ramp_mw_per_min < _INF:
        found.append(("ramp_mw_per_min", limits.ramp_mw_per_min, "finite and positive"))
    band = limits.v_band_pu
    if band is not None and not 0.0 < band[0] < band[1] < _INF:
        found.append(("v_band_pu", band, "finite, 0 < low < high"))
    return found + _storage_problems(limits)


def _storage_problems(limits: DeviceLimits) -> list[tuple[str, object, str]]:
    store = limits.storage
    if store is None:
        return []
    found: list[tuple[str, object, str]] = []
    if not limits.p_min_mw <= 0.0 <= limits.p_max_mw:
        p_range = (limits.p_min_mw, limits.p_max_mw)
        found.append(("p_min_mw, p_max_mw", p_range, "a store may always rest: contains zero"))
    if not 0.0 < store.e_capacity_mwh < _INF:
        found.append(("storage.e_capacity_mwh", store.e_capacity_mwh, "finite and positive"))
    if not 0.0 <= store.soc_min < store.soc_max <= 1.0:
        window = (store.soc_min, store.soc_max)
        found.append(("storage.soc_min, storage.soc_max", window, "0 <= low < high <= 1"))
    found += [
        (f"storage.{name}", value, "above 0, at most 1")
        for name, value in (("ch_eff", store.ch_eff), ("dsc_eff", store.dsc_eff))
        if not 0.0 < value <= 1.0
    ]
    lost = store.self_discharge_per_h
    if not 0.0 <= lost < 1.0:
        found.append(("storage.self_discharge_per_h", lost, "at least 0, below 1"))
    return found
