"""Protocols among equals: the subordinates of one agent trade or agree with each other.

What each brings is a feature of its own that the agent above may see, so it passes visibility
and message delays as any other; what comes out is a signal to each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from heron.core.features import FeatureProvider
from heron.core.observation import Observation
from heron.errors import ConfigError, ConfigProblem
from heron.protocols.auction import Order, Side, clear_double_auction
from heron.protocols.base import Coordination, Protocol
from heron.protocols.consensus import agree, metropolis_weights

if TYPE_CHECKING:
    from heron.agents.base import Agent


@dataclass
class MarketOffer(FeatureProvider):
    """What an agent would trade in the next interval; energy in MWh, prices in $/MWh."""

    visibility = ("owner", "upper_level")

    sell_mwh: float = 0.0
    ask_usd_per_mwh: float = 0.0
    buy_mwh: float = 0.0
    bid_usd_per_mwh: float = 0.0

    def units(self) -> Sequence[str]:
        """Return MWh and $/MWh."""
        return ("MWh", "$/MWh", "MWh", "$/MWh")


class PeerToPeerTradingProtocol(Protocol):
    """Subordinates trade energy in a double auction with one clearing price.

    Each brings a `MarketOffer`. Each that traded receives the signal ``trade_mwh`` (positive =
    sells, injects), ``price`` and ``income_usd`` (after fees). ``context["limits_mwh"]``, by
    agent id, caps what its connection can carry.

    Args:
        trading_fee: Fraction of a trade's value, half from each side.
        max_trade_mwh: Cap for every agent; None: no cap but the context's.

    Attributes:
        fees_usd: Fees taken since the reset.
    """

    needs_observation = True
    needs_action = False

    def __init__(self, trading_fee: float = 0.01, max_trade_mwh: float | None = None) -> None:
        problems = []
        if not 0 <= trading_fee < 1:
            problems.append(ConfigProblem("trading_fee", trading_fee, "0 to below 1"))
        if max_trade_mwh is not None and not max_trade_mwh >= 0:
            problems.append(ConfigProblem("max_trade_mwh", max_trade_mwh, "0 MWh or more"))
        if problems:
            raise ConfigError(problems)
        self.trading_fee = trading_fee
        self.max_trade_mwh = max_trade_mwh
        self.fees_usd = 0.0

    def coordinate(
        self,
        action: Any,
        subordinates: Mapping[str, Agent],
        observation: Observation | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Coordination:
        """Clear the offers that the observation shows."""
        orders = []
        for name in subordinates:
            offer = reported_fields(observation, subordinates, name, "MarketOffer")
            if offer is not None:
                sell, ask, buy, bid = (float(x) for x in offer.values())
                orders.append(Order(name, Side.SELL, max(0.0, sell), ask))
                orders.append(Order(name, Side.BUY, max(0.0, buy), bid))
        limits = dict((context or {}).get("limits_mwh", {}))
        if self.max_trade_mwh is not None:
            limits = {a: min(limits.get(a, np.inf), self.max_trade_mwh) for a in subordinates}
        clearing = clear_double_auction(orders, self.trading_fee, limits)
        self.fees_usd += clearing.fees_cents / 100
        price = clearing.price_usd_per_mwh
        signals: dict[str, dict[str, float]] = {}
        if price is not None:
            for name in subordinates:
                signals[name] = {
                    "trade_mwh": clearing.net_mwh(name),
                    "price": price,
                    "income_usd": clearing.income_cents(name) / 100,
                }
        return Coordination(signals=signals, report={"clearing": clearing})

    def reset(self) -> None:
        """Forget the fees."""
        self.fees_usd = 0.0


class ConsensusProtocol(Protocol):
    """Subordinates agree on the mean of one of their values, each talking to neighbours only.

    Each that takes part has a feature with the field; it receives the agreed value under the
    field's name.

    Args:
        max_iterations: Exchanges per call.
        tolerance: Largest difference that counts as agreement, in the field's unit.
        value_field: Name of the field, ``field`` or ``Feature.field``.
        neighbours: Who talks to whom; all with all if not given.
    """

    needs_observation = True
    needs_action = False

    def __init__(
        self,
        max_iterations: int = 10,
        tolerance: float = 0.01,
        value_field: str = "price",
        neighbours: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        problems = []
        if max_iterations < 1:
            problems.append(ConfigProblem("max_iterations", max_iterations, "at least 1"))
        if not tolerance > 0:
            problems.append(ConfigProblem("tolerance", tolerance, "above 0"))
        if problems:
            raise ConfigError(problems)
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        self.value_field = value_field
        self.neighbours = neighbours

    def coordinate(
        self,
        action: Any,
        subordinates: Mapping[str, Agent],
        observation: Observation | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Coordination:
        """Average the values that the observation shows.

        Raises:
            ConfigError: No subordinate shows the field, or the graph does not fit.
        """
        feature, _, field = self.value_field.rpartition(".")
        values: dict[str, float] = {}
        for name in subordinates:
            fields = reported_fields(observation, subordinates, name, feature or None)
            if fields is not None and field in fields:
                values[name] = fields[field]
        if not values:
            raise ConfigError(
                [ConfigProblem("value_field", self.value_field, "a field that subordinates show")]
            )
        neighbours = self.neighbours or {a: [b for b in values if b != a] for a in values}
        if set(neighbours) != set(values):
            raise ConfigError(
                [ConfigProblem("neighbours", sorted(neighbours), f"the agents {sorted(values)}")]
            )
        weights = metropolis_weights(neighbours)
        result = agree(
            [values[a] for a in neighbours], weights, self.max_iterations, self.tolerance
        )
        agreed = dict(zip(neighbours, result.values.tolist(), strict=True))
        return Coordination(
            signals={a: {field: agreed[a]} for a in values},
            report={"iterations": result.iterations, "converged": result.converged},
        )


def reported_fields(
    observation: Observation | None,
    subordinates: Mapping[str, Agent],
    agent_id: str,
    feature: str | None,
) -> dict[str, float] | None:
    """Return what an observation shows of one subordinate, by field name.

    Args:
        observation: The coordinator's.
        subordinates: For the names of the fields.
        agent_id: Whose.
        feature: Of this feature only; None: of all.

    Returns:
        None if the observation does not show it.
    """
    seen = {} if observation is None else observation.local.get("subordinates", {})
    shown = seen.get(agent_id, {})
    fields: dict[str, float] = {}
    for name, provider in subordinates[agent_id].state.items():
        if name in shown and feature in (None, name):
            fields.update(zip(provider.names(), shown[name].tolist(), strict=True))
    return fields or None
