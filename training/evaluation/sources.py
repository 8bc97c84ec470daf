"""Finds the policies that a command or a study names: a baseline, or trained ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.baselines import (
    BASELINES,
    NETWORK_SHIELD,
    TUNABLE,
    Baselines,
    is_baseline,
    split_shield,
)
from heron.powergrid.setups import Setup
from heron.powergrid.shipped import shipped_policies
from heron.powergrid.tuned import Numbers, numbers_of
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
    folder = shipped_policies(setup) if source is None else None
    name = source if folder is None else str(folder)
    if name is None:
        known = ", ".join(BASELINES)
        expected = f"one of {known}, or a directory: none ship with this setup and its protocol"
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


def numbers_used(names: Iterable[str], setup: Setup) -> dict[str, Numbers]:
    """Return which numbers baselines and shields have on a setup, where they have any.

    Raises:
        ConfigError: The setup's file of tuned numbers is damaged.
    """
    parts = [split_shield(name) for name in names]
    behind = [name for _, name in parts if name in TUNABLE]
    shields = [shield.rstrip(":") for shield, _ in parts if shield == NETWORK_SHIELD]
    return {name: numbers_of(setup, name) for name in dict.fromkeys([*behind, *shields])}


def label(name: str) -> str:
    """Return a name for tables: of a directory its last two parts."""
    shield, colon, rest = name.rpartition(":")
    path = Path(rest)
    return f"{shield}{colon}{path.parent.name}/{path.name}" if path.parent.name else name
