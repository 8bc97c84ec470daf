"""`heron check` and the edge's start say when a map cannot drive its device."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.build import build_device
from edge.build import connect as connect_link
from edge.check_cli import run as check
from edge.site import load_site
from edge.timing import PlantTime
from heron.errors import ConfigError
from heron.powergrid.registers import Words

POINTS: dict[str, Any] = {
    "p_mw": {"address": 10, "type": "int16", "scale": 0.001},
    "q_mvar": {"address": 11, "type": "int16", "scale": 0.001},
    "v_pu": {"address": 12, "scale": 0.001},
    "soc": {"address": 13, "scale": 0.001},
    "p_set_mw": {"address": 20, "type": "int16", "scale": 0.001, "access": "RW"},
    "q_set_mvar": {"address": 21, "type": "int16", "scale": 0.001, "access": "RW"},
    "reversion_s": {"address": 22, "access": "RW"},
}
BATTERY = {"p_max_MW": 0.5, "p_min_MW": -0.5, "q_max_MVAr": 0.2, "q_min_MVAr": -0.2}


def site(folder: Path, points: dict[str, Any], config: dict[str, Any], **device: Any) -> Path:
    described = {"name": "m", "points": {k: v for k, v in points.items() if v is not None}}
    (folder / "m.yml").write_text(yaml.safe_dump(described))
    entry = {"name": "bat", "type": "ESS", "link": "l", "unit": 1, "map": "m.yml"}
    raw = {
        "links": [{"name": "l", "address": "10.0.0.5:502"}],
        "devices": [{**entry, "config": config, **device}],
    }
    path = folder / "SITE.yml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_a_map_that_suits_its_device_passes(tmp_path: Path) -> None:
    load_site(site(tmp_path, POINTS, BATTERY))


@pytest.mark.parametrize("missing", ["v_pu", "soc", "q_mvar", "q_set_mvar"])
def test_a_map_without_what_every_command_is_judged_by_is_refused(
    tmp_path: Path, missing: str
) -> None:
    with pytest.raises(ConfigError, match=rf"m\.yml: points\.{missing} = None: expected"):
        load_site(site(tmp_path, POINTS | {missing: None}, BATTERY))


@pytest.mark.parametrize("missing", ["v_pu", "soc", "q_mvar", "q_set_mvar"])
def test_what_is_only_watched_may_show_less(tmp_path: Path, missing: str) -> None:
    load_site(site(tmp_path, POINTS | {missing: None}, BATTERY, mode="monitor"))


def test_a_device_without_reactive_power_needs_no_point_of_it(tmp_path: Path) -> None:
    points = POINTS | {"q_mvar": None, "q_set_mvar": None}
    config = {"p_max_MW": 0.5, "p_min_MW": -0.5}
    loaded = load_site(site(tmp_path, points, config))
    time = PlantTime()
    connection = connect_link(loaded.links[0], time)
    cycle = build_device(loaded.devices[0], connection, loaded, time)
    words = Words([(10, b"\0\x32\0\0\x03\xe8\x01\xf4")])
    shown = cycle.link._der.decode_reading(words)  # type: ignore[attr-defined]
    assert shown["q_mvar"] == 0.0


@pytest.mark.parametrize(
    ("point", "wrong", "told"),
    [
        (
            "p_set_mw",
            {"type": "uint16"},
            r"points\.p_set_mw\.type = 'uint16': expected to hold -0.5",
        ),
        ("p_set_mw", {"scale": 1e-6}, r"points\.p_set_mw\.type = 'int16': expected to hold -0.5"),
        ("p_set_mw", {"scale": 1.0}, r"points\.p_set_mw\.scale = 1\.0: steps of 1, expected"),
        ("q_set_mvar", {"type": "uint16"}, r"points\.q_set_mvar\.type"),
        ("reversion_s", {"scale": 0.0001}, r"points\.reversion_s\.type = 'uint16': .* 60"),
        ("mode", {"address": 30, "access": "RW", "constant": 70000}, r"points\.mode\.constant"),
    ],
)
def test_a_register_that_cannot_hold_what_it_will_be_told_is_refused(
    tmp_path: Path, point: str, wrong: dict[str, Any], told: str
) -> None:
    points = POINTS | {point: POINTS.get(point, {}) | wrong}
    with pytest.raises(ConfigError, match=told):
        load_site(site(tmp_path, points, BATTERY))


def test_every_mistake_of_a_map_is_said_at_once(tmp_path: Path) -> None:
    points = POINTS | {"v_pu": None, "soc": None, "p_set_mw": POINTS["p_set_mw"] | {"scale": 1.0}}
    with pytest.raises(ConfigError) as caught:
        load_site(site(tmp_path, points, BATTERY))
    assert [p.where for p in caught.value.problems] == [
        "points.v_pu",
        "points.soc",
        "points.p_set_mw.scale",
    ]


def test_what_the_device_scales_itself_is_not_judged_beforehand(tmp_path: Path) -> None:
    factor = {"p_sf": {"address": 40, "type": "sunssf"}}
    scaled = POINTS["p_set_mw"] | {"scale": 1e-6, "scale_factor": "p_sf"}
    load_site(site(tmp_path, POINTS | factor | {"p_set_mw": scaled}, BATTERY))


def test_the_documented_map_drives_a_battery(tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "registers.md"
    text = page.read_text(encoding="utf-8").split("```yaml\n", 1)[1].split("```", 1)[0]
    (tmp_path / "vendor-x.yml").write_text(text)
    config = {"p_max_MW": 0.5, "p_min_MW": -0.5}
    load_site(site(tmp_path, POINTS, config, map="vendor-x.yml"))


@pytest.mark.parametrize(
    ("points", "device", "told"),
    [
        ({}, {}, []),
        ({}, {"reversion_s": None}, ["reversion_s is null"]),
        ({"reversion_s": None}, {}, ["its map has no reversion_s"]),
        ({"reversion_s": None}, {"mode": "monitor"}, []),
    ],
)
def test_a_device_that_would_keep_its_last_set_point_is_named(
    tmp_path: Path,
    points: dict[str, Any],
    device: dict[str, Any],
    told: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = site(tmp_path, POINTS | points, BATTERY, **device)
    assert check([str(path)]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert len(said) == len(told)
    assert all(part in line for part, line in zip(told, said, strict=True))


TAPPED = {
    "tap": {"address": 10, "type": "int16"},
    "v_pu": {"address": 12, "scale": 0.001},
    "tap_set": {"address": 20, "type": "int16", "access": "RW"},
    "enable": {"address": 21, "access": "RW"},
    "reversion_s": {"address": 22, "access": "RW"},
}


def test_a_tap_changer_needs_its_position_and_registers_that_hold_its_range(
    tmp_path: Path,
) -> None:
    config = {"element": "reg1", "tap_min": -16, "tap_max": 16}
    load_site(site(tmp_path, TAPPED, config, type="Transformer"))
    for key, wrong, told in (
        ("tap", None, r"points\.tap = None"),
        ("tap_set", None, "its map has no tap_set"),
        ("tap_set", TAPPED["tap_set"] | {"type": "uint16"}, r"points\.tap_set\.type"),
    ):
        with pytest.raises(ConfigError, match=told):
            load_site(site(tmp_path, TAPPED | {key: wrong}, config, type="Transformer"))
