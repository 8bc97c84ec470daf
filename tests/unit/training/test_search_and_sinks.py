from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import yaml

from heron.cli.main import main
from heron.errors import ConfigError
from heron.powergrid.setups import load_setup
from training.options import make_options
from training.recorder import Recorder, Update
from training.search import read_search, search

UPDATE = Update(1, 32, 1.0, -10.0, 32.0)
SEARCH = """
samples: 2
space:
  lr: {choice: [1.0e-3, 2.0e-3]}
options:
  setup: {setup}
  iterations: 1
  evaluate_freq: 1
  train_batch_size: 32
  minibatch_size: 32
  epochs: 1
  hidden: [8]
  num_envs_per_worker: 8
  idle_baseline: false
"""
EPISODE_STEPS = 4
"""Enough to be judged by, on each of the validation days."""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "search.yml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("space: {speed: {choice: [1]}}", "space.speed"),
        ("space: {lr: {often: [1]}}", "one of uniform, log, choice, grid"),
        ("space: {}", "space"),
        ("samples: 0\nspace: {lr: {choice: [1]}}", "samples"),
    ],
)
def test_search_file_with_a_mistake_is_refused(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_search(written(tmp_path, text))


def test_command_line_says_what_is_wrong_with_a_search_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "space: {lr: {often: [1]}}")
    assert main(["train", "--search", str(path)]) == 1
    assert "space.lr" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_search_runs_judges_and_keeps_the_best(tmp_path: Path) -> None:
    lines: list[str] = []
    setup = tmp_path / "config.yml"
    short = {k: v for k, v in load_setup("single_microgrid").items() if k != "dataset"}
    setup.write_text(yaml.safe_dump(short | {"max_episode_steps": EPISODE_STEPS}))
    base = make_options({"checkpoint_dir": tmp_path / "runs"})
    space = SEARCH.replace("{setup}", str(setup))
    found = search(read_search(written(tmp_path, space)), base, lines.append)
    assert found.runs == len(lines) == 2
    assert found.options.lr in (1e-3, 2e-3)
    kept = json.loads((tmp_path / "runs" / "best_options.json").read_text())
    assert kept["lr"] == found.options.lr
    assert found.validation_usd > 0.0


def test_a_cluster_that_does_not_answer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from training.trainer import _join_cluster

    def refuse(**_: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConfigError, match=r"address = '127.0.0.1:1': a Ray cluster that answers"):
        _join_cluster("127.0.0.1:1")


@pytest.mark.parametrize("key", ["", "0" * 40], ids=["no key", "no network"])
def test_weights_and_biases_goes_offline_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with caplog.at_level(logging.WARNING):
        recorder = Recorder(tmp_path, make_options({"wandb": True, "checkpoint_dir": tmp_path}))
    recorder.record(UPDATE)
    recorder.close()
    why = "no network to 127.0.0.1:9" if key else "WANDB_API_KEY is not set"
    assert why in caplog.text
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
