"""Finds the policies that a command or a study names: a baseline, or trained ones."""

from __future__ import annotations

from pathlib import Path

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.baselines import BASELINES, Baselines, is_baseline, split_shield
from heron.powergrid.setups import Setup
from training.envs import MultiAgentMicrogrids
from training.evaluation.episodes import Policies, load_policies


def policies_of(source: str | None, setup: Setup) -> tuple[Policies, str]:
    """Return one policy per coordinator of a setup, and their label.

    Args:
        source: A name as `policies_named` takes it; None: the policies that ship.
        setup: Of the coordinators.

    Raises:
        ConfigError: There is no such thing, or a planner's packages are not installed.
        PolicyError: A file is missing, damaged or made for another codec.
    """
    name = source if source is not None else shipped(setup)
    if name is None:
        expected = f"one of {', '.join(BASELINES)}, or a directory: none ship with this setup"
        raise ConfigError([ConfigProblem("policy", None, expected)])
    return policies_named(name, MultiAgentMicrogrids(setup)), label(name)


def policies_named(name: str, env: MultiAgentMicrogrids) -> Policies:
    """Return the policies of a name.

    Args:
        name: One of `heron.powergrid.baselines.BASELINES`, or a directory with one
            ``AGENT.onnx`` a microgrid; ``shield:`` before it puts each behind the shield of its
            own microgrid, ``shield-network:`` all behind that of the network.
        env: Where they shall act.

    Raises:
        ConfigError: There is no such thing, or a planner's packages are not installed.
        PolicyError: A file is missing, damaged or made for another codec.
    """
    makers = Baselines(env.setup, env.codecs)
    if is_baseline(name):
        return makers.policies(name)
    shield, behind = split_shield(name)
    directory = Path(behind)
    if not directory.is_dir():
        expected = f"one of {', '.join(BASELINES)}, or a directory with one AGENT.onnx a microgrid"
        raise ConfigError([ConfigProblem("policy", name, expected)])
    policies = load_policies(directory, env.codecs)
    if not shield:
        return policies
    return {agent: makers.shielded(policy, agent, shield) for agent, policy in policies.items()}


def shipped(setup: Setup) -> str | None:
    """Return the name of the policies that ship with a setup: their directory, if it has any."""
    directory = None if setup.path is None else setup.path.parent / "policies"
    if directory is None or not any(directory.glob("*.onnx")):
        return None
    return str(directory)


def label(name: str) -> str:
    """Return a name for tables: of a directory its last two parts."""
    shield, colon, rest = name.rpartition(":")
    path = Path(rest)
    return f"{shield}{colon}{path.parent.name}/{path.name}" if path.parent.name else name
