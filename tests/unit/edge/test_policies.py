from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.policies import PolicySlot, device_codec
from heron.errors import ManifestMismatch, PolicyError
from heron.policy import Manifest, PolicyCodec
from heron.powergrid.agents import ESS
from heron.powergrid.quantities import DeviceReading
from training.export.graph import Network, to_onnx

READING = DeviceReading(p_mw=0.1, q_mvar=0.0, v_pu=1.0, v_min_pu=0.99, v_max_pu=1.01, soc=0.5)


def network(codec: PolicyCodec, action: float) -> Network:
    """A network that always gives the same action."""
    ins, outs = codec.obs_dim, codec.act_dim
    return Network(
        np.zeros(ins, np.float32),
        np.ones(ins, np.float32),
        10.0,
        (np.zeros((4, ins), np.float32), np.zeros((outs, 4), np.float32)),
        (np.zeros(4, np.float32), np.full(outs, action, np.float32)),
    )


def put(path: Path, codec: PolicyCodec, action: float, version: str = "1") -> None:
    manifest = Manifest.model_validate(
        {
            "name": "test",
            "version": version,
            "agent_id": codec.agent_id,
            "setup": "none",
            "algorithm": "none",
            "step_s": 1.0,
            "seed": 0,
            "env_steps": 0,
            "codec": codec.to_dict(),
            "codec_hash": codec.hash,
        }
    )
    beside = path.with_suffix(".new")
    beside.write_bytes(to_onnx(network(codec, action), manifest))
    beside.replace(path)


@pytest.fixture
def agent() -> ESS:
    agent = ESS("ess1", device_state_config={"bus": "b", "p_min_mw": -0.5, "p_max_mw": 0.5})
    agent.take_reading(READING)
    return agent


@pytest.fixture
def path(tmp_path: Path, agent: ESS) -> Path:
    path = tmp_path / "ess1.onnx"
    put(path, device_codec(agent), 0.2)
    return path


def decides(slot: PolicySlot) -> float:
    return round(slot(READING).p_mw, 6)


def test_a_policy_decides_from_the_devices_own_features(agent: ESS, path: Path) -> None:
    assert decides(PolicySlot(agent, path)) == 0.1


def test_a_replaced_file_takes_over_without_a_missed_decision(agent: ESS, path: Path) -> None:
    slot = PolicySlot(agent, path)
    decides(slot)
    put(path, device_codec(agent), -0.4, version="2")
    assert decides(slot) == -0.2
    assert (slot.swaps, slot.active.manifest.version) == (1, "2")


def test_a_damaged_file_is_refused_and_the_old_policy_stays(agent: ESS, path: Path) -> None:
    slot = PolicySlot(agent, path)
    path.write_bytes(path.read_bytes()[:-20])
    assert decides(slot) == 0.1
    assert slot.swaps == 0


def test_a_policy_for_another_device_is_refused(agent: ESS, path: Path) -> None:
    slot = PolicySlot(agent, path)
    codec = device_codec(agent)
    other = PolicyCodec("ess1", codec.fields, tuple(replace(s, high=9.0) for s in codec.setpoints))
    put(path, other, 0.9)
    assert decides(slot) == 0.1
    with pytest.raises(ManifestMismatch):
        PolicySlot(agent, path)


def test_a_file_that_vanishes_leaves_the_policy_in_force(agent: ESS, path: Path) -> None:
    slot = PolicySlot(agent, path)
    path.unlink()
    assert decides(slot) == 0.1


def test_a_candidate_decides_in_the_shadow_only(agent: ESS, path: Path, tmp_path: Path) -> None:
    candidate = tmp_path / "candidate.onnx"
    put(candidate, device_codec(agent), 0.5)
    slot = PolicySlot(agent, path, candidate)
    assert [decides(slot) for _ in range(3)] == [0.1, 0.1, 0.1]
    assert slot.shadow.decisions == 3
    assert slot.shadow.mean_difference == pytest.approx(0.3, abs=1e-6)
    assert slot.shadow.largest_difference == pytest.approx(0.3, abs=1e-6)


def test_a_promoted_candidate_decides_and_can_be_rolled_back(
    agent: ESS, path: Path, tmp_path: Path
) -> None:
    candidate = tmp_path / "candidate.onnx"
    put(candidate, device_codec(agent), 0.5)
    slot = PolicySlot(agent, path, candidate)
    slot.promote()
    assert decides(slot) == 0.25
    slot.roll_back()
    assert decides(slot) == 0.1
    with pytest.raises(PolicyError, match="roll back"):
        slot.roll_back()
    with pytest.raises(PolicyError, match="candidate"):
        slot.promote()


def test_a_new_policy_that_cannot_decide_gives_way_to_the_former(agent: ESS, path: Path) -> None:
    slot = PolicySlot(agent, path)
    decides(slot)
    put(path, device_codec(agent), float("nan"))
    assert decides(slot) == 0.1
    assert slot.rollbacks == 1


def test_without_a_former_policy_the_failure_is_told(agent: ESS, path: Path) -> None:
    put(path, device_codec(agent), float("nan"))
    with pytest.raises(PolicyError):
        PolicySlot(agent, path)(READING)
