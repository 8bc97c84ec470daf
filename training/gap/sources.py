"""Finds the policies that a study is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.setups import Setup
from training.envs import MultiAgentMicrogrids
from training.envs.event_mode import ActingPolicy
from training.evaluation.episodes import baseline, load_policies

BASELINES = ("none", "rule")


def policies_of(source: str | None, setup: Setup) -> tuple[Mapping[str, ActingPolicy], str]:
    """Return one policy per coordinator, and their name.

    Args:
        source: ``none``, ``rule``, a directory of policy files, or None: those that ship.
        setup: Of the coordinators.

    Raises:
        ConfigError: There is no such thing.
        PolicyError: A file is missing, damaged or made for another codec.
    """
    codecs = MultiAgentMicrogrids(setup).codecs
    if source in BASELINES:
        return baseline(source, setup, codecs), source
    if source is not None:
        folder = Path(source)
    else:
        home = Path() if setup.path is None else Path(setup.path)
        folder = (home if home.is_dir() else home.parent) / "policies"
    if not folder.is_dir():
        expected = f"one of {', '.join(BASELINES)}, or a directory of policy files"
        raise ConfigError([ConfigProblem("policy", str(folder), expected)])
    return load_policies(folder, codecs), f"{folder.parent.name}/{folder.name}"
