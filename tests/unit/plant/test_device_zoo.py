"""A plant with every type of device in it, some of them on one phase only."""

import numpy as np
import pytest

from heron.powergrid.quantities import ClipReason, Setpoint
from heron.powergrid.setups import Setup, as_setup, load_setup
from simulator import BatchPlant, Plant

EVENING = 20 * 86_400.0 + 17.5 * 3600.0


@pytest.fixture(scope="module")
def setup() -> Setup:
    plain = load_setup("single_microgrid")
    plain["microgrid_configs"][0]["devices"] += [
        {
            "type": "PV",
            "name": "roof",
            "device_state_config": {
                "bus": "Bus 671",
                "phases": ["b"],
                "p_rated_MW": 0.1,
                "profile": "PV1",
            },
        },
        {
            "type": "WindTurbine",
            "name": "wind",
            "device_state_config": {"bus": "Bus 680", "p_rated_MW": 0.3, "ramp_mw_per_min": 0.01},
        },
        {
            "type": "ControllableLoad",
            "name": "pump",
            "device_state_config": {"bus": "Bus 633", "p_rated_MW": 0.2, "profile": "mv_comm"},
        },
        {
            "type": "EVCharger",
            "name": "ev",
            "device_state_config": {"bus": "Bus 671", "phases": ["a"], "v2g": True},
        },
        {
            "type": "Generator",
            "name": "peaker",
            "device_state_config": {
                "bus": "Bus 633",
                "p_max_MW": 0.3,
                "p_min_MW": 0.1,
                "q_max_MVAr": 0.1,
                "q_min_MVAr": -0.1,
                "s_rated_MVA": 0.35,
                "unit_commitment": True,
                "startup_time_hr": 0.5,
                "shutdown_time_hr": 0.25,
            },
        },
        {
            "type": "Transformer",
            "name": "oltc",
            "device_state_config": {"bus": "Bus 650", "element": "reg650"},
        },
    ]
    return as_setup(plain)


@pytest.fixture
def plant(setup: Setup) -> Plant:
    plant = Plant(setup)
    plant.reset(start_s=EVENING)
    return plant


def test_single_phase_device_reads_its_own_phase(plant: Plant) -> None:
    before = plant.measurements.devices
    assert before["roof"].v_pu == before["roof"].v_min_pu == before["roof"].v_max_pu
    assert before["ess1"].v_min_pu < before["ess1"].v_max_pu


def test_power_on_phase_a_lifts_it_and_pulls_phase_b_down(plant: Plant) -> None:
    plant.step({}, 1800.0)
    start = plant.state
    charging = plant.step({"ev": Setpoint(-0.011)}, 900.0).devices
    plant.restore(start)
    giving = plant.step({"ev": Setpoint(0.011)}, 900.0).devices
    assert (charging["ev"].p_mw, giving["ev"].p_mw) == (-0.011, 0.011)
    assert giving["ev"].v_pu > charging["ev"].v_pu + 1e-3
    # The lines' mutual reactance turns the same current against phase b's voltage.
    assert giving["roof"].v_pu < charging["roof"].v_pu - 1e-3


def test_every_type_keeps_its_own_rules(plant: Plant) -> None:
    asked = {
        "ev": Setpoint(-0.011),
        "pump": Setpoint(0.0),
        "peaker": Setpoint(0.0),
        "wind": Setpoint(0.0),
        "oltc": Setpoint(0.0),
    }
    first = plant.step(asked, 900.0)
    reasons = {c.device_id: set(c.reasons) for c in first.clipped}
    assert reasons["ev"] == {ClipReason.AVAILABILITY}
    assert not first.devices["ev"].connected
    assert reasons["pump"] == {ClipReason.POWER_LIMIT}
    assert first.devices["pump"].p_mw == pytest.approx(
        -0.1 * plant.setup.profiles.mean("mv_comm", EVENING, 900.0)
    )
    assert reasons["peaker"] == {ClipReason.MINIMUM_TIME}
    assert reasons["wind"] == {ClipReason.RAMP}
    assert first.devices["oltc"].p_mw == 0.0
    plant.step(asked, 900.0)
    third = plant.step(asked, 900.0)
    assert third.devices["ev"].connected
    assert third.devices["ev"].p_mw == -0.011
    assert third.devices["peaker"].p_mw == 0.0


def test_batch_does_what_single_plants_do(setup: Setup, plant: Plant) -> None:
    batch = BatchPlant(setup, 3)
    batch.reset(np.array([0.0, EVENING, 200 * 86_400.0]))
    rng = np.random.default_rng(4)
    for _ in range(10):
        p, q = rng.uniform(-0.3, 0.3, (2, 3, len(setup.config.device_ids)))
        together = batch.step(p, q, 900.0)
        pairs = zip(setup.config.device_ids, p[1].tolist(), q[1].tolist(), strict=True)
        single = plant.step({name: Setpoint(a, b) for name, a, b in pairs}, 900.0)
        devices = list(single.devices.values())
        np.testing.assert_allclose(together.p_mw[1], [d.p_mw for d in devices], atol=1e-12)
        np.testing.assert_allclose(together.q_mvar[1], [d.q_mvar for d in devices], atol=1e-12)
        np.testing.assert_allclose(together.v_pu[1, :, 0], [d.v_pu for d in devices], atol=1e-9)
        soc = np.array([d.soc for d in devices], dtype=float)
        np.testing.assert_allclose(together.soc[1], soc, atol=1e-12)
        assert together.connected[1].tolist() == [d.connected for d in devices]
