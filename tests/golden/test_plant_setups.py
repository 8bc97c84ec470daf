"""Every shipped setup is a problem worth controlling, and one that solves."""

import numpy as np
import pytest

from heron.powergrid.setups import get_available_setups, read_setup
from simulator import BatchPlant

DAYS = np.arange(3, 366, 14)
"""One day of every second week, so that every season is there."""


def ranges(plant: BatchPlant) -> tuple[np.ndarray, np.ndarray]:
    config = plant.setup.config
    devices = [config.device(d).device_state_config for d in config.device_ids]
    return np.array([d.p_range_mw for d in devices]), np.array([d.q_range_mvar for d in devices])


@pytest.mark.parametrize("name", get_available_setups())
def test_random_and_extreme_set_points_solve(name: str) -> None:
    plant = BatchPlant(read_setup(name), len(DAYS))
    plant.reset(DAYS * 86_400.0)
    p, q = ranges(plant)
    rng = np.random.default_rng(0)
    solved = []
    for k in range(48):
        share = rng.random((2, plant.n, len(p)))
        if k % 2:
            share = np.round(share)
        p_set = p[:, 0] + share[0] * (p[:, 1] - p[:, 0])
        q_set = q[:, 0] + share[1] * (q[:, 1] - q[:, 0])
        solved.append(plant.step(p_set, q_set, 1800.0).solved)
    assert np.mean(solved) >= 0.999


@pytest.mark.parametrize("name", get_available_setups())
def test_doing_nothing_violates_on_some_days_and_on_some_not(name: str) -> None:
    plant = BatchPlant(read_setup(name), len(DAYS))
    idle = plant.reset(DAYS * 86_400.0)
    violated = np.zeros(plant.n, dtype=bool)
    for _ in range(48):
        areas = plant.step(idle.p_set_mw, idle.q_set_mvar, 1800.0).areas
        violated |= (areas.undervoltage_pu + areas.overvoltage_pu).sum(axis=1) > 0.0
    assert 0.15 < violated.mean() < 0.9


@pytest.mark.parametrize("name", get_available_setups())
def test_generators_are_worth_dispatching(name: str) -> None:
    setup = read_setup(name)
    price = setup.profiles["price"]
    for device in setup.config.device_ids:
        entry = setup.config.device(device)
        if entry.type != "Generator":
            continue
        a, b, _ = entry.device_state_config.model_dump()["cost_curve_coefs"]
        low, high = entry.device_state_config.p_range_mw
        assert (price < 2 * a * low + b).mean() > 0.05
        assert (price > 2 * a * high + b).mean() > 0.02
