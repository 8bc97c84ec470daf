"""What a setup says of its protocol holds in every command, and an option overrides it."""

from __future__ import annotations

import json

import pytest
import yaml

from controller.minds import build_minds
from controller.runtime import ControllerRuntime
from heron.cli.main import main
from heron.errors import ConfigError
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.powergrid.agents import MarketGridAgent, scheme_of
from heron.powergrid.setups import load_setup, read_setup
from heron.powergrid.setups.loader import SETUPS_DIR
from heron.powergrid.shipped import shipped_policies
from training.cli import evaluate, gap
from training.envs import MultiAgentMicrogrids, make_env
from training.envs.timing import PRESETS
from training.envs.vector_env import VectorMicrogrids
from training.evaluation.sources import policies_named, policies_of
from training.gap.runs import run_days_timed
from training.options import make_options
from training.tuning import tune

DAY = "110"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    raw = yaml.safe_load((SETUPS_DIR / "ieee34_ieee13" / "config.yml").read_text())
    raw.pop("dataset_path", None)
    folder = tmp_path_factory.mktemp("market")
    (folder / "config.yml").write_text(yaml.safe_dump({**raw, "protocol": "p2p"}))
    return str(folder)


def test_the_environment_coordinates_as_its_setup_says(site: str) -> None:
    by_path = MultiAgentMicrogrids(site)
    by_mapping = MultiAgentMicrogrids(load_setup(site))
    for env in (by_path, by_mapping, MultiAgentMicrogrids(read_setup(site))):
        assert env.scheme.name == env.setup.config.protocol == "p2p"
        assert all(isinstance(a, MarketGridAgent) for a in env.agent_dict.values())
        assert {c.act_dim for c in env.codecs.values()} == {1}


def test_an_option_overrides_the_setup_and_stands_in_it_then(site: str) -> None:
    for env in (
        MultiAgentMicrogrids(site, protocol="setpoint"),
        MultiAgentMicrogrids({**load_setup(site), "protocol": "setpoint"}),
        make_env(site, {"protocol": "setpoint"}),
    ):
        assert env.scheme.commands_devices
        assert env.setup.config.protocol == "setpoint"


def test_training_takes_the_setups_protocol_and_says_what_overrides_it(site: str) -> None:
    options = make_options({"setup": site})
    assert (options.protocol, options.batched, options.num_envs_per_worker) == ("p2p", False, 4)
    assert options.setup_overrides()["protocol"] == "p2p"
    assert "--protocol" not in options.command_line()
    overridden = make_options({"setup": site, "protocol": "setpoint"})
    assert overridden.batched
    assert overridden.setup_overrides()["protocol"] == "setpoint"
    assert "--protocol setpoint" in overridden.command_line()
    assert make_options(overridden.chosen()) == overridden
    assert make_options(options.chosen()) == options


def test_a_setup_that_is_not_there_is_named_with_every_other_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["train", "--setup", "nowhere", "--gamma", "3"]) == 1
    said = capsys.readouterr().err
    assert "setup = 'nowhere'" in said
    assert "gamma = 3.0" in said


def test_the_batched_environment_refuses_a_protocol_that_it_does_not_know(site: str) -> None:
    with pytest.raises(ConfigError, match="protocol = 'p2p': setpoint, or one environment"):
        VectorMicrogrids(MultiAgentMicrogrids(site), 2, seed=0)


def test_baselines_are_tuned_for_setpoints_only(site: str) -> None:
    with pytest.raises(ConfigError, match="protocol = 'p2p': set-points"):
        next(tune("qp", MultiAgentMicrogrids(site), [1], rounds=1, population=2))


def test_evaluate_and_gap_run_as_the_setup_says(
    site: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def figure(setup: str, *words: str) -> float:
        argv = ["none", "--setup", setup, "--days", DAY, "--only", "--json", *words]
        assert evaluate.run(argv) == 0
        return float(json.loads(capsys.readouterr().out)["policies"]["none"]["objective_usd"])

    market, idle = figure(site), figure("ieee34_ieee13")
    assert market == figure("ieee34_ieee13", "--protocol", "p2p") != idle
    assert figure(site, "--protocol", "setpoint") == idle
    argv = ["none", "--setup", site, "--days", DAY, "--preset", "training", "--json"]
    assert gap.run(argv) == 0
    assert json.loads(capsys.readouterr().out)["synchronous_return"] == pytest.approx(-market)
    assert gap.run([*argv, "--protocol", "setpoint"]) == 0
    assert json.loads(capsys.readouterr().out)["synchronous_return"] == pytest.approx(-idle)


def test_event_time_runs_as_the_setup_says(site: str) -> None:
    setup = read_setup(site)
    policies = policies_named("none", MultiAgentMicrogrids(setup))
    timing = PRESETS["training"]
    stated = run_days_timed(setup, policies, [int(DAY)], timing)
    plain = setup.under("setpoint")
    assert run_days_timed(plain, policies, [int(DAY)], timing, protocol="p2p") == stated


async def test_the_controller_coordinates_as_the_setup_says(site: str) -> None:
    setup = read_setup(site)
    minds = build_minds(setup)
    assert [mind.policy_name for mind in minds] == ["rule"] * 3
    async with InMemoryBus(MemoryHub()) as bus:
        assert ControllerRuntime(setup, minds, bus)._desk is not None
        plain = setup.under("setpoint")
        assert ControllerRuntime(plain, build_minds(plain), bus)._desk is None


def test_policies_beside_a_setup_are_taken_under_its_own_protocol_only() -> None:
    setup = read_setup("ieee34_ieee13")
    market = setup.under("p2p")
    assert shipped_policies(setup) == shipped_policies(setup.under("setpoint")) is not None
    assert shipped_policies(market) is shipped_policies(setup, scheme_of("p2p")) is None
    with pytest.raises(ConfigError, match="none ship with this setup and its protocol"):
        policies_of(None, market)
    for minds in (build_minds(market), build_minds(setup, scheme=scheme_of("p2p"))):
        assert [mind.policy_name for mind in minds] == ["rule"] * 3


@pytest.mark.parametrize("command", ["up", "train", "evaluate", "gap", "controller"])
def test_every_command_refuses_an_unknown_protocol_in_one_line(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--setup", "single_microgrid", "--protocol", "barter"]) == 1
    said = capsys.readouterr().err
    assert "protocol = 'barter'" in said
    assert "one of setpoint, price, p2p, consensus, system, or module:NAME" in said
    assert len(said.splitlines()) == 1
