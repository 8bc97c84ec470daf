"""Device physics: hand-computed cases, energy balance, and independence of the step length."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heron.errors import ConfigError
from heron.powergrid.device_configs import (
    ControllableLoadConfig,
    DeviceConfig,
    EVChargerConfig,
    GeneratorConfig,
    PVConfig,
    StorageConfig,
    TransformerConfig,
    WindTurbineConfig,
)
from heron.powergrid.quantities import ClipReason
from simulator.physics import (
    Advance,
    Ambient,
    DevicePhysics,
    PhysicsState,
    add_physics,
    physics_class,
    reasons_of,
)

HOUR = 3600.0
BUS = "Bus 633"
BATTERY = StorageConfig(
    bus=BUS, e_capacity_mwh=2.0, p_max_mw=0.5, p_min_mw=-0.5, ch_eff=0.9, dsc_eff=0.8
)


def physics(*configs: DeviceConfig) -> DevicePhysics[Any]:
    return physics_class(type(configs[0]))(configs)


def go(
    device: DevicePhysics[Any],
    state: PhysicsState,
    p: float,
    q: float = 0.0,
    dt_s: float = HOUR,
    profile: float = 1.0,
    time_s: float = 0.0,
) -> Advance:
    ones = np.ones(device.n)
    return device.advance(state, p * ones, q * ones, Ambient(time_s, dt_s, profile * ones))


def reasons(done: Advance) -> set[ClipReason]:
    return set(reasons_of(int(np.broadcast_to(done.reasons, done.p_mw.shape)[0])))


def run(
    device: DevicePhysics[Any], p: float, cuts: Sequence[float], **kwargs: float
) -> tuple[float, PhysicsState]:
    """Return the energy injected (MWh) over consecutive steps, and the last state."""
    state, energy, at = device.initial_state(), 0.0, kwargs.pop("time_s", 0.0)
    for dt_s in cuts:
        done = go(device, state, p, dt_s=dt_s, time_s=at, **kwargs)
        energy += float(done.p_mw[0]) * dt_s / HOUR
        state, at = done.state, at + dt_s
    return energy, state


class TestStorage:
    def test_discharging_injects_and_drains_by_the_efficiency(self) -> None:
        battery = physics(BATTERY)
        done = go(battery, battery.initial_state(), 0.4)
        assert done.p_mw[0] == 0.4
        # 0.5 - 0.4 MW * 1 h / 0.8 / 2 MWh
        assert done.state["soc"][0] == pytest.approx(0.25, abs=1e-12)
        assert reasons(done) == set()

    def test_charging_draws_and_stores_less_than_it_draws(self) -> None:
        battery = physics(BATTERY)
        done = go(battery, battery.initial_state(), -0.4, dt_s=HOUR / 4)
        assert done.p_mw[0] == -0.4
        assert done.state["soc"][0] == pytest.approx(0.5 + 0.4 * 0.25 * 0.9 / 2.0, abs=1e-12)

    def test_an_almost_empty_battery_gives_what_is_left(self) -> None:
        battery = physics(BATTERY)
        state = {**battery.initial_state(), "soc": np.array([0.2])}
        done = go(battery, state, 0.5)
        assert done.p_mw[0] == pytest.approx((0.2 - 0.1) * 2.0 * 0.8)
        assert done.state["soc"][0] == 0.1
        assert reasons(done) == {ClipReason.STATE_OF_CHARGE}

    def test_a_full_battery_takes_nothing(self) -> None:
        battery = physics(BATTERY)
        done = go(battery, {**battery.initial_state(), "soc": np.array([0.9])}, -0.5)
        assert done.p_mw[0] == 0.0
        assert done.state["soc"][0] == 0.9

    def test_active_power_comes_first_in_the_circle(self) -> None:
        battery = physics(BATTERY.model_copy(update={"s_rated_mva": 0.5, "q_max_mvar": 0.5}))
        done = go(battery, battery.initial_state(), 0.3, q=0.45)
        assert (done.p_mw[0], done.q_mvar[0]) == (0.3, pytest.approx(0.4))
        assert reasons(done) == {ClipReason.APPARENT_POWER}

    def test_self_discharge_takes_its_share_each_hour(self) -> None:
        battery = physics(BATTERY.model_copy(update={"self_discharge_per_h": 0.1}))
        _, state = run(battery, 0.0, [HOUR, HOUR / 2, HOUR / 2])
        assert state["soc"][0] == pytest.approx(0.5 * 0.9**2, abs=1e-12)

    @settings(max_examples=200, deadline=None)
    @given(
        soc=st.floats(0.1, 0.9),
        p=st.floats(-2.0, 2.0),
        dt_s=st.floats(1.0, HOUR),
        ch_eff=st.floats(0.5, 1.0),
        dsc_eff=st.floats(0.5, 1.0),
    )
    def test_energy_balance_holds_and_the_window_too(
        self, soc: float, p: float, dt_s: float, ch_eff: float, dsc_eff: float
    ) -> None:
        config = BATTERY.model_copy(update={"ch_eff": ch_eff, "dsc_eff": dsc_eff})
        battery = physics(config)
        state = {**battery.initial_state(), "soc": np.array([soc])}
        done = go(battery, state, p, dt_s=dt_s)
        p_mw, after = float(done.p_mw[0]), float(done.state["soc"][0])
        drawn_mw = p_mw / dsc_eff if p_mw > 0 else p_mw * ch_eff
        assert (after - soc) * 2.0 == pytest.approx(-drawn_mw * dt_s / HOUR, abs=1e-9)
        assert 0.1 <= after <= 0.9
        assert abs(p_mw) <= min(0.5, abs(p)) + 1e-12
        assert p_mw * p >= 0.0

    @settings(max_examples=60, deadline=None)
    @given(
        p=st.floats(-0.7, 0.7),
        cuts=st.lists(st.floats(1.0, HOUR), min_size=2, max_size=10),
        decay=st.sampled_from([0.0, 0.05]),
    )
    def test_energy_does_not_depend_on_the_step_length(
        self, p: float, cuts: list[float], decay: float
    ) -> None:
        battery = physics(BATTERY.model_copy(update={"self_discharge_per_h": decay}))
        fine, state_fine = run(battery, p, [x for dt in cuts for x in (dt / 3, 2 * dt / 3)])
        coarse, state_coarse = run(battery, p, cuts)
        once, state_once = run(battery, p, [sum(cuts)])
        if decay == 0.0:
            assert fine == pytest.approx(coarse, abs=1e-9)
            assert fine == pytest.approx(once, abs=1e-9)
            np.testing.assert_allclose(state_fine["soc"], state_once["soc"], atol=1e-9)
        elif 0.1 < state_once["soc"][0] < 0.9 and 0.1 < state_fine["soc"][0] < 0.9:
            np.testing.assert_allclose(state_fine["soc"], state_coarse["soc"], atol=1e-9)


class TestGenerator:
    config = GeneratorConfig(
        bus=BUS, p_max_mw=1.0, p_min_mw=0.2, q_min_mvar=-0.1, q_max_mvar=0.5, s_rated_mva=1.0
    )

    @pytest.mark.parametrize(
        ("p", "q", "applied", "why"),
        [
            (0.6, 0.1, (0.6, 0.1), set()),
            (0.0, 0.0, (0.2, 0.0), {ClipReason.POWER_LIMIT}),
            (3.0, 0.2, (1.0, 0.0), {ClipReason.POWER_LIMIT, ClipReason.APPARENT_POWER}),
            (0.6, -0.3, (0.6, -0.1), {ClipReason.POWER_LIMIT}),
            (0.6, 0.9, (0.6, 0.5), {ClipReason.POWER_LIMIT}),
        ],
    )
    def test_limits(
        self, p: float, q: float, applied: tuple[float, float], why: set[ClipReason]
    ) -> None:
        generator = physics(self.config)
        done = go(generator, generator.initial_state(), p, q)
        assert (done.p_mw[0], done.q_mvar[0]) == pytest.approx(applied)
        assert reasons(done) == why

    def test_ramp_reaches_as_far_as_the_time_allows(self) -> None:
        generator = physics(self.config.model_copy(update={"ramp_mw_per_min": 0.01}))
        done = go(generator, generator.initial_state(), 1.0, dt_s=600.0)
        assert done.state["p_mw"][0] == pytest.approx(0.3)
        assert done.p_mw[0] == pytest.approx(0.25)
        assert reasons(done) == {ClipReason.RAMP}

    def test_ramp_that_arrives_gives_the_exact_mean(self) -> None:
        generator = physics(self.config.model_copy(update={"ramp_mw_per_min": 0.1}))
        done = go(generator, generator.initial_state(), 0.8, dt_s=900.0)
        # 6 minutes from 0.2 to 0.8, then 9 minutes at 0.8.
        assert done.p_mw[0] == pytest.approx((6 * 0.5 + 9 * 0.8) / 15)
        assert reasons(done) == set()

    @settings(max_examples=60, deadline=None)
    @given(p=st.floats(0.0, 1.2), cuts=st.lists(st.floats(1.0, HOUR), min_size=2, max_size=10))
    def test_ramping_energy_does_not_depend_on_the_step_length(
        self, p: float, cuts: list[float]
    ) -> None:
        generator = physics(self.config.model_copy(update={"ramp_mw_per_min": 0.01}))
        fine, _ = run(generator, p, cuts)
        once, _ = run(generator, p, [sum(cuts)])
        assert fine == pytest.approx(once, abs=1e-9)

    def committed(self) -> DevicePhysics[Any]:
        update = {"unit_commitment": True, "startup_time_hr": 0.5, "shutdown_time_hr": 0.25}
        return physics(self.config.model_copy(update=update))

    def test_stop_takes_its_time_at_the_minimum_and_then_gives_nothing(self) -> None:
        generator = self.committed()
        first = go(generator, generator.initial_state(), 0.0, q=0.1, dt_s=600.0)
        assert first.p_mw[0] == pytest.approx(0.2)
        assert ClipReason.MINIMUM_TIME in reasons(first)
        second = go(generator, first.state, 0.0, q=0.1, dt_s=600.0)
        assert second.p_mw[0] == pytest.approx(0.2 * 300 / 600)
        assert second.state["on"][0] == 0.0
        third = go(generator, second.state, 0.0, q=0.1, dt_s=600.0)
        assert (third.p_mw[0], third.q_mvar[0]) == (0.0, 0.0)
        assert ClipReason.MINIMUM_TIME not in reasons(third)

    def test_start_gives_nothing_until_its_time_is_over(self) -> None:
        generator = self.committed()
        off: PhysicsState = {
            "p_mw": np.zeros(1),
            "on": np.zeros(1),
            "wait_s": np.zeros(1),
        }
        first = go(generator, off, 0.8, dt_s=900.0)
        assert first.p_mw[0] == 0.0
        assert reasons(first) == {ClipReason.MINIMUM_TIME}
        second = go(generator, first.state, 0.8, dt_s=1200.0)
        assert second.p_mw[0] == pytest.approx(0.8 * 300 / 1200)
        assert second.state["on"][0] == 1.0

    @settings(max_examples=40, deadline=None)
    @given(
        p=st.sampled_from([0.0, 0.5, 1.0]),
        on=st.booleans(),
        cuts=st.lists(st.floats(1.0, HOUR), min_size=2, max_size=8),
    )
    def test_commitment_energy_does_not_depend_on_the_step_length(
        self, p: float, on: bool, cuts: list[float]
    ) -> None:
        generator = self.committed()
        start = {**generator.initial_state(), "on": np.array([float(on)])}
        start["p_mw"] = start["p_mw"] * on
        total = 0.0
        state: PhysicsState = start
        for dt_s in cuts:
            done = go(generator, state, p, dt_s=dt_s)
            total += float(done.p_mw[0]) * dt_s
            state = done.state
        once = go(generator, start, p, dt_s=sum(cuts))
        assert total == pytest.approx(float(once.p_mw[0]) * sum(cuts), abs=1e-6)


class TestWeather:
    @pytest.mark.parametrize("model", [PVConfig, WindTurbineConfig])
    def test_set_point_is_a_ceiling(self, model: type[PVConfig]) -> None:
        source = physics(model(bus=BUS, p_rated_mw=0.5))
        curtailed = go(source, source.initial_state(), 0.1, profile=0.6)
        free = go(source, source.initial_state(), 0.5, profile=0.6)
        assert (curtailed.p_mw[0], free.p_mw[0]) == (0.1, pytest.approx(0.3))
        assert free.available_mw is not None
        assert free.available_mw[0] == pytest.approx(0.3)
        assert reasons(curtailed) == reasons(free) == set()

    def test_no_sun_gives_no_power_but_reactive_power_stays(self) -> None:
        source = physics(PVConfig(bus=BUS, p_rated_mw=0.5))
        done = go(source, source.initial_state(), 0.5, q=-0.1, profile=0.0)
        assert (done.p_mw[0], done.q_mvar[0]) == (0.0, -0.1)

    def test_what_is_impossible_is_cut_and_said(self) -> None:
        source = physics(PVConfig(bus=BUS, p_rated_mw=0.5))
        done = go(source, source.initial_state(), -0.2, q=9.0)
        assert (done.p_mw[0], done.q_mvar[0]) == (0.0, pytest.approx(0.3 * 0.55))
        assert reasons(done) == {ClipReason.POWER_LIMIT}


class TestControllableLoad:
    config = ControllableLoadConfig(bus=BUS, p_rated_mw=0.2, power_factor=0.8, sheddable=0.25)

    @pytest.mark.parametrize(
        ("asked", "served", "why"),
        [(-0.2, -0.1, set()), (-0.09, -0.09, set()), (0.0, -0.075, {ClipReason.POWER_LIMIT})],
    )
    def test_it_draws_and_can_shed_its_share(
        self, asked: float, served: float, why: set[ClipReason]
    ) -> None:
        load = physics(self.config)
        done = go(load, load.initial_state(), asked, profile=0.5)
        assert done.p_mw[0] == pytest.approx(served)
        assert done.q_mvar[0] == pytest.approx(served * 0.75)
        assert reasons(done) == why


class TestEVCharger:
    config = EVChargerConfig(
        bus=BUS,
        e_capacity_mwh=0.06,
        p_max_charge_mw=0.01,
        arrival_hour=18.0,
        departure_hour=7.0,
        ch_eff=1.0,
        v2g=True,
        dsc_eff=1.0,
    )

    def test_it_charges_only_while_a_car_is_there(self) -> None:
        charger = physics(self.config)
        empty = go(charger, charger.initial_state(), -0.01, time_s=12 * HOUR)
        assert empty.p_mw[0] == 0.0
        assert reasons(empty) == {ClipReason.AVAILABILITY}
        assert empty.connected is not None
        assert not empty.connected[0]
        there = go(charger, charger.initial_state(), -0.01, time_s=20 * HOUR)
        assert there.p_mw[0] == -0.01
        assert there.state["soc"][0] == pytest.approx(0.4 + 0.01 / 0.06)

    def test_car_that_comes_in_mid_step_charges_for_the_rest(self) -> None:
        charger = physics(self.config)
        state = {**charger.initial_state(), "soc": np.array([0.99])}
        done = go(charger, state, -0.01, time_s=17.5 * HOUR)
        assert done.p_mw[0] == pytest.approx(-0.005)
        assert done.state["soc"][0] == pytest.approx(0.4 + 0.005 / 0.06)

    def test_full_car_takes_no_more(self) -> None:
        charger = physics(self.config)
        done = go(charger, {**charger.initial_state(), "soc": np.ones(1)}, -0.01, time_s=0.0)
        assert done.p_mw[0] == 0.0
        assert reasons(done) == {ClipReason.STATE_OF_CHARGE}

    @settings(max_examples=60, deadline=None)
    @given(
        start_h=st.floats(0.0, 24.0),
        p=st.floats(-0.01, 0.01),
        n=st.integers(1, 40),
    )
    def test_energy_does_not_depend_on_the_step_length(
        self, start_h: float, p: float, n: int
    ) -> None:
        charger = physics(self.config)
        cuts = [900.0] * n
        fine, state = run(charger, p, [450.0] * (2 * n), time_s=start_h * HOUR)
        coarse, state_coarse = run(charger, p, cuts, time_s=start_h * HOUR)
        assert fine == pytest.approx(coarse, abs=1e-9)
        np.testing.assert_allclose(state["soc"], state_coarse["soc"], atol=1e-9)


def test_transformer_injects_nothing() -> None:
    transformer = physics(TransformerConfig(bus=BUS, element="reg1"))
    done = go(transformer, transformer.initial_state(), 1.0, 1.0)
    assert (done.p_mw[0], done.q_mvar[0]) == (0.0, 0.0)


def test_many_scenarios_give_what_each_gives_alone() -> None:
    rng = np.random.default_rng(5)
    configs = [BATTERY, BATTERY.model_copy(update={"s_rated_mva": 0.3, "q_max_mvar": 0.3})]
    battery = physics(*configs)
    soc = rng.uniform(0.1, 0.9, (16, 2))
    p, q = rng.uniform(-1, 1, (2, 16, 2))
    both = battery.advance(
        {"p_mw": np.zeros((16, 2)), "soc": soc}, p, q, Ambient(0.0, 900.0, np.ones((16, 2)))
    )
    for k in range(16):
        alone = battery.advance(
            {"p_mw": np.zeros(2), "soc": soc[k]}, p[k], q[k], Ambient(0.0, 900.0, np.ones(2))
        )
        np.testing.assert_array_equal(both.p_mw[k], alone.p_mw)
        np.testing.assert_array_equal(both.q_mvar[k], alone.q_mvar)
        np.testing.assert_array_equal(both.state["soc"][k], alone.state["soc"])
        np.testing.assert_array_equal(np.broadcast_to(both.reasons, (16, 2))[k], alone.reasons)


def test_users_device_brings_its_own_physics() -> None:
    class ElectrolyserConfig(DeviceConfig):
        pass

    class ElectrolyserPhysics(DevicePhysics[ElectrolyserConfig]):
        def idle(self) -> Any:
            return np.zeros(self.n), np.zeros(self.n)

        def advance(self, state: Any, p_set_mw: Any, q_set_mvar: Any, ambient: Any) -> Advance:
            return Advance(p_set_mw, q_set_mvar, state, np.zeros(self.n, dtype=np.int64))

    with pytest.raises(ConfigError, match="ElectrolyserConfig"):
        physics_class(ElectrolyserConfig)
    add_physics(ElectrolyserConfig, ElectrolyserPhysics)
    assert physics_class(ElectrolyserConfig) is ElectrolyserPhysics
    with pytest.raises(ValueError, match="has physics already"):
        add_physics(PVConfig.__mro__[1], ElectrolyserPhysics)  # type: ignore[arg-type]
