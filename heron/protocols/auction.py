"""A sealed double auction with one clearing price: pure functions.

Energy is counted in whole watt-hours and money in whole cents, so that both balance exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from heron.errors import ConfigError, ConfigProblem

_WH_PER_MWH = 1_000_000


class Side(StrEnum):
    """Which way the energy goes, seen from the agent."""

    BUY = "buy"
    SELL = "sell"


@dataclass(frozen=True, slots=True)
class Order:
    """What one agent would trade.

    Attributes:
        agent_id: Whose.
        side: Buy or sell.
        energy_mwh: At most this much, at least 0.
        price_usd_per_mwh: Buy: at most; sell: at least; fees included.
    """

    agent_id: str
    side: Side
    energy_mwh: float
    price_usd_per_mwh: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.energy_mwh) and self.energy_mwh >= 0):
            raise ConfigError(
                [ConfigProblem(f"order of {self.agent_id}", self.energy_mwh, "0 MWh or more")]
            )
        if not math.isfinite(self.price_usd_per_mwh):
            raise ConfigError(
                [
                    ConfigProblem(
                        f"order of {self.agent_id}", self.price_usd_per_mwh, "a finite price"
                    )
                ]
            )


@dataclass(frozen=True, slots=True)
class Fill:
    """What one agent traded on one side.

    Attributes:
        energy_wh: Energy in whole Wh.
        value_cents: Energy times clearing price; sellers receive it, buyers pay it.
        fee_cents: Fee, paid on top by buyers and kept back from sellers.
    """

    agent_id: str
    side: Side
    energy_wh: int
    value_cents: int
    fee_cents: int

    @property
    def energy_mwh(self) -> float:
        """Energy in MWh, positive."""
        return self.energy_wh / _WH_PER_MWH

    @property
    def income_cents(self) -> int:
        """What the agent receives after the fee; negative if it pays."""
        gross = self.value_cents if self.side is Side.SELL else -self.value_cents
        return gross - self.fee_cents


@dataclass(frozen=True, slots=True)
class Clearing:
    """Outcome of one auction.

    Attributes:
        price_usd_per_mwh: The price of every trade; None if there was none.
        fills: One per agent and side that traded, in order of agent id.
    """

    price_usd_per_mwh: float | None
    fills: tuple[Fill, ...]

    @property
    def energy_mwh(self) -> float:
        """Energy that changed hands."""
        return sum(f.energy_wh for f in self.fills if f.side is Side.SELL) / _WH_PER_MWH

    @property
    def fees_cents(self) -> int:
        """What the market operator keeps."""
        return sum(f.fee_cents for f in self.fills)

    def net_mwh(self, agent_id: str) -> float:
        """Return what an agent sells less what it buys."""
        signs = {Side.SELL: 1, Side.BUY: -1}
        return sum(signs[f.side] * f.energy_wh for f in self.fills if f.agent_id == agent_id) / (
            _WH_PER_MWH
        )

    def income_cents(self, agent_id: str) -> int:
        """Return what an agent receives after fees; negative if it pays."""
        return sum(f.income_cents for f in self.fills if f.agent_id == agent_id)


def clear_double_auction(
    orders: Iterable[Order],
    trading_fee: float = 0.01,
    limits_mwh: Mapping[str, float] | None = None,
) -> Clearing:
    """Match the dearest bids with the cheapest asks at one price.

    Trades are those whose bid covers the ask and both fees. The price is the middle of the
    interval in which no one who trades would rather not, and no one who does not would rather
    trade. Among equal prices agents come in order of id.

    Args:
        orders: Any number per agent.
        trading_fee: Fraction of a trade's value; buyer and seller bear half each.
        limits_mwh: At most this much per agent and side: what its connection carries.

    Raises:
        ConfigError: A fee outside 0 .. 1 or a negative limit.

    Source: the k-double auction with k = 1/2 (Wilson 1985), multi-unit form.
    """
    if not 0 <= trading_fee < 1:
        raise ConfigError([ConfigProblem("trading_fee", trading_fee, "0 to below 1")])
    limits = {} if limits_mwh is None else {a: _to_wh(a, x) for a, x in limits_mwh.items()}
    half = trading_fee / 2
    book = tuple(orders)
    bids = _ranked(book, Side.BUY, half, limits)
    asks = _ranked(book, Side.SELL, half, limits)
    bought: dict[str, int] = {}
    sold: dict[str, int] = {}
    i = j = 0
    last_bid = last_ask = math.nan
    while i < len(bids) and j < len(asks) and bids[i].price >= asks[j].price:
        bid, ask = bids[i], asks[j]
        energy = min(bid.energy_wh, ask.energy_wh)
        bid.energy_wh -= energy
        ask.energy_wh -= energy
        bought[bid.agent_id] = bought.get(bid.agent_id, 0) + energy
        sold[ask.agent_id] = sold.get(ask.agent_id, 0) + energy
        last_bid, last_ask = bid.price, ask.price
        i += bid.energy_wh == 0
        j += ask.energy_wh == 0
    if not bought:
        return Clearing(None, ())
    low = max(last_ask, bids[i].price) if i < len(bids) else last_ask
    high = min(last_bid, asks[j].price) if j < len(asks) else last_bid
    # an order that is half filled is itself the next one, and so fixes the price
    price = (low + high) / 2
    return Clearing(price, _settle(price, half, bought, sold))


class _Ranked:
    __slots__ = ("agent_id", "energy_wh", "price")

    def __init__(self, agent_id: str, energy_wh: int, price: float) -> None:
        self.agent_id = agent_id
        self.energy_wh = energy_wh
        self.price = price


def _to_wh(agent_id: str, energy_mwh: float) -> int:
    if not energy_mwh >= 0:
        raise ConfigError([ConfigProblem(f"limits_mwh.{agent_id}", energy_mwh, "0 MWh or more")])
    return math.floor(min(energy_mwh, 1e9) * _WH_PER_MWH + 1e-6)


def _ranked(
    orders: Sequence[Order], side: Side, half_fee: float, limits: Mapping[str, int]
) -> list[_Ranked]:
    """Sort one side by price net of the fee, and cut it to each agent's limit."""
    sign = -1.0 if side is Side.BUY else 1.0
    ranked = []
    for order in orders:
        if order.side is side:
            price = order.price_usd_per_mwh
            # at a negative price the fee still costs: it is counted on the amount
            factor = 1 - sign * half_fee * math.copysign(1, price)
            ranked.append(
                _Ranked(order.agent_id, _to_wh(order.agent_id, order.energy_mwh), price / factor)
            )
    ranked.sort(key=lambda r: (sign * r.price, r.agent_id))
    left = dict(limits)
    for r in ranked:
        if r.agent_id in left:
            r.energy_wh = min(r.energy_wh, left[r.agent_id])
            left[r.agent_id] -= r.energy_wh
    return [r for r in ranked if r.energy_wh > 0]


def _settle(
    price: float, half_fee: float, bought: Mapping[str, int], sold: Mapping[str, int]
) -> tuple[Fill, ...]:
    """Turn energy into money, so that what buyers pay is what sellers and fees receive."""
    cents_per_wh = price * 100 / _WH_PER_MWH
    total = round(cents_per_wh * sum(bought.values()))
    fills = []
    for side, energies in ((Side.BUY, bought), (Side.SELL, sold)):
        values = apportion(total, energies)
        fills += [
            Fill(a, side, energies[a], values[a], round(half_fee * abs(values[a])))
            for a in energies
        ]
    return tuple(sorted(fills, key=lambda f: (f.agent_id, f.side)))


def apportion(total: int, shares: Mapping[str, int]) -> dict[str, int]:
    """Divide a whole number in proportion to shares, without losing one (largest remainder)."""
    whole = sum(shares.values())
    exact = {a: divmod(total * share, whole) for a, share in shares.items()}
    result = {a: quotient for a, (quotient, _) in exact.items()}
    missing = total - sum(result.values())
    for a in sorted(shares, key=lambda a: (-exact[a][1], a))[:missing]:
        result[a] += 1
    return result
