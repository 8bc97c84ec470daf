"""The safety envelope: the last word before the wire on what a device may be told.

`admit` is a pure function. A policy, an operator or a market proposes a set-point; the envelope
lets it pass (`Admitted`), cuts it back (`Limited`) or lets nothing pass (`Refused`), and says
why. The order of its rules is: finite numbers; a fresh reading of a connected device; power
limits; ramp; state of charge over the coming step; capability circle (active power first);
voltage; and for a tap changer its range, its moves and the voltage. A later rule wins over an
earlier one, except that no rule ever leads outside the limits of power and tap, and that the
voltage rule stays within what the other rules leave.

Sign: positive = injects into the grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import NamedTuple, TypeAlias

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.quantities import ClipReason, DeviceReading, Setpoint
from heron.powergrid.storage_limits import StorageLimits

__all__ = [
    "Admitted",
    "DeviceLimits",
    "EnvelopeResult",
    "Limited",
    "Refused",
    "StorageLimits",
    "TapLimits",
    "admit",
    "cut_back",
]

_INF = math.inf
_make = tuple.__new__
"""Builds a named tuple without the detour through its keywords: every set-point passes here."""


@dataclass(frozen=True, slots=True)
class TapLimits:
    """What a tap changer must keep within.

    Attributes:
        tap_min: Lowest position.
        tap_max: Highest position.
        tap_time_s: Plant seconds that one move takes.
        max_moves: Most moves in one interval; None for no limit.
        moves_interval_s: Length of that interval; None for the time between two set-points.
    """

    tap_min: int
    tap_max: int
    tap_time_s: float = 0.0
    max_moves: int | None = None
    moves_interval_s: float | None = None

    def reach(self, dt_s: float) -> int:
        """Return how many moves one set-point may ask for, at least one.

        A set-point that asks for one move is always let through: how much of the present
        interval is used up only the device itself knows, and it waits by itself.
        """
        moves = self.tap_max - self.tap_min
        if self.tap_time_s > 0.0:
            moves = min(moves, math.floor(dt_s / self.tap_time_s))
        if self.max_moves is not None:
            interval_s = self.moves_interval_s
            intervals = 1 if interval_s is None else math.ceil(dt_s / interval_s)
            moves = min(moves, self.max_moves * intervals)
        return max(1, moves)


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
        tap: Limits of the tap changer; None where there is none.
        only_ranges: Whether there is no tap changer, and no rule beside the ranges of active and
            reactive power can ever cut anything: then the others need not be asked.
    """

    p_min_mw: float
    p_max_mw: float
    q_min_mvar: float = 0.0
    q_max_mvar: float = 0.0
    s_max_mva: float | None = None
    ramp_mw_per_min: float | None = None
    storage: StorageLimits | None = None
    v_band_pu: tuple[float, float] | None = None
    tap: TapLimits | None = None
    only_ranges: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        problems = [ConfigProblem(*found) for found in _limit_problems(self)]
        if problems:
            raise ConfigError(problems)
        object.__setattr__(self, "only_ranges", _only_ranges(self))


class Admitted(NamedTuple):
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


class Limited(NamedTuple):
    """The set-point was cut back.

    Attributes:
        proposed: What was asked.
        applied: What may be written.
        reasons: Why, in the order of the rules.
    """

    proposed: Setpoint
    applied: Setpoint
    reasons: tuple[ClipReason, ...]


class Refused(NamedTuple):
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
    cut = cut_back(proposed, limits, reading, previous, dt_s)
    return Admitted(proposed) if cut is None else cut


def cut_back(  # noqa: PLR0912 - one rule after the other
    proposed: Setpoint,
    limits: DeviceLimits,
    reading: DeviceReading | None,
    previous: Setpoint | None,
    dt_s: float,
) -> Limited | Refused | None:
    """Decide as `admit` does; None where the set-point passes as proposed, as nearly all do."""
    # Every device passes here at every step: set-points are not unpacked, and conditions stand
    # where min() and max() would, because both cost several times as much.
    p, q, tap = proposed[0], proposed[1], proposed[2]
    low, high = limits.p_min_mw, limits.p_max_mw
    q_low, q_high = limits.q_min_mvar, limits.q_max_mvar
    fits = False
    if low <= p <= high and q_low <= q <= q_high:
        fits = True  # and finite, because the limits are
    elif not (isfinite(p) and isfinite(q)):
        return Refused(proposed, (ClipReason.NOT_FINITE,))
    if reading is None or not dt_s > 0.0:
        return Refused(proposed, (ClipReason.STALE_DATA,))
    # One sum is finite only if all its parts are.
    shown = reading.p_mw + reading.q_mvar + reading.v_pu + reading.v_min_pu + reading.v_max_pu
    if not isfinite(shown + dt_s if previous is None else shown + dt_s + previous[0]):
        return Refused(proposed, (ClipReason.STALE_DATA,))
    free = limits.only_ranges
    if not free and not _shows_enough(reading, limits):
        return Refused(proposed, (ClipReason.STALE_DATA,))
    if not reading.connected:
        return Refused(proposed, (ClipReason.DISCONNECTED,))
    if free and fits and tap is None:
        return None

    reasons: list[ClipReason] = []
    if not low <= p <= high:
        p = _clip(p, low, high, ClipReason.POWER_LIMIT, reasons)
    if not free:
        p = _admit_p(p, limits, reading, previous, dt_s, reasons)
    if not q_low <= q <= q_high:
        q = _clip(q, q_low, q_high, ClipReason.POWER_LIMIT, reasons)
    if not free:
        q = _admit_q(q, p, limits, reading, reasons)
    if tap is not None:
        tap = _admit_tap(tap, limits, reading, dt_s=dt_s, reasons=reasons)
    if not reasons or (p, q, tap) == proposed:
        return None
    applied = _make(Setpoint, (p, q, tap))
    return _make(Limited, (proposed, applied, tuple(dict.fromkeys(reasons))))


def _shows_enough(reading: DeviceReading, limits: DeviceLimits) -> bool:
    """Whether a reading holds what the rules beside the ranges go by."""
    if limits.tap is not None and reading.tap is None:
        return False
    if limits.storage is None:
        return True
    return reading.soc is not None and 0.0 <= reading.soc <= 1.0


def _admit_p(  # noqa: PLR0917 - by position: every device's set-point passes here
    p: float,
    limits: DeviceLimits,
    reading: DeviceReading,
    previous: Setpoint | None,
    dt_s: float,
    reasons: list[ClipReason],
) -> float:
    """Return what the rules beside its range leave of an active power within it.

    They narrow one interval, and each that moves the value appends its reason to ``reasons``.
    """
    low, high = limits.p_min_mw, limits.p_max_mw
    if limits.ramp_mw_per_min is not None:
        start = reading.p_mw if previous is None else previous.p_mw
        start = min(max(start, low), high)
        reach = limits.ramp_mw_per_min * dt_s / 60.0
        low, high = max(low, start - reach), min(high, start + reach)
        if not low <= p <= high:
            p = _clip(p, low, high, ClipReason.RAMP, reasons)
    if limits.storage is not None and reading.soc is not None:
        takes, gives = limits.storage.p_range_mw(reading.soc, dt_s)
        if not takes <= low <= high <= gives:
            low, high = _narrow(low, high, takes, gives)
            if not low <= p <= high:
                p = _clip(p, low, high, ClipReason.STATE_OF_CHARGE, reasons)
    s_max = limits.s_max_mva
    if s_max is not None and not -s_max <= low <= high <= s_max:
        low, high = _narrow(low, high, -s_max, s_max)
        if not low <= p <= high:
            p = _clip(p, low, high, ClipReason.APPARENT_POWER, reasons)
    if limits.v_band_pu is None:
        return p
    return _hold_voltage(
        p, reading.p_mw, (low, high), limits=limits, reading=reading, reasons=reasons
    )


def _admit_q(
    q: float, p: float, limits: DeviceLimits, reading: DeviceReading, reasons: list[ClipReason]
) -> float:
    """Return what the rules beside its range leave of a reactive power within it, beside ``p``."""
    low, high = limits.q_min_mvar, limits.q_max_mvar
    if limits.s_max_mva is not None:
        beside = _leg(limits.s_max_mva, p)
        if not -beside <= low <= high <= beside:
            low, high = _narrow(low, high, -beside, beside)
            if not low <= q <= high:
                q = _clip(q, low, high, ClipReason.APPARENT_POWER, reasons)
    if limits.v_band_pu is None:
        return q
    return _hold_voltage(
        q, reading.q_mvar, (low, high), limits=limits, reading=reading, reasons=reasons
    )


def _admit_tap(
    tap: int,
    limits: DeviceLimits,
    reading: DeviceReading,
    *,
    dt_s: float,
    reasons: list[ClipReason],
) -> int | None:
    """Return the admissible tap position; None leaves the tap to the device."""
    if limits.tap is None or reading.tap is None:
        reasons.append(ClipReason.TAP_RANGE)
        return None
    low, high = limits.tap.tap_min, limits.tap.tap_max
    if not low <= tap <= high:
        tap = round(_clip(tap, low, high, ClipReason.TAP_RANGE, reasons))
    reach, present = limits.tap.reach(dt_s), min(max(reading.tap, low), high)
    low, high = max(low, present - reach), min(high, present + reach)
    if not low <= tap <= high:
        tap = round(_clip(tap, low, high, ClipReason.TAP_MOVES, reasons))
    held = _hold_voltage(tap, present, (low, high), limits=limits, reading=reading, reasons=reasons)
    return round(held)


def _hold_voltage(
    x: float,
    present: float,
    interval: tuple[float, float],
    *,
    limits: DeviceLimits,
    reading: DeviceReading,
    reasons: list[ClipReason],
) -> float:
    """Let a power or a tap not grow while the voltage is too high, nor fall while it is too low.

    ``present`` is the power at the terminals, or the tap, now. When phases lie on both sides of
    the band, it stays as it is.
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


def _leg(hypotenuse: float, other: float) -> float:
    """Return the other leg of a right triangle; 0 where the given one is too long."""
    square = hypotenuse * hypotenuse - other * other
    return sqrt(square) if square > 0.0 else 0.0


def _narrow(low: float, high: float, new_low: float, new_high: float) -> tuple[float, float]:
    """Intersect two intervals; where they do not meet, the new one's nearer end remains."""
    low = new_low if low < new_low else low
    high = new_high if high > new_high else high
    return (low if low < new_high else new_high), (high if high > new_low else new_low)


def _only_ranges(limits: DeviceLimits) -> bool:
    """Tell whether the ranges alone decide: even their corner is within the capability circle."""
    others = (limits.ramp_mw_per_min, limits.storage, limits.v_band_pu, limits.tap)
    if any(rule is not None for rule in others):
        return False
    if limits.s_max_mva is None:
        return True
    p = max(-limits.p_min_mw, limits.p_max_mw)
    q = max(-limits.q_min_mvar, limits.q_max_mvar)
    return p <= limits.s_max_mva and q <= _leg(limits.s_max_mva, p)


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
    return found + _storage_problems(limits) + _tap_problems(limits)


def _storage_problems(limits: DeviceLimits) -> list[tuple[str, object, str]]:
    store = limits.storage
    if store is None:
        return []
    found: list[tuple[str, object, str]] = []
    if not limits.p_min_mw <= 0.0 <= limits.p_max_mw:
        p_range = (limits.p_min_mw, limits.p_max_mw)
        found.append(("p_min_mw, p_max_mw", p_range, "a store may always rest: contains zero"))
    return found + list(store.problems())


def _tap_problems(limits: DeviceLimits) -> list[tuple[str, object, str]]:
    tap = limits.tap
    if tap is None:
        return []
    found: list[tuple[str, object, str]] = []
    if not tap.tap_min <= tap.tap_max:
        found.append(("tap.tap_min, tap.tap_max", (tap.tap_min, tap.tap_max), "low <= high"))
    if not 0.0 <= tap.tap_time_s < _INF:
        found.append(("tap.tap_time_s", tap.tap_time_s, "finite, at least 0"))
    if tap.max_moves is not None and tap.max_moves < 1:
        found.append(("tap.max_moves", tap.max_moves, "at least 1"))
    if tap.moves_interval_s is not None and not 0.0 < tap.moves_interval_s < _INF:
        found.append(("tap.moves_interval_s", tap.moves_interval_s, "finite and positive"))
    return found
