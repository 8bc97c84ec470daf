from __future__ import annotations

import json
from pathlib import Path

import pytest

from heron.cli.report import build_report, write_report
from heron.cli.table import plant_time, render
from heron.messaging.tally import Samples, Tally
from heron.messaging.wire import (
    Acted,
    AgentAccount,
    Command,
    CommandResult,
    Decision,
    MarketRecord,
    Message,
    PlantClock,
    StepAccount,
)
from heron.powergrid.setups import read_setup


def clock(step: int, *, epoch: int = 1, finished: bool = False) -> PlantClock:
    return PlantClock(
        epoch=epoch,
        step=step,
        time_s=900.0 * step,
        step_s=900.0,
        pace="lockstep",
        finished=finished,
    )


def account(step: int, *, violation_pu: float = 0.0) -> StepAccount:
    part = AgentAccount(reward=-2.0, cost_usd=1.5, safety=0.25, v_min_pu=0.94, v_max_pu=1.02)
    return StepAccount(
        step=step,
        time_s=900.0 * step,
        agents={"MG1": part, "DSO": part},
        reward=-4.0,
        cost_usd=3.0,
        violation_pu=violation_pu,
        v_min_pu=0.94,
        v_max_pu=1.02,
        losses_mw=0.4,
        price_usd_per_mwh=40.0,
        tap_moves=1,
        clipped=("ess1: ramp",),
    )


def result(*, written: bool = True, reasons: tuple[str, ...] = ()) -> CommandResult:
    return CommandResult(
        agent="ess1",
        sequence=1,
        proposed_p_mw=0.5,
        proposed_q_mvar=0.0,
        applied_p_mw=0.4,
        applied_q_mvar=0.0,
        reasons=reasons,
        written=written,
        read_back_ok=True if written else None,
        cycle_ms=2.0,
    )


def decision() -> Decision:
    return Decision(agent="MG1", time_s=0.0, action=(0.1,), decide_ms=0.5, policy="rule")


def command() -> Command:
    return Command(agent="ess1", sequence=1, p_mw=0.5, ttl_s=2700, issuer="MG1")


def day() -> Tally:
    tally = Tally()
    at_s = 10.0
    messages: list[tuple[str, str, Message]] = [("clock", "", clock(0))]
    for step in (1, 2):
        messages += [
            ("decision", "MG1", decision()),
            ("command", "ess1", command()),
            ("result", "ess1", result(reasons=("ramp", "voltage"))),
            ("acted", "edge", Acted(agent="edge", step=step - 1)),
            ("account", "", account(step, violation_pu=0.01 * (step - 1))),
            ("clock", "", clock(step)),
        ]
    for topic, agent, message in messages:
        tally.take(topic, agent, message, at_s)
        at_s += 0.01
    return tally


def test_accounts_are_summed_over_steps_and_areas() -> None:
    tally = day()
    total = tally.total
    assert (tally.steps, tally.acted, total.reward, total.cost_usd) == (2, 2, -8.0, 6.0)
    assert (total.safety, total.violation_pu, total.violating_steps) == (1.0, 0.01, 1)
    assert total.losses_mwh == pytest.approx(2 * 0.4 * 0.25)
    assert tally.agents["MG1"].cost_usd == 3.0


def test_the_first_closed_step_needs_a_decision_and_an_act() -> None:
    tally = Tally()
    tally.take("acted", "edge", Acted(agent="edge", step=0), 1.0)
    assert tally.first_closed_s is None
    tally.take("decision", "MG1", decision(), 2.0)
    tally.take("acted", "edge", Acted(agent="edge", step=1), 3.0)
    assert tally.first_closed_s == 3.0


def test_without_lockstep_the_first_written_command_closes_the_loop() -> None:
    tally = Tally()
    tally.take("decision", "MG1", decision(), 1.0)
    tally.take("result", "ess1", result(written=False), 2.0)
    assert tally.first_closed_s is None
    tally.take("result", "ess1", result(), 3.0)
    assert tally.first_closed_s == 3.0


def test_step_time_is_from_clock_to_clock_and_ignores_repetitions() -> None:
    tally = Tally()
    for message, at_s in ((clock(0), 1.0), (clock(0), 1.5), (clock(1), 3.0), (clock(2), 3.5)):
        tally.take("clock", "", message, at_s)
    assert tally.step_ms.summary() == {"count": 2, "p50": 500.0, "p99": 2000.0, "max": 2000.0}


def test_the_report_holds_who_clipped_what_and_why() -> None:
    report = build_report(
        day(),
        run={"outcome": "finished"},
        edges={"edge": {"overruns": 2, "modbus": {"reads": 30, "writes": 4, "errors": 1}}},
        memory_mb={"edge": {"first": 50.0, "last": 51.0, "peak": 52.0}},
        bus={"dropped": 0},
    )
    assert report["clipped"] == {
        "envelope": {"ess1": {"ramp": 2, "voltage": 2}},
        "plant": {"ess1": {"ramp": 2}},
    }
    assert report["modbus"] == {"reads": 30, "writes": 4, "errors": 1}
    assert (report["overruns"], report["commands"]["sent"]) == (2, 2)
    assert report["memory_total_mb"] == {"first": 50.0, "last": 51.0, "peak": 52.0}
    json.dumps(report, allow_nan=False)


def test_the_report_of_a_run_without_steps_is_json() -> None:
    report = build_report(Tally(), run={}, edges={}, memory_mb={}, bus={})
    assert json.loads(json.dumps(report, allow_nan=False))["total"]["v_min_pu"] is None


def test_the_report_of_a_market_that_waited_in_vain_is_json() -> None:
    tally = Tally()
    record = MarketRecord(agent="DSO", time_s=0.0, protocol="p2p", missing=("MG1", "MG3"))
    for _ in range(2):
        tally.market.add(record)
    report = build_report(tally, run={}, edges={}, memory_mb={}, bus={})
    market = json.loads(json.dumps(report, allow_nan=False))["market"]
    assert market["missing"] == {"MG1": 2, "MG3": 2}
    assert (market["rounds"], market["cleared"], market["energy_mwh"]) == (2, 0, 0.0)


def test_a_report_replaces_the_one_before_in_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.json"
    for steps in (1, 2):
        write_report(path, {"steps": steps})
    assert json.loads(path.read_text()) == {"steps": 2}
    assert list(path.parent.iterdir()) == [path]


def test_percentiles_are_of_the_nearest_rank() -> None:
    samples = Samples()
    for value in [*range(1, 101), float("nan")]:
        samples.add(float(value))
    assert samples.summary() == {"count": 100, "p50": 50.0, "p99": 99.0, "max": 100.0}


def test_the_table_shows_every_agent_before_and_after_the_first_message() -> None:
    from rich.console import Console

    config = read_setup("ieee34_ieee13").config
    for tally in (Tally(), day()):
        console = Console(width=120, record=True, file=None, force_terminal=False)
        with console.capture() as captured:
            console.print(render(config, tally))
        text = captured.get()
        assert all(name in text for name in ("DSO", *config.microgrid_ids, *config.device_ids))


def test_plant_time_is_told_as_a_date() -> None:
    assert plant_time(86_400.0 + 900.0) == "Sat 02 Jan 00:15:00"
