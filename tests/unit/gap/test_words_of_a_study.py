"""The commands say of what time their figures are, and refuse a stride that is none."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from heron.cli.main import main
from heron.powergrid.setups import read_setup
from heron.powergrid.setups.loader import SETUPS_DIR
from training.cli import evaluate, gap
from training.envs.timing import Timing
from training.gap.calibration import Prediction
from training.gap.disturbed import DisturbedRow
from training.gap.report import write_report
from training.gap.sweep import GapRow, GapStudy

ROW = GapRow("scada", {}, -90.0, 0.05, 4.0, 1.0, 900.0)


def site(folder: Path, steps: int) -> str:
    """Write a setup whose episodes have so many steps of a quarter of an hour."""
    raw = yaml.safe_load((SETUPS_DIR / "single_microgrid" / "config.yml").read_text())
    raw["dataset_path"] = str(SETUPS_DIR / "single_microgrid" / raw["dataset_path"])
    file = folder / "config.yml"
    file.write_text(yaml.safe_dump({**raw, "max_episode_steps": steps}))
    return str(file)


@pytest.mark.parametrize(
    ("steps", "of", "short", "what"),
    [
        (96, "day", "day", "1 days"),
        (288, "episode", "ep", "1 episodes of 3 days (all figures an episode)"),
        (24, "episode", "ep", "1 episodes of 6 hours (all figures an episode)"),
    ],
)
def test_figures_are_called_those_of_a_day_only_where_an_episode_is_one(
    steps: int,
    of: str,
    short: str,
    what: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    setup = site(tmp_path, steps)
    assert gap.run(["--setup", setup, "none", "--days", "14", "--preset", "training"]) == 0
    said = capsys.readouterr().out
    assert f" $/{of}   gap" in said
    assert f" events/{of}" in said
    assert f"$/{of} in the synchronous step, {what}" in said
    assert evaluate.run(["--setup", setup, "none", "--only", "--days", "14"]) == 0
    said = capsys.readouterr().out
    assert f", {what} (test), engine" in said.replace("(14)", "(test)")
    assert f"$/{short}+pen" in said
    assert f"viol {short}s" in said
    if of == "episode":
        assert "a day" not in said
        assert "/day" not in said


@pytest.mark.parametrize(("days", "of"), [(1.0, "a day"), (3.0, "an episode")])
def test_the_report_of_a_study_says_it_too(days: float, of: str, tmp_path: Path) -> None:
    write_report(GapStudy((14,), -86.0, (ROW,), days), "rule", tmp_path)
    assert f"| timing | $ {of} | gap % |" in (tmp_path / "gap.md").read_text()


@pytest.mark.parametrize("every", ["0", "-40"])
@pytest.mark.parametrize("more", [[], ["--disturbed"]])
def test_a_stride_below_one_is_refused(
    every: str, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gap", "none", "--every", every, *more]) == 1
    assert capsys.readouterr().err == f"heron: gap: --every = {every}: expected 1 or more\n"


@pytest.mark.parametrize(
    ("words", "n"),
    [
        (["--days", "100-106"], 7),
        (["--days", "100-106", "--every", "3"], 3),
        (["--every", "90"], 2),
    ],
)
def test_days_that_are_listed_are_all_run(words: list[str], n: int, tmp_path: Path) -> None:
    setup = site(tmp_path, 1)
    argv = ["--setup", setup, "none", "--preset", "training", *words, "--out", f"{tmp_path}/a/b"]
    assert gap.run(argv) == 0
    assert len(json.loads((tmp_path / "a" / "b" / "gap.json").read_text())["days"]) == n


def test_every_eighth_test_day_is_run_where_nothing_is_said() -> None:
    setup = read_setup("single_microgrid")
    usual = gap._days(gap._parser().parse_args([]), setup)
    assert usual == evaluate.days_of("test", setup)[::8]


def test_what_disturbances_cost_is_written_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = DisturbedRow("nothing", 900.0, 0.0, 1000.0)
    monkeypatch.setattr("training.gap.disturbed.disturbed", lambda *_, **__: iter([row]))
    argv = ["--setup", "single_microgrid", "none", "--disturbed", "--days", "14"]
    assert gap.run([*argv, "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "gap.json").read_text())["rows"] == [asdict(row)]


def test_a_prediction_is_written_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Prediction(Timing("recorded"), 900.0, 0.0, 4, -10.0, -11.0, -12.0)
    monkeypatch.setattr("training.gap.calibration.predict", lambda *_: found)
    assert gap.run(["--from-recording", "run.jsonl", "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "gap.json").read_text())["predicted_return"] == -11.0
