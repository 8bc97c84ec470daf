"""Taps are there for setups that have them; to all others they change nothing."""

from __future__ import annotations

import pytest

from heron.messaging.wire import Command
from heron.policy import PolicyCodec, codec_of, verify
from heron.powergrid.agents import build_agents
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.setups import as_setup, get_available_setups, load_setup, read_setup
from heron.powergrid.setups.loader import SETUPS_DIR

SHIPPED = sorted(SETUPS_DIR.glob("*/policies/*.onnx"))


def test_without_a_tap_a_set_point_and_a_reading_are_what_they_were() -> None:
    assert Setpoint(0.1, 0.2) == Setpoint(0.1, 0.2, None)
    assert DeviceReading(0.0, 0.0, 1.0, 1.0, 1.0).tap is None
    command = Command(agent="a", sequence=1, p_mw=0.1, ttl_s=1.0, issuer="x")
    assert command.tap is None
    older = command.model_dump(exclude={"tap"})
    assert Command.model_validate(older) == command


@pytest.mark.parametrize("name", get_available_setups())
def test_setups_that_ship_have_no_tap_in_their_actions(name: str) -> None:
    for microgrid in build_agents(read_setup(name)).microgrids.values():
        quantities = {s.quantity for s in codec_of(microgrid).setpoints}
        assert quantities <= {"p_mw", "q_mvar"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: f"{p.parent.parent.name}-{p.stem}")
def test_actions_are_those_that_the_shipped_policies_were_trained_for(path: object) -> None:
    manifest = verify(path)  # type: ignore[arg-type]
    agent = build_agents(read_setup(manifest.setup)).microgrids[manifest.agent_id]
    assert codec_of(agent).setpoints == PolicyCodec.from_dict(manifest.codec).setpoints


def test_a_transformer_adds_one_number_and_its_features() -> None:
    plain = load_setup("single_microgrid")
    without = codec_of(build_agents(as_setup(plain)).microgrids["MG1"])
    entry = {"type": "Transformer", "name": "oltc", "device_state_config": {"element": "head"}}
    plain["microgrid_configs"][0]["devices"].append(entry)
    with_tap = codec_of(build_agents(as_setup(plain)).microgrids["MG1"])
    assert with_tap.setpoints[:-1] == without.setpoints
    assert (with_tap.setpoints[-1].quantity, with_tap.setpoints[-1].low) == ("tap", -16.0)
    added = {f.feature for f in with_tap.fields[len(without.fields) :]}
    assert added == {"ElectricalBasePh", "TapChangerPh", "ThermalLoading"}
    assert with_tap.fields[: len(without.fields)] == without.fields
