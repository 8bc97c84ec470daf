"""What a recording says about time, read from recordings that are made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heron.errors import ConfigError
from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups import read_setup
from training.gap.calibration import (
    action_delays,
    fit,
    predict,
    rate_of,
    report_age,
    require_same_site,
)
from training.gap.recording import DecisionMade, Recording, Write, read_recording

CONFIG = read_setup("single_microgrid").config
DEVICE = CONFIG.device_ids[0]
STEP_S = 90.0
WALL_S = 0.1


def recording(delay_steps: tuple[int, ...] = (0, 1, 2), lag_s: float = 0.0) -> Recording:
    """A plant that moves 90 s each 0.1 s; a decision each 900 s, told of 1 ms after the clock."""
    found = Recording(clocks=[(k * WALL_S, k * STEP_S) for k in range(41)])
    for i, late in enumerate(delay_steps):
        at_s = 10 * i * WALL_S + 0.001
        found.commands.append((at_s + 0.001, DEVICE, i))
        found.decisions["MG1"].append(DecisionMade(at_s + 0.002, 900.0 * i, at_s))
        written_s = (10 * i + late) * WALL_S + 0.05
        found.writes.append(Write(written_s + lag_s, DEVICE, i, Setpoint(0.1 * i)))
    for source in ("MG1", *CONFIG.device_ids):
        found.telemetry[source] = [k * WALL_S - 0.03 for k in range(41)]
    return found


def test_a_write_holds_from_the_beginning_of_the_step_in_which_it_is_made() -> None:
    assert action_delays(recording(), CONFIG, 0.0) == {DEVICE: (0.0, 90.0, 180.0)}


def test_a_write_that_is_heard_of_late_is_counted_where_it_was_made() -> None:
    late = recording(lag_s=0.06)
    assert action_delays(late, CONFIG, 0.0) == {DEVICE: (90.0, 180.0, 270.0)}
    late.hearsay_s = 0.06
    assert action_delays(late, CONFIG, 0.0) == {DEVICE: (0.0, 90.0, 180.0)}


def test_a_command_that_was_overtaken_takes_effect_with_the_one_that_overtook_it() -> None:
    found = recording()
    del found.writes[0]
    assert action_delays(found, CONFIG, 0.0)[DEVICE] == (990.0, 90.0, 180.0)


def test_decisions_before_the_first_that_counts_are_left_out() -> None:
    assert action_delays(recording(), CONFIG, 900.0) == {DEVICE: (90.0, 180.0)}


def test_reports_are_as_old_as_the_step_that_they_show() -> None:
    # a step each, but for the decision at the very start, before which there was none
    assert report_age(recording(), CONFIG) == pytest.approx((0.0 + 90.0 + 90.0) / 3.0)


def test_the_fitted_timing_plays_what_was_measured_in_its_order() -> None:
    timing = fit(recording(), CONFIG, 0.0)
    device = timing.device(900.0, 0, DEVICE).for_agent(DEVICE, 0)
    assert [device.next_act_delay() for _ in range(4)] == [0.0, 90.0, 180.0, 0.0]
    coordinator = timing.coordinator(900.0, 0, "MG1").for_agent("MG1", 0)
    assert [coordinator.next_tick_interval() for _ in range(3)] == [900.0, 900.0, 900.0]
    assert timing.device_tick_s == STEP_S
    assert timing.age_s == pytest.approx(60.0 - STEP_S / 2.0)
    assert rate_of(recording()) == pytest.approx(900.0)


def test_in_lock_step_nothing_is_late() -> None:
    found = recording()
    found.lockstep = True
    assert fit(found, CONFIG, 0.0).ideal
    assert rate_of(found) == 0.0


def test_the_reward_of_a_step_that_straddles_the_window_counts_in_part() -> None:
    found = Recording(accounts=[(90.0, 90.0, -9.0), (180.0, 90.0, -18.0)])
    assert found.reward(45.0, 180.0) == pytest.approx(-22.5)


def lines(*entries: tuple[float, str, str, dict[str, Any]]) -> str:
    return "".join(
        json.dumps({"at_s": at, "topic": topic, "agent": agent, "message": message}) + "\n"
        for at, topic, agent, message in entries
    )


CLOCK = {"pace": "x900", "time_s": 0.0}
RESULT = {"written": True, "sequence": 1, "applied_p_mw": 0.1, "applied_q_mvar": 0.0}


def test_a_recording_is_read_from_its_messages(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(
        lines(
            (0.0, "clock", "clock", CLOCK),
            (0.0, "signal", "MG1", {"time_s": 0.0}),
            (0.01, "command", "gen1", {"sequence": 1}),
            (0.01, "decision", "MG1", {"time_s": 0.0, "action": [0.5, 0.0]}),
            (0.01, "market", "DSO", {"protocol": "p2p"}),
            (0.02, "decision", "MG1", {"time_s": 0.0}),
            (0.03, "result", "gen1", RESULT),
            (0.1, "account", "plant", {"time_s": 90.0, "reward": -1.0}),
            (0.1, "clock", "clock", {**CLOCK, "time_s": 90.0}),
        )
    )
    found = read_recording(path)
    assert found.clocks == [(0.0, 0.0), (0.1, 90.0)]
    assert found.accounts == [(90.0, 90.0, -1.0)]
    assert found.decisions["MG1"] == [DecisionMade(0.01, 0.0, 0.0)]  # said twice, made once
    assert found.effect_time(found.writes[0]) == 0.0
    assert (found.protocol, found.action_dims) == ("p2p", {"MG1": 2})


def test_a_run_without_an_effect_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "idle.jsonl"
    path.write_text(lines((0.0, "clock", "clock", CLOCK)))
    with pytest.raises(ConfigError, match=r"idle\.jsonl.*commands took effect"):
        read_recording(path)


RUN = lines(
    (0.0, "clock", "clock", CLOCK),
    (0.01, "decision", "MG1", {"time_s": 0.0}),
    (0.03, "result", "gen1", RESULT),
    (0.1, "account", "plant", {"time_s": 90.0, "reward": -1.0}),
    (0.1, "clock", "clock", {**CLOCK, "time_s": 90.0}),
)


def test_a_recording_of_other_coordinators_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(RUN)
    said = r"run\.jsonl: coordinators = 'MG1': .*\(ieee34_ieee13: MG1, MG2, MG3\)"
    with pytest.raises(ConfigError, match=said):
        predict(path, "ieee34_ieee13", None)


@pytest.mark.parametrize(
    ("more", "protocol", "said"),
    [
        ({"writes": [Write(0.0, "ess9", 1, Setpoint(0.1))]}, None, "devices = 'ess9'"),
        ({"protocol": "p2p"}, None, r"protocol = 'p2p': .*\(single_microgrid: setpoint\)"),
        ({}, "p2p", "protocol = 'no market'"),
        ({"action_dims": {"MG1": 1}}, None, r"numbers decided = 'MG1 1': .*setpoint: MG1 6\)"),
    ],
)
def test_a_recording_of_another_site_or_protocol_is_refused(
    more: dict[str, Any], protocol: str | None, said: str
) -> None:
    found = recording()
    for name, value in more.items():
        setattr(found, name, value)
    with pytest.raises(ConfigError, match=said):
        require_same_site(found, read_setup("single_microgrid").under(protocol), Path("run.jsonl"))


@pytest.mark.parametrize("protocol", ["setpoint", "price", "p2p"])
def test_a_recording_of_the_same_site_is_taken(protocol: str) -> None:
    found = recording()
    found.protocol = "p2p" if protocol == "p2p" else ""
    found.action_dims = {"MG1": 6 if protocol == "setpoint" else 1}
    require_same_site(found, read_setup("single_microgrid").under(protocol), Path("run.jsonl"))
