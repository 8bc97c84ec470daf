from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from heron.errors import ConfigError
from heron.policy.droop import DroopSettings
from heron.powergrid.baselines import Baselines
from heron.powergrid.setups import read_setup
from heron.powergrid.tuned import TUNED_FILE, setup_directory, tuned
from training.cli import tune as tune_command
from training.envs import MultiAgentMicrogrids, make_env
from training.tuning import batch_objective, search, single_objective


def test_search_finds_the_bottom_of_a_bowl_and_repeats_itself() -> None:
    def bowl(x: dict[str, float]) -> float:
        return (x["a"] - 0.3) ** 2 + (x["b"] / 10.0 + 0.2) ** 2

    ranges = {"a": (0.0, 1.0), "b": (-5.0, 5.0)}
    runs = [
        list(search(bowl, {"a": 0.9, "b": 4.0}, ranges, rounds=12, population=20, seed=3))
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    best = runs[0][-1]
    assert best.settings["a"] == pytest.approx(0.3, abs=0.1)
    assert best.settings["b"] == pytest.approx(-2.0, abs=1.0)
    figures = [r.objective_usd for r in runs[0]]
    assert figures == sorted(figures, reverse=True)


def test_search_is_never_worse_than_its_start() -> None:
    found = list(search(lambda x: abs(x["a"]), {"a": 0.0}, {"a": (-1, 1)}, rounds=1, population=3))
    assert found[-1].objective_usd == 0.0
    assert found[-1].settings == {"a": 0.0}


@pytest.fixture(scope="module")
def env() -> MultiAgentMicrogrids:
    return make_env("ieee34_ieee13", {"max_episode_steps": 8})


def test_batched_objective_is_that_of_single_days(env: MultiAgentMicrogrids) -> None:
    policies = Baselines(env.setup, env.codecs).policies("droop")
    days = [10, 200]
    batched = batch_objective(env, days)(policies)
    assert batched == pytest.approx(single_objective(env, days)(policies), rel=1e-4)


def test_command_writes_settings_that_a_setup_then_uses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / TUNED_FILE
    words = "droop --setup single_microgrid --every 90 --rounds 1 --population 3 --json --out"
    assert tune_command.run([*words.split(), str(out)]) == 0
    result = json.loads(capsys.readouterr().out)
    kept = json.loads(out.read_text())["droop"]
    assert kept["settings"] == result["settings"]
    assert set(kept["settings"]) == set(asdict(DroopSettings()))
    assert kept["command"].startswith("heron tune droop --setup single_microgrid --every 90")


def test_settings_that_ship_are_read(env: MultiAgentMicrogrids) -> None:
    path = setup_directory(env.setup) / TUNED_FILE
    kept = json.loads(path.read_text())["droop"]["settings"]
    assert asdict(tuned(env.setup, "droop", DroopSettings)) == pytest.approx(kept)


def test_setup_without_tuned_settings_has_the_defaults() -> None:
    setup = read_setup("ieee123_microgrids")
    assert tuned(setup, "droop", DroopSettings) == DroopSettings()


def test_baseline_without_numbers_is_refused(env: MultiAgentMicrogrids) -> None:
    with pytest.raises(ConfigError, match="droop, qp, qp-network"):
        Baselines(env.setup, env.codecs).settings("rule")
