from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.features import StorageWorth
from heron.powergrid.storage_worth import (
    LEVELS,
    DayWorth,
    Delivery,
    Store,
    day_worth,
    margins,
    row_wise,
    worth_table,
)

CONFIG = StorageConfig(
    bus="Bus 671", e_capacity_mwh=2.0, p_max_mw=0.5, p_min_mw=-0.5, degradation_usd_per_mwh=1.0
)
STORE = Store.of(CONFIG)
H = 0.25


def prices(seed: int) -> tuple[float, ...]:
    rng = np.random.default_rng(seed)
    hour = np.arange(96) / 4.0
    shape = 40.0 - 12.0 * np.cos(2 * np.pi * (hour - 8) / 12) + rng.normal(0.0, 3.0, 96)
    return tuple(shape.tolist())


def best_by_linear_programme(price: np.ndarray, start_mwh: float) -> float:
    """Return what a store earns at most, wear and the value of what is left counted."""
    n = len(price)
    value = STORED_ENERGY_VALUE * price.mean()
    wear = STORE.wear_usd_per_mwh
    drawn, added = H / STORE.dsc_eff, H * STORE.ch_eff
    gain = np.concatenate([H * (price - wear) - value * drawn, -H * (price + wear) + value * added])
    held = np.hstack([-np.tril(np.ones((n, n))) * drawn, np.tril(np.ones((n, n))) * added])
    room = np.concatenate(
        [np.full(n, STORE.high_mwh - start_mwh), np.full(n, start_mwh - STORE.low_mwh)]
    )
    power = [(0.0, STORE.p_discharge_mw)] * n + [(0.0, STORE.p_charge_mw)] * n
    found = linprog(-gain, A_ub=np.vstack([held, -held]), b_ub=room, bounds=power)
    return float(-found.fun)


def earned_by_following(price: tuple[float, ...], worth: DayWorth, start_mwh: float) -> float:
    """Charge or discharge fully wherever that earns more than keeping."""
    value = STORED_ENERGY_VALUE * float(np.mean(price))
    energy, earned = start_mwh, 0.0
    for step, now in enumerate(price):
        sell, buy, _ = worth.margins(step, now, energy)
        p = 0.5 if sell > 0.0 else -0.5 if buy > 0.0 else 0.0
        change = -p * H / STORE.dsc_eff if p > 0.0 else -p * H * STORE.ch_eff
        change = min(max(energy + change, STORE.low_mwh), STORE.high_mwh) - energy
        mwh = -change * STORE.dsc_eff if change < 0.0 else -change / STORE.ch_eff
        earned += now * mwh - STORE.wear_usd_per_mwh * abs(mwh) + value * change
        energy += change
    return earned


@pytest.mark.parametrize("seed", range(4))
def test_the_worth_is_what_the_best_plan_earns(seed: int) -> None:
    price = np.array(prices(seed))
    table = worth_table(price, STORE)
    start = STORE.levels_mwh[20]
    value = STORED_ENERGY_VALUE * price.mean()
    best = best_by_linear_programme(price, start)
    assert best > 20.0
    assert table.value_usd[0, 20] - value * start == pytest.approx(best, rel=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_a_store_that_follows_the_margins_earns_nearly_all_of_it(seed: int) -> None:
    price = prices(seed)
    followed = earned_by_following(price, day_worth(price, STORE), 1.0)
    assert followed > 0.95 * best_by_linear_programme(np.array(price), 1.0)


def test_at_one_price_all_day_nothing_is_worth_doing() -> None:
    sell, buy, worth = day_worth((40.0,) * 96, STORE).margins(10, 40.0, 1.0)
    assert sell < 0.0
    assert buy < 0.0
    assert worth == pytest.approx(STORED_ENERGY_VALUE * 40.0, abs=0.5)


def test_a_store_is_told_to_buy_before_the_dear_hours_and_to_sell_in_the_dearest() -> None:
    price = (20.0,) * 48 + (80.0,) * 40 + (90.0,) * 8
    worth = day_worth(price, STORE)
    assert worth.margins(47, 20.0, STORE.low_mwh)[1] > 0.0
    assert worth.margins(90, 90.0, STORE.high_mwh)[0] > 0.0


def test_numbers_and_arrays_say_the_same_to_the_last_bit() -> None:
    days = np.array([prices(s) for s in range(3)])
    table = worth_table(days, STORE)
    rng = np.random.default_rng(0)
    for step in (0, 40, 95):
        energy = rng.uniform(0.0, 2.0, 3)
        place = STORE.place(energy)
        many = margins(
            STORE,
            days[:, step],
            row_wise(table.below[:, step], place),
            row_wise(table.above[:, step], place),
        )
        for d in range(3):
            alone = day_worth(tuple(days[d].tolist()), STORE).margins(
                step, float(days[d, step]), float(energy[d])
            )
            assert alone == tuple(float(x[d]) for x in many)


def test_a_table_from_a_later_step_on_is_the_same_there() -> None:
    price = np.array(prices(1))
    whole, rest = worth_table(price, STORE), worth_table(price, STORE, first=50)
    assert (whole.value_usd[50:] == rest.value_usd[50:]).all()
    assert whole.value_usd.shape == (97, LEVELS)


def test_energy_is_worth_what_the_network_makes_of_it() -> None:
    price = np.array(prices(1))
    whole = worth_table(price, STORE).value_usd[0, 20]
    all_of_it = Delivery(np.ones(96), np.zeros(96))
    assert worth_table(price, STORE, delivery=all_of_it).value_usd[0, 20] == pytest.approx(whole)
    # dear hours saved at more than their price, cheap ones paid at less: more to earn
    spread = Delivery(np.where(price > price.mean(), 1.1, 0.9), np.zeros(96))
    assert worth_table(price, STORE, delivery=spread).value_usd[0, 20] > whole + 1.0
    # what a store loses by its own flow it cannot win back
    lossy = Delivery(np.ones(96), np.full(96, 0.2))
    assert worth_table(price, STORE, delivery=lossy).value_usd[0, 20] < whole - 0.5


def test_the_feature_follows_the_day_and_is_silent_without_prices() -> None:
    feature = StorageWorth()
    feature.update(STORE, 1.0, 0.0, 30.0, ())
    assert feature.values() == (0.0, 0.0, 0.0)
    today, tomorrow = prices(0), prices(1)
    for time_s, day in ((3600.0, today), (7200.0, today), (90_000.0, tomorrow), (0.0, today)):
        step = int(time_s % 86_400.0 / 900.0)
        feature.update(STORE, 1.0, time_s, day[step], day)
        assert feature.values() == DayWorth(day, STORE, 0).margins(step, day[step], 1.0)
