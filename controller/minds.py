"""A coordinator's mind: its agent, which turns a view into features, and its policy.

The same agent, codec and order of calls as in training: the view fills the features, the codec
makes the observation, the policy the action, and the agent hands each device its part. What a
device proposes is what is sent to it; the envelope that decides stands at the edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from controller.allocation import Decided
from heron.errors import ConfigError, ConfigProblem, PolicyError
from heron.policy import OnnxPolicy, PolicyCodec, codec_of
from heron.policy.baselines import IdlePolicy, RulePolicy
from heron.powergrid.agents import MicrogridView, PowerGridAgent, build_agents
from heron.powergrid.device_configs import GeneratorConfig
from heron.powergrid.setups import Setup

NONE, RULE = "none", "rule"
POLICIES_FOLDER = "policies"
"""Folder of a setup that holds the policies that ship with it, one ``AGENT.onnx`` each."""


class ActingPolicy(Protocol):
    """Anything that decides for one coordinator."""

    def act(self, obs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the normalised action for a scaled observation."""
        ...


class PolicyMind:
    """One coordinator with its policy."""

    def __init__(
        self, agent: PowerGridAgent, policy: ActingPolicy, codec: PolicyCodec, name: str
    ) -> None:
        self._agent = agent
        self._policy = policy
        self._codec = codec
        self._name = name

    @property
    def agent_id(self) -> str:
        """The coordinator."""
        return str(self._agent.agent_id)

    @property
    def device_ids(self) -> tuple[str, ...]:
        """Its devices."""
        return tuple(self._agent.devices)

    @property
    def policy(self) -> ActingPolicy:
        """What decides."""
        return self._policy

    @property
    def policy_name(self) -> str:
        """Name of the baseline, or the policy's file and the start of its codec's hash."""
        return self._name

    def decide(self, view: MicrogridView) -> Decided:
        """Decide.

        Raises:
            PolicyError: The observation or the answer is not finite.
        """
        self._agent.update_from(view)
        action = self._policy.act(self._codec.encode(self._agent))
        self._agent.apply_action(action)
        proposals = self._agent.proposals
        for device_id, setpoint in proposals.items():
            if not np.isfinite([setpoint.p_mw, setpoint.q_mvar]).all():
                raise PolicyError(f"{device_id}: the proposed set-point is {setpoint}")
        return Decided(tuple(float(x) for x in action), proposals)


def build_minds(setup: Setup, policies: Sequence[str] = ()) -> list[PolicyMind]:
    """Build the coordinators of a setup with their policies; see `policy_sources`.

    Raises:
        ConfigError: A coordinator has no policy, or a name is not of this setup.
        ManifestMismatch: A policy was made for another codec; the message says which field.
        PolicyError: A policy cannot be loaded.
    """
    coordinators: Mapping[str, PowerGridAgent] = build_agents(setup).microgrids
    sources = policy_sources(setup, policies, tuple(coordinators))
    minds = []
    for agent_id, agent in coordinators.items():
        codec = codec_of(agent)
        policy, name = _load(sources[agent_id], codec, setup)
        minds.append(PolicyMind(agent, policy, codec, name))
    return minds


def policy_sources(
    setup: Setup, policies: Sequence[str], agents: Sequence[str]
) -> dict[str, str | Path]:
    """Return the source of each coordinator's policy: ``none``, ``rule`` or a file.

    Args:
        setup: Its folder may hold policies; they are taken when none are given.
        policies: Each ``SOURCE`` for all, or ``AGENT=SOURCE`` for one. A source is ``none``,
            ``rule``, a folder with one ``AGENT.onnx`` each, or a file.
        agents: The coordinators.

    Raises:
        ConfigError: With every mistake found.
    """
    problems: list[ConfigProblem] = []
    found: dict[str, str | Path] = {}
    for text in policies or [_default_source(setup)]:
        agent, equals, source = text.partition("=")
        if not equals:
            agent, source = "", text
        elif agent not in agents:
            problems.append(ConfigProblem("policy", text, f"AGENT is one of {', '.join(agents)}"))
            continue
        if not agent and Path(source).is_file() and len(agents) > 1:
            expected = f"one file is for one agent: give a folder, or AGENT={source}"
            problems.append(ConfigProblem("policy", text, expected))
            continue
        for name in [agent] if agent else agents:
            try:
                found[name] = _source_for(name, source)
            except ConfigError as error:
                problems += error.problems
    problems += [
        ConfigProblem("policy", None, f"a policy for {agent}, too")
        for agent in agents
        if agent not in found and not problems
    ]
    if problems:
        raise ConfigError(problems)
    return found


def _default_source(setup: Setup) -> str:
    folder = None if setup.path is None else setup.path.parent / POLICIES_FOLDER
    return RULE if folder is None or not folder.is_dir() else str(folder)


def _source_for(agent: str, source: str) -> str | Path:
    if source in (NONE, RULE):
        return source
    path = Path(source)
    if path.is_dir():
        path = path / f"{agent}.onnx"
    if not path.is_file():
        expected = f"no such file: expected none, rule, a folder with {agent}.onnx, or a file"
        raise ConfigError([ConfigProblem(f"policy of {agent}", str(path), expected)])
    return path


def _load(source: str | Path, codec: PolicyCodec, setup: Setup) -> tuple[ActingPolicy, str]:
    if isinstance(source, Path):
        policy = OnnxPolicy.load(source, codec, setup=setup.config.name)
        return policy, f"{source.name}:{policy.manifest.codec_hash[:8]}"
    if source == NONE:
        return IdlePolicy(codec), NONE
    curves: dict[str, tuple[float, float]] = {}
    for device_id in setup.config.device_ids:
        device = setup.config.device(device_id).device_state_config
        if isinstance(device, GeneratorConfig):
            a, b, _ = device.cost_curve_coefs
            curves[device_id] = (a, b)
    return RulePolicy(codec, curves), RULE
