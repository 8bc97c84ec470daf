"""Policies that lead a market, an agreement or a price are trained, tested and exported, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from controller.minds import build_minds
from heron.cli.main import main
from heron.errors import ConfigError, ManifestMismatch
from heron.powergrid.agents import scheme_of
from heron.powergrid.setups import read_setup
from training.cli import evaluate, export, train
from training.envs import make_env
from training.evaluation.sources import policies_named
from training.options import make_options

SETUP = "ieee34_ieee13"
SHORT = (
    "--iterations 1 --train-batch-size 32 --minibatch-size 32 --epochs 1 --hidden-dim 8 "
    "--num-envs-per-worker 1"
)


@pytest.mark.usefixtures("ray_session")
@pytest.mark.parametrize("protocol", ["p2p", "price_signal", "consensus"])
def test_a_policy_trained_under_a_protocol_is_exported_and_leads_a_coordinator_under_it(
    protocol: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, setup = tmp_path / "run", read_setup(SETUP)
    argv = [*SHORT.split(), "--protocol", protocol, "--checkpoint-dir", str(run)]
    assert train.run(argv) == 0
    assert "sampling one environment at a time (--no-batched)" in capsys.readouterr().err
    assert export.run([str(run)]) == 0
    scheme = scheme_of(protocol)
    minds = build_minds(setup, [str(run / "policies")], scheme)
    assert all(mind.policy_name.startswith(f"{mind.agent_id}.onnx:") for mind in minds)
    with pytest.raises(ManifestMismatch, match=f"trained under the protocol '{scheme.name}'"):
        build_minds(setup, [str(run / "policies")], scheme_of("system"))
    capsys.readouterr()
    judged = ["--protocol", protocol, "--days", "110", "--json", str(run / "policies")]
    assert evaluate.run(judged) == 0
    assert '"none"' in capsys.readouterr().out


def test_other_protocols_are_sampled_one_environment_at_a_time() -> None:
    assert make_options({}).batched
    options = make_options({"protocol": "p2p"})
    assert (options.batched, options.num_envs_per_worker) == (False, 4)
    assert "--protocol p2p" in options.command_line()
    assert "--no-batched" in options.command_line()
    with pytest.raises(ConfigError, match="leave out --batched"):
        make_options({"protocol": "p2p", "batched": True})


def test_an_unknown_protocol_is_refused_before_anything_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--protocol", "barter"]) == 1
    assert "one of setpoint, price, p2p, consensus, system" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["price", "p2p", "consensus", "system"])
def test_a_policys_action_moves_the_price_and_with_it_the_power(protocol: str) -> None:
    def generated(action: float) -> float:
        env = make_env(SETUP, {"protocol": protocol})
        env.reset(seed=0, options={"start_s": 110 * 86_400.0 + 15 * 3600.0})
        env.step({a: np.full(1, action, np.float32) for a in env.agents})
        return sum(env.measurements.devices[g].p_mw for g in ("gen1", "gen2"))

    if protocol == "system":
        assert generated(0.4) == generated(-0.4), "the operator's price is obeyed"
    elif protocol == "p2p":
        assert generated(0.1) != generated(-0.3)
    else:
        assert generated(0.4) > generated(0.0) > generated(-0.4)


@pytest.mark.parametrize("protocol", ["price", "p2p"])
def test_baselines_that_command_set_points_are_refused_where_coordinators_do_not(
    protocol: str,
) -> None:
    env = make_env(SETUP, {"protocol": protocol})
    for name in ("none", "rule"):
        policies = policies_named(name, env)
        observations, _ = env.reset(seed=0)
        assert {a: policies[a].act(o).tolist() for a, o in observations.items()} == {
            a: [0.0] for a in env.agents
        }
    told = "action = 'MG1.price_offset_usd_per_mwh': set-points of devices.*setpoint"
    for name in ("droop", "qp", "mpc-network", "shield:rule", "shield-network:none"):
        with pytest.raises(ConfigError, match=f"{name}: {told}"):
            policies_named(name, env)


@pytest.mark.parametrize("protocol", ["setpoint", "price", "p2p", "consensus", "system"])
@pytest.mark.parametrize("options", [{"event_driven": True}, {"centralized": False}])
def test_event_time_and_messages_move_the_same_power_as_the_step(
    protocol: str, options: dict[str, bool]
) -> None:
    rng = np.random.default_rng(5)
    one, other = (make_env(SETUP, {"protocol": protocol, **o}) for o in ({}, options))
    for env in (one, other):
        env.reset(seed=2, options={"day": 110})
    for _ in range(12):
        actions = {
            a: rng.uniform(-0.3, 0.3, one.codecs[a].act_dim).astype(np.float32) for a in one.agents
        }
        seen, _, *_ = one.step(actions)
        also, _, *_ = other.step(actions)
        here = {n: r.p_mw for n, r in one.measurements.devices.items()}
        there = {n: r.p_mw for n, r in other.measurements.devices.items()}
        assert here == pytest.approx(there, abs=1e-9)
        for agent, observation in seen.items():
            np.testing.assert_array_equal(observation, also[agent])
