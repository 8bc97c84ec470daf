from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heron.powergrid.setups import Setup, as_setup, load_setup, price_outlook
from heron.powergrid.setups.outlook import outlooks
from heron.powergrid.setups.profiles import Profiles

DAY_S = 86_400.0
DAY, NOON_S = 17, 12 * 3600.0


@pytest.fixture(scope="module")
def setup() -> Setup:
    return as_setup(load_setup("ieee34_ieee13"))


def test_day_ahead_prices_are_known_all_day(setup: Setup) -> None:
    config, profiles = setup.config, setup.profiles
    known = price_outlook(config, profiles, DAY * DAY_S + NOON_S)
    assert known == profiles.day_ahead(DAY * DAY_S)
    assert known is price_outlook(config, profiles, DAY * DAY_S)


def test_without_forecast_nothing_is_known(setup: Setup) -> None:
    config = setup.config.model_copy(update={"forecast": False})
    assert price_outlook(config, setup.profiles, 0.0) == ()
    assert outlooks(config, setup.profiles).size == 0


def test_expected_prices_are_the_true_ones_until_now_and_near_them_later(setup: Setup) -> None:
    config, profiles = setup.config.model_copy(update={"forecast": "typical"}), setup.profiles
    true = np.array(profiles.day_ahead(DAY * DAY_S))
    seen = np.array(price_outlook(config, profiles, DAY * DAY_S + NOON_S))
    assert (seen[:49] == true[:49]).all()
    assert not (seen[49:] == true[49:]).any()
    days = profiles.test_days
    errors = [
        np.abs(np.subtract(price_outlook(config, profiles, d * DAY_S + NOON_S), true_day))[49:]
        for d in days
        for true_day in [profiles.day_ahead(d * DAY_S)]
    ]
    assert np.mean(errors) < 6.0


def test_expected_prices_use_nothing_of_the_day_that_is_yet_to_come(setup: Setup) -> None:
    config, profiles = setup.config.model_copy(update={"forecast": "typical"}), setup.profiles
    values = profiles.values.copy()
    later = slice(DAY * 96 + 49, (DAY + 1) * 96)
    values[later, profiles.index(config.price_profile)] += 100.0
    other: Profiles = replace(profiles, values=values)
    assert DAY in profiles.test_days
    now_s = DAY * DAY_S + NOON_S
    assert price_outlook(config, profiles, now_s) == price_outlook(config, other, now_s)


@pytest.mark.parametrize("forecast", [True, "typical"])
def test_all_instants_at_once_are_the_same(setup: Setup, forecast: bool | str) -> None:
    config = setup.config.model_copy(update={"forecast": forecast})
    every = outlooks(config, setup.profiles)
    for day, row in ((0, 0), (17, 48), (365, 95)):
        one = price_outlook(config, setup.profiles, day * DAY_S + row * 900.0)
        assert one == tuple(every[day, row].tolist())
