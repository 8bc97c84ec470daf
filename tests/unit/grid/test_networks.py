"""Feeders as data and their composition."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import yaml

from heron.errors import ConfigError
from heron.powergrid.networks import available_feeders, compose, grid_of, load_feeder, parse_feeder
from heron.powergrid.setups import read_setup
from heron.powergrid.setups.models import SetupConfig


@pytest.fixture
def raw() -> dict[str, Any]:
    path = read_setup("ieee34_ieee13").path
    assert path is not None
    data: dict[str, Any] = yaml.safe_load(path.read_text())
    return data


def small() -> dict[str, Any]:
    """Return a feeder of two buses."""
    return {
        "name": "small",
        "head": "1",
        "buses": [
            {"name": "1", "phases": "abc", "kv_ln": 2.4},
            {"name": "2", "phases": "a", "kv_ln": 2.4},
        ],
        "lines": [
            {
                "name": "l",
                "from_bus": "1",
                "to_bus": "2",
                "phases": "a",
                "r_ohm": [[0.1]],
                "x_ohm": [[0.1]],
                "b_half_s": [[0.0]],
            }
        ],
        "loads": [
            {"name": "d", "bus": "2", "phases": "a", "element_kv": 2.4, "kw": 10.0, "kvar": 1.0}
        ],
    }


@pytest.mark.parametrize(
    ("name", "buses", "nodes", "kw"),
    [
        ("ieee13", 15, 38, 3466.0),
        ("ieee34", 55, 135, 1769.0),
        ("ieee34mod1", 36, 92, 1769.0),
        ("ieee123", 132, 278, 3490.0),
    ],
)
def test_shipped_feeders_carry_the_published_load(
    name: str, buses: int, nodes: int, kw: float
) -> None:
    grid = grid_of(load_feeder(name))
    assert (len(grid.buses), len(grid.nodes)) == (buses, nodes)
    assert sum(x.kw for x in grid.loads) == pytest.approx(kw)
    assert grid.live_nodes == set(grid.nodes)
    assert name in available_feeders()


def test_feeder_from_a_file(tmp_path: Any) -> None:
    path = tmp_path / "small.json"
    path.write_text(json.dumps(small()))
    assert load_feeder(str(path)).loads[0].kw == 10.0


@pytest.mark.parametrize("name", ["ieee99", "/no/such.json"])
def test_unknown_feeder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        load_feeder(name)


def test_damaged_feeder_file_names_the_file(tmp_path: Any) -> None:
    path = tmp_path / "bad.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"bad\.json.*not JSON"):
        load_feeder(str(path))


def test_every_mistake_in_a_feeder_is_reported_at_once() -> None:
    raw = small()
    raw["lines"][0]["to_bus"] = "9"
    raw["loads"][0]["phases"] = "b"
    raw["loads"].append(dict(raw["loads"][0]))
    with pytest.raises(ConfigError) as error:
        parse_feeder(raw, "small.json")
    text = str(error.value)
    assert "line l.to_bus = '9': no such bus" in text
    assert "load d.bus = '2': carries phases 'a', not 'b'" in text
    assert "used twice" in text
    assert all(p.source == "small.json" for p in error.value.problems)


def test_island_is_refused() -> None:
    raw = small()
    raw["buses"].append({"name": "3", "phases": "abc", "kv_ln": 2.4})
    raw["lines"][0]["closed"] = False
    with pytest.raises(ConfigError) as error:
        parse_feeder(raw)
    assert [p.where for p in error.value.problems] == ["bus 2.phases", "bus 3.phases", "load d.bus"]
    assert "phase a is not fed there: a dead bus" in str(error.value)


def test_branches_between_the_wrong_voltages_are_all_reported() -> None:
    raw = small()
    raw["buses"][1]["kv_ln"] = 0.277
    raw["buses"].append({"name": "3", "phases": "abc", "kv_ln": 14.4})
    ends = {"from_bus": "1", "kva": 500.0, "r_pct": 1.0, "x_pct": 4.0}
    raw["transformers"] = [{"name": "t", "to_bus": "3", "kv_from": 4.16, "kv_to": 14.4, **ends}]
    raw["regulators"] = [{"name": "r", "to_bus": "3", "bank": "r", "kv_ln": 2.4, **ends}]
    with pytest.raises(ConfigError) as error:
        parse_feeder(raw)
    assert [p.where for p in error.value.problems] == [
        "line l.to_bus",
        "regulator r.to_bus",
        "transformer t.kv_to",
    ]
    assert "is at 0.48 kV, and 1 at 4.16 kV" in str(error.value)
    assert "expected about the 24.9 kV of bus 3" in str(error.value)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("lines", "r_ohm"), [[float("nan")]]),
        (("lines", "ampacity_a"), 0.0),
        (("buses", "kv_ln"), -2.4),
        (("loads", "element_kv"), 0.0),
        (("lines", "phases"), "aa"),
        (("lines", "phases"), "n"),
    ],
)
def test_values_that_cannot_be_are_refused_with_their_element(
    where: tuple[str, str], value: Any
) -> None:
    raw = small()
    raw[where[0]][0][where[1]] = value
    with pytest.raises(ConfigError, match=rf"{where[0]}\.0"):
        parse_feeder(raw)


def test_a_regulators_tap_beyond_its_range_is_refused() -> None:
    raw = small()
    unit = {"name": "r", "from_bus": "1", "to_bus": "2", "phases": "a", "bank": "r", "kv_ln": 2.4}
    raw["regulators"] = [{**unit, "kva": 500.0, "r_pct": 0.0, "x_pct": 0.1, "tap": 17}]
    with pytest.raises(ConfigError, match="tap 17: expected -16 to 16"):
        parse_feeder(raw)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    raw = small()
    raw["loads"][0]["kw"] = value
    with pytest.raises(ConfigError, match=r"loads\.0\.kw"):
        parse_feeder(raw)


def test_matrix_of_the_wrong_size_is_refused() -> None:
    raw = small()
    raw["lines"][0]["x_ohm"] = [[0.1, 0.1]]
    with pytest.raises(ConfigError, match="expected 1 x 1 values"):
        parse_feeder(raw)


@pytest.mark.parametrize(
    ("key", "row", "column", "value", "told"),
    [
        ("r_ohm", 0, 0, -5.0, "loses power"),
        ("r_ohm", 1, 1, 0.001, "loses power"),  # less than what it shares with its neighbours
        ("r_ohm", 0, 1, 0.2, "both ways"),
        ("x_ohm", 2, 0, 3.0, "both ways"),
        ("b_half_s", 0, 2, 1e-3, "both ways"),
    ],
)
def test_a_line_that_would_generate_or_is_lopsided_is_refused(
    key: str, row: int, column: int, value: float, told: str
) -> None:
    raw = load_feeder("ieee13").model_dump(mode="json")
    line = next(line for line in raw["lines"] if line["phases"] == "abc")
    line[key][row][column] = value
    with pytest.raises(ConfigError, match=told):
        parse_feeder(raw)


def test_composition_names_scales_and_orders_everything(raw: dict[str, Any]) -> None:
    config = SetupConfig.model_validate(raw)
    grid = compose(config)
    assert grid.areas == ("DSO", "MG1", "MG2", "MG3")
    assert len(grid.nodes) == 249
    assert tuple(d.device_id for d in grid.devices) == config.device_ids
    assert tuple(m.name for m in grid.microgrids) == config.microgrid_ids
    assert grid.devices[0].bus == "MG1 Bus 633"
    assert grid.microgrids[0].connection_bus == "DSO Bus 850"
    assert set(grid.node_areas) == set(grid.areas)
    by_area = {a: sum(x.kw for x in grid.loads if x.area == a) for a in grid.areas}
    assert by_area["MG1"] == pytest.approx(3466 * 0.15)
    assert by_area["DSO"] == pytest.approx((1769 - 450) * 0.6 + 450 * 0.3)
    assert {b.name: b.rating_kva for b in grid.branches}["MG3 head"] == 1000
    assert [r.name for r in grid.regulators if r.control is not None] == [
        f"DSO reg{k}{p}" for k in (1, 2) for p in "abc"
    ]
    assert {c.area for c in grid.capacitors} == {"DSO"}
    np.testing.assert_allclose(np.abs(grid.source_v_pu), 1.025)


def test_full_names_and_local_names_of_a_bus_are_the_same(raw: dict[str, Any]) -> None:
    for microgrid in raw["microgrid_configs"]:
        microgrid["connection_bus"] = microgrid["connection_bus"].removeprefix("DSO ")
        for device in microgrid["devices"]:
            state = device["device_state_config"]
            state["bus"] = f"{microgrid['name']} {state['bus']}"
    grid = compose(SetupConfig.model_validate(raw))
    assert grid.devices == compose(read_setup("ieee34_ieee13").config).devices


def test_the_guides_bus_890_is_refused_for_its_voltage(raw: dict[str, Any]) -> None:
    raw["microgrid_configs"][0]["connection_bus"] = "DSO Bus 890"
    with pytest.raises(ConfigError) as error:
        compose(SetupConfig.model_validate(raw))
    (problem,) = error.value.problems
    assert problem.where == "microgrid_configs[0].connection_bus"
    assert "4.16 kV" in problem.expected
    assert "24.9 kV" in problem.expected


def test_every_mistake_in_a_composition_is_reported_at_once(raw: dict[str, Any]) -> None:
    first, second, third = raw["microgrid_configs"]
    first["connection_bus"] = "DSO Bus 999"
    second["connection_bus"] = "DSO Bus 810"
    third["network"] = "ieee99"
    first["devices"][0]["device_state_config"]["bus"] = "Bus 611"
    first["devices"][1]["device_state_config"]["bus"] = "Bus 6711"
    raw["dso_config"]["bus_load_scale"] = {"Bus 1": 0.5}
    raw["dso_config"]["regulators"]["reg9"] = raw["dso_config"]["regulators"]["reg1"]
    with pytest.raises(ConfigError) as error:
        compose(SetupConfig.model_validate(raw))
    assert {p.where for p in error.value.problems} == {
        "microgrid_configs[0].connection_bus",
        "microgrid_configs[1].connection_bus",
        "microgrid_configs[2].network",
        "microgrid_configs[0].devices[0].device_state_config.phases",
        "microgrid_configs[0].devices[1].device_state_config.bus",
        "dso_config.bus_load_scale['Bus 1']",
        "dso_config.regulators['reg9']",
    }
    assert "did you mean Bus 671" in str(error.value)


def test_opening_an_unknown_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such line"):
        grid_of(load_feeder("ieee13")).with_open("nothing")


def test_dead_consumers_are_named() -> None:
    grid = grid_of(load_feeder("ieee13")).with_open("684611")
    assert grid.dead_consumers == ("load 611 on 611",)
