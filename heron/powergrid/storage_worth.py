"""What the energy in a store is worth, by prices that are known or expected.

A store that may trade at given prices until the end of the day, where what is left has a given
value, has a best plan; the worth of its energy is what that plan earns, by dynamic programming
over a grid of states of charge. Networks, neighbours and voltages play no part: it is a signal
for a policy, not the policy.

All functions work on many days at once, and give each the same figures as if it were alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.device_configs import StorageConfig

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Number = TypeVar("Number", float, FloatArray)

DAY_H = 24.0
LEVELS = 41
"""States of charge in the grid: 2 % of the usable range apart."""
_TOP = LEVELS - 1.0
SHARES = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0)
"""Powers that a plan chooses from, as shares of the greatest charge and discharge."""


@dataclass(frozen=True, slots=True)
class Store:
    """What of a store decides its worth.

    Attributes:
        low_mwh: Least energy that it holds.
        high_mwh: Greatest.
        p_charge_mw: Greatest charging power, a positive number.
        p_discharge_mw: Greatest discharging power.
        ch_eff: Share of what it takes that is stored.
        dsc_eff: Share of what it draws that is delivered.
        wear_usd_per_mwh: Cost of what passes its terminals.
    """

    low_mwh: float
    high_mwh: float
    p_charge_mw: float
    p_discharge_mw: float
    ch_eff: float
    dsc_eff: float
    wear_usd_per_mwh: float

    @classmethod
    def of(cls, config: StorageConfig) -> Self:
        """Build from a store's configuration."""
        return cls(
            config.soc_min * config.e_capacity_mwh,
            config.soc_max * config.e_capacity_mwh,
            -config.p_min_mw,
            config.p_max_mw,
            config.ch_eff,
            config.dsc_eff,
            config.degradation_usd_per_mwh,
        )

    @property
    def levels_mwh(self) -> FloatArray:
        """(LEVELS,) energies of the grid."""
        return np.linspace(self.low_mwh, self.high_mwh, LEVELS)

    def place(self, energy_mwh: FloatArray) -> FloatArray:
        """Return where energies lie in the grid, 0 to LEVELS - 1; beyond the ends, at them."""
        share = (energy_mwh - self.low_mwh) / (self.high_mwh - self.low_mwh)
        return np.asarray(np.clip(share, 0.0, 1.0) * (LEVELS - 1))


@dataclass(frozen=True, slots=True, eq=False)
class WorthTable:
    """What the energy in a store is worth at each step of a day.

    Attributes:
        store: Of which store.
        value_usd: (..., T + 1, LEVELS) what is earned from the start of a step on, by energy.
        below: (..., T, LEVELS) worth in $/MWh of the energy that a full discharge in a step
            would draw, by the energy at its start.
        above: (..., T, LEVELS) worth of the energy that a full charge would add.
    """

    store: Store
    value_usd: FloatArray
    below: FloatArray
    above: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """What of a store's power counts at the place where the price is made.

    Attributes:
        share: (..., T) power that is saved there by the first MW delivered.
        loss_per_mw: (..., T) what that share falls by for each MW, on the average over what
            is delivered.
    """

    share: FloatArray
    loss_per_mw: FloatArray


def worth_table(
    prices: npt.ArrayLike,
    store: Store,
    *,
    first: int = 0,
    final: FloatArray | None = None,
    delivery: Delivery | None = None,
) -> WorthTable:
    """Return the worth of a store's energy over days of given prices.

    Args:
        prices: (..., T) $/MWh in equal steps over one day each.
        store: The store.
        first: Step from which on the worth is wanted; before it the table holds zeros.
        final: (..., LEVELS) what is left at the end of the day is worth, $; 0.95 of its mean price
            if not given.
        delivery: What the network makes of the store's power; all of it counts if not given.
    """
    price = np.asarray(prices, dtype=np.float64)
    n_steps = price.shape[-1]
    h = DAY_H / n_steps
    levels = store.levels_mwh
    gain, cost, lower, weight = _moves(store, levels, h)
    table = np.zeros((*price.shape[:-1], n_steps + 1, LEVELS))
    if final is None:
        final = STORED_ENERGY_VALUE * price.mean(axis=-1)[..., None] * levels
    table[..., n_steps, :] = final
    for t in range(n_steps - 1, first - 1, -1):
        later = table[..., t + 1, :]
        counted = gain
        if delivery is not None:
            counted = delivery.share[..., t, None, None] * gain
            counted = counted - delivery.loss_per_mw[..., t, None, None] * gain**2 / h
        earned = price[..., t, None, None] * counted - cost
        earned += later[..., lower] * (1.0 - weight)
        earned += later[..., lower + 1] * weight
        table[..., t, :] = earned.max(axis=-1)
    below, above = _slopes(table[..., 1:, :], store, h)
    return WorthTable(store, table, below, above)


def margins(
    store: Store, price: Number, below: Number, above: Number
) -> tuple[Number, Number, Number]:
    """Return what trading in a step earns beyond keeping the store as it is, $/MWh.

    Args:
        store: The store.
        price: In that step.
        below: Worth of the energy that a discharge would draw.
        above: Worth of the energy that a charge would add.

    Returns:
        What a discharge earns per MWh delivered, what a charge earns per MWh taken, and what
        the energy in store is worth per MWh stored.
    """
    wear = store.wear_usd_per_mwh
    sell = price - wear - below / store.dsc_eff
    buy = above * store.ch_eff - price - wear
    return sell, buy, (below + above) / 2.0


class DayWorth:
    """A day's `WorthTable` for one store at a time, in plain numbers: it is read every step."""

    __slots__ = ("_above", "_below", "_low_mwh", "_span", "_store")

    def __init__(self, prices: tuple[float, ...], store: Store, first: int) -> None:
        table = worth_table(prices, store, first=first)
        self._below: list[list[float]] = table.below.tolist()
        self._above: list[list[float]] = table.above.tolist()
        self._store = store
        self._low_mwh = store.low_mwh
        self._span = store.high_mwh - store.low_mwh

    def margins(self, step: int, price: float, energy_mwh: float) -> tuple[float, float, float]:
        """Return `margins` of a step for a store that holds so much at its start."""
        share = (energy_mwh - self._low_mwh) / self._span
        place = share * _TOP if 0.0 < share < 1.0 else 0.0 if share <= 0.0 else _TOP
        lower = int(place) if place < _TOP else LEVELS - 2
        upper, weight = lower + 1, place - lower
        rest = 1.0 - weight
        below, above = self._below[step], self._above[step]
        return margins(
            self._store,
            price,
            below[lower] * rest + below[upper] * weight,
            above[lower] * rest + above[upper] * weight,
        )


@lru_cache(maxsize=64)
def day_worth(prices: tuple[float, ...], store: Store, first: int = 0) -> DayWorth:
    """Return the worth over one day, remembered: all agents of a site ask for the same."""
    return DayWorth(prices, store, first)


def _slopes(later: FloatArray, store: Store, h: float) -> tuple[FloatArray, FloatArray]:
    """Return the mean worth of the energy just below and just above each level, $/MWh."""
    levels = store.levels_mwh
    cell = levels[1] - levels[0]
    drawn = max(cell, store.p_discharge_mw * h / store.dsc_eff)
    added = max(cell, store.p_charge_mw * h * store.ch_eff)
    bottom, top = np.maximum(levels - drawn, levels[0]), np.minimum(levels + added, levels[-1])
    # At its ends a store cannot move that way; the nearest slope stands for it.
    down, up = np.maximum(levels, bottom + cell), np.minimum(levels, top - cell)
    at = [interpolated(later, store.place(x)) for x in (bottom, down, up, top)]
    return (at[1] - at[0]) / (down - bottom), (at[3] - at[2]) / (top - up)


def interpolated(table: FloatArray, place: FloatArray) -> FloatArray:
    """Return a table (..., LEVELS) at places (n,) between its levels, (..., n)."""
    lower = np.minimum(place.astype(np.int64), LEVELS - 2)
    weight = place - lower
    return np.asarray(table[..., lower] * (1.0 - weight) + table[..., lower + 1] * weight)


def row_wise(table: FloatArray, place: FloatArray) -> FloatArray:
    """Return each row of a table (n, LEVELS) at a place of its own (n,), (n,)."""
    rows = np.arange(len(table))
    lower = np.minimum(place.astype(np.int64), LEVELS - 2)
    weight = place - lower
    return np.asarray(table[rows, lower] * (1.0 - weight) + table[rows, lower + 1] * weight)


def _moves(
    store: Store, levels: FloatArray, h: float
) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
    """Return what each power does from each level, (LEVELS, n_powers) each.

    Returns:
        Energy delivered (negative: taken) in MWh, wear in $, and where it leads: the level
        below, and how far it is above that.
    """
    share = np.array(SHARES)
    wanted = np.where(
        share > 0.0,
        -share * store.p_discharge_mw * h / store.dsc_eff,
        -share * store.p_charge_mw * h * store.ch_eff,
    )
    reached = np.clip(levels[:, None] + wanted, store.low_mwh, store.high_mwh)
    change = reached - levels[:, None]
    delivered = np.where(change < 0.0, -change * store.dsc_eff, -change / store.ch_eff)
    place = (reached - levels[0]) / (levels[1] - levels[0])
    below = np.minimum(place.astype(np.int64), LEVELS - 2)
    return delivered, store.wear_usd_per_mwh * np.abs(delivered), below, place - below
