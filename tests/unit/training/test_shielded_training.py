"""The network's shield in the environment, in evaluation and in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron.cli.main import main
from heron.errors import ConfigError
from heron.policy.together import begin, decide
from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids
from training.evaluation.sources import policies_named
from training.options import make_options

SETUP = "ieee34_ieee13"
START = {"start_s": 28 * 86_400.0 + 50 * 900.0}
STEPS = 6


def drawn(env: MultiAgentMicrogrids, k: int) -> dict[str, Any]:
    rng = np.random.default_rng(k)
    spaces = env.action_spaces
    return {a: rng.uniform(-1, 1, spaces[a].shape).astype(np.float32) for a in env.agents}


def violation(env: MultiAgentMicrogrids) -> float:
    return sum(area.violation_pu for area in env.measurements.areas.values())


def test_the_environments_shield_is_the_policies_shield() -> None:
    """Behind one or the other, the same policy gives the same day; without, another."""
    shielded = MultiAgentMicrogrids({**load_setup(SETUP), "shield": True})
    plain = MultiAgentMicrogrids(load_setup(SETUP))
    rule = policies_named("rule", shielded)
    behind = policies_named("shield-network:rule", plain)
    first, _ = shielded.reset(seed=0, options=START)
    second, _ = plain.reset(seed=0, options=START)
    begin(behind)
    for _ in range(STEPS):
        first, *_ = shielded.step(decide(rule, first))
        second, *_ = plain.step(decide(behind, second))
        assert shielded.measurements.devices == plain.measurements.devices
    assert sum(policy.interventions for policy in behind.values()) > 0  # type: ignore[attr-defined]


def test_actions_at_random_violate_less_behind_it() -> None:
    total = {}
    for shield in (False, True):
        env = MultiAgentMicrogrids({**load_setup(SETUP), "shield": shield})
        env.reset(seed=0, options=START)
        total[shield] = 0.0
        for k in range(STEPS):
            env.step(drawn(env, k))
            total[shield] += violation(env)
    assert total[True] < 0.3 * total[False]


def test_a_switch_is_true_or_false() -> None:
    with pytest.raises(ConfigError, match="shield = 'yes'"):
        MultiAgentMicrogrids({**load_setup(SETUP), "shield": "yes"})


def test_a_shield_where_coordinators_command_no_set_points_is_refused_for_that() -> None:
    told = "shield-network: action = 'MG1.price_offset_usd_per_mwh': set-points of devices"
    with pytest.raises(ConfigError, match=told):
        MultiAgentMicrogrids(SETUP, shield=True, protocol="price")


def test_the_shield_samples_one_environment_at_a_time() -> None:
    options = make_options({"shield": True})
    assert not options.batched
    assert options.setup_overrides()["shield"] is True
    assert "--shield" in options.command_line()
    for wrong in ({"batched": True}, {"protocol": "price"}):
        with pytest.raises(ConfigError, match="shield = True: moves set-points"):
            make_options({"shield": True, **wrong})


@pytest.mark.usefixtures("ray_session")
def test_it_trains_behind_the_shield(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ["train", "--shield", "--algorithm", "ppo", "--iterations", "3", "--hidden-dim", "8"]
    small = ["--train-batch-size", "32", "--minibatch-size", "32", "--epochs", "1"]
    one = ["--num-envs-per-worker", "1", "--no-idle-baseline", "--checkpoint-dir", str(tmp_path)]
    assert main([*run, *small, *one, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["iterations"] == 3
