"""Microgrids that trade with each other, or agree on a price, and then dispatch to it.

The grid's tariff drives a wedge between what an import costs and what an export earns, so each
microgrid by itself serves its own load first and leaves cheap plant of its own, or of its
neighbours, unused. A market among neighbours (`PeerToPeerTradingProtocol`) or an agreement on
one price (`ConsensusProtocol`) takes the wedge away. Either ends in a price inside each
microgrid, to which its devices respond by their marginal cost and state of charge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from heron.messaging import MessageType
from heron.powergrid.agents.power_grid_agent import PowerGridAgent
from heron.powergrid.agents.view import MicrogridView
from heron.powergrid.features.base import DomainFeature, FeatureField
from heron.powergrid.setups.models import MicrogridConfig
from heron.protocols import MarketOffer, PriceSignalProtocol, Protocol
from heron.protocols.base import Signal
from heron.scheduling.dispatch import Dispatch

LOWEST_PRICE, HIGHEST_PRICE = -500.0, 1000.0
BISECTIONS = 24


class LocalPrice(DomainFeature):
    """The price inside a microgrid: what one more MWh would cost it, $/MWh."""

    visibility = ("owner", "upper_level")
    fields = (FeatureField("local_price", "$/MWh", 50.0),)

    local_price: float

    def __init__(self, local_price: float = 0.0) -> None:
        super().__init__(local_price=local_price)


class TradingGridAgent(PowerGridAgent):
    """A microgrid's coordinator whose action is the price inside the microgrid.

    After `update_from` its `MarketOffer` and `LocalPrice` say what it would trade and what
    energy is worth to it. A signal from above with ``trade_mwh`` (positive = it sells) makes it
    dispatch so as to deliver the trade; one with ``local_price`` sets the price. Without a
    signal, `serve_itself` dispatches for its own load under the tariff: call it before the market,
    which then adjusts those that trade.

    Args:
        net: As for `PowerGridAgent`.
        grid_config: As for `PowerGridAgent`.
        protocol: A `PriceSignalProtocol` if not given.
        tariff_spread: $/MWh that the grid adds to the price of imports and keeps back from
            exports.
        kwargs: As for `PowerGridAgent`.
    """

    def __init__(
        self,
        net: Any = None,
        grid_config: Mapping[str, Any] | MicrogridConfig | None = None,
        protocol: Protocol | None = None,
        *,
        tariff_spread: float = 15.0,
        **kwargs: Any,
    ) -> None:
        if not tariff_spread >= 0.0:
            raise ValueError(f"tariff_spread = {tariff_spread}: expected 0 or more")
        self.tariff_spread = tariff_spread
        price_signal = PriceSignalProtocol(min_price=LOWEST_PRICE, max_price=HIGHEST_PRICE)
        super().__init__(net, grid_config, protocol or price_signal, **kwargs)

    def set_state(self) -> None:
        """The coordinator's features, its offer and its price."""
        super().set_state()
        self._offer = MarketOffer()
        self._local_price = LocalPrice()
        self.state.features.extend([self._offer, self._local_price])

    def update_from(self, view: MicrogridView) -> None:
        """Fill features from what is known now, then work out price and offer."""
        super().update_from(view)
        self._local_price.local_price = self.price_for(0.0)
        self._make_offer()

    @property
    def tariff(self) -> tuple[float, float]:
        """What an export earns and what an import costs, $/MWh."""
        price = self._market.price
        return price - self.tariff_spread, price + self.tariff_spread

    def supply_mw(self, price: float) -> float:
        """Return what its devices together would inject at a price inside."""
        return sum(device.offered_mw(price) for device in self.devices.values())

    def price_for(self, export_mw: float) -> float:
        """Return the price inside at which supply covers own load and an export.

        The tariff bounds it: beyond it, the grid takes or gives the rest.
        """
        need = self._metrics.load_MW + export_mw
        low, high = self.tariff
        if self.supply_mw(low) >= need:
            return low
        if self.supply_mw(high) <= need:
            return high
        for _ in range(BISECTIONS):
            middle = (low + high) / 2.0
            if self.supply_mw(middle) < need:
                low = middle
            else:
                high = middle
        return high

    def _make_offer(self, offset: float = 0.0) -> None:
        """Offer what is left at half the wedge below the price, bid for what lacks above it.

        Args:
            offset: $/MWh that is added to both prices.
        """
        hours, load = self.dt_s / 3600.0, self._metrics.load_MW
        ask = self._market.price + offset - self.tariff_spread / 2.0
        bid = self._market.price + offset + self.tariff_spread / 2.0
        offer = self._offer
        offer.ask_usd_per_mwh, offer.bid_usd_per_mwh = ask, bid
        export_max, import_max = self.connection.p_export_max_mw, self.connection.p_import_max_mw
        sell, buy = max(0.0, self.supply_mw(ask) - load), max(0.0, load - self.supply_mw(bid))
        offer.sell_mwh = hours * (sell if export_max is None else min(sell, export_max))
        offer.buy_mwh = hours * (buy if import_max is None else min(buy, import_max))

    def serve_itself(self) -> None:
        """Dispatch for its own load under the tariff, without its neighbours."""
        self.apply_action([self._local_price.local_price])

    def price_from(self, signal: Signal) -> float | None:
        """Return the price inside that a signal asks for; None if it asks for none."""
        if "local_price" in signal:
            return signal["local_price"]
        if "trade_mwh" in signal:
            return self.price_for(signal["trade_mwh"] * 3600.0 / self.dt_s)
        return signal.get("price")

    def on_message(
        self, kind: MessageType, sender_id: str, content: Any, scheduler: Dispatch | None = None
    ) -> None:
        """Take a message; dispatch to the price that a signal asks for."""
        super().on_message(kind, sender_id, content, scheduler)
        if kind is not MessageType.SIGNAL:
            return
        price = self.price_from(content)
        if price is not None:
            self.answer(price, scheduler)

    def answer(self, price: float, scheduler: Dispatch | None) -> None:
        """Dispatch to a price that was asked for, after the action delay."""
        self.schedule_effect(self.checked_action(np.array([price])), None, scheduler)
