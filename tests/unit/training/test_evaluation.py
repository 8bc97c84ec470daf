from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron.cli.main import main
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
    labels = {"none": "none", "a<b": "a<b"}
    page = render(facts, comparison, labels, {"none": trace})
    assert page.startswith("<!doctype html>")
    assert page.count("<svg") == 5
    assert "a&lt;b" in page
    assert "a<b" not in page
    assert "http" not in page


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


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--days", "400"], "--days"),
        (["--days", "x"], "--days"),
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
