"""Lines with a rating, and how loaded they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from heron.powergrid.networks import Grid, Line, compose, grid_of, load_feeder
from heron.powergrid.setups import read_setup
from simulator import Plant
from simulator.engines import Injections, Solution, available_engines, make_engine


def solved(grid: Grid, engine: str = "threephase") -> Solution:
    built = make_engine(engine, grid)
    idle = np.zeros(len(grid.devices))
    injections = Injections(np.ones(len(grid.loads)), idle, idle)
    return built.solve(injections, built.initial_state(), move_taps=False)


def currents_a(grid: Grid, line: Line, s: Solution) -> np.ndarray:
    """Return the currents into both ends from the voltages and the pi section alone."""
    volts = dict(zip(grid.nodes, s.v_pu, strict=True))
    kv = grid.bus_by_name[line.from_bus].kv_ln
    at = [
        np.array([volts[bus, p] for p in line.phases]) * kv * 1e3
        for bus in (line.from_bus, line.to_bus)
    ]
    series = np.linalg.inv(np.array(line.r_ohm) + 1j * np.array(line.x_ohm))
    through = series @ (at[0] - at[1])
    half = 1j * np.array(line.b_half_s)
    ends = [through + half @ at[0], half @ at[1] - through]
    return np.array(np.abs(np.concatenate(ends)))


@pytest.mark.parametrize("name", ["ieee13", "ieee34", "ieee34mod1", "ieee123"])
def test_every_line_but_switches_and_one_cable_has_its_conductor_and_rating(name: str) -> None:
    unrated = [x for x in load_feeder(name).lines if x.ampacity_a is None and not x.switch]
    assert len(unrated) == (5 if name == "ieee123" else 0)
    known = {
        "556,500 26/7 ACSR": 730.0,
        "336,400 26/7 ACSR": 530.0,
        "4/0 6/1 ACSR": 340.0,
        "1/0 6/1 ACSR": 230.0,
        "2 6/1 ACSR": 180.0,
        "4 6/1 ACSR": 140.0,
        "250,000 AA CN": 260.0,
        "1/0 AA TS": 165.0,
    }
    for line in load_feeder(name).lines:
        if line.ampacity_a is not None:
            assert known[line.conductor] == line.ampacity_a


@pytest.mark.parametrize("name", ["ieee13", "ieee34", "ieee123"])
def test_loading_of_a_line_is_its_largest_current_over_its_rating(name: str) -> None:
    grid = replace(grid_of(load_feeder(name)), line_ratings=True)
    s = solved(grid)
    branches = dict(zip((b.name for b in grid.branches), s.loading_pct, strict=True))
    assert len(grid.rated_lines) > 5
    for line in grid.rated_lines:
        assert line.ampacity_a is not None
        expected = 100.0 * currents_a(grid, line, s).max() / line.ampacity_a
        assert branches[line.name] == pytest.approx(expected, abs=1e-3)


def test_published_load_is_within_the_ratings_of_the_main_line() -> None:
    """IEEE 13 draws some 590 A of 730 A at its head: no rating is off by a factor."""
    grid = replace(grid_of(load_feeder("ieee13")), line_ratings=True)
    loading = dict(zip((b.name for b in grid.branches), solved(grid).loading_pct, strict=True))
    assert 70.0 < loading["650632"] < 90.0
    assert max(loading[x.name] for x in grid.rated_lines) < 100.0


@pytest.mark.parametrize("name", [n for n in available_engines() if n != "threephase"])
def test_balanced_engines_agree_on_the_loading_of_lines(name: str) -> None:
    grid = replace(grid_of(load_feeder("ieee13")), line_ratings=True)
    np.testing.assert_allclose(
        solved(grid, name).loading_pct, solved(grid, "balanced").loading_pct, atol=2e-3
    )


def test_lines_count_only_where_a_setup_asks_for_it() -> None:
    """Ratings are data; what the shipped setups account for has not changed."""
    setup = read_setup("ieee34_ieee13")
    assert not setup.config.line_ratings
    assert {b.kind for b in compose(setup.config).branches} == {"transformer"}
    asked = setup.config.model_copy(update={"line_ratings": True})
    grid = compose(asked)
    assert {b.kind for b in grid.branches} == {"transformer", "line"}
    a, b = Plant(setup).measurements, Plant(replace(setup, config=asked)).measurements
    for area in a.areas:
        assert b.areas[area].max_loading_pct >= a.areas[area].max_loading_pct
        assert b.areas[area].v_min_pu == a.areas[area].v_min_pu


def test_the_ratings_of_branches_are_those_of_all_phases() -> None:
    grid = replace(grid_of(load_feeder("ieee13")), line_ratings=True)
    rating = {b.name: b.rating_kva for b in grid.branches}
    assert rating["650632"] == pytest.approx(3 * 730 * 4.16 / 3**0.5)
    assert rating["684611"] == pytest.approx(230 * 4.16 / 3**0.5)
    assert rating["xfm1"] == 500.0
