"""What examples 02, 03 and 09 share: one day of microgrids that have a price inside."""

from collections.abc import Callable
from dataclasses import dataclass

from heron.powergrid.accounting import Accountant
from heron.powergrid.agents import DSOAgent, TradingGridAgent, build_agents, views_of
from heron.powergrid.quantities import Measurements
from heron.powergrid.setups import read_setup
from heron.protocols import Coordination, Protocol
from simulator import Plant

STEPS = 96
Decide = Callable[[DSOAgent, Measurements], Coordination | None]


@dataclass
class Day:
    """What came of it.

    Attributes:
        cost_usd: Of the whole, less the growth of what is stored.
        generated_mwh: By the generators.
        reports: What the protocol said in each step.
    """

    cost_usd: float
    generated_mwh: float
    reports: list[Coordination]


def run_day(day: int, decide: Decide, protocol: Protocol | None = None) -> Day:
    """Let microgrids see, decide and act through the plant for a day.

    Args:
        day: Of the data year.
        decide: Called each step with the DSO's agent, whose tree knows what it can see.
        protocol: Of the DSO with the microgrids.
    """
    setup = read_setup("ieee34_ieee13")
    dso = build_agents(
        setup, coordinator=TradingGridAgent, protocol=lambda: None, system_protocol=protocol
    )
    plant, accountant = Plant(setup), Accountant(setup)
    now = plant.reset(start_s=day * 86_400.0)
    result = Day(0.0, 0.0, [])
    for _ in range(STEPS):
        day_ahead = setup.profiles.day_ahead(now.time_s)
        dso.update_from(now.time_s, now.meters["head"], now.price_usd_per_mwh, day_ahead)
        for name, view in views_of(setup.config, now, day_ahead).items():
            dso.microgrids[name].update_from(view)
        report = decide(dso, now)
        if report is not None:
            result.reports.append(report)
        before, now = now, plant.step(dso.setpoints, setup.config.step_s)
        result.cost_usd += accountant.account(before, now).cost_usd
        result.generated_mwh += (now.devices["gen1"].p_mw + now.devices["gen2"].p_mw) / 4
    return result


def each_for_itself(dso: DSOAgent, now: Measurements) -> None:
    """Every microgrid serves its own load under the tariff."""
    for microgrid in dso.microgrids.values():
        assert isinstance(microgrid, TradingGridAgent)
        microgrid.serve_itself()


def then_together(dso: DSOAgent, now: Measurements) -> Coordination:
    """First each for itself, then what the DSO's protocol brings."""
    each_for_itself(dso, now)
    return dso.coordinate_subordinates(None, None)
