"""A price instead of set-points: each device answers by its own cost and charge.

Run: python examples/03_price_signal.py
"""

from market_day import run_day

from heron.powergrid.agents import DSOAgent
from heron.powergrid.quantities import Measurements

DAY = 110


def follow_the_price(dso: DSOAgent, now: Measurements) -> None:
    """Each coordinator's action is the price that it sends to its devices."""
    for microgrid in dso.microgrids.values():
        microgrid.apply_action([microgrid.state.market_signal.price])


def keep_still(dso: DSOAgent, now: Measurements) -> None:
    """A price so low that nothing runs but what must, and so even that nothing is stored."""
    for microgrid in dso.microgrids.values():
        for device in microgrid.devices.values():
            device.command(device.safe_setpoint)


def main() -> None:
    still = run_day(DAY, keep_still)
    priced = run_day(DAY, follow_the_price)
    print(f"devices at rest:          {still.cost_usd:8.2f} $, {still.generated_mwh:.2f} MWh")
    print(f"devices follow the price: {priced.cost_usd:8.2f} $, {priced.generated_mwh:.2f} MWh")
    assert priced.cost_usd < 0.9 * still.cost_usd
    assert priced.generated_mwh > still.generated_mwh


if __name__ == "__main__":
    main()
