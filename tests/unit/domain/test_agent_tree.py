"""The tree of agents: what coordinators know, and how actions reach devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from heron.errors import ConfigError, StaleDataError
from heron.policy import codec_of
from heron.powergrid.agents import (
    DSOAgent,
    Generator,
    MicrogridView,
    PowerGridAgent,
    build_agents,
    views_of,
)
from heron.powergrid.quantities import DeviceReading, Measurements, MeterReading, Setpoint
from heron.powergrid.setups import Setup
from heron.protocols import PriceSignalProtocol, SetpointProtocol
from heron.scheduling import TickConfig

ViewOf = Callable[..., MicrogridView]


def test_the_tree_is_the_setups(setup: Setup, dso: DSOAgent) -> None:
    assert dso.agent_id == "DSO"
    assert tuple(dso.microgrids) == setup.config.microgrid_ids
    assert tuple(dso.setpoints) == setup.config.device_ids
    assert [len(m.devices) for m in dso.microgrids.values()] == [3, 2, 2]
    for name, microgrid in dso.microgrids.items():
        assert microgrid.upstream_id == "DSO"
        assert all(d.upstream_id == name for d in microgrid.devices.values())
        assert all(d.dt_s == setup.config.step_s for d in microgrid.devices.values())


def test_the_coordinators_action_is_its_devices_actions_in_order(dso: DSOAgent) -> None:
    codec = codec_of(dso.microgrids["MG1"])
    assert [spec.path for spec in codec.setpoints] == [
        "gen1.p_mw",
        "gen1.q_mvar",
        "ess1.p_mw",
        "ess1.q_mvar",
        "pv1.p_mw",
        "pv1.q_mvar",
    ]
    assert [m.action.size for m in dso.microgrids.values()] == [6, 4, 4]


def test_an_action_reaches_each_device(dso: DSOAgent, view: ViewOf) -> None:
    microgrid = dso.microgrids["MG1"]
    microgrid.update_from(view())
    microgrid.apply_action(np.array([1.0, 0.0, 1.0, 0.0, -1.0, 0.0]))
    assert microgrid.setpoints == {
        "gen1": Setpoint(1.0),
        "ess1": Setpoint(0.5),
        "pv1": Setpoint(0.0),
    }
    assert dso.setpoints["gen1"] == Setpoint(1.0)


@pytest.mark.parametrize("wrong", [np.zeros(5), np.full(6, np.nan), np.zeros((6, 1))])
def test_a_wrong_action_is_refused_before_any_device_is_told(
    dso: DSOAgent, view: ViewOf, wrong: np.ndarray
) -> None:
    microgrid = dso.microgrids["MG1"]
    microgrid.update_from(view())
    before = microgrid.setpoints
    with pytest.raises(ValueError, match="MG1"):
        microgrid.apply_action(wrong)
    assert microgrid.setpoints == before


def test_proposals_stand_beside_what_was_admitted(dso: DSOAgent, view: ViewOf) -> None:
    microgrid = dso.microgrids["MG3"]
    microgrid.update_from(view(ess3=DeviceReading(0.0, 0.0, 1.0, 1.0, 1.0, soc=0.1)))
    microgrid.apply_action(np.array([1.0, 0.0, 0.0, 0.0]))
    assert microgrid.proposals["ess3"] == Setpoint(0.5)
    assert microgrid.setpoints["ess3"] == Setpoint(0.0)


def test_a_coordinator_knows_its_meter_its_devices_and_the_signal(
    dso: DSOAgent, view: ViewOf
) -> None:
    microgrid = dso.microgrids["MG1"]
    low = DeviceReading(-0.3, 0.0, 0.96, 0.94, 0.97, soc=0.4)
    microgrid.update_from(view(ess1=low))
    state = microgrid.state
    assert (state.bus_voltages.v_min, state.bus_voltages.v_max) == (0.94, 1.03)
    assert state.bus_voltages.vm_pu.tolist() == [1.01, 1.0, 0.96, 1.0]
    assert state.network_metrics.load_MW == pytest.approx(0.2 - 0.3 + 0.2 - 0.1)
    assert state.network_metrics.dv_min_pu == pytest.approx(-0.06)
    assert state.line_flows.max_loading == pytest.approx(100 * np.hypot(0.1, 0.02) / 1.5)
    assert state.market_signal.price == 20.0 + 26 / 2
    assert state.time_of_day.day_sin == pytest.approx(np.sin(2 * np.pi * 6.5 / 24))
    assert microgrid.devices["ess1"].state.storage_block.soc == 0.4
    assert microgrid.time_s == 6.5 * 3600.0


def test_a_disconnected_device_does_not_show_a_voltage(dso: DSOAgent, view: ViewOf) -> None:
    microgrid = dso.microgrids["MG1"]
    dead = DeviceReading(0.0, 0.0, 0.0, 0.0, 0.0, soc=0.4, connected=False)
    microgrid.update_from(view(ess1=dead))
    assert microgrid.state.bus_voltages.v_min == 0.99


def test_what_registers_do_not_carry_changes_nothing(dso: DSOAgent, view: ViewOf) -> None:
    microgrid = dso.microgrids["MG1"]
    codec = codec_of(microgrid)
    plain = view()
    microgrid.update_from(plain)
    before = codec.encode(microgrid)
    rich = {k: replace(v, available_mw=0.9) for k, v in plain.devices.items()}
    microgrid.update_from(plain._replace(devices=rich))
    assert np.array_equal(codec.encode(microgrid), before)


def test_a_missing_device_is_stale_data(dso: DSOAgent, view: ViewOf) -> None:
    good = view()
    devices = {k: v for k, v in good.devices.items() if k != "pv1"}
    with pytest.raises(StaleDataError, match=r"MG1.*pv1"):
        dso.microgrids["MG1"].update_from(good._replace(devices=devices))


def test_another_microgrids_devices_are_not_looked_at(dso: DSOAgent, view: ViewOf) -> None:
    good = view()
    mine = dso.microgrids["MG2"].devices
    only = {k: v for k, v in good.devices.items() if k in mine}
    dso.microgrids["MG2"].update_from(good._replace(devices=only))
    assert dso.microgrids["MG2"].state.network_metrics.p_MW == 0.1


def test_the_observation_moves_with_time(dso: DSOAgent, view: ViewOf) -> None:
    microgrid = dso.microgrids["MG1"]
    codec = codec_of(microgrid)
    microgrid.update_from(view())
    first = codec.encode(microgrid)
    microgrid.update_from(view()._replace(time_s=6.75 * 3600.0))
    assert not np.array_equal(codec.encode(microgrid), first)


def test_the_space_equals_the_observation_in_every_form(dso: DSOAgent, view: ViewOf) -> None:
    for microgrid in dso.microgrids.values():
        microgrid.update_from(view())
        codec = codec_of(microgrid)
        assert codec.encode(microgrid).shape == (codec.obs_dim,)
        assert np.isfinite(codec.encode(microgrid)).all()
        assert microgrid.observe().vector().shape == (codec.obs_dim,)


def test_agents_do_not_share_features(dso: DSOAgent, view: ViewOf) -> None:
    dso.microgrids["MG1"].update_from(view())
    assert dso.microgrids["MG2"].state.network_metrics.p_MW == 0.0
    assert dso.microgrids["MG1"].state.features[0] is not dso.microgrids["MG2"].state.features[0]


def test_reset_returns_all_levels_to_the_start(dso: DSOAgent, view: ViewOf) -> None:
    fresh = {name: codec_of(m).encode(m) for name, m in dso.microgrids.items()}
    for microgrid in dso.microgrids.values():
        microgrid.update_from(view())
        microgrid.apply_action(np.ones(microgrid.action.size))
    dso.reset(seed=1)
    for name, microgrid in dso.microgrids.items():
        assert np.array_equal(codec_of(microgrid).encode(microgrid), fresh[name])
    assert all(d.reading is None for m in dso.microgrids.values() for d in m.devices.values())


def test_the_dso_sees_the_head(dso: DSOAgent) -> None:
    dso.update_from(0.0, MeterReading(1.2, 0.3, 1.02, 1.01, 1.03), 40.0, ())
    assert dso.state.network_metrics.p_MW == 1.2
    assert dso.state.market_signal.price == 40.0


def test_cost_of_a_microgrid_is_the_sum_of_its_devices(dso: DSOAgent, view: ViewOf) -> None:
    """Costs of storage were once not summed."""
    microgrid = dso.microgrids["MG1"]
    microgrid.update_from(view())
    microgrid.update_cost_safety()
    assert microgrid.cost == pytest.approx(sum(d.cost for d in microgrid.devices.values()))
    assert microgrid.cost == pytest.approx((12 * 0.04 + 32 * 0.2) * 0.25)


def test_views_are_the_plants_measurements(setup: Setup, view: ViewOf) -> None:
    good = view()
    meters = dict.fromkeys(("head", *setup.config.microgrid_ids), good.meter)
    measured = Measurements(1, 900.0, 900.0, good.devices, meters, {}, 33.0, 0.0)
    views = views_of(setup.config, measured, [1.0, 2.0])
    assert tuple(views) == setup.config.microgrid_ids
    assert views["MG2"] == MicrogridView(900.0, good.meter, good.devices, 33.0, (1.0, 2.0))


def test_a_price_reaches_devices_that_answer_by_themselves(setup: Setup, view: ViewOf) -> None:
    dso = build_agents(setup, protocol=PriceSignalProtocol)
    microgrid = dso.microgrids["MG1"]
    microgrid.update_from(view())
    assert microgrid.action.size == 1
    microgrid.apply_action([80.0])
    assert microgrid.setpoints["gen1"] == Setpoint(1.0)
    assert microgrid.setpoints["ess1"].p_mw == pytest.approx(0.5)
    microgrid.apply_action([5.0])
    assert microgrid.setpoints["gen1"] == Setpoint(0.15)
    assert microgrid.setpoints["ess1"].p_mw == pytest.approx(-0.5)


def test_policies_and_timing_go_to_whom_they_are_for(setup: Setup) -> None:
    class Fixed:
        def forward(self, observation: object) -> np.ndarray:
            return np.zeros(4)

    policy = Fixed()
    timing = TickConfig.deterministic(tick_interval=7.0)
    dso = build_agents(setup, {"MG2": policy}, tick_configs={"gen1": timing, "MG3": timing})
    assert dso.microgrids["MG2"].policy is policy
    assert dso.microgrids["MG1"].policy is None
    assert dso.microgrids["MG1"].devices["gen1"].tick_config.tick_interval == 7.0
    assert dso.microgrids["MG3"].tick_config.tick_interval == 7.0
    with pytest.raises(ConfigError, match="MG10"):
        build_agents(setup, {"MG10": policy})
    with pytest.raises(ConfigError, match="gen9"):
        build_agents(setup, tick_configs={"gen9": timing})


def test_a_coordinator_can_be_built_as_the_guide_does() -> None:
    config = {
        "name": "MG9",
        "devices": [
            {"type": "Generator", "name": "g", "device_state_config": {"bus": "1"}},
            {"type": "ESS", "name": "e", "device_state_config": {"bus": "2"}},
        ],
    }
    agent = PowerGridAgent(net=object(), grid_config=config, protocol=SetpointProtocol())
    assert list(agent.devices) == ["g", "e"]
    assert agent.action.size == 3
    with pytest.raises(ConfigError, match="Reactor"):
        PowerGridAgent(grid_config={"devices": [{"type": "Reactor", "name": "r"}]})


def test_two_devices_of_one_name_are_refused() -> None:
    entry = {"type": "Generator", "name": "g", "device_state_config": {"bus": "1"}}
    with pytest.raises(ConfigError, match="g"):
        PowerGridAgent(grid_config={"name": "MG", "devices": [entry, entry]})


def test_a_device_that_is_added_later_is_told_and_read_as_the_others() -> None:
    entry = {"type": "Generator", "name": "g", "device_state_config": {"bus": "1"}}
    agent = PowerGridAgent(grid_config={"name": "MG", "devices": [entry]})
    late = Generator("late", device_state_config={"bus": "2", "p_min_MW": 0.0, "p_max_MW": 2.0})
    agent.add_subordinate(late)
    meter = MeterReading(0.0, 0.0, 1.0, 1.0, 1.0)
    readings = {
        "g": DeviceReading(0.5, 0.0, 1.0, 1.0, 1.0),
        "late": DeviceReading(1.5, 0.0, 1.02, 1.02, 1.02),
    }
    agent.update_from(MicrogridView(0.0, meter, readings, 50.0))
    assert late.reading == readings["late"]
    assert agent.other_load_mw() == 2.0
    assert agent.state.bus_voltages.vm_pu.tolist() == [1.0, 1.0, 1.02]
    agent.apply_action(np.ones(agent.action.size))
    assert late.setpoint.p_mw == 2.0
    assert list(agent.coordination.actions) == ["g", "late"]
