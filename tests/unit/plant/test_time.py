"""Any step from a second to an hour: energy, charge and taps do not depend on how time is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heron.powergrid.device_configs import (
    ControllableLoadConfig,
    DeviceConfig,
    PVConfig,
    WindTurbineConfig,
)
from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups import Setup, as_setup, load_setup
from simulator import BatchPlant, Plant
from simulator.physics import (
    Ambient,
    ControllableLoadPhysics,
    DevicePhysics,
    InverterSourcePhysics,
)

MORNING = 160 * 86_400.0 + 6 * 3600.0


def device(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"type": kind, "name": name, "device_state_config": config}


@pytest.fixture(scope="module")
def setup() -> Setup:
    plain = load_setup("single_microgrid") | {"engine": "balanced"}
    plain["microgrid_configs"][0]["devices"] += [
        device("WindTurbine", "wind", bus="Bus 680", p_rated_MW=0.3, ramp_mw_per_min=0.002),
        device("ControllableLoad", "pump", bus="Bus 633", p_rated_MW=0.2, profile="mv_comm"),
        device(
            "ControllableLoad",
            "slow_pump",
            bus="Bus 633",
            p_rated_MW=0.2,
            profile="mv_comm",
            ramp_mw_per_min=0.003,
        ),
        device("EVCharger", "ev", bus="Bus 671", arrival_hour=6.4, departure_hour=8.7),
        device(
            "Generator",
            "peaker",
            bus="Bus 633",
            p_max_MW=0.3,
            p_min_MW=0.1,
            s_rated_MVA=6.0,
            unit_commitment=True,
            startup_time_hr=0.3,
            shutdown_time_hr=0.2,
            ramp_mw_per_min=0.01,
        ),
        device("Transformer", "oltc", element="head", tap_time_s=250.0, init_tap=-9),
    ]
    return as_setup(plain)


ASKED = {
    "gen1": Setpoint(0.5, 0.1),
    "ess1": Setpoint(-0.35),
    "pv1": Setpoint(0.12, -0.05),
    "wind": Setpoint(0.03),
    "pump": Setpoint(-0.11),
    "slow_pump": Setpoint(-0.01),
    "ev": Setpoint(-0.011),
    "peaker": Setpoint(0.0),
    "oltc": Setpoint(0.0, 0.0, 7),
}


def energies(plant: Plant, dt_s: float, hours: int) -> tuple[np.ndarray, list[object]]:
    plant.reset(start_s=MORNING)
    total = np.zeros(len(plant.measurements.devices))
    for _ in range(round(hours * 3600 / dt_s)):
        m = plant.step(ASKED, dt_s)
        total += np.array([d.p_mw for d in m.devices.values()]) * dt_s / 3600.0
    state = [(d.soc, d.tap, d.connected) for d in m.devices.values()]
    return total, state


@pytest.mark.parametrize("dt_s", [10.0, 60.0, 300.0, 900.0, 1800.0])
def test_every_device_gives_the_same_energy_at_any_step(setup: Setup, dt_s: float) -> None:
    plant = Plant(setup)
    hours = 1 if dt_s < 60.0 else 3
    fine, at_end = energies(plant, dt_s, hours)
    coarse, expected = energies(plant, 3600.0, hours)
    np.testing.assert_allclose(fine, coarse, atol=1e-9)
    for ours, theirs in zip(at_end, expected, strict=True):
        assert ours[1:] == theirs[1:]  # type: ignore[index]
        assert ours[0] == pytest.approx(theirs[0], abs=1e-9)  # type: ignore[index]


def four_hours(setup: Setup, name: str, asked: list[float], dt_s: float) -> float:
    """Return a device's energy over four hours from midday, one set-point an hour, MWh."""
    plant = Plant(setup)
    plant.reset(start_s=MORNING + 6 * 3600.0)
    total = 0.0
    for p_mw in asked:
        for _ in range(round(3600.0 / dt_s)):
            total += plant.step({name: Setpoint(p_mw)}, dt_s).devices[name].p_mw * dt_s / 3600.0
    return total


STORE = {"bus": "Bus 633", "e_capacity_MWh": 0.3, "p_max_MW": 0.2, "p_min_MW": -0.2}
UP_AND_DOWN = [0.2, -0.15, 0.2, -0.2]


@pytest.mark.parametrize(
    ("kind", "config", "asked", "cut_s", "most_mwh"),
    [
        ("PV", {"bus": "Bus 675", "p_rated_MW": 0.3}, [0.2] * 4, 360.0, 1e-3),
        ("ESS", {**STORE, "self_discharge_per_h": 0.01}, [-0.2] * 4, 300.0, 1e-4),
        ("ESS", {**STORE, "ramp_mw_per_min": 0.01}, UP_AND_DOWN, 300.0, 0.05),
    ],
    ids=["a ceiling across rows", "self-discharge at the limit", "a ramp at the limit"],
)
def test_what_depends_on_the_cut_is_as_small_as_the_page_says(
    kind: str, config: dict[str, Any], asked: list[float], cut_s: float, most_mwh: float
) -> None:
    plain = load_setup("single_microgrid") | {"engine": "balanced"}
    plain["microgrid_configs"][0]["devices"].append(device(kind, "x", **config))
    setup = as_setup(plain)
    coarse = four_hours(setup, "x", asked, 3600.0)
    assert four_hours(setup, "x", asked, 1800.0) == pytest.approx(coarse, abs=1e-9)
    assert 1e-9 < abs(four_hours(setup, "x", asked, cut_s) - coarse) < most_mwh


def test_a_second_and_an_hour_are_steps_like_others(setup: Setup) -> None:
    plant = Plant(setup)
    plant.reset(start_s=MORNING)
    total = sum(plant.step(ASKED, 1.0).devices["ess1"].p_mw for _ in range(600)) / 3600.0
    plant.reset(start_s=MORNING)
    assert total == pytest.approx(plant.step(ASKED, 600.0).devices["ess1"].p_mw / 6.0, abs=1e-9)


def test_hour_steps_of_a_batch_are_those_of_single_plants(setup: Setup) -> None:
    batch, single = BatchPlant(setup, 2), Plant(setup)
    batch.reset(np.array([0.0, MORNING + 123.0]))
    single.reset(start_s=MORNING + 123.0)
    p = np.tile([ASKED[d].p_mw for d in setup.config.device_ids], (2, 1))
    q = np.tile([ASKED[d].q_mvar for d in setup.config.device_ids], (2, 1))
    for dt_s in (3600.0, 1000.0, 3600.0):
        together, alone = batch.step(p, q, dt_s), single.step(ASKED | {"oltc": Setpoint(0.0)}, dt_s)
        devices = alone.devices.values()
        np.testing.assert_allclose(together.p_mw[1], [d.p_mw for d in devices], atol=1e-12)
        shown = np.array([d.available_mw for d in devices], dtype=float)
        np.testing.assert_allclose(together.available_mw[1], shown, atol=1e-12)


CASES: list[tuple[DeviceConfig, type[DevicePhysics[Any]]]] = [
    (PVConfig(bus="b", p_rated_mw=1.0, ramp_mw_per_min=0.05), InverterSourcePhysics),
    (WindTurbineConfig(bus="b", p_rated_mw=1.0, ramp_mw_per_min=0.3), InverterSourcePhysics),
    (
        ControllableLoadConfig(bus="b", p_rated_mw=1.0, sheddable=0.6, ramp_mw_per_min=0.05),
        ControllableLoadPhysics,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=["pv", "wind", "load"])
@given(
    weather=st.floats(0.0, 1.0),
    target=st.floats(0.0, 1.0),
    start=st.floats(0.0, 1.0),
    cuts=st.lists(st.integers(1, 600), min_size=1, max_size=8),
)
@settings(max_examples=150, deadline=None)
def test_a_ramping_ceiling_takes_off_the_same_energy_however_time_is_cut(
    case: tuple[DeviceConfig, type[DevicePhysics[Any]]],
    weather: float,
    target: float,
    start: float,
    cuts: list[int],
) -> None:
    config, kind = case
    physics = kind([config])
    sign = -1.0 if isinstance(config, ControllableLoadConfig) else 1.0
    asked, nothing = np.array([sign * target]), np.zeros(1)

    def run(lengths: list[int]) -> tuple[float, float]:
        state, energy = {"p_mw": np.array([sign * start])}, 0.0
        for length in lengths:
            ambient = Ambient(0.0, float(length), np.array([weather]))
            done = physics.advance(state, asked, nothing, ambient)
            state, energy = dict(done.state), energy + float(done.p_mw[0]) * length
        return energy, float(state["p_mw"][0])

    whole, cut = run([sum(cuts)]), run(cuts)
    assert whole == pytest.approx(cut, abs=1e-7)
    seconds = [1] * sum(cuts)
    assert run(seconds)[0] == pytest.approx(whole[0], abs=1e-6)
