import json
import re
from pathlib import Path

import pytest
import yaml

from heron.cli.setups import run
from heron.powergrid.setups import load_setup
from heron.powergrid.setups.loader import SETUPS_DIR


def test_list_names_the_shipped_setups(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--json"]) == 0
    assert "ieee34_ieee13" in json.loads(capsys.readouterr().out)["setups"]
    assert run(["list"]) == 0
    assert "ieee34_ieee13" in capsys.readouterr().out.splitlines()


def test_show_describes_areas_and_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "ieee34_ieee13"]) == 0
    assert "gen1 (Generator) at MG1 Bus 633: 0.15 to 1 MW" in capsys.readouterr().out
    assert run(["show", "ieee34_ieee13", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["devices"]["pv2"]["bus"] == "MG2 Bus 680"
    assert shown["config"]["penalty"] == 1000.0


def test_check_passes_a_sound_setup(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "ieee34_ieee13", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "problems": [],
        "solved": True,
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"engine": "foo"}, r"engine = 'foo'.*threephase"),
        ({"load_scale": 10.0}, "network = .*diverged.*devices at rest"),
    ],
)
def test_check_finds_what_no_plant_can_run(
    change: dict[str, object], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = yaml.safe_load((SETUPS_DIR / "single_microgrid" / "config.yml").read_text())
    raw["dataset_path"] = str(SETUPS_DIR / "single_microgrid" / raw["dataset_path"])
    place = raw["microgrid_configs"][0] if "load_scale" in change else raw
    (tmp_path / "config.yml").write_text(yaml.safe_dump(raw))
    assert run(["check", str(tmp_path)]) == 0
    place.update(change)
    (tmp_path / "config.yml").write_text(yaml.safe_dump(raw))
    assert run(["check", str(tmp_path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(told, line)
    assert str(tmp_path / "config.yml") in line


def test_without_the_plant_check_says_that_it_did_not_try(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("heron.cli.setups.entry_points", lambda group: [])
    assert run(["check", "single_microgrid"]) == 0
    assert "the power flow was not tried" in capsys.readouterr().out


def test_check_reports_file_data_and_network_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = yaml.safe_load((SETUPS_DIR / "ieee34_ieee13" / "config.yml").read_text())
    raw["dataset_path"] = "data.pkl"
    raw["microgrid_configs"][0]["connection_bus"] = "DSO Bus 999"
    raw["microgrid_configs"][2]["connection_bus"] = "DSO Bus 890"
    (tmp_path / "config.yml").write_text(yaml.safe_dump(raw))
    assert run(["check", str(tmp_path), "--json"]) == 1
    found = {p["where"]: p for p in json.loads(capsys.readouterr().out)["problems"]}
    assert set(found) == {
        "dataset_path",
        "microgrid_configs[0].connection_bus",
        "microgrid_configs[2].connection_bus",
    }
    assert "4.16 kV" in found["microgrid_configs[2].connection_bus"]["expected"]
    assert run(["check", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_unknown_setup_is_one_line_and_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "ieee99"]) == 1
    assert "ieee34_ieee13" in capsys.readouterr().err


def test_schema_is_printed_as_it_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    assert capsys.readouterr().out == (SETUPS_DIR / "schema.json").read_text()


def test_data_of_every_setup_has_its_source_and_licence() -> None:
    for folder in {Path(load_setup("ieee34_ieee13")["dataset_path"]).parent}:
        assert "ODbL" in (folder / "README.md").read_text()
        assert "opendatacommons.org" in (folder / "LICENSE.data").read_text()
