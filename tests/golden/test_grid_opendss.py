"""The three-phase engine against OpenDSS: stored results, and live on random loads."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import opendssdirect as dss
import pytest

from heron.powergrid.networks import Grid, compose, grid_of, load_feeder, parse_feeder
from heron.powergrid.networks.opendss import dss_name, opendss_script
from heron.powergrid.setups import read_setup
from simulator.engines import Injections, Solution, make_engine

DATA = Path(__file__).parent.parent / "data" / "grid"
FEEDERS = ("ieee13", "ieee34", "ieee34mod1", "ieee123")


def run_opendss(script: str) -> dict[str, complex]:
    """Return the voltages (V) by node name."""
    for line in script.splitlines():
        dss.Text.Command(line)
    assert dss.Solution.Converged()
    flat = np.array(dss.Circuit.AllBusVolts())
    return dict(zip(dss.Circuit.AllNodeNames(), flat[0::2] + 1j * flat[1::2], strict=True))


def largest_difference(grid: Grid, solution: Solution, volts: dict[str, complex]) -> float:
    volt = {b.name: b.kv_ln * 1e3 for b in grid.buses}
    return max(
        float(abs(v - volts[f"{dss_name(bus)}.{'abc'.index(p) + 1}"] / volt[bus]))
        for (bus, p), v in zip(grid.nodes, solution.v_pu, strict=True)
    )


def plain(grid: Grid, scale: np.ndarray | None = None) -> Injections:
    n = len(grid.loads)
    return Injections(np.ones(n) if scale is None else scale, np.zeros(0), np.zeros(0))


@pytest.mark.parametrize("name", FEEDERS)
def test_published_taps_give_the_stored_voltages(name: str) -> None:
    reference = json.loads((DATA / f"{name}_opendss.json").read_text())["fixed"]
    grid = grid_of(load_feeder(name))
    engine = make_engine("threephase", grid)
    solution = engine.solve(plain(grid), engine.initial_state(), move_taps=False)
    solved = dict(zip(grid.nodes, np.abs(solution.v_pu), strict=True))
    stored = {(b, p): v[0] for b, x in reference["buses"].items() for p, v in x.items()}
    assert set(stored) == set(solved)
    assert max(abs(solved[k] - stored[k]) for k in stored) <= 1e-6
    assert solution.losses_mw * 1e3 == pytest.approx(reference["losses_kw"], abs=0.1)
    assert solution.source_p_mw * 1e3 == pytest.approx(reference["source_kw"], abs=0.1)


@pytest.mark.parametrize("name", FEEDERS)
def test_two_hundred_random_load_sets_agree_with_live_opendss(name: str) -> None:
    grid = grid_of(load_feeder(name))
    engine = make_engine("threephase", grid)
    state = engine.initial_state()
    run_opendss(opendss_script(grid))
    rng = np.random.default_rng(7)
    for _ in range(200):
        scale = rng.uniform(0.2, 1.1, len(grid.loads))
        for load, factor in zip(grid.loads, scale, strict=True):
            dss.Loads.Name(dss_name(load.name))
            dss.Loads.kW(load.kw * factor)
            dss.Loads.kvar(load.kvar * factor)
        dss.Solution.Solve()
        assert dss.Solution.Converged()
        flat = np.array(dss.Circuit.AllBusVolts())
        volts = dict(zip(dss.Circuit.AllNodeNames(), flat[0::2] + 1j * flat[1::2], strict=True))
        solution = engine.solve(plain(grid, scale), state, move_taps=False)
        state = solution.state
        assert largest_difference(grid, solution, volts) <= 1e-6
        assert solution.losses_mw * 1e3 == pytest.approx(dss.Circuit.Losses()[0] / 1e3, abs=0.1)
        source_kw = -dss.Circuit.TotalPower()[0]
        assert solution.source_p_mw * 1e3 == pytest.approx(source_kw, abs=0.1)


def test_composed_setup_with_devices_and_moved_taps_agrees_with_opendss() -> None:
    grid = compose(read_setup("ieee34_ieee13").config)
    engine = make_engine("threephase", grid)
    rng = np.random.default_rng(3)
    state = engine.initial_state()
    for _ in range(5):
        scale = rng.uniform(0.3, 1.0, len(grid.loads))
        p = rng.uniform(-0.2, 0.5, len(grid.devices))
        q = rng.uniform(-0.1, 0.1, len(grid.devices))
        solution = engine.solve(Injections(scale, p, q), state)
        state = solution.state
        moved = [
            r.model_copy(update={"tap": int(t)})
            for r, t in zip(grid.regulators, state.taps, strict=True)
        ]
        script = opendss_script(
            replace(grid, regulators=tuple(moved)),
            load_scale={x.name: s for x, s in zip(grid.loads, scale, strict=True)},
            device_kw={
                d.device_id: (1e3 * a, 1e3 * b) for d, a, b in zip(grid.devices, p, q, strict=True)
            },
        )
        assert largest_difference(grid, solution, run_opendss(script)) <= 1e-6
        assert solution.losses_mw * 1e3 == pytest.approx(dss.Circuit.Losses()[0] / 1e3, abs=0.1)


@pytest.mark.parametrize("name", FEEDERS)
def test_regulators_end_within_two_steps_of_where_opendss_puts_them(name: str) -> None:
    """Both stop anywhere in the dead band, so the last step depends on the order of moves."""
    grid = grid_of(load_feeder(name))
    run_opendss(opendss_script(grid, controls=True))
    theirs = []
    for regulator in grid.regulators:
        dss.Transformers.Name(dss_name(regulator.name))
        dss.Transformers.Wdg(2)
        theirs.append(round((dss.Transformers.Tap() - 1.0) / 0.00625))
    engine = make_engine("threephase", grid)
    solution = engine.solve(plain(grid), engine.initial_state())
    assert np.max(np.abs(solution.state.taps - theirs)) <= 2


@pytest.mark.parametrize("tap", [1.0, 1.05])
@pytest.mark.parametrize(("kv_from", "kv_to"), [(4.16, 0.48), (0.48, 4.16)])
@pytest.mark.parametrize("connection", ["wye-wye", "delta-delta", "delta-wye", "wye-delta"])
def test_every_connection_of_a_transformer_agrees_with_opendss(
    connection: str, kv_from: float, kv_to: float, tap: float
) -> None:
    """Unbalanced loads behind it, up and down: angles of all phases and the zero sequence count."""
    grid = behind_a_transformer(connection, kv_from, kv_to, tap)
    engine = make_engine("threephase", grid)
    solution = engine.solve(plain(grid), engine.initial_state())
    assert largest_difference(grid, solution, run_opendss(opendss_script(grid))) <= 1e-6
    assert solution.losses_mw * 1e3 == pytest.approx(dss.Circuit.Losses()[0] / 1e3, abs=0.01)
    a = solution.v_pu[grid.nodes.index(("3", "a"))]
    shift = 30.0 if connection in {"delta-wye", "wye-delta"} else 0.0
    lag = -shift if kv_from > kv_to else shift
    assert np.degrees(np.angle(a)) == pytest.approx(lag, abs=5.0)


def behind_a_transformer(connection: str, kv_from: float, kv_to: float, tap: float) -> Grid:
    """Return a source, a line, a transformer, and unbalanced loads that fit its output."""
    ln = kv_to / math.sqrt(3)
    wye = connection.endswith("wye")
    loads: list[dict[str, Any]] = [
        {"name": "x", "bus": "3", "phases": "a" if wye else "ab", "kw": 60.0, "kvar": 20.0},
        {"name": "y", "bus": "3", "phases": "b" if wye else "bc", "kw": 20.0, "kvar": 15.0},
    ]
    for load in loads:
        load |= {"connection": "wye" if wye else "delta", "element_kv": ln if wye else kv_to}
    three = {"name": "z", "bus": "3", "phases": "abc", "connection": "delta", "kw": 45.0}
    loads.append({**three, "kvar": 9.0, "element_kv": kv_to, "model": "impedance"})
    diagonal = [[0.02 if i == j else 0.0 for j in range(3)] for i in range(3)]
    return grid_of(
        parse_feeder(
            {
                "name": "small",
                "head": "1",
                "buses": [
                    {"name": "1", "phases": "abc", "kv_ln": kv_from / math.sqrt(3)},
                    {"name": "2", "phases": "abc", "kv_ln": kv_from / math.sqrt(3)},
                    {"name": "3", "phases": "abc", "kv_ln": ln},
                ],
                "lines": [
                    {
                        "name": "l",
                        "from_bus": "1",
                        "to_bus": "2",
                        "r_ohm": diagonal,
                        "x_ohm": diagonal,
                        "b_half_s": [[0.0] * 3] * 3,
                    }
                ],
                "transformers": [
                    {
                        "name": "t",
                        "from_bus": "2",
                        "to_bus": "3",
                        "connection": connection,
                        "kv_from": kv_from,
                        "kv_to": kv_to,
                        "kva": 300.0,
                        "r_pct": 1.0,
                        "x_pct": 4.0,
                        "tap": tap,
                    }
                ],
                "loads": loads,
            }
        )
    )


@pytest.mark.parametrize("name", FEEDERS)
def test_regulators_have_the_settings_and_taps_of_the_public_files(name: str) -> None:
    """Source: the files under IEEETestCases that tests/data/grid/README.md names."""
    public = json.loads((DATA / "opendss_settings.json").read_text())[name]
    feeder = load_feeder(name)
    found = {}
    for r in feeder.regulators:
        c = r.control
        assert c is not None
        found[r.name] = {
            "vreg": c.v_set,
            "band": c.bandwidth_v,
            "ptratio": c.pt_ratio,
            "ctprim": c.ct_primary_a,
            "r": c.r_v,
            "x": c.x_v,
            "tap": r.tap,
        }
    assert found == public["regulators"]
    loads = {x.name: [x.kw, x.kvar] for x in feeder.loads}
    assert {name: loads[name] for name in public["loads"]} == public["loads"]
