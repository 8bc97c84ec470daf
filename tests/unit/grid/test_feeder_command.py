"""`heron feeder`, called as the program calls it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heron.errors import ConfigError
from heron.powergrid.networks import load_feeder
from simulator.feeder_cli import find_grid, run, with_taps

DATA = Path(__file__).parent.parent.parent / "data" / "grid"


def answer(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert run(argv) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize("name", ["ieee13", "ieee34", "ieee34mod1", "ieee123"])
def test_solves_at_the_published_taps(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    reference = json.loads((DATA / f"{name}_opendss.json").read_text())["fixed"]
    document = answer(capsys, name, "--solve", "--taps", "published", "--loads", "zip", "--json")
    assert set(document) == {
        "buses",
        "losses_kw",
        "source_kw",
        "source_kvar",
        "taps",
        "converged",
    }
    assert document["converged"] is True
    assert document["taps"] == reference["taps"]
    assert set(document["buses"]) == set(reference["buses"])
    for bus, phases in reference["buses"].items():
        for phase, (v_pu, degrees) in phases.items():
            assert document["buses"][bus][phase][0] == pytest.approx(v_pu, abs=1e-6)
            assert document["buses"][bus][phase][1] == pytest.approx(degrees, abs=1e-3)
    assert document["losses_kw"] == pytest.approx(reference["losses_kw"], abs=0.1)
    assert document["source_kw"] == pytest.approx(reference["source_kw"], abs=0.1)
    assert document["source_kvar"] == pytest.approx(reference["source_kvar"], abs=0.5)


def test_loads_and_taps_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    feeder = load_feeder("ieee13")
    loads, taps = tmp_path / "loads.json", tmp_path / "taps.json"
    loads.write_text(json.dumps({x.name: [0.0, 0.0] for x in feeder.loads}))
    taps.write_text(json.dumps({"reg1": 0, "reg2": [1.0, 0], "reg3": 0}))
    document = answer(
        capsys, "ieee13", "--solve", "--loads", str(loads), "--taps", str(taps), "--json"
    )
    assert document["taps"] == {"reg1": 0, "reg2": 0, "reg3": 0}
    assert abs(document["source_kw"]) < 10.0
    assert document["source_kvar"] < -700.0  # the capacitors alone


def test_taps_may_be_positions_ratios_or_pairs() -> None:
    grid = with_taps(find_grid("ieee13"), {"reg1": 1, "reg2": 1.0625, "reg3": [1.00625, 1.0]})
    assert [r.tap for r in grid.regulators] == [1, 10, 1]
    assert with_taps(grid, {"reg1": 1.0, "reg2": -3.0}).regulators[0].tap == 0


def test_one_load_from_a_file_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = answer(capsys, "ieee13", "--solve", "--json")["source_kw"]
    path = tmp_path / "loads.json"
    path.write_text(json.dumps({"634a": [60.0, 110.0]}))
    after = answer(capsys, "ieee13", "--solve", "--loads", str(path), "--json")["source_kw"]
    assert before - after == pytest.approx(100.0, abs=10.0)


def test_regulators_move_when_they_may(capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "ieee34_ieee13", "--solve", "--taps", "control", "--json")
    assert document["taps"]["DSO reg1a"] != 0
    assert "MG1 Bus 633" in document["buses"]


@pytest.mark.parametrize("engine", ["balanced", "pandapower"])
def test_balanced_engines_show_the_positive_sequence(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    document = answer(capsys, "ieee13", "--solve", "--engine", engine, "--json")
    assert set(document["buses"]["671"]) == {"1"}


def test_loading_has_a_key_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    plain = answer(capsys, "ieee13", "--solve", "--json")
    document = answer(capsys, "ieee13", "--loading", "--json")
    loading = document.pop("loading_pct")
    assert document == plain
    current_a = document["source_kw"] / (4.16 / 3**0.5) / 3
    assert loading["650632"] / 100.0 * 730.0 == pytest.approx(current_a, rel=0.2)
    assert 0.0 <= loading["671680"] < 0.1  # nothing hangs on it
    assert loading["xfm1"] > 90.0  # 500 kVA that feed 494


def test_loading_is_listed_from_the_highest_with_what_has_no_rating(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["ieee123", "--loading"]) == 0
    table = capsys.readouterr().out.split("branch", 1)[1].splitlines()
    shown = [float(line.split()[-2]) for line in table[1:-1]]
    assert shown == sorted(shown, reverse=True)
    assert table[-1].startswith("without a rating: l61, l62, l63, l64, l65, sw1")


def test_positions_follow_the_range_of_each_regulator() -> None:
    grid = find_grid("ieee13")
    fine = grid.regulators[0].model_copy(update={"step_pu": 0.0125, "max_tap": 8, "tap": 0})
    grid = replace(grid, regulators=(fine, *grid.regulators[1:]))
    assert with_taps(grid, {fine.name: 1.05}).regulators[0].tap == 4
    with pytest.raises(ConfigError, match="expected a position from -8 to 8"):
        with_taps(grid, {fine.name: 9})


def test_without_solve_it_describes(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys, "ieee34", "--json")["nodes"] == 135
    assert run(["ieee34"]) == 0
    assert "1769" in capsys.readouterr().out


def test_text_lists_every_node(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ieee13", "--solve"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1 + 38 + 3 + 1
    assert "tap reg1: +10 (1.06250)" in out


def test_collapse_is_reported_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loads.json"
    path.write_text(json.dumps({"671": [1e6, 0.0]}))
    assert run(["ieee13", "--solve", "--loads", str(path), "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["converged"] is False
    assert "diverged" in captured.err


@pytest.mark.parametrize(
    ("option", "content", "says"),
    [
        ("--loads", '{"nothing": [1, 2]}', "no such load"),
        ("--loads", '{"671": [1]}', r"expected \[kW, kvar\]"),
        ("--loads", '{"671": [NaN, 0]}', r"expected \[kW, kvar\]"),
        ("--loads", "[]", "expected one JSON object"),
        ("--loads", "{", "is not JSON"),
        ("--taps", '{"reg9": 1}', "no such regulator"),
        ("--taps", '{"reg1": 17}', "expected a position from -16 to 16"),
        ("--taps", '{"reg1": 1.051}', "or the ratio of one"),
        ("--taps", '{"reg1": 0.5}', "expected a position"),
        ("--taps", '{"reg1": "up"}', "expected a position"),
    ],
)
def test_files_with_mistakes_are_refused(
    option: str, content: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says):
        run(["ieee13", "--solve", option, str(path)])


def test_missing_file_and_unknown_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        run(["ieee13", "--solve", "--loads", "/no/such/file"])
    with pytest.raises(ConfigError, match=r"ieee99.*expected a path or one of"):
        run(["ieee99"])


def test_plot_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "diagram.svg"
    assert run(["ieee13", "--solve", "--plot", str(path)]) == 0
    assert "<svg" in path.read_text()
    with pytest.raises(ConfigError, match="cannot be drawn"):
        run(["ieee13", "--plot", str(tmp_path / "diagram.nothing")])
