from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controller.minds import build_minds, policy_sources, require_all
from heron.errors import ConfigError, ManifestMismatch, PolicyError
from heron.policy import OnnxPolicy
from heron.policy.baselines import IdlePolicy, RulePolicy
from heron.powergrid.agents import views_of
from heron.powergrid.optimization import ShieldedPolicy
from heron.powergrid.setups import Setup, read_setup
from heron.powergrid.shipped import POLICIES_FOLDER
from simulator import Plant

AGENTS = ("MG1", "MG2", "MG3")


@pytest.fixture(scope="module")
def setup() -> Setup:
    return read_setup("ieee34_ieee13")


@pytest.fixture(scope="module")
def shipped(setup: Setup) -> Path:
    assert setup.path is not None
    return setup.path.parent / POLICIES_FOLDER


def test_the_policies_that_ship_decide_unless_told_otherwise(setup: Setup, shipped: Path) -> None:
    minds = build_minds(setup)
    assert [mind.agent_id for mind in minds] == list(AGENTS)
    assert all(isinstance(mind.policy, OnnxPolicy) for mind in minds)
    assert minds[0].policy_name.startswith("MG1.onnx:")


def test_each_coordinator_may_have_its_own_source(setup: Setup, shipped: Path) -> None:
    minds = build_minds(setup, ["none", "MG2=rule", f"MG3={shipped}"])
    assert [type(mind.policy) for mind in minds] == [IdlePolicy, RulePolicy, OnnxPolicy]


def test_every_baseline_may_be_named_with_and_without_the_shield(
    setup: Setup, shipped: Path
) -> None:
    given = ["MG1=droop", "MG2=qp", "MG3=shield:voltvar"]
    minds = build_minds(setup, given)
    assert [mind.policy_name for mind in minds] == ["droop", "qp", "shield:voltvar"]
    behind = build_minds(setup, [f"shield:{shipped}"])
    assert all(isinstance(mind.policy, ShieldedPolicy) for mind in behind)
    assert behind[1].policy_name.startswith("shield:MG2.onnx:")


def test_what_the_shield_moved_goes_with_the_decision(setup: Setup) -> None:
    mind = build_minds(setup, ["shield:rule"])[0]
    noted = []
    for volts in (1.0, 1.07):
        plant = Plant(setup)
        view = views_of(setup.config, plant.reset(start_s=30 * 86_400.0), ())["MG1"]
        devices = {
            name: replace(reading, v_pu=volts, v_min_pu=volts, v_max_pu=volts)
            for name, reading in view.devices.items()
        }
        meter = replace(view.meter, v_pu=volts, v_min_pu=volts, v_max_pu=volts)
        decided = mind.decide(view._replace(devices=devices, meter=meter))
        noted.append(decided.note)
    assert noted[0] == ""
    assert noted[1].startswith("shield: ")
    assert "q_mvar" in noted[1]


def test_the_networks_shield_hears_all_coordinators_or_none(setup: Setup, shipped: Path) -> None:
    minds = build_minds(setup, [f"shield-network:{shipped}"])
    assert all(mind.proposes for mind in minds)
    assert minds[0].policy_name.startswith("shield-network:MG1.onnx:")
    assert len({id(mind.policy.shield) for mind in minds}) == 1  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="all coordinators of the site behind it"):
        build_minds(setup, ["rule", "MG1=shield-network:rule"])
    with pytest.raises(ConfigError, match="in one process"):
        require_all(minds[:2], 3)


def test_a_policy_of_another_microgrid_is_refused_with_the_field(
    setup: Setup, shipped: Path
) -> None:
    with pytest.raises(ManifestMismatch, match=r"MG2\.onnx: made for another codec: agent: 'MG2'"):
        build_minds(setup, ["rule", f"MG1={shipped / 'MG2.onnx'}"])


def test_a_damaged_policy_is_refused(setup: Setup, shipped: Path, tmp_path: Path) -> None:
    for name in AGENTS:
        blob = bytearray((shipped / f"{name}.onnx").read_bytes())
        blob[len(blob) // 2] ^= 1
        (tmp_path / f"{name}.onnx").write_bytes(blob)
    with pytest.raises(PolicyError, match=r"MG1\.onnx"):
        build_minds(setup, [str(tmp_path)])


def test_every_mistake_is_said_at_once(setup: Setup, shipped: Path, tmp_path: Path) -> None:
    given = ["MGX=rule", str(shipped / "MG1.onnx"), f"MG2={tmp_path / 'no.onnx'}"]
    with pytest.raises(ConfigError) as caught:
        policy_sources(setup, given, AGENTS)
    told = [problem.expected.split(":")[0] for problem in caught.value.problems]
    assert told == ["AGENT is one of MG1, MG2, MG3", "one file is for one agent", "no such file"]


def test_a_coordinator_without_a_policy_is_named(setup: Setup) -> None:
    with pytest.raises(ConfigError, match="a policy for MG3, too"):
        policy_sources(setup, ["MG1=rule", "MG2=none"], AGENTS)


def test_a_policy_of_another_setup_is_refused_though_its_codec_fits(
    setup: Setup, shipped: Path
) -> None:
    renamed = replace(setup, config=setup.config.model_copy(update={"name": "my_feeder"}))
    with pytest.raises(ManifestMismatch, match=r"for setup 'ieee34_ieee13', not for 'my_feeder'"):
        build_minds(renamed, [str(shipped)])
