"""Where an episode lasts several days, learning is told what charge is worth on the next."""

from __future__ import annotations

import numpy as np
import pytest

from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.setups import Setup, as_setup, load_setup
from simulator.batch_plant import BatchPlant
from training.envs.vector_worth import StoragePotential

DAY_S, STEP_S = 86_400.0, 900.0
LOW, HIGH = 0.3, 0.7
CAPACITY_MWH = 2.0


def setup_of(days: int) -> Setup:
    return as_setup(load_setup("ieee34_ieee13") | {"max_episode_steps": 96 * days})


@pytest.fixture(scope="module")
def means() -> np.ndarray:
    setup = setup_of(1)
    price = setup.profiles[setup.config.price_profile]
    return np.asarray(price.reshape(setup.profiles.n_days, -1).mean(axis=1))


def worth_at_the_end_of(day: int, days: int, means: np.ndarray) -> float:
    """Return what a MWh in the first store is worth in the last step of a day, $/MWh."""
    setup = setup_of(days)
    plant = BatchPlant(setup, 2)
    seen = plant.reset(np.full(2, (day + 1) * DAY_S - STEP_S))
    store = setup.config.device_ids.index("ess1")
    seen.soc[:, store] = [LOW, HIGH]
    low, high = StoragePotential(setup)(seen)[:, store].tolist()
    booked = STORED_ENERGY_VALUE * float(means[day])
    return booked + float(high - low) / ((HIGH - LOW) * CAPACITY_MWH)


@pytest.mark.parametrize("dear", [True, False])
def test_charge_is_kept_for_a_dear_day_and_sold_before_a_cheap_one(
    dear: bool, means: np.ndarray
) -> None:
    change = np.diff(means[:-3])
    day = int(np.argmax(change) if dear else np.argmin(change))
    alone, carried = (worth_at_the_end_of(day, n, means) for n in (1, 3))
    assert (carried > alone + 5.0) if dear else (carried < alone - 5.0)
