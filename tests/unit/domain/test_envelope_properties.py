"""The envelope: what must hold for every input."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from heron.powergrid.envelope import Admitted, DeviceLimits, Refused, StorageLimits, admit
from heron.powergrid.quantities import DeviceReading, Setpoint

number = st.floats(-5.0, 5.0)
proposal = st.floats(allow_nan=True, allow_infinity=True)


@st.composite
def any_limits(draw: st.DrawFn) -> DeviceLimits:
    store = None
    if draw(st.booleans()):
        soc_min = draw(st.floats(0.0, 0.4))
        store = StorageLimits(
            draw(st.floats(0.01, 10.0)),
            soc_min,
            draw(st.floats(soc_min + 0.1, 1.0)),
            draw(st.floats(0.5, 1.0)),
            draw(st.floats(0.5, 1.0)),
            draw(st.floats(0.0, 0.1)),
        )
    p_min = draw(st.floats(-3.0, 0.0 if store else 2.0))
    p_max = draw(st.floats(max(p_min, 0.0) if store else p_min, 3.0))
    q_min = draw(st.floats(-2.0, 0.0))
    s_floor = max(p_min, -p_max, 0.01)
    return DeviceLimits(
        p_min,
        p_max,
        q_min,
        draw(st.floats(0.0, 2.0)),
        s_max_mva=draw(st.none() | st.floats(s_floor, 4.0)),
        ramp_mw_per_min=draw(st.none() | st.floats(1e-4, 1.0)),
        storage=store,
        v_band_pu=draw(st.none() | st.just((0.95, 1.05))),
    )


@st.composite
def any_reading(draw: st.DrawFn) -> DeviceReading:
    v_min = draw(st.floats(0.85, 1.15))
    v_max = draw(st.floats(v_min, 1.2))
    return DeviceReading(
        p_mw=draw(number),
        q_mvar=draw(number),
        v_pu=(v_min + v_max) / 2,
        v_min_pu=v_min,
        v_max_pu=v_max,
        soc=draw(st.floats(0.0, 1.0)),
        connected=draw(st.sampled_from([True, True, True, False])),
    )


step = st.floats(1.0, 3600.0)


class Circumstances(NamedTuple):
    """What a proposal meets, in the order in which `admit` takes it."""

    limits: DeviceLimits
    reading: DeviceReading
    previous: Setpoint | None
    dt_s: float


circumstances = st.builds(
    Circumstances,
    any_limits(),
    any_reading(),
    st.none() | st.builds(Setpoint, number, number),
    step,
)


@settings(max_examples=400, deadline=None)
@given(proposal, proposal, circumstances)
def test_what_is_applied_is_within_the_limits(p: float, q: float, met: Circumstances) -> None:
    limits = met.limits
    result = admit(Setpoint(p, q), *met)
    if isinstance(result, Refused):
        assert result.reasons
        return
    applied = result.applied
    assert limits.p_min_mw <= applied.p_mw <= limits.p_max_mw
    assert limits.q_min_mvar <= applied.q_mvar <= limits.q_max_mvar
    if limits.s_max_mva is not None:
        assert math.hypot(applied.p_mw, applied.q_mvar) <= limits.s_max_mva * (1 + 1e-12)
    if limits.storage is not None and met.reading.soc is not None:
        low, high = limits.storage.p_range_mw(met.reading.soc, met.dt_s)
        assert low <= applied.p_mw <= high
    assert (result.reasons == ()) == isinstance(result, Admitted)
    assert isinstance(result, Admitted) == (applied == result.proposed)


@settings(max_examples=400, deadline=None)
@given(number, number, circumstances)
def test_admitting_twice_changes_nothing(p: float, q: float, met: Circumstances) -> None:
    first = admit(Setpoint(p, q), *met)
    if first.applied is None:
        return
    assert admit(first.applied, *met) == Admitted(first.applied)


@settings(max_examples=400, deadline=None)
@given(number, number, circumstances)
def test_it_is_pure(p: float, q: float, met: Circumstances) -> None:
    assert admit(Setpoint(p, q), *met) == admit(Setpoint(p, q), *met)


@settings(max_examples=400, deadline=None)
@given(number, circumstances)
def test_no_rule_lets_through_what_the_bare_power_limits_would_not(
    p: float, met: Circumstances
) -> None:
    result = admit(Setpoint(p), *met)
    if result.applied is None:
        return
    limits = met.limits
    bare = DeviceLimits(limits.p_min_mw, limits.p_max_mw, limits.q_min_mvar, limits.q_max_mvar)
    assert isinstance(admit(result.applied, *met._replace(limits=bare)), Admitted)


@settings(max_examples=400, deadline=None)
@given(number, number, number, circumstances)
def test_more_asked_never_gives_less(a: float, b: float, q: float, met: Circumstances) -> None:
    low = admit(Setpoint(min(a, b), q), *met).applied
    high = admit(Setpoint(max(a, b), q), *met).applied
    if low is not None and high is not None:
        assert low.p_mw <= high.p_mw


@settings(max_examples=200, deadline=None)
@given(any_limits(), st.floats(0.0, 1.0), number, step)
def test_carrying_out_what_was_admitted_keeps_the_state_of_charge(
    limits: DeviceLimits, soc: float, p: float, dt_s: float
) -> None:
    store = limits.storage
    if store is None:
        return
    reading = DeviceReading(0.0, 0.0, 1.0, 1.0, 1.0, soc=soc)
    applied = admit(Setpoint(p), replace(limits, v_band_pu=None), reading, None, dt_s).applied
    assert applied is not None
    after = store.soc_after(soc, applied.p_mw, dt_s)
    rested = store.soc_after(soc, 0.0, dt_s)
    assert after <= max(rested, store.soc_max) + 1e-9
    assert after >= min(rested, store.soc_min) - 1e-9


@settings(max_examples=400, deadline=None)
@given(proposal, proposal, circumstances)
def test_rules_that_are_not_asked_would_have_changed_nothing(
    p: float, q: float, met: Circumstances
) -> None:
    asked = replace(met.limits)
    object.__setattr__(asked, "only_ranges", False)
    every_rule = met._replace(limits=asked)
    assert admit(Setpoint(p, q), *met) == admit(Setpoint(p, q), *every_rule)
