"""What a store's energy is worth by the prices that are known or expected."""

from __future__ import annotations

from heron.powergrid.data_year import step_of_day
from heron.powergrid.features.base import FeatureField, RowFeature
from heron.powergrid.storage_worth import DayWorth, Store, day_worth


class StorageWorth(RowFeature):
    """Whether to charge, to keep or to discharge, as far as prices say; see `margins`.

    All are 0 while no prices are known.
    """

    visibility = ("owner", "upper_level")
    fields = (
        FeatureField("sell", "$/MWh", 10.0),
        FeatureField("buy", "$/MWh", 10.0),
        FeatureField("worth", "$/MWh", 50.0),
    )

    sell: float
    buy: float
    worth: float

    def __init__(self, sell: float = 0.0, buy: float = 0.0, worth: float = 0.0) -> None:
        self._table: DayWorth | None = None
        self._day: tuple[float, ...] = ()
        self._first = 0
        self.row = (sell, buy, worth)

    def update(
        self,
        store: Store,
        energy_mwh: float,
        time_s: float,
        price: float,
        day: tuple[float, ...],
    ) -> None:
        """Take in the prices.

        Args:
            store: What the store can do.
            energy_mwh: What it holds.
            time_s: Plant time now.
            price: Price now, $/MWh.
            day: Prices of this plant day in equal steps, or empty.
        """
        if not day:
            self.row = (0.0, 0.0, 0.0)
            return
        step = step_of_day(time_s, len(day))
        if self._table is None or step < self._first or not (day is self._day or day == self._day):
            # Expected prices change every step: only the rest of the day is worked out.
            self._table, self._day, self._first = day_worth(day, store, step), day, step
        self.cell.numbers = self._table.margins(step, price, energy_mwh)
