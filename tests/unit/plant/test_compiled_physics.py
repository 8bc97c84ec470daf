"""The compiled rules of devices, against the same rules written down by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heron.powergrid.device_configs import (
    ControllableLoadConfig,
    GeneratorConfig,
    PVConfig,
    StorageConfig,
    TransformerConfig,
)
from heron.powergrid.quantities import ClipReason, Setpoint
from heron.powergrid.setups import add_device_type, as_setup, load_setup
from simulator import BatchPlant, Plant, areas
from simulator.engines.jit import SHARED, STAMP, stamp
from simulator.physics import (
    Advance,
    Ambient,
    ControllableLoadPhysics,
    EVChargerPhysics,
    GeneratorPhysics,
    InverterSourcePhysics,
    StoragePhysics,
    TransformerPhysics,
    add_physics,
    reasons_of,
    rules,
)
from simulator.physics.rules import Unit, units_of

BUS = "Bus 633"
P = st.floats(-1.5, 1.5)
STEP = st.floats(1.0, 7200.0)
PHYSICS: list[Any] = [
    ControllableLoadPhysics,
    EVChargerPhysics,
    GeneratorPhysics,
    InverterSourcePhysics,
    StoragePhysics,
    TransformerPhysics,
]


def limits_by_hand(x: float, low: float, high: float) -> float:
    return low if x < low else high if x > high else x


def q_by_hand(q_set: float, p: float, q_range: tuple[float, float], s: float) -> float:
    room = math.sqrt(max(s * s - p * p, 0.0))
    return limits_by_hand(limits_by_hand(q_set, *q_range), -room, room)


def mean_by_hand(start: float, target: float, rate: float, cap: float, dt_s: float) -> float:
    """Return the mean of the lower of a ramp and a cap: straight lines between known corners."""
    reach_s = min(abs(target - start) / rate, dt_s)
    sign = 1.0 if target > start else -1.0
    corners = {0.0, reach_s, dt_s, min(max((cap - start) * sign / rate, 0.0), dt_s)}
    at = sorted(corners)
    level = [min(start + sign * rate * min(t, reach_s), cap) for t in at]
    pairs = zip(itertools.pairwise(at), itertools.pairwise(level), strict=True)
    return sum((b - a) * (x + y) / 2.0 for (a, b), (x, y) in pairs) / dt_s


def advance(
    device: Any, state: dict[str, float], p: float, q: float, dt_s: float, profile: float = 1.0
) -> Advance:
    arrays = {name: np.array([value]) for name, value in state.items()}
    ambient = Ambient(0.0, dt_s, np.array([profile]))
    done: Advance = device.advance(arrays, np.array([p]), np.array([q]), ambient)
    return done


def why(done: Advance) -> set[ClipReason]:
    return set(reasons_of(int(np.asarray(done.reasons)[0])))


@settings(max_examples=150, deadline=None)
@given(start=st.floats(0.2, 1.0), p=P, q=P, dt_s=STEP, per_min=st.floats(0.001, 0.5))
def test_generator(start: float, p: float, q: float, dt_s: float, per_min: float) -> None:
    config = GeneratorConfig(
        bus=BUS,
        p_max_mw=1.0,
        p_min_mw=0.2,
        q_min_mvar=-0.4,
        q_max_mvar=0.5,
        s_rated_mva=0.9,
        ramp_mw_per_min=per_min,
    )
    target = limits_by_hand(limits_by_hand(p, 0.2, 1.0), -0.9, 0.9)
    done = advance(
        GeneratorPhysics([config]), {"p_mw": start, "on": 1.0, "wait_s": 0.0}, p, q, dt_s
    )
    mean = mean_by_hand(start, target, per_min / 60.0, math.inf, dt_s)
    assert done.p_mw[0] == pytest.approx(mean, abs=1e-9)
    assert done.q_mvar[0] == pytest.approx(
        q_by_hand(q, float(done.p_mw[0]), (-0.4, 0.5), 0.9), abs=1e-12
    )
    short = abs(target - start) > per_min / 60.0 * dt_s * (1.0 + 1e-12)
    assert (ClipReason.RAMP in why(done)) == short


@settings(max_examples=150, deadline=None)
@given(start=st.floats(0.0, 1.0), p=P, q=P, dt_s=STEP, sun=st.floats(0.0, 1.0))
def test_source_with_a_ramp(start: float, p: float, q: float, dt_s: float, sun: float) -> None:
    config = PVConfig(bus=BUS, p_rated_mw=1.0, s_rated_mva=0.8, ramp_mw_per_min=0.01)
    done = advance(InverterSourcePhysics([config]), {"p_mw": start}, p, q, dt_s, sun)
    target, cap = limits_by_hand(p, 0.0, 0.8), min(sun, 0.8)
    mean = mean_by_hand(start, target, 0.01 / 60.0, cap, dt_s)
    assert done.p_mw[0] == pytest.approx(mean, abs=1e-9)
    assert done.available_mw is not None
    assert done.available_mw[0] == cap
    assert done.q_mvar[0] == pytest.approx(
        q_by_hand(q, float(done.p_mw[0]), config.q_range_mvar, 0.8), abs=1e-12
    )


@settings(max_examples=150, deadline=None)
@given(soc=st.floats(0.1, 0.9), p=P, q=P, dt_s=STEP, lost=st.sampled_from([0.0, 0.05]))
def test_store(soc: float, p: float, q: float, dt_s: float, lost: float) -> None:
    config = StorageConfig(
        bus=BUS,
        e_capacity_mwh=2.0,
        p_max_mw=0.6,
        p_min_mw=-0.5,
        ch_eff=0.9,
        dsc_eff=0.8,
        s_rated_mva=0.55,
        q_min_mvar=-0.3,
        q_max_mvar=0.3,
        self_discharge_per_h=lost,
    )
    hours = dt_s / 3600.0
    rate = -math.log1p(-lost)
    kept = 2.0 * soc * math.exp(-rate * hours)
    effective = hours if lost == 0.0 else (1.0 - math.exp(-rate * hours)) / rate
    gives = max((kept - 0.2) * 0.8 / effective, 0.0)
    takes = max((1.8 - kept) / (0.9 * effective), 0.0)
    expected = limits_by_hand(limits_by_hand(p, -0.5, 0.55), -takes, gives)
    done = advance(StoragePhysics([config]), {"p_mw": 0.0, "soc": soc}, p, q, dt_s)
    p_mw = float(done.p_mw[0])
    assert p_mw == pytest.approx(expected, abs=1e-9)
    drawn = p_mw / 0.8 if p_mw > 0.0 else p_mw * 0.9
    assert done.state["soc"][0] * 2.0 == pytest.approx(kept - drawn * effective, abs=1e-9)
    assert done.q_mvar[0] == pytest.approx(q_by_hand(q, p_mw, (-0.3, 0.3), 0.55), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(start=st.floats(-1.0, 0.0), p=P, dt_s=STEP, wanted=st.floats(0.0, 1.0))
def test_load_with_a_ramp(start: float, p: float, dt_s: float, wanted: float) -> None:
    config = ControllableLoadConfig(bus=BUS, p_rated_mw=1.0, sheddable=0.6, ramp_mw_per_min=0.02)
    done = advance(ControllableLoadPhysics([config]), {"p_mw": start}, p, 0.0, dt_s, wanted)
    target, rate = limits_by_hand(p, -1.0, 0.0), 0.02 / 60.0
    held = mean_by_hand(start, target, rate, math.inf, dt_s)
    above = held - mean_by_hand(start, target, rate, -0.4 * wanted, dt_s)
    below = -held - mean_by_hand(-start, -target, rate, wanted, dt_s)
    assert done.p_mw[0] == pytest.approx(held - above + below, abs=1e-9)


def test_a_unit_does_not_depend_on_its_neighbours() -> None:
    """A ramp or a start-up time of one device changes not a bit of another one's power."""
    rng = np.random.default_rng(2)
    plain = GeneratorConfig(bus=BUS, p_max_mw=1.0, p_min_mw=0.2, s_rated_mva=1.0)
    slow = plain.model_copy(update={"unit_commitment": True, "ramp_mw_per_min": 0.01})
    for p in rng.uniform(0.0, 1.2, 50):
        state = {"p_mw": np.full(2, 0.3), "on": np.ones(2), "wait_s": np.zeros(2)}
        ambient = Ambient(0.0, 777.7, np.ones(2))
        both = GeneratorPhysics([plain, slow]).advance(state, np.full(2, p), np.zeros(2), ambient)
        alone = advance(
            GeneratorPhysics([plain]), {"p_mw": 0.3, "on": 1.0, "wait_s": 0.0}, p, 0.0, 777.7
        )
        assert both.p_mw[0] == alone.p_mw[0]


@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
def test_rules_on_arrays_are_those_of_each_device(lead: tuple[int, ...]) -> None:
    configs = [
        StorageConfig(bus=BUS, s_rated_mva=0.7, q_max_mvar=0.5, q_min_mvar=-0.5),
        StorageConfig(bus=BUS, ramp_mw_per_min=0.02),
    ]
    both = StoragePhysics(configs)
    rng = np.random.default_rng(6)
    start, target, cap, q = rng.uniform(-1.5, 1.5, (4, *lead, 2))
    p, p_why = both.within_p_limits(target)
    q_mvar, q_why = both.within_q_limits(p, q)
    mean, end, ramped = both.ramp(start, p, 900.0)
    below, _, _ = both.ramp_below(start, p, cap, 900.0)
    for place in np.ndindex(*lead):
        for k, config in enumerate(configs):
            one = StoragePhysics([config])
            pick = (*place, slice(k, k + 1))
            alone, alone_why = one.within_p_limits(target[pick])
            assert (alone, alone_why) == (p[pick], np.asarray(p_why)[pick])
            alone, alone_why = one.within_q_limits(p[pick], q[pick])
            assert (alone, alone_why) == (q_mvar[pick], np.asarray(q_why)[pick])
            alone, alone_end, alone_why = one.ramp(start[pick], p[pick], 900.0)
            assert (alone, alone_end, alone_why) == (mean[pick], end[pick], ramped[pick])  # type: ignore[index]
            assert one.ramp_below(start[pick], p[pick], cap[pick], 900.0)[0] == below[pick]


def test_a_subclass_with_its_own_advance_is_asked() -> None:
    class ThriftyConfig(StorageConfig):
        pass

    class ThriftyPhysics(StoragePhysics):
        """Batteries that do half of what they are told."""

        def advance(self, state: Any, p_set_mw: Any, q_set_mvar: Any, ambient: Ambient) -> Advance:
            return super().advance(state, 0.5 * p_set_mw, q_set_mvar, ambient)

    add_device_type("ThriftyESS", ThriftyConfig)
    add_physics(ThriftyConfig, ThriftyPhysics)
    plain = load_setup("single_microgrid")
    thrifty = {"bus": "Bus 671", "p_max_MW": 0.2, "p_min_MW": -0.2}
    plain["microgrid_configs"][0]["devices"].append(
        {"type": "ThriftyESS", "name": "thrifty", "device_state_config": thrifty}
    )
    setup = as_setup(plain)
    shown = Plant(setup).step({"thrifty": Setpoint(0.1)}, 900.0).devices["thrifty"]
    assert shown.p_mw == 0.05
    assert shown.soc == pytest.approx(0.5 - 0.05 * 0.25 / 0.95 / 5.0)
    at = setup.config.device_ids.index("thrifty")
    batch = BatchPlant(setup, 2)
    p = np.zeros((2, len(setup.config.device_ids)))
    p[:, at] = 0.1, -0.2
    assert batch.step(p, np.zeros_like(p), 900.0).p_mw[:, at].tolist() == [0.05, -0.1]


def test_transformer_says_what_it_was_asked_in_vain() -> None:
    done = advance(
        TransformerPhysics([TransformerConfig(bus=BUS, element="x")]), {"p_mw": 0}, 1, 1, 9
    )
    assert (done.p_mw[0], done.q_mvar[0]) == (0.0, 0.0)
    assert why(done) == {ClipReason.POWER_LIMIT}


def test_arrays_that_do_not_fit_are_refused() -> None:
    device = StoragePhysics([StorageConfig(bus=BUS)] * 2)
    state, two, three = device.initial_state(), np.zeros(2), np.zeros(3)
    with pytest.raises(ValueError, match=r"shapes \(2,\), \(3,\) and \(2,\)"):
        device.advance(state, two, three, Ambient(0.0, 900.0, two))
    with pytest.raises(ValueError, match="there are 2 devices"):
        device.advance({**state, "soc": three}, two, two, Ambient(0.0, 900.0, two))


def test_no_record_begins_as_another_one_does() -> None:
    """A shorter record would be taken for the longer one by numba."""
    fields = [units_of(kind, 1).dtype.fields for kind in (Unit, *(p.unit for p in PHYSICS))]
    for a, b in itertools.permutations({id(f): f for f in fields}.values(), 2):
        assert a is not None
        assert b is not None
        assert dict(itertools.islice(b.items(), len(a))) != dict(a) or a == b


@pytest.mark.parametrize("physics", PHYSICS)
def test_nothing_is_rearranged_in_the_physics(physics: Any) -> None:
    compiled: Any
    for compiled in (physics.kernel, rules.ramp, rules.within_p_limits, rules.within_q_limits):
        assert not compiled.targetoptions.get("fastmath", False)


def test_a_change_of_the_physics_makes_cached_kernels_void() -> None:
    assert {folder.name for folder in SHARED} == {"engines", "physics"}
    compiled: Any = StoragePhysics.kernel
    assert compiled._cache._cache_file._source_stamp == STAMP == stamp(*SHARED)


def test_a_kernel_elsewhere_is_void_after_a_change_of_its_own_file() -> None:
    compiled: Any = areas._reduce
    assert compiled._cache._cache_file._source_stamp == stamp(*SHARED, Path(areas.__file__))
