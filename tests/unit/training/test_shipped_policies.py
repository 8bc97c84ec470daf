from __future__ import annotations

from pathlib import Path

import pytest

from heron.policy import OnnxPolicy, codec_of, verify
from heron.powergrid.accounting import lasts_several_days
from heron.powergrid.agents import build_agents
from heron.powergrid.setups import get_available_setups, read_setup
from heron.powergrid.shipped import shipped_policies
from training.envs.days import first_days

FOLDERS = {
    name: folder
    for name in get_available_setups()
    if (folder := shipped_policies(read_setup(name))) is not None
}
FILES = [
    pytest.param(name, path, id=f"{name}-{path.stem}")
    for name, folder in FOLDERS.items()
    for path in sorted(folder.iterdir())
]


def test_the_setups_of_the_guide_ship_policies() -> None:
    assert {"ieee34_ieee13", "single_microgrid"} <= set(FOLDERS)


@pytest.mark.parametrize("name", FOLDERS)
def test_each_microgrid_has_one_file_and_there_is_no_other(name: str) -> None:
    expected = {f"{agent}.onnx" for agent in read_setup(name).config.microgrid_ids}
    assert {path.name for path in FOLDERS[name].iterdir()} == expected


@pytest.mark.parametrize(("name", "path"), FILES)
def test_file_is_whole_and_fits_the_agent_that_is_deployed(name: str, path: Path) -> None:
    manifest = verify(path)
    assert manifest.agent_id == path.stem
    agent = build_agents(read_setup(name)).microgrids[manifest.agent_id]
    policy = OnnxPolicy.load(path, codec_of(agent))
    assert policy.act(policy.codec.encode(agent)).shape == (policy.codec.act_dim,)


@pytest.mark.parametrize(("name", "path"), FILES)
def test_manifest_says_how_it_was_made(name: str, path: Path) -> None:
    config = read_setup(name).config
    manifest = verify(path)
    assert manifest.setup == name
    assert (manifest.engine, manifest.step_s) == (config.engine, config.step_s)
    assert manifest.command.startswith("heron train ")
    # the default of both need not be spelled out
    assert f"--setup {name}" in manifest.command or name == "ieee34_ieee13"
    assert f"--seed {manifest.seed}" in manifest.command or manifest.seed == 0
    assert manifest.env_steps > 50_000
    assert 0.0 < manifest.parity_error < 1e-5


@pytest.mark.parametrize(("name", "path"), FILES)
def test_manifest_shows_that_it_beats_doing_nothing_on_held_out_days(name: str, path: Path) -> None:
    setup = read_setup(name)
    starts = first_days(setup.profiles.test_days, setup.config)
    # Episodes of several days overlap: every seventh start stands for all.
    stride = 7 if lasts_several_days(setup.config) else 1
    evaluation = verify(path).evaluation
    facts = {key: evaluation[key] for key in ("setup", "engine", "penalty", "days", "split")}
    assert facts == {
        "setup": name,
        "engine": setup.config.engine,
        "penalty": setup.config.penalty,
        "days": len(starts[::stride]),
        "split": "test",
    }
    policy, nothing, rule = (evaluation[key] for key in ("policy", "none", "rule"))
    for figures in (policy, nothing, rule):
        assert figures["objective_usd"] == pytest.approx(
            figures["cost_usd"] + setup.config.penalty * figures["safety"]
        )
    assert policy["objective_usd"] < nothing["objective_usd"]
    assert policy["gain_low_usd"] > 0.0
