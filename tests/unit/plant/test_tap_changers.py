"""Tap changers that devices command: range, speed, number of moves, own control, every engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from heron.errors import PlantError, PowerFlowDiverged
from heron.powergrid.accounting import account
from heron.powergrid.device_configs import TransformerConfig
from heron.powergrid.quantities import ClipReason, Setpoint
from heron.powergrid.setups import Setup, SetupConfig, as_setup, load_setup, read_setup
from simulator import BatchPlant, Plant
from simulator.physics import TapChangerPhysics
from simulator.physics.transformer import TapState

ENGINES = ["threephase", "balanced", "pandapower", "lightsim2grid"]
NOON = 170 * 86_400.0 + 12 * 3600.0


def setup_with(*configs: dict[str, Any]) -> Setup:
    plain = load_setup("single_microgrid")
    plain["microgrid_configs"][0]["devices"] += [
        {"type": "Transformer", "name": f"oltc{k}", "device_state_config": config}
        for k, config in enumerate(configs)
    ]
    return as_setup(plain)


def head(**changes: Any) -> dict[str, Any]:
    return {"bus": "Bus 650", "element": "head", **changes}


def at(tap: int | None) -> dict[str, Setpoint]:
    return {"oltc0": Setpoint(0.0, 0.0, tap)}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_higher_tap_raises_the_voltage_behind_it_by_its_step(engine: str) -> None:
    plant = Plant(setup_with(head()), engine)
    start = plant.measurements.devices["oltc0"]
    assert start.tap == 0
    up = plant.step(at(4), 900.0)
    assert up.devices["oltc0"].tap == 4
    assert up.devices["oltc0"].v_pu / start.v_pu == pytest.approx(1.0 + 4 * 0.00625, abs=2e-3)
    assert up.devices["oltc0"].loading_pct > 0.0
    assert up.devices["oltc0"].p_mw == 0.0
    down = plant.step(at(-4), 900.0)
    assert down.devices["oltc0"].v_pu < start.v_pu < up.devices["oltc0"].v_pu
    assert (up.tap_moves, down.tap_moves) == (4, 8)


def test_engines_agree_on_what_a_commanded_tap_does() -> None:
    setup = setup_with(head(), {"bus": "Bus 671", "element": "reg650"})
    seen = []
    for engine in ("balanced", "pandapower", "lightsim2grid"):
        plant = Plant(setup, engine)
        plant.reset(start_s=NOON)
        m = plant.step({"oltc0": Setpoint(0, 0, -3), "oltc1": Setpoint(0, 0, 5)}, 900.0)
        seen.append([d.v_pu for d in m.devices.values()])
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-6)
    np.testing.assert_allclose(seen[0], seen[2], atol=1e-6)


def test_a_tap_stays_where_it_was_told_to_and_moves_cost_their_wear() -> None:
    setup = setup_with(head(tap_cost_usd=2.5))
    plant = Plant(setup)
    before = plant.measurements
    after = plant.step(at(3), 900.0)
    assert account(setup, before, after).agents["MG1"].device_cost_usd["oltc0"] == 7.5
    later = plant.step({}, 900.0)
    assert later.devices["oltc0"].tap == 3
    assert account(setup, after, later).agents["MG1"].device_cost_usd["oltc0"] == 0.0
    assert later.setpoints["oltc0"] == Setpoint(0.0, 0.0, 3)


def test_beyond_the_range_it_goes_to_the_end_and_says_so() -> None:
    plant = Plant(setup_with(head(tap_min=-2, tap_max=5)))
    m = plant.step(at(9), 900.0)
    assert m.devices["oltc0"].tap == 5
    (clip,) = m.clipped
    assert clip.applied.tap == 5
    assert clip.reasons == (ClipReason.TAP_RANGE,)


def test_moves_take_their_time_however_time_is_cut() -> None:
    setup = setup_with(head(tap_time_s=7.0))
    coarse, fine = Plant(setup), Plant(setup)
    coarse.step(at(-9), 40.0)
    for _ in range(40):
        last = fine.step(at(-9), 1.0)
    assert coarse.measurements.devices["oltc0"].tap == last.devices["oltc0"].tap == -5
    assert last.clipped[0].reasons == (ClipReason.TAP_MOVES,)
    assert fine.step({}, 2.0).devices["oltc0"].tap == -6


@given(
    cuts=st.lists(st.integers(1, 400), min_size=1, max_size=12),
    move_s=st.sampled_from([0.0, 1.0, 7.0, 90.0]),
    most=st.sampled_from([None, 1, 3]),
    interval_s=st.sampled_from([60.0, 250.0]),
    start_s=st.integers(0, 500),
)
@settings(max_examples=200, deadline=None)
def test_mechanism_does_not_mind_how_time_is_cut(
    cuts: list[int], move_s: float, most: int | None, interval_s: float, start_s: int
) -> None:
    config = TransformerConfig(
        element="head",
        tap_time_s=move_s,
        max_tap_moves=most,
        tap_moves_interval_s=interval_s,
    )
    physics = TapChangerPhysics([config])
    target = np.array([14])

    def run(lengths: list[int]) -> tuple[int, TapState]:
        taps, state, now = np.array([-14]), physics.initial_state(()), float(start_s)
        for length in lengths:
            taps, state, _ = physics.advance(state, taps, target, now, float(length))
            now += length
        return int(taps[0]), state

    whole, cut = run([sum(cuts)]), run(cuts)
    assert whole[0] == cut[0]
    assert whole[1].used[0] == cut[1].used[0]
    assert whole[1].under_way_s[0] == pytest.approx(cut[1].under_way_s[0], abs=1e-6)
    if most is not None:
        intervals = math.floor((start_s + sum(cuts) - 1) / interval_s) - start_s // interval_s + 1
        assert whole[0] + 14 <= most * intervals


def test_moves_are_counted_in_intervals_of_the_clock() -> None:
    plant = Plant(setup_with(head(max_tap_moves=2, tap_moves_interval_s=3600.0)))
    plant.reset(start_s=1800.0)
    taps = [plant.step(at(8), 900.0).devices["oltc0"].tap for _ in range(7)]
    assert taps == [2, 2, 4, 4, 4, 4, 6]


def test_left_to_itself_it_stays_or_regulates_if_it_can() -> None:
    plain = Plant(setup_with(head(init_tap=-10)))
    plain.reset(start_s=NOON)
    assert plain.step(at(None), 900.0).devices["oltc0"].tap == -10
    control = {"v_set_pu": 1.02, "bandwidth_pu": 0.0125}
    own = Plant(setup_with(head(local_control=control)))
    assert own.measurements.setpoints["oltc0"].tap is None
    for start_s in (0.0, NOON):
        m = own.reset(start_s=start_s)
        assert abs(m.devices["oltc0"].v_pu - 1.02) <= 0.00625
    away = own.step(at(-12), 900.0)
    assert away.devices["oltc0"].tap == -12
    back = own.step(at(None), 900.0)
    assert abs(back.devices["oltc0"].v_pu - 1.02) <= 0.00625
    assert back.clipped == ()


def test_its_own_control_waits_out_its_delay_and_obeys_the_mechanism() -> None:
    control = {"v_set_pu": 1.02, "bandwidth_pu": 0.0125, "delay_s": 60.0}
    plant = Plant(setup_with(head(local_control=control, tap_time_s=10.0)))
    plant.step(at(-12), 900.0)
    taps = [plant.step(at(None), 20.0).devices["oltc0"].tap for _ in range(6)]
    assert taps == [-12, -12, -10, -8, -6, -4]


@pytest.mark.parametrize("engine", ["threephase", "balanced"])
def test_batch_moves_taps_as_single_plants_do(engine: str) -> None:
    control = {"v_set_pu": 1.01, "bandwidth_pu": 0.0125, "delay_s": 900.0}
    setup = setup_with(
        head(local_control=control, tap_time_s=200.0),
        {"element": "reg650", "bus": "Bus 671", "max_tap_moves": 3, "tap_moves_interval_s": 5e3},
    )
    ids, starts = setup.config.device_ids, np.array([0.0, NOON, 300 * 86_400.0 + 61.0])
    batch, singles = BatchPlant(setup, 3, engine), [Plant(setup, engine) for _ in starts]
    batch.reset(starts)
    for plant, start in zip(singles, starts.tolist(), strict=True):
        plant.reset(start_s=start)
    rng = np.random.default_rng(5)
    p, q = rng.uniform(-0.2, 0.4, (2, 12, 3, len(ids)))
    tapped = [name.startswith("oltc") for name in ids]
    for step in range(12):
        dt_s = float(rng.choice([60.0, 900.0, 3600.0]))
        taps = np.where(tapped, rng.integers(-16, 17, (3, len(ids))), np.nan)
        taps[rng.random(taps.shape) < 0.4] = np.nan
        together = batch.step(p[step], q[step], dt_s, taps)
        for k, plant in enumerate(singles):
            asked = {
                name: Setpoint(a, b, None if math.isnan(t) else int(t))
                for name, a, b, t in zip(ids, p[step, k], q[step, k], taps[k], strict=True)
            }
            devices = plant.step(asked, dt_s)
            shown = list(devices.devices.values())
            tap = np.array([d.tap for d in shown], dtype=float)
            loading = np.array([d.loading_pct for d in shown], dtype=float)
            np.testing.assert_array_equal(together.tap[k], tap)
            np.testing.assert_allclose(together.loading_pct[k], loading, atol=1e-9)
            np.testing.assert_allclose(together.v_pu[k, :, 0], [d.v_pu for d in shown], atol=1e-9)
            assert together.tap_moves[k] == devices.tap_moves
            clipped = {c.device_id for c in devices.clipped}
            assert clipped == set(np.array(ids)[together.reasons[k] != 0])


def test_a_step_that_fails_leaves_the_taps_alone() -> None:
    setup = setup_with(head())
    plant = Plant(setup)
    plant.step(at(2), 900.0)
    state = plant.state
    solve = plant.engine.solve

    def failing(*args: Any, **kwargs: Any) -> Any:
        raise PowerFlowDiverged("no solution")

    plant.engine.solve = failing  # type: ignore[method-assign]
    with pytest.raises(PowerFlowDiverged):
        plant.step(at(7), 900.0)
    plant.engine.solve = solve  # type: ignore[method-assign]
    assert plant.state is state
    batch = BatchPlant(setup, 2)
    rest, calm = np.zeros((2, len(setup.config.device_ids))), batch._engine.solve
    taps = np.full(rest.shape, np.nan)
    taps[:, -1] = 2.0
    batch.step(rest, rest, 900.0, taps)

    def half(load_scale: Any, p_mw: Any, *args: Any, **kwargs: Any) -> Any:
        return calm(load_scale, p_mw - np.array([[0.0], [1e5]]), *args, **kwargs)

    batch._engine.solve = half  # type: ignore[method-assign]
    taps[:, -1] = 6.0
    seen = batch.step(rest, rest, 900.0, taps)
    assert seen.solved.tolist() == [True, False]
    assert seen.tap[:, -1].tolist() == [6.0, 2.0]
    batch._engine.solve = calm  # type: ignore[method-assign]
    after = batch.step(rest, rest, 900.0, np.where(np.isnan(taps), np.nan, 3.0))
    assert after.tap_moves.tolist() == [3, 1]


def test_bad_taps_are_named_before_anything_moves() -> None:
    plant = Plant(setup_with(head()))
    before = plant.measurements
    bad = {"gen1": Setpoint(0.2, 0.0, 3), "oltc0": Setpoint(0.0)._replace(tap=0.5)}  # type: ignore[arg-type]
    with pytest.raises(PlantError, match=r"gen1.tap = 3: it has no.*oltc0.tap = 0.5: expected a w"):
        plant.step(bad, 900.0)
    assert plant.measurements is before
    batch = BatchPlant(plant.setup, 2)
    p = np.zeros((2, len(plant.setup.config.device_ids)))
    with pytest.raises(PlantError, match=r"tap_set\[1\] of gen1 = 2.0"):
        batch.step(p, p, 900.0, np.where([[False] * p.shape[1], [True] + [False] * 3], 2.0, np.nan))
    with pytest.raises(PlantError, match="tap_set: expected the shape"):
        batch.step(p, p, 900.0, np.zeros((2, 1)))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tap_min": 3, "tap_max": 1}, "tap.tap_min, tap.tap_max = "),
        ({"init_tap": 17}, "init_tap 17 is outside -16 to 16"),
        ({"safe_tap": -17}, "safe_tap -17 is outside"),
        ({"local_control": {"bandwidth_pu": 0.005}}, "narrower than a step"),
        ({"max_tap_moves": 0}, "greater than or equal to 1"),
    ],
)
def test_limits_that_cross_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TransformerConfig(element="head", **changes)


def test_without_a_bus_it_reads_the_output_of_its_element() -> None:
    plain = setup_with({"element": "head"}, {"element": "DSO reg650"}).config.model_dump()
    del plain["dso_config"]["regulators"]["reg650"]
    plant = Plant(Setup(SetupConfig.model_validate(plain), read_setup("single_microgrid").profiles))
    buses = {d.device_id: (d.bus, d.phases) for d in plant.grid.devices}
    assert buses["oltc0"] == ("MG1 Bus 650", "abc")
    assert buses["oltc1"][0].startswith("DSO Bus ")
    before = plant.measurements.devices
    after = plant.step({"oltc1": Setpoint(0.0, 0.0, before["oltc1"].tap or 0)}, 900.0).devices
    assert after["oltc1"].v_pu == pytest.approx(before["oltc1"].v_pu, abs=1e-6)
    lifted = plant.step({"oltc1": Setpoint(0.0, 0.0, 8)}, 900.0).devices
    assert lifted["oltc1"].v_pu > after["oltc1"].v_pu + 0.02
    assert lifted["ess1"].v_pu > after["ess1"].v_pu
