"""Three microgrids trade in a double auction: cheaper than each for itself, to the cent.

Run: python examples/02_peer_to_peer.py
"""

from market_day import each_for_itself, run_day, then_together

from heron.protocols.horizontal import PeerToPeerTradingProtocol

DAY = 110


def main() -> None:
    alone = run_day(DAY, each_for_itself)
    market = PeerToPeerTradingProtocol(trading_fee=0.01)
    traded = run_day(DAY, then_together, market)

    energy = fees = 0.0
    for report in traded.reports:
        trades = report.signals.values()
        assert abs(sum(t["trade_mwh"] for t in trades)) < 1e-9, "what one sells another buys"
        energy += sum(max(0.0, t["trade_mwh"]) for t in trades)
        fees -= sum(t["income_usd"] for t in trades)
    print(f"each for itself: {alone.cost_usd:8.2f} $, {alone.generated_mwh:.2f} MWh generated")
    print(f"with a market:   {traded.cost_usd:8.2f} $, {traded.generated_mwh:.2f} MWh generated")
    print(f"traded {energy:.2f} MWh, fees {fees:.2f} $")
    assert energy > 1.0
    assert abs(fees - market.fees_usd) < 0.005, "money balances to the cent"
    assert traded.cost_usd < alone.cost_usd - 5.0


if __name__ == "__main__":
    main()
