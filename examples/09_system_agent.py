"""The system operator tells its coordinators a price each, and they dispatch to it.

Run: python examples/09_system_agent.py
"""

import numpy as np
from market_day import each_for_itself, run_day

from heron.core import SYSTEM_LEVEL
from heron.powergrid.agents import DSOAgent
from heron.powergrid.quantities import Measurements
from heron.protocols import Coordination
from heron.protocols.vertical import SystemProtocol

DAY = 110


def ask_for_the_market_price(dso: DSOAgent, now: Measurements) -> Coordination:
    """No tariff between neighbours: every microgrid sees the market's price inside."""
    assert dso.level == SYSTEM_LEVEL
    each_for_itself(dso, now)
    price = dso.state.market_signal.price
    return dso.coordinate_subordinates(None, np.full(len(dso.microgrids), price))


def main() -> None:
    protocol = SystemProtocol(fields=("local_price",), per_coordinator=True, low=-500, high=1000)
    alone = run_day(DAY, each_for_itself)
    led = run_day(DAY, ask_for_the_market_price, protocol)
    print(f"each for itself under the tariff: {alone.cost_usd:8.2f} $")
    print(f"led by the system operator:       {led.cost_usd:8.2f} $")
    assert all(len(report.signals) == 3 for report in led.reports)
    assert led.cost_usd < alone.cost_usd


if __name__ == "__main__":
    main()
