"""What the seed of a reset draws: the charge of the cars that come."""

from __future__ import annotations

import numpy as np
import pytest

from heron.errors import PlantError
from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups import Setup, as_setup, load_setup
from simulator import BatchPlant, Plant

DAY_S = 86_400.0


def with_chargers(spread: float) -> Setup:
    plain = load_setup("single_microgrid") | {"engine": "balanced"}
    for k in range(2):
        config = {
            "bus": "Bus 675",
            "init_soc": 0.5,
            "init_soc_spread": spread,
            "arrival_hour": 18.0 + 0.4 * k,
            "departure_hour": 7.0,
        }
        entry = {"type": "EVCharger", "name": f"ev{k}", "device_state_config": config}
        plain["microgrid_configs"][0]["devices"].append(entry)
    return as_setup(plain)


def brought(plant: Plant, seed: int | None, dt_s: float = 900.0) -> list[float]:
    """Return the charges of the cars of two days, an hour after they came, uncharged."""
    plant.reset(seed=seed, start_s=10 * DAY_S)
    charges = []
    for step in range(round(2 * DAY_S / dt_s)):
        devices = plant.step({"ev0": Setpoint(0.0), "ev1": Setpoint(0.0)}, dt_s).devices
        if round((step + 1) * dt_s) % 86_400 == 20 * 3600:
            charges += [devices["ev0"].soc or 0.0, devices["ev1"].soc or 0.0]
    return charges


def test_each_day_brings_another_car_and_the_same_seed_the_same_cars() -> None:
    plant = Plant(with_chargers(0.3))
    one = brought(plant, 1)
    assert len({round(soc, 9) for soc in one}) == 4
    assert all(0.2 <= soc <= 0.8 for soc in one)
    assert brought(plant, 1) == one
    assert brought(plant, 2) != one
    assert brought(plant, None) == brought(plant, 0)


@pytest.mark.parametrize("dt_s", [300.0, 1800.0, 3600.0])
def test_the_same_car_comes_however_time_is_cut(dt_s: float) -> None:
    plant = Plant(with_chargers(0.3))
    assert brought(plant, 7, dt_s) == pytest.approx(brought(plant, 7), abs=1e-12)


def test_without_spread_every_seed_is_the_same() -> None:
    plant = Plant(with_chargers(0.0))
    assert brought(plant, 1) == brought(plant, 2) == [0.5] * 4


def test_batch_draws_as_single_plants_do() -> None:
    setup, n = with_chargers(0.4), 3
    seeds = np.array([4, 5, 4])
    batch, singles = BatchPlant(setup, n), [Plant(setup) for _ in range(n)]
    batch.reset(17.9 * 3600.0 + np.arange(n) * 60.0, seeds=seeds)
    for k, plant in enumerate(singles):
        plant.reset(seed=int(seeds[k]), start_s=17.9 * 3600.0 + 60.0 * k)
    idle = np.zeros((n, len(setup.config.device_ids)))
    for _ in range(4):
        together = batch.step(idle, idle, 900.0)
        for k, plant in enumerate(singles):
            alone = plant.step({d: Setpoint(0.0) for d in setup.config.device_ids}, 900.0)
            soc = np.array([d.soc for d in alone.devices.values()], dtype=float)
            np.testing.assert_allclose(together.soc[k], soc, atol=1e-12)
    assert together.soc[0, -1] == together.soc[2, -1] != together.soc[1, -1]


def test_a_seed_that_is_none_is_refused() -> None:
    plant = Plant(with_chargers(0.1))
    with pytest.raises(PlantError, match="seed = -1"):
        plant.reset(seed=-1)
    with pytest.raises(PlantError, match="seeds"):
        BatchPlant(plant.setup, 2).reset(0.0, seeds=[1, -2])
