"""Protocols: vertical and horizontal, and the pure functions in them."""

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.agents import CoordinatorAgent, FieldAgent, SystemAgent
from heron.errors import ConfigError
from heron.protocols import (
    ConsensusProtocol,
    Coordination,
    MarketOffer,
    PeerToPeerTradingProtocol,
    PriceSignalProtocol,
    Protocol,
    SetpointProtocol,
    SystemProtocol,
    run_protocol,
)
from heron.protocols.auction import Order, Side, apportion, clear_double_auction
from heron.protocols.consensus import agree, metropolis_weights


class Device(FieldAgent):
    def __init__(self, agent_id, size=1, ncats=(), **kwargs):
        super().__init__(agent_id, **kwargs)
        self.size, self.ncats = size, ncats

    def set_action(self):
        self.action.set_specs(self.size, len(self.ncats), list(self.ncats), (-1.0, 2.0))

    def apply_action(self, action):
        self.got = action.tolist()


# --- either form of a custom protocol -------------------------------------------------------


class GuideForm(Protocol):
    def coordinate(self, coordinator_action, devices):
        return {
            name: coordinator_action[: d.get_action_space().shape[0]] for name, d in devices.items()
        }


class FullForm(Protocol):
    def coordinate(self, action, subordinates, observation=None, context=None):
        return Coordination(
            dict.fromkeys(subordinates, action), report={"time_s": context["time_s"]}
        )


class AnyForm(Protocol):
    def coordinate(self, *args):
        return dict.fromkeys(args[1], args[0])


@pytest.mark.parametrize("kind", [GuideForm, FullForm, AnyForm])
def test_a_custom_protocol_of_two_or_four_arguments_reaches_the_devices(kind):
    site = CoordinatorAgent("MG1", protocol=kind(), config={"agents": [Device("a"), Device("b")]})
    result = site.coordinate_subordinates(None, np.array([0.5]))
    assert [d.got for d in site.subordinates.values()] == [[0.5], [0.5]]
    assert site.coordination is result


def test_a_protocol_of_another_form_is_refused():
    class OneArgument(Protocol):
        def coordinate(self, action):
            return {}

    class FiveArguments(Protocol):
        def coordinate(self, a, b, c, d, e):
            return {}

    for kind in (OneArgument, FiveArguments):
        with pytest.raises(ConfigError, match=f"{kind.__name__}.coordinate must take"):
            run_protocol(kind(), None, {})


def test_a_protocol_that_returns_nonsense_or_names_a_stranger_is_refused():
    class Nonsense(Protocol):
        def coordinate(self, action, subordinates):
            return [action]

    class Stranger(Protocol):
        def coordinate(self, action, subordinates):
            return Coordination(signals={"MG10": {"price": 1.0}})

    with pytest.raises(ConfigError, match="returned list"):
        run_protocol(Nonsense(), None, {})
    with pytest.raises(ConfigError, match="'MG10'"):
        run_protocol(Stranger(), None, {"MG1": Device("MG1")})


def test_one_wrong_action_stops_all_before_any_is_told():
    class HalfWrong(Protocol):
        def coordinate(self, action, subordinates):
            return {"a": [0.1], "b": [float("nan")]}

    site = CoordinatorAgent(
        "MG1", protocol=HalfWrong(), config={"agents": [Device("a"), Device("b")]}
    )
    with pytest.raises(ValueError, match=r"b: .*finite"):
        site.coordinate_subordinates(None, None)
    assert not hasattr(site.subordinates["a"], "got")


# --- vertical -------------------------------------------------------------------------------


def test_set_points_are_cut_in_the_order_of_the_subordinates():
    site = CoordinatorAgent(
        "MG1",
        protocol=SetpointProtocol(),
        config={"agents": [Device("b", 2), Device("sensor", 0), Device("a", 1, (3,))]},
    )
    assert (site.action.dim_c, site.action.ncats) == (3, (3,))
    assert site.action.high.tolist() == [2.0] * 3
    site.apply_action([0.1, 0.2, 0.3, 2.0])
    assert site.subordinates["b"].got == [0.1, 0.2]
    assert site.subordinates["a"].got == [0.3, 2.0]
    assert not hasattr(site.subordinates["sensor"], "got")


def test_set_points_refuse_a_discrete_part_in_the_middle():
    with pytest.raises(ConfigError, match="SetpointProtocol"):
        CoordinatorAgent(
            "MG1",
            protocol=SetpointProtocol(),
            config={"agents": [Device("a", 1, (3,)), Device("b")]},
        )


def test_a_price_stays_in_its_bounds_and_in_force_until_the_next():
    protocol = PriceSignalProtocol(initial_price=50, min_price=10, max_price=90)
    devices = {"a": Device("a")}
    assert protocol.coordinate(None, devices).signals == {"a": {"price": 50}}
    assert protocol.coordinate([500.0], devices).signals == {"a": {"price": 90}}
    assert protocol.coordinate(None, devices).signals == {"a": {"price": 90}}
    protocol.reset()
    assert protocol.price == 50
    with pytest.raises(ValueError, match="finite"):
        protocol.coordinate([np.nan], devices)
    with pytest.raises(ConfigError, match="initial_price"):
        PriceSignalProtocol(initial_price=500)


def test_the_system_protocol_tells_all_the_same_or_each_its_own():
    sites = [CoordinatorAgent(n) for n in ("MG1", "MG2")]
    dso = SystemAgent("DSO", protocol=SystemProtocol(), config={"coordinators": sites})
    dso.apply_action([42.0])
    assert [s.signal for s in sites] == [{"price": 42.0}] * 2
    protocol = SystemProtocol(("price", "limit"), per_coordinator=True, low=[0, -1], high=[100, 1])
    subs = dict(dso.coordinators)
    signals = protocol.coordinate([1, 0.5, 200, -5], subs).signals
    assert signals == {"MG1": {"price": 1, "limit": 0.5}, "MG2": {"price": 100, "limit": -1}}
    assert protocol.coordinate(None, subs) == Coordination()
    with pytest.raises(ValueError, match="shape"):
        protocol.coordinate([1.0], subs)
    with pytest.raises(ConfigError, match="fields"):
        SystemProtocol(("price", "price"))


# --- auction --------------------------------------------------------------------------------


def orders_strategy():
    return st.lists(
        st.builds(
            Order,
            st.sampled_from(["MG1", "MG2", "MG3", "MG10"]),
            st.sampled_from(list(Side)),
            st.floats(0, 5),
            st.floats(-50, 200),
        ),
        max_size=12,
    )


@given(orders_strategy(), st.sampled_from([0.0, 0.01, 0.2]))
def test_energy_and_money_balance_to_the_watt_hour_and_the_cent(orders, fee):
    clearing = clear_double_auction(orders, fee)
    energy = defaultdict(int)
    for fill in clearing.fills:
        energy[fill.side] += fill.energy_wh
    assert energy[Side.BUY] == energy[Side.SELL]
    agents = {f.agent_id for f in clearing.fills}
    assert sum(clearing.income_cents(a) for a in agents) + clearing.fees_cents == 0


@given(orders_strategy(), st.sampled_from([0.0, 0.05]))
def test_nobody_trades_at_a_loss_or_beyond_an_order(orders, fee):
    clearing = clear_double_auction(orders, fee)
    for fill in clearing.fills:
        own = [o for o in orders if (o.agent_id, o.side) == (fill.agent_id, fill.side)]
        assert 0 < fill.energy_mwh <= sum(o.energy_mwh for o in own) + 1e-9
        # fills of the best orders first: the worst price among them bounds the loss
        sign = 1 if fill.side is Side.BUY else -1
        own.sort(key=lambda o: -sign * o.price_usd_per_mwh)
        worth, left = 0.0, fill.energy_mwh
        for order in own:
            taken = min(left, order.energy_mwh)
            worth += sign * taken * order.price_usd_per_mwh
            left -= taken
        assert worth + fill.income_cents / 100 >= -0.021  # whole cents, twice rounded


@given(orders_strategy())
def test_no_pair_that_would_rather_trade_is_left(orders):
    clearing = clear_double_auction(orders, 0.0)
    price = clearing.price_usd_per_mwh
    unfilled = {}
    for side in Side:
        for a in {o.agent_id for o in orders}:
            asked = sum(
                o.energy_mwh
                for o in orders
                if o.agent_id == a and o.side is side and _better(side, o, price)
            )
            got = sum(f.energy_mwh for f in clearing.fills if (f.agent_id, f.side) == (a, side))
            unfilled[a, side] = asked - got
    if price is not None:
        assert all(left < 1e-4 for left in unfilled.values())


def _better(side, order, price):
    if price is None:
        return False
    gap = order.price_usd_per_mwh - price if side is Side.BUY else price - order.price_usd_per_mwh
    return gap > 1e-6


def test_one_price_holds_for_every_pair():
    orders = [
        Order("A", Side.SELL, 1.0, 20.0),
        Order("B", Side.SELL, 1.0, 40.0),
        Order("C", Side.BUY, 1.5, 60.0),
        Order("D", Side.BUY, 1.0, 30.0),
    ]
    clearing = clear_double_auction(orders, 0.0)
    # B sells half of what it offers, so B's price is the price
    assert clearing.price_usd_per_mwh == 40.0
    assert [(f.agent_id, f.energy_mwh, f.value_cents) for f in clearing.fills] == [
        ("A", 1.0, 4000),
        ("B", 0.5, 2000),
        ("C", 1.5, 6000),
    ]


def test_the_fee_is_charged_half_to_each_side():
    orders = [Order("A", Side.SELL, 2.0, 10.0), Order("B", Side.BUY, 2.0, 100.0)]
    clearing = clear_double_auction(orders, 0.01)
    value = clearing.fills[0].value_cents
    assert clearing.fees_cents == 2 * round(0.005 * value) > 0
    assert clearing.income_cents("A") == value - round(0.005 * value)
    assert clearing.income_cents("B") == -value - round(0.005 * value)


def test_a_fee_above_the_gain_prevents_the_trade():
    orders = [Order("A", Side.SELL, 1.0, 50.0), Order("B", Side.BUY, 1.0, 50.4)]
    assert clear_double_auction(orders, 0.0).energy_mwh == 1.0
    nothing = clear_double_auction(orders, 0.01)
    assert (nothing.fills, nothing.price_usd_per_mwh) == ((), None)


def test_trades_stay_within_what_each_connection_carries():
    orders = [Order("MG1", Side.SELL, 5.0, 10.0), Order("MG10", Side.BUY, 5.0, 90.0)]
    clearing = clear_double_auction(orders, 0.01, {"MG1": 0.75})
    assert clearing.net_mwh("MG1") == 0.75
    assert clearing.net_mwh("MG10") == -0.75
    assert clear_double_auction(orders, 0.01, {"MG10": 0.0}).fills == ()
    with pytest.raises(ConfigError, match=r"limits_mwh\.MG1"):
        clear_double_auction(orders, 0.01, {"MG1": -1.0})


@pytest.mark.parametrize("most", [-1.0, float("nan")])
def test_a_cap_that_is_none_is_refused_beside_a_wrong_fee(most):
    with pytest.raises(ConfigError, match="0 MWh or more") as caught:
        PeerToPeerTradingProtocol(trading_fee=2.0, max_trade_mwh=most)
    assert [p.where for p in caught.value.problems] == ["trading_fee", "max_trade_mwh"]


@pytest.mark.parametrize(
    ("bounds", "said"),
    [
        ({"low": 5.0, "high": 1.0}, "low of a = 5.0: a number up to its high, 1"),
        ({"low": float("nan")}, "low of a = nan"),
        ({"high": [1.0, float("nan")]}, "low of b .* its high, nan"),
        ({"low": [1.0, 2.0, 3.0]}, r"low = \[1.0, 2.0, 3.0\]: one number, or 2"),
        ({"high": "much"}, "high = 'much'"),
    ],
)
def test_bounds_of_the_system_protocol_that_leave_no_value_are_refused(bounds, said):
    with pytest.raises(ConfigError, match=f"SystemProtocol.{said}"):
        SystemProtocol(("a", "b"), **bounds)


@pytest.mark.parametrize("fee", [-0.1, 1.0, float("nan")])
def test_a_wrong_fee_is_refused(fee):
    with pytest.raises(ConfigError, match="trading_fee"):
        clear_double_auction([], fee)
    with pytest.raises(ConfigError, match="trading_fee"):
        PeerToPeerTradingProtocol(trading_fee=fee)


@pytest.mark.parametrize(
    ("energy", "price"), [(-1.0, 1.0), (float("nan"), 1.0), (1.0, float("inf"))]
)
def test_a_wrong_order_is_refused(energy, price):
    with pytest.raises(ConfigError, match="order of MG1"):
        Order("MG1", Side.BUY, energy, price)


@given(st.integers(-1000, 1000), st.lists(st.integers(1, 50), min_size=1, max_size=6))
def test_apportioning_loses_nothing(total, shares):
    named = {str(i): s for i, s in enumerate(shares)}
    parts = apportion(total, named)
    assert sum(parts.values()) == total
    for name, part in parts.items():
        assert abs(part - total * named[name] / sum(shares)) < 1.0


# --- peers through agents -------------------------------------------------------------------


class Trader(CoordinatorAgent):
    def __init__(self, agent_id, sell=0.0, ask=0.0, buy=0.0, bid=0.0):
        super().__init__(agent_id)
        self.offer = MarketOffer(sell, ask, buy, bid)

    def set_state(self):
        super().set_state()
        self.state.features.append(self.offer)


def test_peers_trade_through_their_visible_offers():
    traders = [Trader("MG1", sell=1.0, ask=30.0), Trader("MG2", buy=0.4, bid=70.0), Trader("MG3")]
    market = SystemAgent(
        "DSO", protocol=PeerToPeerTradingProtocol(), config={"coordinators": traders}
    )
    market.coordinate_subordinates(None, None)
    mg1, mg2, mg3 = (t.signal for t in traders)
    assert mg1["trade_mwh"] == -mg2["trade_mwh"] == 0.4
    assert mg3["trade_mwh"] == 0.0
    assert mg1["price"] == mg2["price"] == pytest.approx(30.0 / 0.995)
    fees = market.protocol.fees_usd
    assert fees > 0
    assert mg1["income_usd"] + mg2["income_usd"] + fees == pytest.approx(0.0, abs=1e-9)
    market.protocol.reset()
    assert market.protocol.fees_usd == 0.0


def test_an_offer_that_is_not_shown_is_not_traded():
    traders = [Trader("MG1", sell=1.0, ask=30.0), Trader("MG2", buy=0.4, bid=70.0)]
    traders[0].offer.visibility = ("owner",)
    market = SystemAgent(
        "DSO", protocol=PeerToPeerTradingProtocol(), config={"coordinators": traders}
    )
    result = market.coordinate_subordinates(None, None)
    assert result.signals == {}


def test_caps_of_the_protocol_and_of_the_context_both_hold():
    class Limited(SystemAgent):
        def protocol_context(self):
            return {**super().protocol_context(), "limits_mwh": {"MG1": 0.3}}

    for cap, traded in ((None, 0.3), (0.2, 0.2), (0.35, 0.3)):
        traders = [Trader("MG1", sell=1.0, ask=30.0), Trader("MG2", buy=0.4, bid=70.0)]
        protocol = PeerToPeerTradingProtocol(max_trade_mwh=cap)
        Limited("DSO", protocol=protocol, config={"coordinators": traders}).coordinate_subordinates(
            None, None
        )
        assert traders[0].signal["trade_mwh"] == pytest.approx(traded)


# --- consensus ------------------------------------------------------------------------------

STAR = {"hub": ["a", "b", "c"], "a": [], "b": [], "c": []}


def test_a_star_converges_to_the_true_mean():
    weights = metropolis_weights(STAR)
    result = agree([10.0, 1.0, 2.0, 3.0], weights, max_iterations=200, tolerance=1e-9)
    assert result.converged
    assert result.values == pytest.approx([4.0] * 4, abs=1e-8)


@given(
    st.integers(2, 8), st.integers(0, 2**20), st.lists(st.floats(-100, 100), min_size=8, max_size=8)
)
def test_the_mean_never_changes_on_any_connected_graph(n, bits, values):
    ids = [f"n{i}" for i in range(n)]
    neighbours = {a: [ids[i - 1]] if i else [] for i, a in enumerate(ids)}
    for k in range(20):
        i, j = (bits >> k) % n, (bits >> (k // 2)) % n
        if i != j:
            neighbours[ids[i]].append(ids[j])
    weights = metropolis_weights(neighbours)
    assert np.allclose(weights, weights.T)
    assert np.allclose(weights.sum(axis=1), 1.0)
    assert weights.min() >= 0
    result = agree(values[:n], weights, max_iterations=7, tolerance=1e-12)
    assert result.values.mean() == pytest.approx(np.mean(values[:n]), abs=1e-9)
    assert np.ptp(result.values) <= np.ptp(values[:n]) + 1e-9


def test_a_graph_in_pieces_or_with_strangers_is_refused():
    with pytest.raises(ConfigError, match=r"\['c'\].*path to 'a'"):
        metropolis_weights({"a": ["b"], "b": [], "c": []})
    with pytest.raises(ConfigError, match="'z'"):
        metropolis_weights({"a": ["z", "a"]})
    assert metropolis_weights({}).shape == (0, 0)
    assert agree([], metropolis_weights({})).converged


def test_too_few_iterations_say_that_they_were():
    weights = metropolis_weights({f"n{i}": [f"n{i + 1}"] if i < 9 else [] for i in range(10)})
    result = agree(np.arange(10.0), weights, max_iterations=10, tolerance=0.01)
    assert (result.converged, result.iterations) == (False, 10)


def test_peers_agree_on_a_visible_field():
    traders = [Trader(f"MG{i}", ask=10.0 * i) for i in (1, 2, 3)]
    dso = SystemAgent(
        "DSO",
        protocol=ConsensusProtocol(value_field="MarketOffer.ask_usd_per_mwh"),
        config={"coordinators": traders},
    )
    result = dso.coordinate_subordinates(None, None)
    assert [t.signal["ask_usd_per_mwh"] for t in traders] == pytest.approx([20.0] * 3)
    assert result.report == {"iterations": 1, "converged": True}


@pytest.mark.parametrize(
    "change",
    [
        {"value_field": "nothing"},
        {"neighbours": {"MG1": ["MG2"], "MG2": []}},
        {"max_iterations": 0},
        {"tolerance": 0.0},
    ],
)
def test_a_consensus_that_cannot_be_is_refused(change):
    traders = [Trader(f"MG{i}", ask=10.0 * i) for i in (1, 2, 3)]
    with pytest.raises(ConfigError):
        SystemAgent(
            "DSO",
            protocol=ConsensusProtocol(**{"value_field": "ask_usd_per_mwh", **change}),
            config={"coordinators": traders},
        ).coordinate_subordinates(None, None)


def test_a_protocol_that_needs_no_action_runs_at_every_tick(toy):
    traders = [Trader("MG1", sell=1.0, ask=30.0), Trader("MG2", buy=0.4, bid=70.0)]
    market = SystemAgent(
        "DSO",
        protocol=PeerToPeerTradingProtocol(),
        config={"coordinators": traders},
        tick_config=toy.every(10.0),
    )
    env = toy.Env(market)
    env.start_event_driven()
    env.run_event_driven(30.0)
    once = round(100 * 0.4 * 30.0 / 0.995)
    assert market.protocol.fees_usd == pytest.approx(3 * 2 * round(0.005 * once) / 100)
    env.decide()
    assert traders[0].signal["trade_mwh"] == 0.4


def test_fields_of_a_system_protocol_are_a_list():
    with pytest.raises(ConfigError, match="fields = 'price': a list"):
        SystemProtocol("price")
