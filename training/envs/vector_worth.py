"""The worth of stored energy for many scenarios at once.

What stores show of it (`heron.powergrid.features.StorageWorth`), as arrays, and the potential by
which learning is told at once what a charge will earn later.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.setups import Setup
from heron.powergrid.setups.outlook import outlooks
from heron.powergrid.storage_worth import Store, margins, row_wise, worth_table
from simulator.batch_plant import BatchMeasurements

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DAY_S = 86_400.0


class StoreSignals:
    """The fields of one store's `StorageWorth`."""

    def __init__(self, setup: Setup, config: StorageConfig) -> None:
        known = outlooks(setup.config, setup.profiles)
        self._store = Store.of(config)
        self._capacity_mwh = config.e_capacity_mwh
        self._below, self._above, self._price = _signal_tables(known, self._store)

    def __call__(self, time_s: FloatArray, soc: FloatArray) -> dict[str, FloatArray]:
        """Return sell, buy and worth, (N,) each."""
        if self._price.size == 0:
            return dict.fromkeys(("sell", "buy", "worth"), np.zeros(len(soc)))
        n_days, n_steps = self._price.shape
        day = (time_s // DAY_S).astype(np.int64) % n_days
        step = (time_s % DAY_S / DAY_S * n_steps).astype(np.int64)
        place = self._store.place(soc * self._capacity_mwh)
        sell, buy, worth = margins(
            self._store,
            self._price[day, step],
            row_wise(self._below[day, step], place),
            row_wise(self._above[day, step], place),
        )
        return {"sell": sell, "buy": buy, "worth": worth}


class StoragePotential:
    """What each store will earn beyond the value at which energy is booked.

    Its change, added to the rewards, moves the gain of a good charge from the hour in which it
    is sold to the hour in which it is bought. Over a day it adds up to a constant, so the sum of
    rewards ranks policies as before; a learner with a short horizon looks one step ahead of the
    best plan by prices alone. It knows the day's prices, whatever the agents know: it serves
    learning only.

    Source: Ng, Harada, Russell, "Policy invariance under reward transformations", ICML 1999.
    """

    def __init__(self, setup: Setup) -> None:
        config, profiles = setup.config, setup.profiles
        price = profiles[config.price_profile].reshape(profiles.n_days, -1)
        booked = STORED_ENERGY_VALUE * price.mean(axis=1)
        self._n_devices = len(config.device_ids)
        self._stores: list[tuple[int, Store, float, FloatArray]] = []
        tables: dict[Store, FloatArray] = {}
        for at, name in enumerate(config.device_ids):
            device = config.device(name).device_state_config
            if not isinstance(device, StorageConfig):
                continue
            store = Store.of(device)
            if store not in tables:
                value = worth_table(price, store).value_usd
                tables[store] = value - booked[:, None, None] * store.levels_mwh
            self._stores.append((at, store, device.e_capacity_mwh, tables[store]))

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


def _signal_tables(known: FloatArray, store: Store) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the worth below and above each level, and the price, for each day and step.

    Args:
        known: (n_days, T, T) prices of a day as they are known at each step; see `outlooks`.
        store: The store.
    """
    n_days, n_steps, n_known = known.shape
    if n_known == 0:
        nothing = np.zeros((n_days, 0))
        return nothing, nothing, nothing
    price = np.diagonal(known, axis1=1, axis2=2)
    if known.strides[1] == 0:  # the same at every step of a day
        table = worth_table(known[:, 0], store)
        return table.below, table.above, price
    below, above = [], []
    for step in range(n_steps):
        table = worth_table(known[:, step], store, first=step + 1)
        below.append(table.below[:, step])
        above.append(table.above[:, step])
    return np.stack(below, axis=1), np.stack(above, axis=1), price
