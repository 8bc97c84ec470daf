"""The envelope: each rule by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from heron.errors import ConfigError
from heron.powergrid.envelope import (
    Admitted,
    DeviceLimits,
    EnvelopeResult,
    Limited,
    Refused,
    StorageLimits,
    admit,
)
from heron.powergrid.quantities import ClipReason, DeviceReading, Setpoint

READING = DeviceReading(p_mw=0.0, q_mvar=0.0, v_pu=1.0, v_min_pu=0.99, v_max_pu=1.01, soc=0.5)
GENERATOR = DeviceLimits(0.1, 1.0, -0.2, 0.5)
STORE = DeviceLimits(-1.0, 1.0, storage=StorageLimits(2.0, 0.1, 0.9, 0.8, 0.5))
HOUR = 3600.0


def decide(
    p: float,
    q: float = 0.0,
    *,
    limits: DeviceLimits = GENERATOR,
    reading: DeviceReading | None = READING,
    previous: Setpoint | None = None,
    dt_s: float = HOUR,
) -> EnvelopeResult:
    return admit(Setpoint(p, q), limits, reading, previous, dt_s)


def test_what_is_within_all_limits_passes_unchanged() -> None:
    assert decide(0.5, 0.2) == Admitted(Setpoint(0.5, 0.2))
    result = decide(0.5, 0.2)
    assert result.applied == result.proposed == Setpoint(0.5, 0.2)
    assert result.reasons == ()


@pytest.mark.parametrize(("p", "q"), [(math.nan, 0.0), (math.inf, 0.0), (0.5, -math.inf)])
def test_a_proposal_that_is_not_finite_is_refused(p: float, q: float) -> None:
    result = decide(p, q)
    assert isinstance(result, Refused)
    assert result.reasons == (ClipReason.NOT_FINITE,)
    assert result.applied is None


@pytest.mark.parametrize("field", ["p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu"])
def test_a_reading_with_a_gap_is_refused(field: str) -> None:
    result = decide(0.5, reading=replace(READING, **{field: math.nan}))
    assert result.reasons == (ClipReason.STALE_DATA,)
    assert isinstance(result, Refused)


@pytest.mark.parametrize("dt_s", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_step_is_refused(dt_s: float) -> None:
    assert decide(0.5, dt_s=dt_s).reasons == (ClipReason.STALE_DATA,)


def test_no_reading_is_refused() -> None:
    assert decide(0.5, reading=None) == Refused(Setpoint(0.5), (ClipReason.STALE_DATA,))


def test_an_unknown_previous_setpoint_is_refused() -> None:
    assert isinstance(decide(0.5, previous=Setpoint(math.nan)), Refused)


def test_a_disconnected_device_is_refused() -> None:
    result = decide(0.5, reading=replace(READING, connected=False))
    assert result == Refused(Setpoint(0.5), (ClipReason.DISCONNECTED,))


@pytest.mark.parametrize("soc", [None, math.nan, -0.01, 1.01])
def test_a_store_without_a_believable_state_of_charge_is_refused(soc: float | None) -> None:
    result = decide(0.0, limits=STORE, reading=replace(READING, soc=soc))
    assert result.reasons == (ClipReason.STALE_DATA,)


@pytest.mark.parametrize("soc", [0.0, 1.0])
def test_the_ends_of_the_state_of_charge_are_believable(soc: float) -> None:
    assert isinstance(decide(0.0, limits=STORE, reading=replace(READING, soc=soc)), Admitted)


@pytest.mark.parametrize(
    ("asked", "applied"),
    [
        (Setpoint(2.0, 0.0), Setpoint(1.0, 0.0)),
        (Setpoint(0.0, 0.0), Setpoint(0.1, 0.0)),
        (Setpoint(0.5, 0.6), Setpoint(0.5, 0.5)),
        (Setpoint(0.5, -0.3), Setpoint(0.5, -0.2)),
        (Setpoint(9.0, 9.0), Setpoint(1.0, 0.5)),
    ],
)
def test_power_limits_cut_back(asked: Setpoint, applied: Setpoint) -> None:
    result = admit(asked, GENERATOR, READING, None, HOUR)
    assert result == Limited(asked, applied, (ClipReason.POWER_LIMIT,))


def test_the_ramp_counts_from_the_previous_setpoint_over_the_step() -> None:
    limits = replace(GENERATOR, ramp_mw_per_min=0.01)
    up = decide(1.0, limits=limits, previous=Setpoint(0.4), dt_s=600.0)
    down = decide(0.1, limits=limits, previous=Setpoint(0.4), dt_s=600.0)
    assert up == Limited(Setpoint(1.0), Setpoint(0.5), (ClipReason.RAMP,))
    assert down.applied is not None
    assert down.applied.p_mw == pytest.approx(0.3)


def test_the_ramp_counts_from_the_reading_when_nothing_was_commanded() -> None:
    limits = replace(GENERATOR, ramp_mw_per_min=0.01)
    result = decide(1.0, limits=limits, reading=replace(READING, p_mw=0.2), dt_s=60.0)
    assert result.applied is not None
    assert result.applied.p_mw == pytest.approx(0.21)


def test_the_ramp_never_leads_outside_the_power_limits() -> None:
    limits = replace(GENERATOR, ramp_mw_per_min=0.01)
    result = decide(0.5, limits=limits, previous=Setpoint(0.0), dt_s=60.0)
    assert result.applied is not None
    assert result.applied.p_mw == pytest.approx(0.11)
    high = decide(0.5, limits=limits, previous=Setpoint(7.0), dt_s=60.0)
    assert high.applied == Setpoint(0.99)


def test_a_store_does_not_discharge_below_its_window() -> None:
    # 0.05 above the floor of 2 MWh is 0.1 MWh; half of it reaches the grid in one hour.
    result = decide(1.0, limits=STORE, reading=replace(READING, soc=0.15))
    assert result.applied is not None
    assert result.applied.p_mw == pytest.approx(0.05)
    assert result.reasons == (ClipReason.STATE_OF_CHARGE,)


def test_a_store_does_not_charge_above_its_window() -> None:
    # 0.1 below the ceiling of 2 MWh is 0.2 MWh; 0.25 MWh taken in half an hour fill it.
    result = decide(-1.0, limits=STORE, reading=replace(READING, soc=0.8), dt_s=HOUR / 2)
    assert result.applied is not None
    assert result.applied.p_mw == pytest.approx(-0.5)
    assert result.reasons == (ClipReason.STATE_OF_CHARGE,)


def test_self_discharge_leaves_less_to_give_and_more_room() -> None:
    leaky = StorageLimits(1.0, 0.1, 0.9, self_discharge_per_h=0.5)
    # In an hour half is lost; power counts for (1 - 0.5) / ln 2 hours.
    hours = 0.5 / math.log(2.0)
    assert leaky.p_range_mw(0.5, HOUR) == pytest.approx((-0.65 / hours, 0.15 / hours))
    assert leaky.p_range_mw(0.15, HOUR)[1] == 0.0
    assert leaky.soc_after(0.5, 0.15 / hours, HOUR) == pytest.approx(0.1)


@pytest.mark.parametrize(("p", "after"), [(0.4, 0.1), (0.0, 0.5), (-0.5, 0.7)])
def test_efficiencies_count_on_the_way_in_and_on_the_way_out(p: float, after: float) -> None:
    # 2 MWh: 0.8 MWh leave the store for 0.4 at the terminals; of 0.5 taken, 0.4 are stored.
    assert StorageLimits(2.0, 0.1, 0.9, 0.8, 0.5).soc_after(0.5, p, HOUR) == pytest.approx(after)


@pytest.mark.parametrize("p", [-0.3, 0.0, 0.2])
def test_the_state_of_charge_does_not_depend_on_how_time_is_cut(p: float) -> None:
    store = StorageLimits(2.0, ch_eff=0.9, dsc_eff=0.8, self_discharge_per_h=0.02)
    once = store.soc_after(0.5, p, HOUR)
    often = 0.5
    for _ in range(60):
        often = store.soc_after(often, p, 60.0)
    assert often == pytest.approx(once, abs=1e-12)


@pytest.mark.parametrize(("soc", "asked"), [(0.05, 0.3), (0.95, -0.3)])
def test_outside_the_window_only_the_way_back_is_open(soc: float, asked: float) -> None:
    reading = replace(READING, soc=soc)
    assert decide(asked, limits=STORE, reading=reading).applied == Setpoint(0.0)
    assert isinstance(decide(-asked, limits=STORE, reading=reading), Admitted)


def test_the_state_of_charge_wins_over_the_ramp() -> None:
    limits = replace(STORE, ramp_mw_per_min=0.001)
    empty = decide(
        0.5, limits=limits, reading=replace(READING, soc=0.1), previous=Setpoint(0.5), dt_s=60.0
    )
    full = decide(
        -0.5, limits=limits, reading=replace(READING, soc=0.9), previous=Setpoint(-0.5), dt_s=60.0
    )
    assert empty.applied == full.applied == Setpoint(0.0)


def test_active_power_comes_first_in_the_circle() -> None:
    limits = DeviceLimits(-1.0, 1.0, -1.0, 1.0, s_max_mva=1.0)
    result = decide(0.6, 1.0, limits=limits)
    assert result == Limited(Setpoint(0.6, 1.0), Setpoint(0.6, 0.8), (ClipReason.APPARENT_POWER,))
    assert decide(-0.6, -1.0, limits=limits).applied == Setpoint(-0.6, -0.8)
    assert decide(1.0, 0.1, limits=limits).applied == Setpoint(1.0, 0.0)


def test_active_power_stays_within_the_rating() -> None:
    limits = DeviceLimits(-2.0, 2.0, s_max_mva=1.5)
    assert decide(2.0, limits=limits).applied == Setpoint(1.5)
    assert decide(-2.0, limits=limits).applied == Setpoint(-1.5)
    assert decide(2.0, limits=limits).reasons == (ClipReason.APPARENT_POWER,)


def test_a_rule_that_changes_both_powers_is_named_once() -> None:
    assert decide(5.0, 5.0).reasons == (ClipReason.POWER_LIMIT,)


def test_a_power_that_a_rule_just_allows_is_not_said_to_be_cut_by_it() -> None:
    store = replace(STORE, q_min_mvar=-0.2, q_max_mvar=0.2)
    gives_mw = store.storage.p_range_mw(0.5, HOUR)[1]
    assert gives_mw < store.p_max_mw
    assert decide(gives_mw, 0.9, limits=store) == Limited(
        Setpoint(gives_mw, 0.9), Setpoint(gives_mw, 0.2), (ClipReason.POWER_LIMIT,)
    )
    inverter = DeviceLimits(-0.3, 0.3, -0.5, 0.5, s_max_mva=0.5)
    beside_mvar = math.sqrt(0.5**2 - 0.3**2)
    assert decide(0.9, beside_mvar, limits=inverter) == Limited(
        Setpoint(0.9, beside_mvar), Setpoint(0.3, beside_mvar), (ClipReason.POWER_LIMIT,)
    )
    active = DeviceLimits(-1.0, 1.0, s_max_mva=0.5)
    assert decide(0.5, 0.2, limits=active) == Limited(
        Setpoint(0.5, 0.2), Setpoint(0.5, 0.0), (ClipReason.POWER_LIMIT,)
    )


def test_numbers_whose_sum_is_too_large_are_finite_all_the_same() -> None:
    assert decide(1.5e308, 1.5e308).applied == Setpoint(1.0, 0.5)


BAND = replace(DeviceLimits(-1.0, 1.0, -1.0, 1.0), v_band_pu=(0.95, 1.05))
HIGH = DeviceReading(p_mw=0.4, q_mvar=0.1, v_pu=1.04, v_min_pu=1.02, v_max_pu=1.06)
LOW = DeviceReading(p_mw=0.4, q_mvar=0.1, v_pu=0.96, v_min_pu=0.94, v_max_pu=0.98)


def test_at_high_voltage_nothing_may_grow() -> None:
    grow = decide(0.6, 0.3, limits=BAND, reading=HIGH)
    assert grow == Limited(Setpoint(0.6, 0.3), Setpoint(0.4, 0.1), (ClipReason.VOLTAGE,))
    assert isinstance(decide(0.2, -0.3, limits=BAND, reading=HIGH), Admitted)


def test_at_low_voltage_nothing_may_fall() -> None:
    fall = decide(0.2, -0.3, limits=BAND, reading=LOW)
    assert fall.applied == Setpoint(0.4, 0.1)
    assert isinstance(decide(0.6, 0.3, limits=BAND, reading=LOW), Admitted)


def test_with_phases_on_both_sides_of_the_band_all_stays() -> None:
    reading = replace(HIGH, v_min_pu=0.9)
    assert decide(0.6, -0.3, limits=BAND, reading=reading).applied == Setpoint(0.4, 0.1)


@pytest.mark.parametrize(("p", "q"), [(2.0, 2.0), (-2.0, -2.0)])
def test_a_rule_that_changes_nothing_more_is_not_named(p: float, q: float) -> None:
    limits = replace(BAND, ramp_mw_per_min=1.0, s_max_mva=2.0, storage=StorageLimits(9.0))
    result = decide(p, q, limits=limits)
    assert result.reasons == (ClipReason.POWER_LIMIT,)
    assert result.applied == Setpoint(p / 2, q / 2)


@pytest.mark.parametrize(("v_min", "v_max"), [(0.95, 1.0), (1.0, 1.05)])
def test_the_band_includes_its_ends(v_min: float, v_max: float) -> None:
    reading = replace(HIGH, v_min_pu=v_min, v_max_pu=v_max)
    assert isinstance(decide(0.9, -0.9, limits=BAND, reading=reading), Admitted)


def test_the_voltage_rule_stays_within_the_other_limits() -> None:
    limits = replace(BAND, p_max_mw=0.3, q_max_mvar=0.05)
    assert decide(0.2, 0.0, limits=limits, reading=LOW).applied == Setpoint(0.3, 0.05)
    assert decide(0.2, 0.0, limits=replace(limits, v_band_pu=None), reading=LOW) == Admitted(
        Setpoint(0.2, 0.0)
    )


GOOD = {"p_min_mw": -1.0, "p_max_mw": 1.0}


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"p_min_mw": 2.0}, "p_min_mw, p_max_mw"),
        ({"p_max_mw": math.nan}, "p_min_mw, p_max_mw"),
        ({"p_max_mw": math.inf}, "p_min_mw, p_max_mw"),
        ({"p_min_mw": -math.inf}, "p_min_mw, p_max_mw"),
        ({"q_min_mvar": 1.0}, "q_min_mvar, q_max_mvar"),
        ({"q_max_mvar": math.inf}, "q_min_mvar, q_max_mvar"),
        ({"q_min_mvar": -math.inf}, "q_min_mvar, q_max_mvar"),
        ({"s_max_mva": 0.0}, "s_max_mva"),
        ({"s_max_mva": math.inf}, "s_max_mva"),
        ({"s_max_mva": 0.5, "p_min_mw": 0.6}, "s_max_mva"),
        ({"s_max_mva": 0.5, "p_max_mw": -0.6}, "s_max_mva"),
        ({"ramp_mw_per_min": 0.0}, "ramp_mw_per_min"),
        ({"ramp_mw_per_min": math.inf}, "ramp_mw_per_min"),
        ({"v_band_pu": (1.0, 1.0)}, "v_band_pu"),
        ({"v_band_pu": (0.0, 1.0)}, "v_band_pu"),
        ({"v_band_pu": (0.9, math.inf)}, "v_band_pu"),
        ({"p_min_mw": 0.1, "storage": StorageLimits(1.0)}, "p_min_mw, p_max_mw"),
        ({"p_max_mw": -0.1, "storage": StorageLimits(1.0)}, "p_min_mw, p_max_mw"),
        ({"storage": StorageLimits(0.0)}, "storage.e_capacity_mwh"),
        ({"storage": StorageLimits(math.inf)}, "storage.e_capacity_mwh"),
        ({"storage": StorageLimits(1.0, 0.5, 0.5)}, "storage.soc_min, storage.soc_max"),
        ({"storage": StorageLimits(1.0, -0.1)}, "storage.soc_min, storage.soc_max"),
        ({"storage": StorageLimits(1.0, soc_max=1.1)}, "storage.soc_min, storage.soc_max"),
        ({"storage": StorageLimits(1.0, ch_eff=0.0)}, "storage.ch_eff"),
        ({"storage": StorageLimits(1.0, dsc_eff=1.1)}, "storage.dsc_eff"),
        ({"storage": StorageLimits(1.0, self_discharge_per_h=-0.1)}, "self_discharge_per_h"),
        ({"storage": StorageLimits(1.0, self_discharge_per_h=1.0)}, "self_discharge_per_h"),
    ],
)
def test_wrong_limits_are_named(wrong: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DeviceLimits(**{**GOOD, **wrong})  # type: ignore[arg-type]
    assert len(caught.value.problems) == 1
    assert where in caught.value.problems[0].where


def test_limits_at_their_extremes_are_accepted() -> None:
    store = StorageLimits(1.0, 0.0, 1.0, 1.0, 1.0, 0.99)
    assert DeviceLimits(0.0, 0.0, 0.0, 0.0, storage=store).storage == store
    assert DeviceLimits(0.5, 1.0, s_max_mva=0.5).s_max_mva == 0.5
    assert DeviceLimits(-1.0, -0.5, s_max_mva=0.5).s_max_mva == 0.5


def test_all_mistakes_in_limits_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        DeviceLimits(2.0, 1.0, 2.0, 1.0, ramp_mw_per_min=-1.0)
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("limits", "only_ranges"),
    [
        (DeviceLimits(0.0, 1.0, -0.5, 0.5), True),
        (DeviceLimits(0.0, 3.0, -4.0, 4.0, s_max_mva=5.0), True),
        (DeviceLimits(0.0, 3.0, -4.0, 4.0, s_max_mva=4.9), False),
        (DeviceLimits(-3.0, 0.0, -4.0, 0.0, s_max_mva=4.9), False),
        (DeviceLimits(0.0, 3.0, s_max_mva=2.0), False),
        (DeviceLimits(0.0, 1.0, ramp_mw_per_min=0.1), False),
        (DeviceLimits(-1.0, 1.0, storage=StorageLimits(2.0)), False),
        (DeviceLimits(0.0, 1.0, v_band_pu=(0.9, 1.1)), False),
    ],
)
def test_only_where_no_other_rule_can_cut_are_the_ranges_alone_asked(
    limits: DeviceLimits, only_ranges: bool
) -> None:
    assert limits.only_ranges is only_ranges
