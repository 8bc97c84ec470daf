from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron.cli.main import main
from heron.errors import ConfigError
from heron.policy import OnnxPolicy
from training.cli import evaluate, export, gap, train
from training.envs.timing import PRESETS
from training.errors import TrainingDiverged, TrainingError
from training.options import TrainOptions, make_options
from training.rllib.learner import NormalisingPPOLearner
from training.trainer import train as run_training

pytestmark = pytest.mark.usefixtures("ray_session")

SHORT = [
    "--no-idle-baseline",
    "--train-batch-size",
    "32",
    "--minibatch-size",
    "32",
    "--epochs",
    "1",
    "--hidden-dim",
    "8",
]


def short(directory: Path, **changes: Any) -> TrainOptions:
    values = {
        "iterations": 1,
        "train_batch_size": 32,
        "minibatch_size": 32,
        "epochs": 1,
        "hidden": (8,),
        "num_envs_per_worker": 1,
        "batched": False,
        "idle_baseline": False,
        "checkpoint_dir": directory,
    }
    return make_options({**values, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"algorithm": "ppo"},
        {"algorithm": "ippo"},
        {"algorithm": "mappo"},
        {"algorithm": "mappo", "independent_policies": True},
        {"algorithm": "mappo", "batched": True, "num_envs_per_worker": 8},
    ],
    ids=["ppo", "ippo", "mappo", "mappo-independent", "mappo-batched"],
)
def test_each_algorithm_updates_and_saves(changes: dict[str, Any], tmp_path: Path) -> None:
    outcome = run_training(short(tmp_path, **changes), lambda update: None)
    assert outcome.updates[-1].env_steps == 32
    assert outcome.checkpoint.is_dir()


def test_command_line_trains_resumes_exports_and_evaluates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = str(tmp_path / "run")
    common = [*SHORT, "--checkpoint-dir", directory, "--num-envs-per-worker", "8"]
    assert train.run([*common, "--iterations", "1", "--json"]) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert (result["iterations"], result["episode_return"]) == (1, None)
    assert "no episode has ended yet" in said.err
    assert train.run([*common, "--iterations", "2", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["env_steps"] == 64
    with (tmp_path / "run" / "progress.csv").open() as file:
        assert [row["iteration"] for row in csv.DictReader(file)] == ["1", "2"]

    assert main(["export", directory, "--best"]) == 1
    assert "no best policy: a run chooses one with --evaluate-freq" in capsys.readouterr().err
    assert export.run([directory, "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [f["agent"] for f in files] == ["MG1", "MG2", "MG3"]
    assert all(f["parity_error"] < 1e-5 for f in files)
    manifest = OnnxPolicy.load(files[0]["path"]).manifest
    assert manifest.env_steps == 64
    assert manifest.command.startswith("heron train")
    assert "--hidden-dim 8" in manifest.command

    policies = str(tmp_path / "run" / "policies")
    assert evaluate.run([policies, "--days", "20", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    always = {"none", "voltvar", "rule", "droop", "qp", "optimum"}
    assert set(first["policies"]) == {*always, policies}
    assert evaluate.run([policies, "--days", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first


def test_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run_training(short(tmp_path), lambda update: None)
    with pytest.raises(TrainingError, match="hidden"):
        run_training(short(tmp_path, hidden=(9,), resume=True), lambda update: None)
    with pytest.raises(TrainingError, match="not the directory"):
        run_training(short(tmp_path / "other", resume=True), lambda update: None)


def test_more_workers_than_cpus_are_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_workers"):
        run_training(short(tmp_path, num_workers=500), lambda update: None)


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(short(tmp_path), lambda update: None)
    good = sorted((tmp_path / "checkpoints").iterdir())

    def poisoned(self: Any, **kwargs: Any) -> Any:
        return loss(self, **kwargs) * np.nan

    base = NormalisingPPOLearner.__mro__[1]
    loss = base.compute_loss_for_module
    monkeypatch.setattr(base, "compute_loss_for_module", poisoned)
    with pytest.raises(TrainingDiverged, match="module shared"):
        run_training(short(tmp_path, iterations=2, resume=True), lambda update: None)
    assert sorted((tmp_path / "checkpoints").iterdir()) == good


def test_wrong_options_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--gamma", "3", "--protocol", "p2p"]) == 1
    assert "gamma" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--lr", "inf"], "lr = inf: "),
        (["--reward-scale", "nan"], "reward_scale = nan: "),
        (["--penalty", "inf"], "penalty = inf: "),
        (["--hidden-dim", "0"], "hidden = (0, 0): at least one layer"),
        (["--batched", "--shield"], "shield = True: moves set-points"),
        (["--batched", "--protocol", "price"], "protocol = 'price': the batched environment"),
        (["--no-batched", "--robust", "scada"], "robust = "),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *words]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"heron: train: {told}")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lr: [1\n", "line 2, column 1"),
        ("lr: 2001-99-99\n", "month must be in 1..12"),
        ("lr: 1\nlr: 2\n", "the key 'lr' stands twice"),
        ("- 1\n", "a mapping of keys"),
        ("gamma: [1]\n", "gamma = [1]"),
    ],
)
def test_a_malformed_experiment_file_is_one_line_that_names_it(
    tmp_path: Path, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    assert main(["train", "--config", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"heron: train: {path}: ")
    assert told in said
    assert said.count("\n") == 1


def test_options_of_a_file_give_way_to_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text("algorithm: ippo\nlr: 0.001\n")
    options, _ = train.options_from(["--config", str(path), "--lr", "0.002"])
    assert (options.algorithm, options.lr) == ("ippo", 0.002)
    path.write_text("algorythm: ippo\n")
    with pytest.raises(ConfigError, match="algorythm"):
        train.options_from(["--config", str(path)])


def test_all_flags_of_the_guides_example_are_taken() -> None:
    flags = (
        "--test --num-workers 0 --num-envs-per-worker 2 --train-batch-size 4000 --lr 5e-5 "
        "--gamma 0.99 --lambda 0.95 --hidden-dim 32 --seed 3 --no-cuda --penalty 10 "
        "--no-share-reward --visibility-level system --protocol setpoint --independent-policies "
        "--checkpoint-freq 5 --checkpoint-dir x --resume --wandb --wandb-project p "
        "--experiment-name e --event-driven-test --event-driven-episodes 2"
    )
    options, _ = train.options_from(flags.split())
    assert options.hidden == (32, 32)
    assert options.share_reward is False


def test_trained_policy_is_tested_in_event_driven_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.trainer.PRESETS", {"training": PRESETS["training"]})
    outcome = run_training(short(tmp_path, event_driven_test=True), lambda update: None)
    assert outcome.timing_gaps == {"training": pytest.approx(0.0, abs=1e-9)}


@pytest.mark.parametrize("level", ["owner", "public"])
def test_a_policy_that_saw_less_is_tested_exported_and_compared(
    level: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.trainer.PRESETS", {"training": PRESETS["training"]})
    site = ["--setup", "single_microgrid"]
    options = short(
        tmp_path, setup=site[1], visibility_level=level, event_driven_test=True, hidden=(8, 8)
    )
    outcome = run_training(options, lambda update: None)
    assert outcome.timing_gaps == {"training": pytest.approx(0.0, abs=1e-9)}
    policies = str(tmp_path / "policies")
    assert export.run([str(tmp_path), "--out", policies]) == 0
    capsys.readouterr()
    assert evaluate.run([*site, policies, "--only", "--days", "14", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["policies"][policies]
    words = ["--days", "14", "--preset", "training", "--json"]
    assert gap.run([*site, policies, *words]) == 0
    studied = json.loads(capsys.readouterr().out)
    assert studied["synchronous_return"] == pytest.approx(-figures["objective_usd"])
    assert studied["rows"][0]["gap"] == pytest.approx(0.0, abs=1e-9)


def test_a_directory_that_cannot_be_made_is_refused_before_ray_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_start(options: TrainOptions) -> None:
        raise AssertionError

    monkeypatch.setattr("training.trainer.start_ray", must_not_start)
    (tmp_path / "file").touch()
    assert main(["train", "--checkpoint-dir", str(tmp_path / "file" / "run")]) == 1
    assert capsys.readouterr().err == (
        f"heron: train: checkpoint_dir = '{tmp_path}/file/run': a folder that can be written: "
        f"{tmp_path}/file is no folder\n"
    )


@pytest.mark.parametrize("argv", [["--setup", "nowhere"], ["--engine", "magic"]])
def test_wrong_setup_is_one_line_before_ray_starts(
    argv: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def must_not_start(options: TrainOptions) -> None:
        raise AssertionError

    monkeypatch.setattr("training.trainer.start_ray", must_not_start)
    directory = tmp_path / "run"
    assert main(["train", *argv, "--checkpoint-dir", str(directory)]) == 1
    error = capsys.readouterr().err
    assert argv[1] in error
    assert error.count("\n") == 1
    assert not directory.exists()


def test_resumed_run_keeps_the_best_of_before_unless_it_is_beaten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objectives = iter([10.0, 20.0, 5.0])
    monkeypatch.setattr("training.trainer.run_days", lambda *args: [])
    monkeypatch.setattr(
        "training.trainer.mean_figures", lambda days: {"objective_usd": next(objectives)}
    )
    best = []
    for iterations in (1, 3):
        options = short(tmp_path, iterations=iterations, evaluate_freq=1, resume=iterations > 1)
        outcome = run_training(options, lambda update: None)
        best += [(u.validation_usd, u.best) for u in outcome.updates]
    assert best == [(10.0, True), (20.0, False), (5.0, True)]
    assert json.loads((tmp_path / "best.json").read_text()) == {"validation_usd": 5.0}


def test_run_stops_early_when_it_gets_no_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.trainer.run_days", lambda *args: [])
    monkeypatch.setattr("training.trainer.mean_figures", lambda days: {"objective_usd": 1.0})
    options = short(tmp_path, iterations=9, evaluate_freq=1, patience=2)
    outcome = run_training(options, lambda update: None)
    assert outcome.stopped == "patience"
    assert len(outcome.updates) == 3
