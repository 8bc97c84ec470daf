"""The commands say of what time their figures are, and refuse a stride that is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from heron.cli.main import main
from heron.powergrid.setups.loader import SETUPS_DIR
from training.cli import evaluate, gap
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
