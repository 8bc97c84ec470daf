"""Small networks whose solution can be written down."""

from __future__ import annotations

import cmath
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heron.powergrid.networks import Grid, grid_of, parse_feeder
from heron.powergrid.networks.grid import DeviceConnection
from simulator.engines import Injections, Solution, make_engine
from simulator.engines.factors import elimination_order, fill_pattern

KV = 2.4
Z = complex(0.5, 1.0)


def two_buses(*loads: dict[str, Any], phases: str = "abc", **more: Any) -> Grid:
    """Return a source at 1 pu and a bus behind Z ohm in each phase, without coupling."""
    n = len(phases)

    def diagonal(x: float) -> list[list[float]]:
        return [[x if i == j else 0.0 for j in range(n)] for i in range(n)]

    return grid_of(
        parse_feeder(
            {
                "name": "small",
                "head": "1",
                "buses": [
                    {"name": "1", "phases": "abc", "kv_ln": KV},
                    {"name": "2", "phases": phases, "kv_ln": KV},
                    *more.pop("buses", []),
                ],
                "lines": [
                    {
                        "name": "l",
                        "from_bus": "1",
                        "to_bus": "2",
                        "phases": phases,
                        "r_ohm": diagonal(Z.real),
                        "x_ohm": diagonal(Z.imag),
                        "b_half_s": diagonal(0.0),
                    }
                ],
                "loads": [{"bus": "2", "kvar": 0.0, "element_kv": KV, **x} for x in loads],
                **more,
            }
        )
    )


def solve(
    grid: Grid, engine: str = "threephase", p_mw: float = 0.0, q_mvar: float = 0.0
) -> Solution:
    built = make_engine(engine, grid)
    n = len(grid.devices)
    injections = Injections(np.ones(len(grid.loads)), np.full(n, p_mw), np.full(n, q_mvar))
    return built.solve(injections, built.initial_state())


def test_constant_impedance_divides_the_voltage() -> None:
    grid = two_buses({"name": "x", "phases": "a", "model": "impedance", "kw": 300.0}, phases="a")
    load_ohm = (KV * 1e3) ** 2 / 300e3
    s = solve(grid)
    expected = load_ohm / (load_ohm + Z)
    assert s.v_pu[3] == pytest.approx(expected, abs=1e-8)
    current = KV * 1e3 / (load_ohm + Z)
    assert s.losses_mw == pytest.approx(abs(current) ** 2 * Z.real / 1e6, abs=1e-8)
    assert s.source_p_mw == pytest.approx((KV * 1e3 * current.conjugate()).real / 1e6, abs=1e-8)


def test_constant_power_solves_its_quadratic() -> None:
    p = 0.3
    grid = two_buses({"name": "x", "phases": "a", "kw": p * 1e3}, phases="a")
    r, x = Z.real / KV**2, Z.imag / KV**2
    b = 2.0 * p * r - 1.0
    v2 = (-b + math.sqrt(b * b - 4.0 * p * p * (r * r + x * x))) / 2.0
    assert abs(solve(grid).v_pu[3]) ** 2 == pytest.approx(v2, abs=1e-8)


def test_constant_current_draws_it_at_any_voltage() -> None:
    grid = two_buses({"name": "x", "phases": "a", "model": "current", "kw": 240.0}, phases="a")
    s = solve(grid)
    drop = (1.0 - s.v_pu[3]) * KV * 1e3
    assert abs(drop / Z) == pytest.approx(100.0, abs=1e-4)


def test_cvr_load_follows_with_both_powers() -> None:
    load = {"name": "x", "phases": "a", "model": "cvr", "kw": 200.0, "kvar": 100.0}
    s = solve(two_buses(load, phases="a"))
    v = s.v_pu[3]
    power = v * ((1.0 - v) * KV**2 / Z).conjugate()
    assert power.real == pytest.approx(0.2 * abs(v), abs=1e-7)
    assert power.imag == pytest.approx(0.1 * abs(v) ** 2, abs=1e-7)


def test_delta_load_flows_between_two_phases() -> None:
    load = {"name": "x", "phases": "ab", "connection": "delta", "kw": 300.0}
    s = solve(two_buses({**load, "element_kv": KV * math.sqrt(3)}))
    va, vb, vc = s.v_pu[3:]
    into_a = (s.v_pu[0] - va) / Z
    into_b = (s.v_pu[1] - vb) / Z
    assert into_a == pytest.approx(-into_b, abs=1e-8)
    assert vc == pytest.approx(s.v_pu[2], abs=1e-12)
    power = (va - vb) * (into_a * KV**2).conjugate()
    assert power == pytest.approx(0.3 + 0j, abs=1e-7)


@pytest.mark.parametrize("engine", ["threephase", "balanced", "pandapower", "lightsim2grid"])
def test_a_device_that_injects_raises_the_voltage_and_feeds_the_source(engine: str) -> None:
    """Positive = injects: 0.9 MW and 0.3 Mvar against a drop written down by hand."""
    grid = replace(two_buses(), devices=(DeviceConnection("d", "2", "abc", "small"),))
    s = solve(grid, engine, p_mw=0.9, q_mvar=0.3)
    v = abs(s.device_v_pu[0, 0])
    drop = Z * complex(0.3, -0.1) / KV**2 / v
    assert abs(v - drop) == pytest.approx(1.0, abs=1e-6)
    assert v > 1.02
    assert s.source_p_mw == pytest.approx(-0.9 + s.losses_mw, abs=1e-6)
    assert s.source_p_mw < -0.8
    assert s.source_q_mvar < 0.0


def test_single_phase_device_is_on_its_phase_alone() -> None:
    grid = replace(two_buses(), devices=(DeviceConnection("d", "2", "b", "small"),))
    s = solve(grid, p_mw=0.2)
    assert np.isnan(s.device_v_pu[0, [0, 2]]).all()
    assert abs(s.v_pu[4]) == pytest.approx(s.device_v_pu[0, 1])
    np.testing.assert_allclose(np.abs(s.v_pu[[3, 5]]), 1.0, atol=1e-9)
    assert abs(s.v_pu[4]) > 1.01


@pytest.mark.parametrize("engine", ["threephase", "balanced", "pandapower", "lightsim2grid"])
def test_transformer_has_its_impedance_ratio_and_loading(engine: str) -> None:
    grid = two_buses(
        {
            "name": "x",
            "bus": "3",
            "phases": "abc",
            "model": "impedance",
            "kw": 150.0,
            "element_kv": 0.24,
        },
        buses=[{"name": "3", "phases": "abc", "kv_ln": 0.24}],
        transformers=[
            {
                "name": "t",
                "from_bus": "2",
                "to_bus": "3",
                "kv_from": KV * math.sqrt(3),
                "kv_to": 0.24 * math.sqrt(3),
                "kva": 300.0,
                "r_pct": 1.0,
                "x_pct": 4.0,
                "tap": 1.05,
            }
        ],
    )
    s = solve(grid, engine)
    # all on the load's side, per phase: the line through the ratio, then the transformer
    ratio = 0.1 * 1.05
    load = 240.0**2 / 50e3
    impedance = complex(0.01, 0.04) * 240.0**2 / 100e3 * 1.05**2 + Z * ratio**2
    volts = 2400.0 * ratio * load / (load + impedance)
    found = s.v_pu[-3] if engine == "threephase" else s.v_pu[-1]
    assert abs(found) == pytest.approx(abs(volts) / 240.0, abs=2e-6)
    secondary = abs(volts) / load
    rated = 100e3 / 240.0
    # the primary carries the current times the ratio of turns, which the tap has raised
    assert s.loading_pct[0] == pytest.approx(100.0 * secondary / rated * 1.05, abs=1e-3)


@pytest.mark.parametrize("engine", ["threephase", "balanced"])
def test_a_single_bus_is_a_network_too(engine: str) -> None:
    bus = {"name": "1", "phases": "abc", "kv_ln": KV}
    load = {"name": "x", "bus": "1", "phases": "abc", "element_kv": KV, "kw": 90.0, "kvar": 30.0}
    s = solve(
        grid_of(parse_feeder({"name": "b", "head": "1", "buses": [bus], "loads": [load]})), engine
    )
    assert s.source_p_mw == pytest.approx(0.09)
    assert s.source_q_mvar == pytest.approx(0.03)
    assert s.losses_mw == pytest.approx(0.0, abs=1e-12)


def test_source_angle_is_kept() -> None:
    turned = cmath.exp(0.3j)
    grid = two_buses({"name": "x", "phases": "abc", "kw": 90.0})
    a = solve(grid)
    source = tuple(v * turned for v in grid.source_v_pu)
    b = solve(replace(grid, source_v_pu=(source[0], source[1], source[2])))
    np.testing.assert_allclose(b.v_pu, a.v_pu * turned, atol=1e-9)


def test_a_radial_network_factors_without_fill() -> None:
    near = {"a": {"b"}, "b": {"a", "c", "d"}, "c": {"b"}, "d": {"b", "e"}, "e": {"d"}}
    order = elimination_order(near, {"a": 0, "b": 1, "c": 2, "d": 2, "e": 3})
    assert order[0] == "e"
    assert order[-1] == "a"
    index = {bus: k for k, bus in enumerate(order)}
    pattern = fill_pattern(5, [(index[x], index[y]) for x in near for y in near[x]])
    assert sum(map(len, pattern.upper)) == 4
    assert pattern.dependants([index["e"]]) == sorted(index[x] for x in "edba")


def test_a_ring_gets_the_fill_that_it_needs() -> None:
    pattern = fill_pattern(4, [(0, 1), (0, 2), (1, 3), (2, 3)])
    assert pattern.upper == [[1, 2], [2, 3], [3], []]
    assert pattern.lower == [[], [0], [0, 1], [1, 2]]
