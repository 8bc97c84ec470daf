from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron.cli.main import main
from heron.policy import PolicyCodec
from heron.policy.baselines import IdlePolicy
from training.cli import evaluate
from training.envs import MultiAgentMicrogrids, make_env
from training.evaluation.comparison import Comparison
from training.evaluation.episodes import DayFigures, baseline, mean_figures, run_day
from training.evaluation.report import DayTrace, line_plot, render


@pytest.fixture(scope="module")
def env() -> MultiAgentMicrogrids:
    return make_env("ieee34_ieee13", {"max_episode_steps": 8})


def figures(day: int, objective: float, **changes: Any) -> DayFigures:
    numbers = dict.fromkeys(DayFigures.__dataclass_fields__, 1.0)
    values: dict[str, Any] = {**numbers, "day": day, "objective_usd": objective, **changes}
    return DayFigures(**values)


def test_two_evaluations_of_one_policy_give_the_same_figures(env: MultiAgentMicrogrids) -> None:
    rule = baseline("rule", env.setup, env.codecs)
    assert run_day(env, rule, 120) == run_day(env, rule, 120)


def test_figures_add_up_over_the_steps(env: MultiAgentMicrogrids) -> None:
    idle = {a: IdlePolicy(c) for a, c in env.codecs.items()}
    trace = DayTrace()
    day = run_day(env, idle, 30, trace.add)
    assert trace.hours == pytest.approx(np.arange(8) / 4)
    assert day.import_mwh == pytest.approx(sum(trace.head_mw) / 4)
    assert day.generated_mwh == pytest.approx((0.15 + 0.1) * 2.0)
    assert day.cycles == 0.0
    assert day.objective_usd == pytest.approx(day.cost_usd + env.penalty * day.safety)
    assert day.reward == pytest.approx(-day.objective_usd)
    assert day.v_min_pu == min(trace.v_min)


def test_means_keep_the_extreme_voltages_and_count_bad_days() -> None:
    days = [figures(1, 10.0, safety=0.0, v_min_pu=0.97), figures(2, 20.0, v_min_pu=0.94)]
    means = mean_figures(days)
    assert means["objective_usd"] == 15.0
    assert means["v_min_pu"] == 0.94
    assert means["days_with_violation"] == 0.5


def test_comparison_tells_how_much_is_saved_and_how_sure_that_is() -> None:
    days = range(20)
    nothing = [figures(d, 100.0 + d) for d in days]
    better = [figures(d, 90.0 + d + d % 3) for d in days]
    summary = Comparison(tuple(days), {"none": nothing, "p": better}).summary()
    assert summary["none"]["gain_usd"] == 0.0
    assert summary["p"]["gain_usd"] == pytest.approx(10.0 - np.mean(np.arange(20) % 3))
    assert summary["p"]["gain_low_usd"] < summary["p"]["gain_usd"] < summary["p"]["gain_high_usd"]
    assert summary["p"]["better_than"] == {"none": 1.0}


def test_report_is_one_html_file_with_tables_and_plots(env: MultiAgentMicrogrids) -> None:
    trace = DayTrace()
    idle = {a: IdlePolicy(c) for a, c in env.codecs.items()}
    day = run_day(env, idle, 30, trace.add)
    comparison = Comparison((30,), {"none": [day], "a<b": [day]})
    facts = {"setup": "s", "engine": "e", "penalty": 1.0, "days": 1, "split": "test"}
    facts["episode_days"] = 1.0
    labels = {"none": "none", "a<b": "a<b"}
    page = render(facts, comparison, labels, {"none": trace})
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 5
    assert "a&lt;b" in page
    assert "a<b" not in page
    assert "http" not in page
    assert "cost, $ a day" in page
    longer = render({**facts, "episode_days": 3.0}, comparison, labels, {"none": trace})
    assert "cost, $ an episode" in longer
    assert "1 episodes of 3 days" in longer
    assert "a day" not in longer


def test_plot_of_a_constant_line_is_drawn() -> None:
    assert "nan" not in line_plot("t", [0.0, 1.0], {"x": [2.0, 2.0]})


def test_command_writes_report_and_days(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "e.json", tmp_path / "e.html"
    argv = ["none", "--days", "14", "--out", str(out), "--report", str(page), "--json"]
    assert evaluate.run(argv) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads(out.read_text())
    assert written["policies"] == printed["policies"]
    assert [d["day"] for d in written["per_day"]["none"]] == [14]
    assert page.read_text().count("<table") == 1


class Watching:
    """Does nothing and keeps what it sees."""

    def __init__(self, codec: PolicyCodec) -> None:
        self._idle = IdlePolicy(codec)
        self.seen: list[np.ndarray[Any, Any]] = []

    def act(self, obs: Any) -> Any:
        self.seen.append(np.array(obs))
        return self._idle.act(obs)


def test_policies_that_see_late_see_what_was_to_be_seen_then(env: MultiAgentMicrogrids) -> None:
    now = {a: Watching(c) for a, c in env.codecs.items()}
    late = {a: Watching(c) for a, c in env.codecs.items()}
    prompt, delayed = run_day(env, now, 30), run_day(env, late, 30, late=2)
    assert prompt == delayed
    for agent in env.codecs:
        seen = np.array(now[agent].seen)
        assert np.array_equal(late[agent].seen, seen[[0, 0, 0, 1, 2, 3, 4, 5]])


def test_who_observes_its_timing_is_told_how_late_it_sees() -> None:
    timed = make_env("ieee34_ieee13", {"max_episode_steps": 4, "observe_timing": True})
    late = {a: Watching(c) for a, c in timed.codecs.items()}
    run_day(timed, late, 30, late=2)
    for agent, codec in timed.codecs.items():
        seen = np.array(late[agent].seen)
        assert seen[:, codec.index(agent, "Timeliness", "age")].tolist() == [0.0, 1.0, 2.0, 2.0]
        told = [i for i, f in enumerate(codec.fields) if f.feature == "LastAction"]
        said = IdlePolicy(codec).act([])
        assert not seen[0, told].any()
        assert (seen[1:, told] == said).all()


def test_command_says_what_policies_know_and_scores_them_late(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["droop", "--only", "--days", "14", "--forecast", "typical", "--late", "1"]
    assert evaluate.run([*argv, "--json"]) == 0
    late = json.loads(capsys.readouterr().out)
    assert (late["forecast"], late["late"]) == ("typical", 1)
    droop = late["policies"]["droop"]
    assert droop["score_low"] <= droop["score"] <= droop["score_high"]
    assert evaluate.run(argv[:4]) == 0
    assert "late" not in capsys.readouterr().out
    assert evaluate.run(argv) == 0
    said = capsys.readouterr().out
    assert "prices ahead: typical, all seen 1 control step late" in said
    assert f"score {droop['score']:.3f} (" in said


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--late", "-1"], "--late"),
        (["--days", "400"], "--days"),
        (["--days", "x"], "--days"),
        (["--every", "0"], "--every = 0: expected 1 or more"),
        (["--every", "-40"], "--every = -40"),
        (["nowhere"], "or a directory"),
        (["--setup", "nowhere"], "nowhere"),
    ],
)
def test_wrong_command_is_one_line(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *argv]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
