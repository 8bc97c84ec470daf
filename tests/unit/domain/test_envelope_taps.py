"""The envelope of a tap changer: range, moves, voltage, and what must hold for every input."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.errors import ConfigError
from heron.powergrid.envelope import (
    Admitted,
    DeviceLimits,
    EnvelopeResult,
    Limited,
    Refused,
    TapLimits,
    admit,
)
from heron.powergrid.quantities import ClipReason, DeviceReading, Setpoint

READING = DeviceReading(0.0, 0.0, 1.0, 0.99, 1.01, tap=2)
BAND = (0.97, 1.03)


def limits(v_band_pu: tuple[float, float] | None = None, **changes: object) -> DeviceLimits:
    tap = TapLimits(**{"tap_min": -8, "tap_max": 10} | changes)  # type: ignore[arg-type]
    return DeviceLimits(0.0, 0.0, v_band_pu=v_band_pu, tap=tap)


def decide(
    tap: int | None,
    envelope: DeviceLimits | None = None,
    *,
    reading: DeviceReading = READING,
    dt_s: float = 900.0,
) -> EnvelopeResult:
    return admit(Setpoint(0.0, 0.0, tap), envelope or limits(), reading, None, dt_s)


def test_a_tap_within_its_range_passes_unchanged() -> None:
    for tap in (-8, 2, 10):
        assert decide(tap) == Admitted(Setpoint(0.0, 0.0, tap))


@pytest.mark.parametrize(("asked", "applied"), [(11, 10), (-9, -8), (40, 10)])
def test_beyond_the_range_the_end_is_taken(asked: int, applied: int) -> None:
    result = decide(asked)
    assert result == Limited(
        Setpoint(0.0, 0.0, asked), Setpoint(0.0, 0.0, applied), (ClipReason.TAP_RANGE,)
    )


def test_no_tap_leaves_it_to_the_device() -> None:
    assert decide(None) == Admitted(Setpoint(0.0))


def test_a_device_without_a_tap_changer_takes_none() -> None:
    result = decide(3, DeviceLimits(0.0, 0.0))
    assert result == Limited(Setpoint(0.0, 0.0, 3), Setpoint(0.0), (ClipReason.TAP_RANGE,))


def test_an_unknown_position_is_refused() -> None:
    result = decide(3, reading=replace(READING, tap=None))
    assert isinstance(result, Refused)
    assert result.reasons == (ClipReason.STALE_DATA,)


@pytest.mark.parametrize(
    ("changes", "dt_s", "reach"),
    [
        ({}, 900.0, 18),
        ({}, 1.0, 18),
        ({"tap_time_s": 100.0}, 900.0, 9),
        ({"tap_time_s": 100.0}, 899.0, 8),
        ({"tap_time_s": 100.0}, 10.0, 1),
        ({"max_moves": 3}, 900.0, 3),
        ({"max_moves": 3, "moves_interval_s": 900.0}, 900.0, 3),
        ({"max_moves": 3, "moves_interval_s": 900.0}, 901.0, 6),
        ({"max_moves": 2, "moves_interval_s": 60.0, "tap_time_s": 300.0}, 900.0, 3),
        ({"tap_min": 4, "tap_max": 4}, 900.0, 1),
    ],
)
def test_reach_is_what_time_and_number_allow(
    changes: dict[str, object], dt_s: float, reach: int
) -> None:
    tap = limits(**changes).tap
    assert tap is not None
    assert tap.reach(dt_s) == reach


@pytest.mark.parametrize(("asked", "applied"), [(10, 5), (-8, -1), (5, 5), (-1, -1)])
def test_moves_count_from_where_it_stands(asked: int, applied: int) -> None:
    result = decide(asked, limits(max_moves=3))
    assert result.applied == Setpoint(0.0, 0.0, applied)
    assert result.reasons == (() if asked == applied else (ClipReason.TAP_MOVES,))


def test_a_position_outside_the_range_counts_as_its_end() -> None:
    far = replace(READING, tap=14)
    assert decide(8, limits(max_moves=3), reading=far).applied == Setpoint(0.0, 0.0, 8)
    assert decide(2, limits(max_moves=3), reading=far).applied == Setpoint(0.0, 0.0, 7)
    low = replace(READING, tap=-14)
    assert decide(2, limits(max_moves=3), reading=low).applied == Setpoint(0.0, 0.0, -5)


@pytest.mark.parametrize(
    ("v_min", "v_max", "allowed"),
    [
        (0.99, 1.01, {-8, 2, 10}),
        (0.97, 1.03, {-8, 2, 10}),
        (0.99, 1.031, {-8, 2}),
        (0.969, 1.01, {2, 10}),
        (0.96, 1.04, {2}),
    ],
)
def test_a_tap_may_not_push_the_voltage_further_out(
    v_min: float, v_max: float, allowed: set[int]
) -> None:
    reading = replace(READING, v_min_pu=v_min, v_max_pu=v_max)
    for tap in (-8, 2, 10):
        result = decide(tap, limits(BAND), reading=reading)
        if tap in allowed:
            assert isinstance(result, Admitted)
        else:
            assert result.applied == Setpoint(0.0, 0.0, 2)
            assert result.reasons == (ClipReason.VOLTAGE,)


def test_every_rule_that_changed_it_is_named_in_order() -> None:
    reading = replace(READING, v_max_pu=1.05)
    result = decide(30, limits(BAND, max_moves=3), reading=reading)
    assert result.applied == Setpoint(0.0, 0.0, 2)
    assert result.reasons == (ClipReason.TAP_RANGE, ClipReason.TAP_MOVES, ClipReason.VOLTAGE)


@given(
    asked=st.integers(-50, 50),
    at=st.integers(-20, 20),
    ends=st.tuples(st.integers(-16, 16), st.integers(-16, 16)).map(sorted),
    moves=st.none() | st.integers(1, 5),
    dt_s=st.sampled_from([1.0, 60.0, 900.0, 3600.0]),
    v=st.floats(0.9, 1.1),
)
def test_what_is_applied_is_within_all_limits_and_stays_so(
    asked: int, at: int, ends: list[int], moves: int | None, dt_s: float, v: float
) -> None:
    low, high = ends
    envelope = limits(BAND, tap_min=low, tap_max=high, max_moves=moves, tap_time_s=30.0)
    reading = DeviceReading(0.0, 0.0, v, v - 0.01, v + 0.01, tap=at)
    result = decide(asked, envelope, reading=reading, dt_s=dt_s)
    assert result.applied is not None
    tap = result.applied.tap
    assert tap is not None
    assert low <= tap <= high
    assert envelope.tap is not None
    assert abs(tap - min(max(at, low), high)) <= envelope.tap.reach(dt_s)
    again = admit(result.applied, envelope, reading, None, dt_s)
    assert again == Admitted(result.applied)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"tap_min": 3, "tap_max": 2}, "tap.tap_min, tap.tap_max"),
        ({"tap_time_s": -1.0}, "tap.tap_time_s"),
        ({"tap_time_s": math.inf}, "tap.tap_time_s"),
        ({"max_moves": 0}, "tap.max_moves"),
        ({"moves_interval_s": 0.0}, "tap.moves_interval_s"),
        ({"moves_interval_s": math.inf}, "tap.moves_interval_s"),
    ],
)
def test_limits_that_cannot_be_are_refused(changes: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        limits(**changes)
    assert [p.where for p in caught.value.problems] == [where]
