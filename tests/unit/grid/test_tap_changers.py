"""Taps that a device commands, on every engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heron.errors import ConfigError
from heron.powergrid.networks import Grid, compose
from heron.powergrid.setups import read_setup
from heron.powergrid.setups.models import SetupConfig
from simulator.engines import (
    Injections,
    available_engines,
    commanded_taps,
    make_engine,
    with_taps,
)
from simulator.engines.batch import make_batch_engine


def entry(name: str, element: str, **more: Any) -> dict[str, Any]:
    state = {"bus": "Bus 633", "element": element, **more}
    return {"type": "Transformer", "name": name, "device_state_config": state}


def setup_with(*microgrids: list[dict[str, Any]], fixed: str | None = "reg2") -> SetupConfig:
    """Return the shipped setup with more devices, and one bank without a control."""
    raw = read_setup("ieee34_ieee13").config.model_dump()
    if fixed is not None:
        del raw["dso_config"]["regulators"][fixed]
    for microgrid, devices in zip(raw["microgrid_configs"], microgrids, strict=False):
        microgrid["devices"] = [*microgrid["devices"], *devices]
    return SetupConfig.model_validate(raw)


@pytest.fixture(scope="module")
def grid() -> Grid:
    head = entry("oltc1", "head", tap_min=-8, tap_max=8, tap_step_pu=0.0125)
    return compose(setup_with([head], [entry("reg2", "DSO reg2")]))


def half_load(grid: Grid) -> Injections:
    idle = np.zeros(len(grid.devices))
    return Injections(np.full(len(grid.loads), 0.5), idle, idle)


def test_a_grid_names_what_is_commanded_and_by_whom(grid: Grid) -> None:
    head, bank = grid.tap_changers
    assert (head.device_id, head.element, head.tap_min, head.tap_max) == (
        "oltc1",
        "MG1 head",
        -8,
        8,
    )
    assert (bank.device_id, bank.element) == ("reg2", "DSO reg2")
    assert [grid.regulators[k].name for k in bank.regulators] == [f"DSO reg2{p}" for p in "abc"]
    assert all(grid.regulators[k].control is None for c in grid.tap_changers for k in c.regulators)
    assert not grid.bus_by_name["MG1 head tap changer"].monitored
    assert grid.microgrids[0].head_bus == "MG1 Bus 650"


@pytest.mark.parametrize("name", available_engines())
def test_a_commanded_tap_scales_the_voltage_behind_it_and_stays(name: str, grid: Grid) -> None:
    engine = make_engine(name, grid)
    state = engine.initial_state()
    seen = {}
    for tap in (-8, 0, 8):
        told = with_taps(grid, state, [tap, 0])
        solution = engine.solve(half_load(grid), told)
        again = engine.solve(half_load(grid), solution.state)
        assert commanded_taps(grid, again.state).tolist() == [tap, 0]
        seen[tap] = again.device_v_pu[0]
    # 8 steps of 1.25 % are 10 %; the loads behind the tap hardly change what is before it
    np.testing.assert_allclose(seen[8] / seen[0], 1.1, atol=0.01)
    np.testing.assert_allclose(seen[-8] / seen[0], 0.9, atol=0.01)
    assert commanded_taps(grid, state).tolist() == [0, 0]


def test_a_whole_bank_stands_where_it_is_told(grid: Grid) -> None:
    engine = make_engine("threephase", grid)
    solution = engine.solve(half_load(grid), with_taps(grid, engine.initial_state(), [0, 7]))
    bank = list(grid.tap_changers[1].regulators)
    assert solution.state.taps[bank].tolist() == [7, 7, 7]
    moved = sum(abs(t) for k, t in enumerate(solution.state.taps.tolist()) if k not in bank)
    assert solution.tap_moves >= moved  # a commanded move is not one of the controls'


@pytest.mark.parametrize("name", ["threephase", "balanced"])
def test_each_scenario_of_a_batch_has_its_own_commanded_taps(name: str, grid: Grid) -> None:
    single, batch = make_engine(name, grid), make_batch_engine(name, grid)
    positions = np.array([[-8, 3], [0, 0], [5, -16]])
    n = len(positions)
    one = half_load(grid)
    scale, p_mw, q_mvar = (np.tile(a, (n, 1)) for a in (one.load_scale, one.p_mw, one.q_mvar))
    state = with_taps(grid, batch.initial_state(n), positions)
    result = batch.solve(scale, p_mw, q_mvar, state)
    np.testing.assert_array_equal(commanded_taps(grid, result.state), positions)
    for k in range(n):
        s = single.solve(one, with_taps(grid, single.initial_state(), positions[k]))
        np.testing.assert_allclose(result.v_pu[k], s.v_pu, rtol=0.0, atol=1e-9)


def test_a_tap_changer_at_neutral_hardly_changes_the_network(grid: Grid) -> None:
    plain = compose(setup_with())
    a, b = make_engine("threephase", plain), make_engine("threephase", grid)
    # the last device is the transformer, which injects nothing
    x = a.solve(half_load(plain), a.initial_state(), move_taps=False)
    y = b.solve(half_load(grid), with_taps(grid, b.initial_state(), [0, 12]), move_taps=False)
    same = {node: v for node, v in zip(b.nodes, y.v_pu, strict=True) if node[0].startswith("MG1")}
    worst = max(
        abs(same[node] - v) for node, v in zip(a.nodes, x.v_pu, strict=True) if node in same
    )
    assert worst < 0.02  # the bank stood at 11 to 13 before


@pytest.mark.parametrize(
    ("positions", "says"),
    [
        ([9, 0], "tap of oltc1 = 9: expected a whole position from -8 to 8"),
        ([0.5, 0], "tap of oltc1 = 0.5"),
        ([0, float("nan")], "tap of reg2 = nan"),
        ([9, -17], "oltc1 = 9.*reg2 = -17"),
        ([0], r"shape \(1,\)"),
    ],
)
def test_positions_that_cannot_be_are_refused(grid: Grid, positions: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        with_taps(grid, make_engine("threephase", grid).initial_state(), positions)


def test_what_cannot_be_commanded_is_reported_at_once() -> None:
    config = setup_with(
        [
            entry("t1", "nothing"),
            entry("t2", "DSO reg1"),
            entry("t3", "head"),
            entry("t4", "head"),
            entry("t5", "DSO reg2", tap_step_pu=0.05),
        ],
        fixed="reg2",
    )
    with pytest.raises(ConfigError) as error:
        compose(config)
    n = len(read_setup("ieee34_ieee13").config.microgrid_configs[0].devices)
    where = [p.where.removeprefix("microgrid_configs[0].") for p in error.value.problems]
    assert where == [
        f"devices[{n}].device_state_config.element",
        f"devices[{n + 1}].device_state_config.element",
        f"devices[{n + 3}].device_state_config.element",
        f"devices[{n + 4}].device_state_config.tap_step_pu",
    ]
    text = str(error.value)
    assert "expected one of" in text
    assert "DSO reg2" in text
    assert "moves by its own control" in text
    assert "commanded by t3 already" in text
