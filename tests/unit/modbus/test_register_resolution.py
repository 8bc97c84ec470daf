"""A trip through the registers rounds once, and by half a step at most."""

from __future__ import annotations

import pytest

from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers import RegisterResolution, site_plan
from heron.powergrid.setups import read_setup
from simulator import Plant

SETUP = read_setup("ieee34_ieee13")
PLAN = site_plan(SETUP.config)


def test_readings_move_by_half_a_step_at_most_and_only_once() -> None:
    plant = Plant(SETUP)
    plant.reset(seed=1, start_s=100 * 86400.0)
    exact = plant.step({"ess1": Setpoint(0.12345678, -0.0123456)}, 900.0)
    resolution = RegisterResolution(PLAN)
    rounded = resolution.measurements(exact)
    for name, reading in {**exact.devices, **exact.meters}.items():
        seen = {**rounded.devices, **rounded.meters}[name]
        for point in ("p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu"):
            step = max(PLAN.resolution(name, point), 1e-6)
            assert abs(getattr(seen, point) - getattr(reading, point)) <= 0.5 * step * (1 + 1e-6)
    again = resolution.measurements(rounded)
    assert again.devices == rounded.devices
    assert again.areas is exact.areas


def test_setpoints_are_what_a_read_back_gives() -> None:
    resolution = RegisterResolution(PLAN)
    held = resolution.setpoints({"gen1": Setpoint(0.1234567891, 0.01), "pv1": Setpoint(0.2345678)})
    assert held["gen1"].p_mw == pytest.approx(0.123457, abs=1e-9)
    assert held["pv1"].p_mw == pytest.approx(0.23455, abs=2.6e-5)
    assert resolution.setpoints(held) == held
