"""Regulators and switched capacitors: bands, delays, and who moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from heron.errors import ConfigError
from heron.powergrid.networks import (
    CapacitorControl,
    Grid,
    RegulatorControl,
    compose,
    grid_of,
    load_feeder,
)
from heron.powergrid.setups import read_setup
from heron.powergrid.setups.models import SetupConfig
from simulator.engines import Engine, GridState, Injections, make_engine
from simulator.engines.batch import make_batch_engine


def ieee34(delay_s: float = 0.0, tap: int = 0) -> Grid:
    grid = grid_of(load_feeder("ieee34"))
    regulators = []
    for r in grid.regulators:
        assert r.control is not None
        control = r.control.model_copy(update={"delay_s": delay_s})
        regulators.append(r.model_copy(update={"control": control, "tap": tap}))
    return replace(grid, regulators=tuple(regulators))


def switched(on_v: float, off_v: float, delay_s: float = 0.0, closed: bool = False) -> Grid:
    """Return the 34-bus feeder with a switched capacitor at 848 and fixed taps."""
    grid = grid_of(load_feeder("ieee34"))
    control = CapacitorControl(on_v=on_v, off_v=off_v, pt_ratio=120.0, delay_s=delay_s)
    fixed = tuple(r.model_copy(update={"control": None}) for r in grid.regulators)
    update = {"control": control, "closed": closed}
    capacitors = (grid.capacitors[0], grid.capacitors[1].model_copy(update=update))
    return replace(grid, regulators=fixed, capacitors=capacitors)


def at(grid: Grid, factor: float) -> Injections:
    return Injections(np.full(len(grid.loads), factor), np.zeros(0), np.zeros(0))


def seen_v(engine: Engine, v_pu: Any, bus: str) -> float:
    node = [k for k, (b, _) in enumerate(engine.nodes) if b == bus]
    return float(np.mean(np.abs(v_pu[node])) * engine.grid.bus_by_name[bus].kv_ln * 1e3 / 120.0)


def compensated(engine: Engine, state: GridState, v: dict[tuple[str, str], complex]) -> list[float]:
    """Return what each compensator sees in volts, from voltages and currents alone."""
    result = []
    for r, tap in zip(engine.grid.regulators, state.taps, strict=True):
        c = r.control
        assert c is not None
        base = r.kv_ln * 1e3
        ohm = complex(r.r_pct, r.x_pct) / 100.0 * base**2 / (r.kva * 1e3)
        ratio = 1.0 + 0.00625 * tap
        into, out = (
            v[b, r.phases] * engine.grid.bus_by_name[b].kv_ln * 1e3 for b in (r.from_bus, r.to_bus)
        )
        current = (ratio * into - out) / (ohm * ratio**2)
        result.append(abs(out / c.pt_ratio - complex(c.r_v, c.x_v) * current / c.ct_primary_a))
    return result


def test_regulators_end_inside_their_band() -> None:
    grid = ieee34()
    engine = make_engine("threephase", grid)
    s = engine.solve(at(grid, 1.0), engine.initial_state())
    v = dict(zip(engine.nodes, s.v_pu, strict=True))
    for seen, regulator in zip(compensated(engine, s.state, v), grid.regulators, strict=True):
        control = regulator.control
        assert control is not None
        assert abs(seen - control.v_set) <= control.bandwidth_v / 2 + 0.01
    assert s.tap_moves == int(np.sum(np.abs(s.state.taps)))
    again = engine.solve(at(grid, 1.0), s.state)
    assert again.tap_moves == 0


def test_held_taps_do_not_move() -> None:
    grid = ieee34()
    engine = make_engine("threephase", grid)
    s = engine.solve(at(grid, 1.0), engine.initial_state(), move_taps=False)
    assert s.tap_moves == 0
    assert not s.state.taps.any()


def test_taps_stop_at_their_ends() -> None:
    grid = ieee34()
    engine = make_engine("threephase", grid)
    s = engine.solve(at(grid, 1.35), engine.initial_state())
    assert np.max(s.state.taps) == 16
    assert np.all(np.abs(s.state.taps) <= 16)


def test_a_bank_that_is_named_by_one_regulator_moves_alone() -> None:
    raw = read_setup("ieee34_ieee13").config.model_dump()
    control = raw["dso_config"]["regulators"]["reg1"]
    raw["dso_config"]["regulators"] = {"reg1b": control}
    grid = compose(SetupConfig.model_validate(raw))
    moving = [r.name for r in grid.regulators if r.control is not None]
    assert moving == ["DSO reg1b"]
    # what has no control keeps its published tap in the feeder, and neutral in a microgrid
    assert [r.tap for r in grid.regulators][:7] == [12, 0, 5, 13, 11, 12, 0]


@pytest.mark.parametrize("name", ["threephase", "balanced"])
def test_a_regulator_waits_for_its_delay(name: str) -> None:
    grid = ieee34(delay_s=30.0)
    engine = make_engine(name, grid)
    state = engine.initial_state()
    moves = []
    for _ in range(4):
        s = engine.solve(at(grid, 1.0), state, dt_s=10.0)
        state = s.state
        moves.append(s.tap_moves)
    assert moves[:2] == [0, 0]
    assert moves[2] > 0
    assert moves[3] == 0


def test_a_long_step_contains_the_delay() -> None:
    slow, fast = ieee34(delay_s=30.0), ieee34()
    a, b = make_engine("threephase", slow), make_engine("threephase", fast)
    x = a.solve(at(slow, 1.0), a.initial_state(), dt_s=900.0)
    y = b.solve(at(fast, 1.0), b.initial_state(), dt_s=900.0)
    np.testing.assert_array_equal(x.state.taps, y.state.taps)


def test_time_in_band_starts_the_wait_afresh() -> None:
    grid = ieee34(delay_s=30.0)
    engine = make_engine("threephase", grid)
    settled = engine.solve(at(grid, 1.0), engine.initial_state()).state
    state, moves = settled, []
    # the load that the taps were settled for interrupts the wait each time
    for factor in (0.5, 0.5, 1.0, 0.5, 0.5, 1.0):
        s = engine.solve(at(grid, factor), state, dt_s=10.0)
        state = s.state
        moves.append(s.tap_moves)
    assert moves == [0] * 6
    assert not state.waited_s.any()


@pytest.mark.parametrize("name", ["threephase", "balanced"])
def test_a_capacitor_switches_in_and_out_by_its_voltage(name: str) -> None:
    probe = make_engine(name, switched(91.0, 149.0))
    low = probe.solve(at(probe.grid, 1.0), probe.initial_state())
    high = probe.solve(at(probe.grid, 0.2), probe.initial_state())
    seen_low = seen_v(probe, low.v_pu, "848")
    seen_high = seen_v(probe, high.v_pu, "848")
    assert seen_low < seen_high
    engine = make_engine(name, switched(seen_low + 0.5, seen_high - 0.5))
    s = engine.solve(at(engine.grid, 1.0), engine.initial_state())
    assert s.capacitor_switchings == 1
    assert s.state.capacitors.tolist() == [1, 1]
    assert seen_v(engine, s.v_pu, "848") > seen_low
    s = engine.solve(at(engine.grid, 0.2), s.state)
    assert s.capacitor_switchings == 1
    assert s.state.capacitors.tolist() == [1, 0]
    assert s.source_q_mvar == pytest.approx(high.source_q_mvar, abs=1e-6)


def test_a_capacitor_waits_for_its_delay_and_switches_once_a_step() -> None:
    # a dead band narrower than the capacitor's own effect makes it hunt: once a step, no more
    engine = make_engine("threephase", switched(122.9, 123.0, delay_s=20.0))
    state, counts = engine.initial_state(), []
    for _ in range(5):
        s = engine.solve(at(engine.grid, 1.0), state, dt_s=10.0)
        state = s.state
        counts.append(s.capacitor_switchings)
    assert counts[0] == 0
    assert counts[1] == 1
    assert max(counts) == 1


def test_an_open_capacitor_gives_nothing() -> None:
    grid = switched(91.0, 149.0)
    none = replace(grid, capacitors=grid.capacitors[:1])
    a, b = make_engine("threephase", grid), make_engine("threephase", none)
    x = a.solve(at(grid, 1.0), a.initial_state())
    y = b.solve(at(none, 1.0), b.initial_state())
    np.testing.assert_allclose(x.v_pu, y.v_pu, atol=1e-9)


def test_batch_controls_act_as_single_ones() -> None:
    grid = replace(ieee34(delay_s=30.0), capacitors=switched(122.0, 124.0, 20.0).capacitors)
    single, batch = make_engine("threephase", grid), make_batch_engine("threephase", grid)
    rng = np.random.default_rng(8)
    n = 4
    states = [single.initial_state() for _ in range(n)]
    state = batch.initial_state(n)
    none = np.zeros((n, 0))
    acted = 0
    for _ in range(12):
        scale = rng.uniform(0.2, 1.2, (n, len(grid.loads)))
        result = batch.solve(scale, none, none, state, dt_s=10.0)
        state = result.state
        acted += int(result.tap_moves.sum() + result.capacitor_switchings.sum())
        for k in range(n):
            s = single.solve(Injections(scale[k], none[k], none[k]), states[k], dt_s=10.0)
            states[k] = s.state
            np.testing.assert_array_equal(state.taps[k], s.state.taps)
            np.testing.assert_array_equal(state.capacitors[k], s.state.capacitors)
            np.testing.assert_array_equal(state.waited_s[k], s.state.waited_s)
            np.testing.assert_allclose(result.v_pu[k], s.v_pu, atol=1e-9)
    assert acted > 0


def test_pandapower_refuses_controls_that_it_cannot_follow() -> None:
    with pytest.raises(ConfigError, match="capacitor"):
        make_engine("pandapower", switched(120.0, 124.0))
    with pytest.raises(ConfigError, match="delay"):
        make_engine("pandapower", ieee34(delay_s=30.0))


def test_setup_gives_a_capacitor_its_control() -> None:
    raw = read_setup("ieee34_ieee13").config.model_dump()
    raw["dso_config"]["capacitor_controls"] = {
        "c848": {"on_v": 119.0, "off_v": 126.0, "pt_ratio": 120.0}
    }
    grid = compose(SetupConfig.model_validate(raw))
    assert [c.control is not None for c in grid.capacitors] == [False, True]
    raw["dso_config"]["capacitor_controls"]["c999"] = raw["dso_config"]["capacitor_controls"][
        "c848"
    ]
    with pytest.raises(ConfigError, match=r"c999.*expected one of c844, c848"):
        compose(SetupConfig.model_validate(raw))
    del raw["dso_config"]["capacitor_controls"]["c999"]
    raw["dso_config"]["capacitors"] = False
    with pytest.raises(ConfigError, match="capacitors is false"):
        compose(SetupConfig.model_validate(raw))


def test_limits_that_cross_are_refused() -> None:
    with pytest.raises(ValidationError, match="must be below"):
        CapacitorControl(on_v=125.0, off_v=120.0, pt_ratio=120.0)
    with pytest.raises(ValidationError):
        RegulatorControl(v_set=122.0, bandwidth_v=0.0, pt_ratio=120.0, ct_primary_a=100.0)
