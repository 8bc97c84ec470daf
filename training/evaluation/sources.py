"""Finds the policies that a command or a study names.

Those that plan need the extra ``optimization``; it is imported only when one of them is asked
for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.setups import Setup
from training.envs import MultiAgentMicrogrids
from training.evaluation.episodes import Policies, baseline, load_policies

SHIELD = "shield:"
"""Prefix that puts a policy behind the voltage shield."""

BASELINES = ("none", "rule", "mpc")


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
        name: ``none``, ``rule``, ``mpc``, or a directory with one ``AGENT.onnx`` a microgrid;
            ``shield:`` before it puts it behind the shield.
        env: Where they shall act.

    Raises:
        ConfigError: There is no such thing, or a planner's packages are not installed.
        PolicyError: A file is missing, damaged or made for another codec.
    """
    if name.startswith(SHIELD):
        return _shielded(policies_named(name.removeprefix(SHIELD), env), env)
    if name == "mpc":
        return _mpc(env)
    if name in BASELINES:
        return baseline(name, env.setup, env.codecs)
    if not Path(name).is_dir():
        expected = f"one of {', '.join(BASELINES)}, or a directory with one AGENT.onnx a microgrid"
        raise ConfigError([ConfigProblem("policy", name, expected)])
    return load_policies(Path(name), env.codecs)


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


def planners(what: str) -> Any:
    """Return the package of the planners.

    Raises:
        ConfigError: Its solvers are not installed; the message says what asked for them.
    """
    try:
        from heron.powergrid import optimization
    except ImportError as error:
        expected = "its solvers installed: pip install heron-hil[optimization]"
        raise ConfigError([ConfigProblem(what, str(error.name), expected)]) from error
    return optimization


def _mpc(env: MultiAgentMicrogrids) -> Policies:
    optimization = planners("mpc")
    config = env.setup.config
    if not config.forecast:
        raise ConfigError([ConfigProblem("mpc", config.forecast, "a setup with forecast: true")])
    return {
        m.name: optimization.MpcPolicy(env.codecs[m.name], m, config.step_s)
        for m in config.microgrid_configs
    }


def _shielded(policies: Policies, env: MultiAgentMicrogrids) -> Policies:
    optimization = planners("shield")
    grid, config = env.net.grid, env.setup.config
    network = optimization.radial_network(grid)
    out: dict[str, Any] = {}
    for agent, policy in policies.items():
        shield = optimization.VoltageShield.for_microgrid(network, grid, config, agent)
        out[agent] = optimization.ShieldedPolicy(policy, env.codecs[agent], shield)
    return out
