"""Protocols on real devices in the plant: each leads to a better day than without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from heron.powergrid.accounting import Accountant
from heron.powergrid.agents import DSOAgent, TradingGridAgent, build_agents, views_of
from heron.powergrid.setups import Setup
from heron.protocols import (
    ConsensusProtocol,
    Coordination,
    MarketOffer,
    PeerToPeerTradingProtocol,
    PriceSignalProtocol,
    Protocol,
)
from simulator import Plant

DAYS = (110, 200)


@dataclass
class Day:
    cost_usd: float = 0.0
    generated_mwh: float = 0.0
    soc: list[float] = field(default_factory=list)
    reports: list[Coordination] = field(default_factory=list)
    agents: DSOAgent | None = None


def run_day(setup: Setup, day: int, kind: str, system_protocol: Protocol | None = None) -> Day:
    dso = build_agents(
        setup,
        coordinator=TradingGridAgent,
        protocol=lambda: None,
        system_protocol=system_protocol,
    )
    plant, accountant, done = Plant(setup), Accountant(setup), Day(agents=dso)
    now = plant.reset(start_s=day * 86_400.0)
    for _ in range(96):
        day_ahead = setup.profiles.day_ahead(now.time_s)
        for name, view in views_of(setup.config, now, day_ahead).items():
            microgrid = dso.microgrids[name]
            microgrid.update_from(view)
            if kind == "price":
                microgrid.apply_action([microgrid.state.market_signal.price])
            elif kind != "idle":
                microgrid.serve_itself()  # type: ignore[attr-defined]
        if system_protocol is not None:
            done.reports.append(dso.coordinate_subordinates(None, None))
        before, now = now, plant.step({} if kind == "idle" else dso.setpoints, 900.0)
        done.cost_usd += accountant.account(before, now).cost_usd
        done.generated_mwh += (now.devices["gen1"].p_mw + now.devices["gen2"].p_mw) / 4
        done.soc.append(now.devices["ess1"].soc or 0.0)
    return done


@pytest.fixture(scope="module")
def alone(setup: Setup) -> dict[int, Day]:
    return {day: run_day(setup, day, "alone") for day in DAYS}


@pytest.mark.parametrize("day", DAYS)
def test_devices_that_follow_the_price_beat_idle_ones(setup: Setup, day: int) -> None:
    idle, priced = run_day(setup, day, "idle"), run_day(setup, day, "price")
    assert priced.cost_usd < 0.9 * idle.cost_usd
    assert priced.generated_mwh > idle.generated_mwh
    assert max(priced.soc) - min(priced.soc) > 0.3


@pytest.mark.parametrize("day", DAYS)
def test_neighbours_that_trade_pay_less_than_each_alone(
    setup: Setup, alone: dict[int, Day], day: int
) -> None:
    traded = run_day(setup, day, "market", PeerToPeerTradingProtocol(trading_fee=0.01))
    assert traded.cost_usd < alone[day].cost_usd - 5.0
    assert traded.generated_mwh > alone[day].generated_mwh


@pytest.mark.parametrize("day", DAYS)
def test_agreeing_on_one_price_pays(setup: Setup, alone: dict[int, Day], day: int) -> None:
    protocol = ConsensusProtocol(value_field="LocalPrice.local_price")
    agreed = run_day(setup, day, "market", protocol)
    assert agreed.cost_usd < alone[day].cost_usd - 10.0
    assert all(report.report["converged"] for report in agreed.reports)


def test_each_trade_balances_in_energy_and_to_the_cent(setup: Setup) -> None:
    """Trading once traded nothing, charged no fee, and printed success."""
    protocol = PeerToPeerTradingProtocol(trading_fee=0.02)
    reports = run_day(setup, DAYS[0], "market", protocol).reports
    traded_mwh, fees_usd = 0.0, 0.0
    for report in reports:
        signals = report.signals.values()
        assert sum(s["trade_mwh"] for s in signals) == pytest.approx(0.0, abs=1e-9)
        kept = -round(100 * sum(s["income_usd"] for s in signals))
        assert kept >= 0
        fees_usd += kept / 100
        traded_mwh += sum(max(0.0, s["trade_mwh"]) for s in signals)
    assert traded_mwh > 1.0
    assert fees_usd > 0.0
    assert protocol.fees_usd == pytest.approx(fees_usd, abs=0.005)


def ready(setup: Setup, day: int, hour: float, **kwargs: Any) -> tuple[DSOAgent, Plant]:
    dso = build_agents(setup, coordinator=TradingGridAgent, protocol=lambda: None, **kwargs)
    plant = Plant(setup)
    now = plant.reset(start_s=day * 86_400.0 + hour * 3600.0)
    for name, view in views_of(setup.config, now, setup.profiles.day_ahead(now.time_s)).items():
        dso.microgrids[name].update_from(view)
    return dso, plant


def test_a_trade_is_delivered_through_the_connection(setup: Setup) -> None:
    """What was sold arrives: the seller's export grows by what it sold, within the losses."""
    delivered = []
    for hour in range(24):
        protocol = PeerToPeerTradingProtocol()
        dso, plant = ready(setup, 110, float(hour), system_protocol=protocol)
        for microgrid in dso.microgrids.values():
            microgrid.serve_itself()  # type: ignore[attr-defined]
        start = plant.state
        alone = plant.step(dso.setpoints, 900.0)
        report = dso.coordinate_subordinates(None, None)
        plant.restore(start)
        traded = plant.step(dso.setpoints, 900.0)
        for name, signal in report.signals.items():
            if signal["trade_mwh"] > 0.001:
                asked_mw = signal["trade_mwh"] * 4
                assert traded.meters[name].p_mw > alone.meters[name].p_mw - 1e-3
                delivered.append(traded.meters[name].p_mw - asked_mw)
    assert len(delivered) >= 3
    assert np.abs(np.median(delivered)) < 0.02


def test_trades_are_limited_by_the_connection(setup: Setup) -> None:
    dso, _ = ready(setup, 110, 10.0)
    limits = dso.protocol_context()["limits_mwh"]
    assert limits == pytest.approx({"MG1": 1.5 / 4, "MG2": 1.5 / 4, "MG3": 1.0 / 4})
    for microgrid in dso.microgrids.values():
        offer = next(f for f in microgrid.state.features if isinstance(f, MarketOffer))
        offer.sell_mwh, offer.ask_usd_per_mwh, offer.buy_mwh = 9.0, 1.0, 0.0
    buyer = next(f for f in dso.microgrids["MG3"].state.features if isinstance(f, MarketOffer))
    buyer.sell_mwh, buyer.buy_mwh, buyer.bid_usd_per_mwh = 0.0, 9.0, 90.0
    protocol = PeerToPeerTradingProtocol()
    result = protocol.coordinate(None, dso.microgrids, dso.observe(), dso.protocol_context())
    assert result.signals["MG3"]["trade_mwh"] == pytest.approx(-0.25)


def test_the_price_inside_covers_load_and_export(setup: Setup) -> None:
    dso, _ = ready(setup, 110, 19.0)
    microgrid = dso.microgrids["MG1"]
    assert isinstance(microgrid, TradingGridAgent)
    low, high = microgrid.tariff
    prices = [microgrid.price_for(export) for export in np.linspace(-1.0, 1.0, 9)]
    assert prices == sorted(prices)
    assert prices[0] >= low
    assert prices[-1] <= high
    inside = [p for p in prices if low + 0.1 < p < high - 0.1]
    load = microgrid.state.network_metrics.load_MW
    for export, price in zip(np.linspace(-1.0, 1.0, 9), prices, strict=True):
        if price in inside:
            assert microgrid.supply_mw(price) >= load + export - 1e-6


def test_a_negative_spread_is_refused() -> None:
    with pytest.raises(ValueError, match="tariff_spread"):
        TradingGridAgent(grid_config={"name": "MG"}, tariff_spread=-1.0)


def test_the_price_protocol_takes_negative_prices() -> None:
    agent = TradingGridAgent(grid_config={"name": "MG"})
    assert isinstance(agent.protocol, PriceSignalProtocol)
    agent.apply_action([-30.0])
    assert agent.protocol.price == -30.0
