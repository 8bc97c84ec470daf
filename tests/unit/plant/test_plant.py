"""The plant on the shipped setup: signs, balance, exact repetition, and failing safe."""

import math

import numpy as np
import pytest

from heron.errors import ConfigError, PlantError, PowerFlowDiverged
from heron.powergrid.quantities import ClipReason, Measurements, Setpoint
from heron.powergrid.setups import Setup, as_setup, load_setup, read_setup
from simulator import Plant
from simulator.engines import GridState, Injections, Solution

NOON = 150 * 86_400.0 + 12 * 3600.0


@pytest.fixture(scope="module")
def setup() -> Setup:
    return read_setup("ieee34_ieee13")


@pytest.fixture
def plant(setup: Setup) -> Plant:
    plant = Plant(setup)
    plant.reset(start_s=NOON)
    return plant


def random_setpoints(setup: Setup, rng: np.random.Generator) -> dict[str, Setpoint]:
    ranges = {d: setup.config.device(d).device_state_config for d in setup.config.device_ids}
    return {
        name: Setpoint(rng.uniform(*c.p_range_mw), rng.uniform(*c.q_range_mvar))
        for name, c in ranges.items()
    }


def test_reset_shows_idle_devices_at_that_instant(plant: Plant) -> None:
    now = plant.measurements
    assert (now.step, now.time_s, now.dt_s, now.tap_moves) == (0, NOON, 0.0, 0)
    assert now.devices["gen1"].p_mw == 0.15
    assert now.devices["ess1"].soc == 0.5
    sun = plant.setup.profiles.mean("PV3", NOON, 0.0)
    assert now.devices["pv2"].p_mw == now.devices["pv2"].available_mw == pytest.approx(sun)
    assert now.price_usd_per_mwh == plant.setup.profiles.mean("price", NOON, 0.0)
    assert now.setpoints["pv2"] == Setpoint(1.0, 0.0)


def test_step_shows_means_over_the_step_and_charge_at_its_end(plant: Plant) -> None:
    after = plant.step({"ess1": Setpoint(0.4), "pv2": Setpoint(0.05)}, 900.0)
    assert (after.step, after.time_s, after.dt_s) == (1, NOON + 900.0, 900.0)
    assert after.devices["ess1"].soc == pytest.approx(0.5 - 0.4 * 0.25 / 0.95 / 2.0, abs=1e-12)
    assert after.devices["pv2"].p_mw == 0.05
    assert after.price_usd_per_mwh == plant.setup.profiles.mean("price", NOON, 900.0)
    assert after.areas["DSO"].load_mw > 0.0


def test_positive_power_injects_for_every_device(plant: Plant) -> None:
    start = plant.state
    before = plant.step({}, 900.0)
    plant.restore(start)
    after = plant.step({"gen1": Setpoint(0.45), "ess3": Setpoint(0.3)}, 900.0)
    fed_in = 0.3 + 0.3
    head = after.meters["head"].p_mw - before.meters["head"].p_mw
    assert head == pytest.approx(-fed_in, rel=0.15)
    for name, rise in (("MG1", 0.3), ("MG3", 0.3)):
        assert after.meters[name].p_mw - before.meters[name].p_mw == pytest.approx(rise, abs=0.03)


def test_charging_is_negative_and_imports(plant: Plant) -> None:
    before = plant.step({}, 900.0).meters["MG1"].p_mw
    after = plant.step({"ess1": Setpoint(-0.4)}, 900.0)
    assert after.devices["ess1"].p_mw == -0.4
    assert after.meters["MG1"].p_mw < before - 0.3
    assert after.devices["ess1"].soc is not None
    assert after.devices["ess1"].soc > 0.5


def test_absorbing_reactive_power_lowers_the_voltage(plant: Plant) -> None:
    high = plant.step({"pv2": Setpoint(1.0, 0.3)}, 900.0).devices["pv2"].v_pu
    low = plant.step({"pv2": Setpoint(1.0, -0.3)}, 900.0).devices["pv2"].v_pu
    assert low < high


def test_power_balances_over_the_whole_network(setup: Setup) -> None:
    plant = Plant(setup)
    rng = np.random.default_rng(3)
    for day in (20, 200):
        plant.reset(start_s=day * 86_400.0)
        for _ in range(24):
            m = plant.step(random_setpoints(setup, rng), 3600.0)
            devices = sum(d.p_mw for d in m.devices.values())
            load = sum(a.load_mw for a in m.areas.values())
            # Some loads follow their voltage: the nominal demand is a few per cent off.
            assert m.meters["head"].p_mw + devices == pytest.approx(
                load + m.losses_mw, abs=0.1 * load
            )
            assert m.losses_mw > 0.0


def test_microgrid_meter_counts_export_without_its_own_loads(plant: Plant) -> None:
    m = plant.step({}, 900.0)
    inside = m.devices["gen2"].p_mw + m.devices["pv2"].p_mw - m.areas["MG2"].load_mw
    assert m.meters["MG2"].p_mw == pytest.approx(inside, abs=0.05)


def test_same_set_points_give_the_same_year(setup: Setup) -> None:
    def walk() -> list[Measurements]:
        plant = Plant(setup)
        rng = np.random.default_rng(7)
        plant.reset(seed=1, start_s=5 * 86_400.0)
        return [plant.step(random_setpoints(setup, rng), 900.0) for _ in range(40)]

    assert walk() == walk()


def test_device_without_a_new_set_point_keeps_its_last(plant: Plant) -> None:
    plant.step({"gen1": Setpoint(0.6, 0.1)}, 900.0)
    after = plant.step({"ess1": Setpoint(0.1)}, 900.0)
    assert after.setpoints["gen1"] == Setpoint(0.6, 0.1)
    assert after.devices["gen1"].p_mw == 0.6


def test_what_was_clipped_is_said(plant: Plant) -> None:
    after = plant.step({"gen1": Setpoint(7.0, 0.0), "ess1": Setpoint(0.2)}, 900.0)
    (clip,) = after.clipped
    assert (clip.device_id, clip.asked, clip.applied) == (
        "gen1",
        Setpoint(7.0, 0.0),
        Setpoint(1.0, 0.0),
    )
    assert clip.reasons == (ClipReason.POWER_LIMIT,)


def test_quarter_hours_and_hours_move_the_same_energy(setup: Setup) -> None:
    plant = Plant(setup)
    setpoints = {"ess1": Setpoint(0.5), "ess3": Setpoint(-0.4)}

    def run(dt_s: float, n: int) -> tuple[float, ...]:
        plant.reset(start_s=NOON)
        energy = np.zeros(7)
        for _ in range(n):
            m = plant.step(setpoints, dt_s)
            energy += np.array([d.p_mw for d in m.devices.values()]) * dt_s
        socs = [d.soc for d in m.devices.values() if d.soc is not None]
        return (*energy.tolist(), *socs)

    assert run(900.0, 16) == pytest.approx(run(3600.0, 4), abs=1e-9)
    assert run(60.0, 240) == pytest.approx(run(3600.0, 4), abs=1e-9)


class Failing:
    """Passes solves on until it is told to fail."""

    name = "failing"

    def __init__(self, plant: Plant) -> None:
        self._engine = plant.engine
        self.grid, self.nodes = plant.engine.grid, plant.engine.nodes
        self.fail = False

    def initial_state(self) -> GridState:
        return self._engine.initial_state()

    def solve(
        self,
        injections: Injections,
        state: GridState,
        *,
        move_taps: bool = True,
        dt_s: float = math.inf,
    ) -> Solution:
        if self.fail:
            raise PowerFlowDiverged("told to")
        return self._engine.solve(injections, state, move_taps=move_taps, dt_s=dt_s)


def test_step_that_does_not_solve_leaves_the_plant_as_it_was(plant: Plant, setup: Setup) -> None:
    engine = Failing(plant)
    shaky = Plant(setup, engine)
    shaky.reset(start_s=NOON)
    shaky.step({"ess1": Setpoint(0.3)}, 900.0)
    before = shaky.state
    engine.fail = True
    with pytest.raises(PowerFlowDiverged, match="told to") as caught:
        shaky.step({"ess1": Setpoint(-0.3)}, 900.0)
    assert caught.value.step == 2
    with pytest.raises(PowerFlowDiverged):
        shaky.reset(start_s=0.0)
    assert shaky.state is before
    engine.fail = False
    twin = Plant(setup)
    twin.reset(start_s=NOON)
    twin.step({"ess1": Setpoint(0.3)}, 900.0)
    assert shaky.step({}, 900.0) == twin.step({}, 900.0)


def test_restore_repeats_a_step_exactly(plant: Plant) -> None:
    plant.step({"gen1": Setpoint(0.5)}, 900.0)
    kept = plant.state
    first = plant.step({"pv2": Setpoint(0.0, -0.3)}, 900.0)
    plant.step({"gen1": Setpoint(1.0)}, 900.0)
    assert plant.restore(kept) == kept.measurements
    assert plant.step({"pv2": Setpoint(0.0, -0.3)}, 900.0) == first


def test_bad_set_points_are_reported_at_once_and_change_nothing(plant: Plant) -> None:
    before = plant.state
    with pytest.raises(PlantError) as caught:
        plant.step(
            {"gen1": Setpoint(math.nan), "ess1": Setpoint(0.1, math.inf), "ghost": Setpoint(0.0)},
            -1.0,
        )
    for part in ("dt_s = -1.0", "gen1.p_mw = nan", "ess1.q_mvar = inf", "ghost: no such device"):
        assert part in str(caught.value)
    assert plant.state is before


@pytest.mark.parametrize("start_s", [-1.0, math.nan, math.inf])
def test_reset_refuses_a_start_that_is_no_time(plant: Plant, start_s: float) -> None:
    with pytest.raises(PlantError, match="start_s"):
        plant.reset(start_s=start_s)


@pytest.mark.parametrize("engine", ["pandapower", "balanced"])
def test_balanced_engines_tell_the_same_story(setup: Setup, engine: str) -> None:
    plants = [Plant(setup, engine), Plant(setup, "threephase")]
    for plant in plants:
        plant.reset(start_s=NOON)
    balanced, unbalanced = (plant.step({"ess1": Setpoint(-0.4)}, 900.0) for plant in plants)
    assert balanced.devices["pv2"].p_mw == unbalanced.devices["pv2"].p_mw
    assert balanced.devices["pv2"].v_min_pu == balanced.devices["pv2"].v_max_pu
    assert balanced.devices["pv2"].v_pu == pytest.approx(unbalanced.devices["pv2"].v_pu, abs=0.03)
    assert balanced.meters["MG1"].p_mw == pytest.approx(unbalanced.meters["MG1"].p_mw, abs=0.03)
    assert balanced.losses_mw == pytest.approx(unbalanced.losses_mw, abs=0.03)


def test_unknown_engine_is_refused(setup: Setup) -> None:
    with pytest.raises(ConfigError, match="engine"):
        Plant(setup, "no-such-engine")


def test_violations_are_counted_in_the_setups_own_band(setup: Setup) -> None:
    plain = load_setup("ieee34_ieee13")
    plain["v_limits_pu"] = (0.98, 1.001)
    narrow = Plant(as_setup(plain))
    area = narrow.measurements.areas["DSO"]
    v = np.abs(narrow.engine.solve(*_injections(narrow)).v_pu)
    monitored = [
        k
        for k, (bus, _) in enumerate(narrow.engine.nodes)
        if narrow.grid.bus_by_name[bus].monitored and narrow.grid.bus_by_name[bus].area == "DSO"
    ]
    expected = np.maximum(v[monitored] - 1.001, 0.0)
    assert area.overvoltage_pu == pytest.approx(expected.sum(), abs=1e-5)
    assert area.violating_nodes == (expected > 0).sum() > 0


def _injections(plant: Plant) -> tuple[Injections, GridState]:
    profiles, m = plant.setup.profiles, plant.measurements
    dealt = dict.fromkeys(plant.grid.areas, 0)
    names = {"DSO": plant.setup.config.dso_config.load_profiles}
    names |= {mg.name: mg.load_profiles for mg in plant.setup.config.microgrid_configs}
    scale = []
    for load in plant.grid.loads:
        own = names[load.area]
        scale.append(profiles.mean(own[dealt[load.area] % len(own)], 0.0, 0.0))
        dealt[load.area] += 1
    p = np.array([d.p_mw for d in m.devices.values()])
    return Injections(np.array(scale), p, np.zeros(7)), plant.state.grid
