"""A recording of the deployed loop is enough to predict, in event-driven time, what it got."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from heron.errors import ConfigError
from training.gap.calibration import predict, read_recording


def record(folder: Path, *options: str) -> Path:
    path = folder / "recording.jsonl"
    command = [sys.executable, "-m", "heron.cli.main", "up", "--headless", "--start", "day:100"]
    done = subprocess.run(
        [*command, *options, "--record", str(path), "--runs", str(folder / "runs")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return path


@pytest.mark.slow
def test_free_running_loop_is_predicted_within_two_percent(tmp_path: Path) -> None:
    path = record(tmp_path, "--free", "--pace", "x1800", "--steps", "24")
    prediction = predict(path, "ieee34_ieee13", None)
    print(prediction.text())
    assert prediction.rate == pytest.approx(1800.0, rel=0.02)
    assert prediction.steps >= 12
    # Where a decision takes effect within one step of the plant, only the reports are late.
    assert prediction.timing.act_delay_s + prediction.timing.age_s > 1.0
    assert prediction.error < 0.02


@pytest.mark.slow
def test_lock_step_is_predicted_as_the_synchronous_step(tmp_path: Path) -> None:
    path = record(tmp_path, "--pace", "max", "--steps", "8")
    prediction = predict(path, "ieee34_ieee13", None)
    assert prediction.timing.ideal
    assert prediction.steps == 8
    assert prediction.predicted_return == pytest.approx(prediction.recorded_return, rel=1e-6)


@pytest.mark.parametrize("text", ["", "not json\n", '{"at_s": 1.0}\n'])
def test_what_is_no_recording_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"wrong\.jsonl"):
        read_recording(path)
