"""What `heron tune` finds for a user's setup lies beside it, and `heron evaluate` says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from heron.errors import ConfigError
from heron.policy.droop import DroopSettings
from heron.powergrid.setups import get_available_setups, read_setup
from heron.powergrid.setups.loader import SETUPS_DIR
from heron.powergrid.tuned import TUNED_FILE, numbers_of, setup_directory, tuned, write_tuned
from training.cli import evaluate
from training.cli import tune as tune_command
from training.envs import make_env

SHIPPED = "single_microgrid"
QUICK = "--every 90 --rounds 1 --population 3 --json"
OTHERS = asdict(DroopSettings(charge_below=0.2, discharge_above=2.0, response=1.0))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's setup below the working directory, in a folder named as one that ships."""
    raw = yaml.safe_load((SETUPS_DIR / SHIPPED / "config.yml").read_text())
    raw.pop("dataset_path", None)
    folder = tmp_path / SHIPPED
    folder.mkdir()
    (folder / "config.yml").write_text(yaml.safe_dump({**raw, "penalty": 800.0}))
    monkeypatch.chdir(tmp_path)
    return folder


Evaluated = Callable[..., dict[str, Any]]


@pytest.fixture
def evaluated(capsys: pytest.CaptureFixture[str]) -> Evaluated:
    def run(setup: str, *words: str) -> dict[str, Any]:
        argv = ["droop", "--only", "--setup", setup, "--days", "110", "--json", *words]
        assert evaluate.run(argv) == 0
        return dict(json.loads(capsys.readouterr().out))

    return run


def test_evaluate_uses_what_tune_found_for_that_very_setup(
    site: Path, evaluated: Evaluated, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = (SETUPS_DIR / SHIPPED / TUNED_FILE).read_bytes()
    setup = f"./{SHIPPED}"
    assert evaluated(setup)["numbers"]["droop"]["text"] == "the defaults"
    assert tune_command.run(["droop", "--setup", setup, *QUICK.split()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["path"] == str(site / TUNED_FILE)
    assert found["command"].startswith(f"heron tune droop --setup {setup} --every 90")
    numbers = evaluated(setup)["numbers"]["droop"]
    assert (numbers["tuned"], numbers["fits"]) == (True, True)
    assert (numbers["path"], numbers["command"]) == (found["path"], found["command"])
    assert evaluated(SHIPPED)["numbers"]["droop"]["path"] == str(SETUPS_DIR / SHIPPED / TUNED_FILE)
    assert (SETUPS_DIR / SHIPPED / TUNED_FILE).read_bytes() == shipped


def test_the_numbers_beside_a_setup_decide_what_its_baseline_does(
    site: Path, evaluated: Evaluated
) -> None:
    def objective() -> float:
        return float(evaluated(str(site))["policies"]["droop"]["objective_usd"])

    usual = objective()
    write_tuned(site / TUNED_FILE, "droop", {"settings": OTHERS})
    assert objective() != pytest.approx(usual, abs=1.0)


def test_every_way_to_name_a_setup_finds_the_same_numbers(site: Path) -> None:
    write_tuned(site / TUNED_FILE, "droop", {"settings": OTHERS})
    for named in (f"./{SHIPPED}", f"{SHIPPED}/config.yml", str(site), str(site / "config.yml")):
        deployed, learning = read_setup(named), make_env(named, {"penalty": 10.0}).setup
        for setup in (deployed, learning):
            assert setup_directory(setup) == site
            assert tuned(setup, "droop", DroopSettings) == DroopSettings(**OTHERS)


def test_the_table_says_in_words_which_numbers_were_used(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["droop", "--only", "--setup", str(site), "--days", "110"]
    assert evaluate.run(argv) == 0
    said = capsys.readouterr().out
    assert "numbers of droop: the defaults; `heron tune droop` finds others" in said
    assert tune_command.run(["droop", "--setup", str(site), *QUICK.split()]) == 0
    capsys.readouterr()
    for words, known in (([], "for this setup,"), (["--penalty", "9"], "with other keys or data")):
        assert evaluate.run([*argv, *words]) == 0
        line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("numbers of"))
        assert known in line
        assert line.endswith(f", every 90th training day, 4 in all, {site / TUNED_FILE}")


def test_numbers_that_ship_are_said_to_be_tuned() -> None:
    for name in get_available_setups():
        numbers = numbers_of(read_setup(name), "droop")
        assert numbers.text.startswith("tuned" if numbers.path else "the defaults")
        assert (numbers.path is not None) == (SETUPS_DIR / name / TUNED_FILE).is_file()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not the settings of baselines"),
        ("[]", "a mapping by baseline expected"),
        ('{"droop": 3}', "a mapping by baseline expected"),
        ('{"droop": {"settings": {"v_ref_pu": "high"}}}', "not the settings of baselines"),
        ('{"droop": {"settings": [1]}}', "not the settings of baselines"),
        ('{"droop": {"settings": {"v_ref_pu": NaN}}}', "finite numbers"),
        ('{"droop": {"settings": {"v_ref": 1.0}}}', "settings among"),
    ],
)
def test_a_damaged_file_is_named(site: Path, text: str, expected: str) -> None:
    (site / TUNED_FILE).write_text(text)
    with pytest.raises(ConfigError, match=expected) as caught:
        tuned(read_setup(site), "droop", DroopSettings)
    assert str(site / TUNED_FILE) in str(caught.value)


@pytest.mark.parametrize("damage", ["no folder", "no json"])
def test_a_file_that_cannot_be_kept_is_refused_before_the_search(
    damage: str, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = site / ("gone" if damage == "no folder" else ".") / TUNED_FILE
    if damage == "no json":
        out.write_text("{")
    with pytest.raises(ConfigError, match=TUNED_FILE):
        tune_command.run(["droop", "--setup", SHIPPED, "--out", str(out), *QUICK.split()])
    assert capsys.readouterr().err == "", "no round was run"


def test_what_others_baselines_were_tuned_to_stays(site: Path) -> None:
    for name in ("qp", "droop", "qp"):
        write_tuned(site / TUNED_FILE, name, {"settings": {}, "days": name})
    assert set(json.loads((site / TUNED_FILE).read_text())) == {"qp", "droop"}
    assert [path.name for path in site.iterdir() if path.suffix == ".part"] == []
