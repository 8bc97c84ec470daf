"""A battery's power by its state of charge: physics, envelope and batch mean the same by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.envelope import StorageLimits, admit
from heron.powergrid.quantities import ClipReason, DeviceReading, Setpoint
from heron.powergrid.setups import Setup, as_setup, load_setup
from heron.powergrid.storage_limits import PowerTaper
from simulator import BatchPlant, Plant
from simulator.physics import Ambient, StoragePhysics

CHARGE = ((0.8, 1.0), (0.9, 0.2))
DISCHARGE = ((0.1, 0.0), (0.15, 0.4), (0.3, 1.0))


def battery(**changes: Any) -> StorageConfig:
    return StorageConfig.model_validate(
        {
            "bus": "Bus 671",
            "e_capacity_MWh": 2.0,
            "p_max_MW": 1.0,
            "p_min_MW": -0.8,
            "soc_min": 0.05,
            "soc_max": 0.95,
            "charge_taper": CHARGE,
            "discharge_taper": DISCHARGE,
            **changes,
        }
    )


def advance(config: StorageConfig, soc: float, p_mw: float, dt_s: float) -> tuple[float, float]:
    physics = StoragePhysics([config])
    state = {"p_mw": np.zeros(1), "soc": np.array([soc])}
    done = physics.advance(state, np.array([p_mw]), np.zeros(1), Ambient(0.0, dt_s, np.ones(1)))
    return float(done.p_mw[0]), float(done.state["soc"][0])


def share(curve: tuple[tuple[float, float], ...], soc: float) -> float:
    return float(np.interp(soc, [s for s, _ in curve], [x for _, x in curve]))


corners = st.lists(st.integers(0, 20), min_size=2, max_size=5, unique=True).map(sorted)
shares = st.lists(st.floats(0.0, 1.0), min_size=5, max_size=5)


@given(
    charge=st.tuples(corners, shares),
    discharge=st.tuples(corners, shares),
    soc=st.floats(0.05, 0.95),
    p_mw=st.floats(-1.0, 1.2),
    dt_s=st.sampled_from([1.0, 60.0, 900.0, 3600.0]),
    lost=st.sampled_from([0.0, 0.02]),
)
@settings(max_examples=300, deadline=None)
def test_the_limit_is_obeyed_to_the_end_of_the_step_and_used_to_the_full(
    charge: tuple[list[int], list[float]],
    discharge: tuple[list[int], list[float]],
    soc: float,
    p_mw: float,
    dt_s: float,
    lost: float,
) -> None:
    falling = sorted(charge[1], reverse=True)
    up = tuple((c / 20, x) for c, x in zip(charge[0], falling, strict=False))
    down = tuple((c / 20, x) for c, x in zip(discharge[0], sorted(discharge[1]), strict=False))
    config = battery(charge_taper=up, discharge_taper=down, self_discharge_per_h=lost)
    got, after = advance(config, soc, p_mw, dt_s)
    store = config.limits.storage
    assert store is not None
    assert after == pytest.approx(store.soc_after(soc, got, dt_s), abs=1e-9)
    low, high = store.p_range_mw(soc, dt_s)
    assert got == pytest.approx(min(max(p_mw, -0.8, low), high, 1.0), abs=1e-9)
    limit = 1.0 * share(down, after) if p_mw > 0.0 else 0.8 * share(up, after)
    assert abs(got) <= limit + 1e-9
    cut = abs(got - min(max(p_mw, -0.8), 1.0)) > 1e-9
    if cut and 0.05 + 1e-6 < after < 0.95 - 1e-6:
        assert abs(got) == pytest.approx(limit, abs=1e-9)


def test_without_curves_nothing_changes() -> None:
    plain = battery(charge_taper=None, discharge_taper=None)
    for soc in (0.06, 0.5, 0.94):
        for p_mw in (-0.8, -0.1, 0.0, 0.7):
            tapered = StorageLimits(2.0, 0.05, 0.95, 0.95, 0.95)
            low, high = tapered.p_range_mw(soc, 900.0)
            wanted = min(max(p_mw, low), high)
            got, after = advance(plain, soc, p_mw, 900.0)
            assert got == pytest.approx(wanted, abs=1e-15)
            assert after == pytest.approx(tapered.soc_after(soc, wanted, 900.0), abs=1e-15)


def test_short_steps_come_near_the_curve_from_below() -> None:
    ends = []
    for steps in (1, 4, 60, 3600):
        soc = 0.8
        for _ in range(steps):
            _, soc = advance(battery(), soc, -0.8, 3600.0 / steps)
        ends.append(soc)
    assert ends == sorted(ends)
    assert ends[-1] - ends[-2] < 1e-3
    # dsoc/dt = 0.38 share(soc) per hour; share = 1 - 8 (soc - 0.8) up to 0.9, then 0.2.
    exact = 0.9 + 0.2 * 0.38 * (1.0 - np.log(5.0) / (8.0 * 0.38))
    assert ends[-1] == pytest.approx(exact, abs=1e-4)


def test_the_envelope_lets_through_what_the_battery_will_do() -> None:
    config = battery()
    for soc in np.linspace(0.05, 0.95, 31).tolist():
        for p_mw in (-0.8, 1.0):
            reading = DeviceReading(0.0, 0.0, 1.0, 1.0, 1.0, soc=soc)
            admitted = admit(Setpoint(p_mw), config.limits, reading, None, 900.0)
            assert admitted.applied is not None
            got, _ = advance(config, soc, admitted.applied.p_mw, 900.0)
            assert got == pytest.approx(admitted.applied.p_mw, abs=1e-12)
            if abs(got - p_mw) > 1e-9:
                assert ClipReason.STATE_OF_CHARGE in admitted.reasons


@pytest.fixture(scope="module")
def setup() -> Setup:
    plain = load_setup("single_microgrid")
    for entry in plain["microgrid_configs"][0]["devices"]:
        if entry["type"] == "ESS":
            entry["device_state_config"] |= {
                "charge_taper": [(0.5, 1.0), (0.9, 0.1)],
                "discharge_taper": [(0.1, 0.05), (0.6, 1.0)],
                "self_discharge_per_h": 0.01,
            }
    return as_setup(plain)


@pytest.mark.parametrize("dt_s", [60.0, 900.0])
def test_batch_equals_single_plants(setup: Setup, dt_s: float) -> None:
    ids, n = setup.config.device_ids, 4
    batch, single = BatchPlant(setup, n, "balanced"), Plant(setup, "balanced")
    batch.reset(0.0)
    rng = np.random.default_rng(0)
    at = ids.index("ess1")
    cut = 0
    for _ in range(40):
        p, q = np.zeros((n, len(ids))), np.zeros((n, len(ids)))
        p[:, at] = rng.choice([-0.6, 0.6])
        together = batch.step(p, q, dt_s)
        m = single.step({d: Setpoint(x) for d, x in zip(ids, p[2].tolist(), strict=True)}, dt_s)
        assert together.soc[2, at] == pytest.approx(m.devices["ess1"].soc, abs=1e-12)
        assert together.p_mw[2, at] == pytest.approx(m.devices["ess1"].p_mw, abs=1e-12)
        cut += any(ClipReason.STATE_OF_CHARGE in c.reasons for c in m.clipped)
    assert cut > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"charge_taper": ((0.5, 1.0),)}, "two or more corners"),
        ({"charge_taper": ((0.5, 1.0), (0.4, 0.5))}, "rising in state of charge"),
        ({"charge_taper": ((0.5, 0.2), (0.9, 0.5))}, "do not grow as the store fills"),
        ({"discharge_taper": ((0.1, 0.5), (0.3, 0.2))}, "do not grow as the store empties"),
        ({"discharge_taper": ((0.1, -0.5), (0.3, 0.2))}, "from 0 to 1"),
        ({"charge_taper": ((0.5, 1.2), (0.9, 0.5))}, "from 0 to 1"),
    ],
)
def test_curves_that_make_no_sense_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        battery(**changes)
    with pytest.raises(ValueError, match=said):
        PowerTaper(next(iter(changes.values())), rising="charge_taper" in changes)
