"""The worth of stored energy for many scenarios at once.

What stores show of it (`heron.powergrid.features.StorageWorth`), as arrays, and the potential by
which learning is told at once what a charge will earn later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.setups import Profiles, Setup
from heron.powergrid.setups.outlook import known_prices
from heron.powergrid.storage_worth import LEVELS, Delivery, Store, margins, row_wise, worth_table
from simulator.batch_plant import BatchMeasurements

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DAY_S = 86_400.0
_DAYS_AT_ONCE, _STEPS_AT_ONCE = 48, 16
"""Of these many the worth is worked out together: more need memory, fewer take longer."""


class StoreSignals:
    """The fields of one store's `StorageWorth`."""

    def __init__(self, setup: Setup, config: StorageConfig) -> None:
        self._store = Store.of(config)
        self._capacity_mwh = config.e_capacity_mwh
        self._tables = _tables_of(setup, self._store)

    def __call__(self, time_s: FloatArray, soc: FloatArray) -> dict[str, FloatArray]:
        """Return sell, buy and worth, (N,) each."""
        tables = self._tables
        if tables is None:
            return dict.fromkeys(("sell", "buy", "worth"), np.zeros(len(soc)))
        n_days, n_steps = tables.price.shape
        day = (time_s // DAY_S).astype(np.int64) % n_days
        step = (time_s % DAY_S / DAY_S * n_steps).astype(np.int64)
        tables.work_out(day)
        place = self._store.place(soc * self._capacity_mwh)
        sell, buy, worth = margins(
            self._store,
            tables.price[day, step],
            row_wise(tables.below[day, step], place),
            row_wise(tables.above[day, step], place),
        )
        return {"sell": sell, "buy": buy, "worth": worth}


class _SignalTables:
    """The worth below and above each level for each day and step, worked out when asked for.

    Where prices are expected, they change with every step, and so does the worth of the rest of
    the day: a year of that takes a while, and few need all of it.

    Args:
        known: (n_days, T, T) prices of a day as they are known at each step; see `known_prices`.
        store: The store.

    Attributes:
        price: (n_days, T) price of each step.
        below: (n_days, T, LEVELS) worth of the energy just below each level, $/MWh.
        above: The same just above.
    """

    def __init__(self, known: FloatArray, store: Store) -> None:
        self.price = np.diagonal(known, axis1=1, axis2=2)
        self._known, self._store = known, store
        self._ready = np.zeros(len(known), dtype=bool)
        self.below = np.zeros((*self.price.shape, LEVELS))
        self.above = np.zeros_like(self.below)

    def work_out(self, days: IntArray) -> None:
        """See to it that the tables hold these days."""
        if self._ready[days].all():
            return
        wanted = np.unique(days[~self._ready[days]])
        if self._known.strides[1] == 0:  # the same at every step of a day
            table = worth_table(self._known[wanted, 0], self._store)
            self.below[wanted], self.above[wanted] = table.below, table.above
        else:
            for k in range(0, len(wanted), _DAYS_AT_ONCE):
                self._work_out_step_by_step(wanted[k : k + _DAYS_AT_ONCE])
        self._ready[wanted] = True

    def _work_out_step_by_step(self, days: IntArray) -> None:
        n_steps = self.price.shape[1]
        for first in range(0, n_steps, _STEPS_AT_ONCE):
            steps = np.arange(first, min(first + _STEPS_AT_ONCE, n_steps))
            known = self._known[days][:, steps]
            table = worth_table(known, self._store, first=first)
            own = np.arange(len(steps))
            self.below[days[:, None], steps] = table.below[:, own, steps]
            self.above[days[:, None], steps] = table.above[:, own, steps]


def _tables_of(setup: Setup, store: Store) -> _SignalTables | None:
    """Return the tables of a store; None where no prices are known."""
    config = setup.config
    if config.forecast is False:
        return None
    return _kept_tables(setup.profiles, config.price_profile, config.forecast, store)


@lru_cache(maxsize=4)
def _kept_tables(
    profiles: Profiles, column: str, forecast: bool | str, store: Store
) -> _SignalTables:
    """Return tables that all environments of a process share: they are the same for all."""
    return _SignalTables(known_prices(profiles, column, forecast), store)


class StoragePotential:
    """What each store will earn beyond the value at which energy is booked.

    Its change, added to the rewards, moves the gain of a good charge from the hour in which it
    is sold to the hour in which it is bought. Over a day it adds up to a constant, so the sum of
    rewards ranks policies as before; a learner with a short horizon looks one step ahead of the
    best plan by prices alone. It knows the day's prices, whatever the agents know: it serves
    learning only. Where an episode lasts several days, what is kept over midnight is worth what
    the following days make of it, as many as an episode has.

    Source: Ng, Harada, Russell, "Policy invariance under reward transformations", ICML 1999.
    """

    def __init__(self, setup: Setup, deliveries: Mapping[str, Delivery] | None = None) -> None:
        """Work out the worth of every state of charge at every step of the data year.

        Args:
            setup: The setup.
            deliveries: What the network makes of each store's power, by its name, (n_days, T);
                without it, prices alone count. See `training.envs.nodal`.
        """
        config, profiles = setup.config, setup.profiles
        deliveries = deliveries or {}
        price = profiles[config.price_profile].reshape(profiles.n_days, -1)
        booked = STORED_ENERGY_VALUE * price.mean(axis=1)
        n_days = math.ceil(config.max_episode_steps * config.step_s / DAY_S)
        self._n_devices = len(config.device_ids)
        self._stores: list[tuple[int, Store, float, FloatArray]] = []
        tables: dict[tuple[Store, str], FloatArray] = {}
        for at, name in enumerate(config.device_ids):
            device = config.device(name).device_state_config
            if not isinstance(device, StorageConfig):
                continue
            store, delivery = Store.of(device), deliveries.get(name)
            key = (store, "" if delivery is None else name)
            if key not in tables:
                value = worth_table(price, store, delivery=delivery).value_usd
                for _ in range(n_days - 1):
                    tomorrow = np.roll(value[:, 0], -1, axis=0)
                    later = worth_table(price, store, final=tomorrow, delivery=delivery)
                    value = later.value_usd
                tables[key] = value - booked[:, None, None] * store.levels_mwh
            self._stores.append((at, store, device.e_capacity_mwh, tables[key]))

    def __call__(self, seen: BatchMeasurements, *, day_is_over: bool = False) -> FloatArray:
        """Return the potential in $, (N, n_devices).

        Args:
            seen: Measurements.
            day_is_over: Whether episodes end here: then nothing more is earned.
        """
        out = np.zeros((len(seen.time_s), self._n_devices))
        if day_is_over:
            return out
        for at, store, capacity_mwh, table in self._stores:
            n_days, n_steps = table.shape[0], table.shape[1] - 1
            day = (seen.time_s // DAY_S).astype(np.int64) % n_days
            step = (seen.time_s % DAY_S / DAY_S * n_steps).astype(np.int64)
            out[:, at] = row_wise(table[day, step], store.place(seen.soc[:, at] * capacity_mwh))
        return out
