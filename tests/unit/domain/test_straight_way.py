"""The straight way of a joint action: when it is closed, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from heron.powergrid.agents import DSOAgent, Generator, MicrogridView, PowerGridAgent
from heron.powergrid.connection import NO_LIMITS, ConnectionLimits
from heron.powergrid.envelope import Admitted, Limited
from heron.powergrid.quantities import DeviceReading, MeterReading, Setpoint
from heron.protocols import PriceSignalProtocol, SetpointProtocol

ViewOf = Callable[..., MicrogridView]
ACTION = np.array([0.4, -0.2, 1.0, 0.3, -0.5, 0.1])


@pytest.fixture
def microgrid(dso: DSOAgent, view: ViewOf) -> PowerGridAgent:
    agent = dso.microgrids["MG1"]
    agent.update_from(view())
    return agent


def test_it_ends_where_the_protocols_messages_do(dso: DSOAgent, view: ViewOf) -> None:
    straight, by_messages = dso.microgrids["MG1"], dso.microgrids["MG3"]
    assert straight.tell is not None
    for agent in (straight, by_messages):
        agent.update_from(view())
    straight.apply_action(ACTION)
    told = {name: device.proposal for name, device in straight.devices.items()}
    kept = {name: device.setpoint for name, device in straight.devices.items()}
    results = {name: device.result for name, device in straight.devices.items()}
    straight.reset()
    straight.update_from(view())
    straight.take_action(ACTION)  # runs the protocol, whose commands the devices obey
    assert {name: device.proposal for name, device in straight.devices.items()} == told
    assert {name: device.setpoint for name, device in straight.devices.items()} == kept
    assert {name: device.result for name, device in straight.devices.items()} == results


def test_actions_are_the_agents_own_whatever_becomes_of_the_array(
    microgrid: PowerGridAgent,
) -> None:
    action = ACTION.astype(np.float32)
    microgrid.apply_action(action)
    expected = action.astype(np.float64).tolist()
    action[:] = 0.0
    assert microgrid.action.c.tolist() == expected
    parts = [device.action.c.tolist() for device in microgrid.devices.values()]
    assert [x for part in parts for x in part] == expected
    decided = microgrid.coordination.actions
    assert [a.tolist() for a in decided.values()] == parts
    assert microgrid.coordination.actions["gen1"] is decided["gen1"]


def test_limits_of_the_connection_and_other_protocols_close_it(microgrid: PowerGridAgent) -> None:
    microgrid.connection = ConnectionLimits(p_export_max_mw=0.0)
    assert microgrid.tell is None
    microgrid.apply_action(np.ones(6))
    load_mw = microgrid.other_load_mw()
    assert sum(s.p_mw for s in microgrid.setpoints.values()) <= load_mw + 1e-6
    microgrid.connection = NO_LIMITS
    assert microgrid.tell is not None
    microgrid.protocol = PriceSignalProtocol()
    assert microgrid.tell is None
    microgrid.protocol = SetpointProtocol()
    assert microgrid.tell is not None


def test_limits_hold_from_the_view_on_that_brings_them(microgrid: PowerGridAgent) -> None:
    meter = MeterReading(0.1, 0.02, 1.01, 0.99, 1.03)
    readings = {n: d.reading for n, d in microgrid.devices.items() if d.reading is not None}
    limits = ConnectionLimits(p_import_max_mw=1.0)
    microgrid.look(0.0, meter, readings, 30.0, (), limits, 0.0)
    assert microgrid.connection is limits
    assert microgrid.tell is None


def test_a_class_with_an_action_of_its_own_decides_by_itself(view: ViewOf) -> None:
    class Own(PowerGridAgent):
        seen: Any = None

        def apply_action(self, action: Any) -> None:
            self.seen = action
            super().apply_action(action)

        def update_from(self, view: MicrogridView) -> None:
            self.price_seen = view.price_usd_per_mwh
            super().update_from(view)

    entry = {"type": "Generator", "name": "gen1", "device_state_config": {"bus": "1"}}
    agent = Own(grid_config={"name": "MG", "devices": [entry]})
    agent.look(*view())
    assert agent.price_seen == 33.0
    assert agent.tell is not None
    agent.tell([0.5] * agent.action.size)
    assert agent.seen.tolist() == [0.5] * agent.action.size
    assert agent.devices["gen1"].proposal.p_mw > 0.0


def test_what_is_in_force_cannot_be_assigned(microgrid: PowerGridAgent) -> None:
    device = microgrid.devices["gen1"]
    with pytest.raises(AttributeError, match="setpoint"):
        device.setpoint = Setpoint(99.0)  # type: ignore[misc]
    assert isinstance(device.command(Setpoint(99.0)), Limited)
    assert device.setpoint.p_mw == device.limits.p_max_mw
    device.hold(Setpoint(0.125))
    assert device.setpoint == Setpoint(0.125)
    assert isinstance(device.command(Setpoint(0.25)), Admitted)
    assert device.proposal == Setpoint(0.25)


def test_a_class_cannot_come_between_a_command_and_the_envelope() -> None:
    class Lenient(Generator):
        def admit(self, setpoint: Setpoint, dt_s: float | None = None) -> Any:
            return Admitted(setpoint)

    device = Lenient("g", device_state_config={"bus": "1", "p_max_MW": 1.0})
    device.take_reading(DeviceReading(0.0, 0.0, 1.0, 1.0, 1.0))
    device.command(Setpoint(5.0))
    assert device.setpoint.p_mw == 1.0


def test_a_class_may_narrow_its_envelope_and_take_readings_by_itself() -> None:
    class Careful(Generator):
        def complete(self) -> None:
            super().complete()
            self.limits = replace(self.limits, p_max_mw=0.25)

        def take_reading(self, reading: DeviceReading) -> None:
            self.reading = reading

    device = Careful("g", device_state_config={"bus": "1", "p_max_MW": 1.0})
    device.take_reading(DeviceReading(0.0, 0.0, 1.0, 1.0, 1.0))
    assert isinstance(device.command(Setpoint(5.0)), Limited)
    assert device.setpoint.p_mw == 0.25
