from __future__ import annotations

import pytest

from heron.errors import ConfigError
from heron.policy import OnnxPolicy
from heron.powergrid.setups import read_setup
from heron.powergrid.shipped import shipped_policies
from training.envs import MultiAgentMicrogrids
from training.evaluation.sources import label, policies_named, policies_of


def test_without_a_name_it_is_what_ships_with_the_setup() -> None:
    setup = read_setup("single_microgrid")
    policies, name = policies_of(None, setup)
    assert name == "single_microgrid/policies"
    policy = policies["MG1"]
    assert isinstance(policy, OnnxPolicy)
    assert policy.path.parent == shipped_policies(setup)


def test_setup_without_policies_says_what_can_be_named() -> None:
    setup = read_setup("ieee123_microgrids")
    assert shipped_policies(setup) is None
    with pytest.raises(ConfigError, match=r"none, rule, .*, or a directory: none ship"):
        policies_of(None, setup)


@pytest.mark.parametrize("name", ["nowhere", "shield:nowhere", "optima"])
def test_unknown_name_is_refused(name: str) -> None:
    env = MultiAgentMicrogrids(read_setup("single_microgrid"))
    with pytest.raises(ConfigError, match="or a directory"):
        policies_named(name, env)


def test_label_is_short_and_keeps_the_shield() -> None:
    assert label("rule") == "rule"
    assert label("shield:mpc") == "shield:mpc"
    assert label("shield:/a/b/c") == "shield:b/c"
