"""A coordinator's mind: its agent, which turns a view into features, and its policy.

The same agent, codec and order of calls as in training: the view fills the features, the codec
makes the observation, the policy the action, and the agent hands each device its part. What a
device proposes is what is sent to it; the envelope that decides stands at the edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from controller.allocation import Decided
from controller.market import features_of
from heron.errors import ConfigError, ConfigProblem, ManifestMismatch, PolicyError
from heron.messaging import MessageType
from heron.messaging.wire import Coordinated, PolicyReport, PolicyRequest
from heron.policy import OnnxPolicy, PolicyCodec, codec_of
from heron.policy.baselines import IdlePolicy
from heron.policy.together import Proposing
from heron.powergrid.agents import (
    MarketGridAgent,
    MicrogridView,
    PowerGridAgent,
    Scheme,
    scheme_of,
)
from heron.powergrid.agents.schemes import SCHEMES
from heron.powergrid.baselines import (
    BASELINES,
    ActingPolicy,
    Baselines,
    is_baseline,
    split_shield,
)
from heron.powergrid.policy_requests import obey
from heron.powergrid.policy_slot import PolicySlot
from heron.powergrid.setups import Setup
from heron.powergrid.setups.coordination import ALIASES
from heron.powergrid.shipped import shipped_policies

RULE = "rule"


class PolicyMind:
    """One coordinator with its policy."""

    def __init__(
        self, agent: PowerGridAgent, policy: ActingPolicy, codec: PolicyCodec, name: str
    ) -> None:
        self._agent = agent
        self._policy = policy
        self._codec = codec
        self._name = name
        self._action: npt.NDArray[np.float32] = np.zeros(codec.act_dim, dtype=np.float32)
        self._proposed: npt.NDArray[np.float32] = np.zeros(codec.obs_dim, dtype=np.float32)

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
        if isinstance(self._policy, PolicySlot):
            manifest = self._policy.active.manifest
            return f"{manifest.name} {manifest.version}"
        return self._name

    def answer(self, request: PolicyRequest) -> PolicyReport:
        """Do what was asked of the policy, if it may be, and say how it does."""
        return obey(self.agent_id, self._policy, request)

    @property
    def negotiates(self) -> bool:
        """Whether it shows the operator something and waits for the answer before it acts."""
        return isinstance(self._agent, MarketGridAgent) and self._agent.negotiates

    @property
    def proposes(self) -> bool:
        """Whether its policy is answered only when the others' have proposed, too."""
        return isinstance(self._policy, Proposing)

    def consider(self, view: MicrogridView) -> None:
        """Take in a view and let the policy act or propose on it; nothing is dispatched yet.

        Raises:
            PolicyError: The observation or the answer is not finite.
        """
        agent = self._agent
        agent.update_from(view)
        self._proposed = self._codec.encode(agent)
        if isinstance(self._policy, Proposing):
            self._policy.propose(self._proposed)
            return
        self._action = self._policy.act(self._proposed)
        if isinstance(agent, MarketGridAgent):
            agent.bring(self._action)

    def shows(self) -> dict[str, dict[str, float]]:
        """Return what the operator may see of it, by feature and field."""
        return features_of(self._agent)

    def settle(self, letter: Coordinated | None = None) -> Decided:
        """Dispatch on what was considered last.

        Args:
            letter: The operator's answer, where it negotiates; without one it serves itself.

        Raises:
            PolicyError: What came out cannot be sent.
        """
        agent = self._agent
        if isinstance(self._policy, Proposing):
            self._action = self._policy.act(self._proposed)
        try:
            if letter is not None:
                self._obey(letter)
            elif isinstance(agent, MarketGridAgent) and agent.negotiates:
                agent.serve_itself()
            else:
                agent.apply_action(agent.from_normalised(self._action))
        except ValueError as error:
            raise PolicyError(str(error)) from error
        proposals = agent.proposals
        for device_id, setpoint in proposals.items():
            if not np.isfinite([setpoint.p_mw, setpoint.q_mvar]).all():
                raise PolicyError(f"{device_id}: the proposed set-point is {setpoint}")
        note = getattr(self._policy, "note", "")
        return Decided(tuple(float(x) for x in self._action), proposals, note)

    def _obey(self, letter: Coordinated) -> None:
        operator = self._agent.upstream_id or ""
        if letter.action is None:
            self._agent.on_message(MessageType.SIGNAL, operator, letter.signal)
            return
        self._agent.receive_signal(letter.signal)
        self._agent.on_message(MessageType.ACTION, operator, letter.action)

    def decide(self, view: MicrogridView) -> Decided:
        """Consider, and dispatch without the operator.

        Raises:
            PolicyError: The observation or the answer is not finite.
        """
        self.consider(view)
        return self.settle()


def build_minds(
    setup: Setup,
    policies: Sequence[str] = (),
    scheme: Scheme | None = None,
    *,
    candidates: Sequence[str] = (),
    key: str | None = None,
) -> list[PolicyMind]:
    """Build the coordinators of a setup with their policies; see `policy_sources`.

    Args:
        setup: The site.
        policies: Where each comes from.
        scheme: How they coordinate; as the setup says if not given. Where they do not command
            set-points, ``none`` and ``rule`` are the action of 0: in a market the honest one.
        candidates: Each ``AGENT=FILE``, or a folder with some ``AGENT.onnx``: policies that
            decide in the shadow of a file, until an operator promotes them.
        key: Public key that must have signed every policy file; None asks for none.

    Raises:
        ConfigError: A coordinator has no policy, or a name is not of this setup.
        ManifestMismatch: A policy was made for another codec; the message says which field.
        PolicyError: A policy cannot be loaded.
    """
    scheme = scheme or scheme_of(setup.config.protocol)
    coordinators: Mapping[str, PowerGridAgent] = scheme.build(setup).microgrids
    sources = policy_sources(setup, policies, tuple(coordinators), scheme)
    minds = []
    codecs = {agent_id: codec_of(agent) for agent_id, agent in coordinators.items()}
    makers = Baselines(setup, codecs)
    shadows = candidate_files(candidates, sources)
    for agent_id, agent in coordinators.items():
        codec = codecs[agent_id]
        source = sources[agent_id]
        if scheme.commands_devices or isinstance(source, Path):
            policy, name = _load(source, agent_id, makers, setup, key)
            _require_protocol(policy, name, scheme)
        elif source in ("none", RULE):
            policy, name = IdlePolicy(codec), source
        else:
            expected = "none, rule or a file: the other baselines command set-points"
            raise ConfigError([ConfigProblem(f"policy of {agent_id}", source, expected)])
        if agent_id in shadows and isinstance(source, Path):
            shadow = shadows[agent_id]
            policy = PolicySlot(codec, source, shadow, key, setup=setup.config.name)
            _require_protocol(OnnxPolicy.load(shadow, codec, key), shadow.name, scheme)
        minds.append(PolicyMind(agent, policy, codec, name))
    require_all(minds, len(minds))
    return minds


def require_all(minds: Sequence[PolicyMind], n_coordinators: int) -> None:
    """Refuse a shield of the network that does not hear every coordinator of the site.

    Raises:
        ConfigError: Some of the site's coordinators are behind it, and others not or not here.
    """
    behind = [mind.agent_id for mind in minds if mind.proposes]
    if behind and len(behind) < n_coordinators:
        expected = "all coordinators of the site behind it, in one process"
        raise ConfigError([ConfigProblem("shield-network", ", ".join(behind), expected)])


def _require_protocol(policy: ActingPolicy, name: str, scheme: Scheme) -> None:
    """Refuse a policy that was trained under another of the protocols that ship.

    Raises:
        ManifestMismatch: It was; its numbers would mean something else.
    """
    if not isinstance(policy, OnnxPolicy):
        return
    given = str(policy.manifest.training.get("protocol", "setpoint"))
    trained = SCHEMES.get(ALIASES.get(given, given))
    if trained is not None and trained is not scheme:
        raise ManifestMismatch(
            f"{name}: trained under the protocol {trained.name!r}, not {scheme.name!r}"
        )


def policy_sources(
    setup: Setup,
    policies: Sequence[str],
    agents: Sequence[str],
    scheme: Scheme | None = None,
) -> dict[str, str | Path]:
    """Return the source of each coordinator's policy: a baseline's name, or a file.

    Args:
        setup: Its folder may hold policies; they are taken when none are given, else `RULE` is.
        policies: Each ``SOURCE`` for all, or ``AGENT=SOURCE`` for one. A source is one of
            `heron.powergrid.baselines.BASELINES`, a folder with one ``AGENT.onnx`` each, or a
            file; ``shield:`` before it puts it behind the voltage shield of its microgrid,
            ``shield-network:`` behind that of the network.
        agents: The coordinators.
        scheme: How they coordinate; as the setup says if not given.

    Raises:
        ConfigError: With every mistake found.
    """
    problems: list[ConfigProblem] = []
    found: dict[str, str | Path] = {}
    for text in policies or [str(shipped_policies(setup, scheme) or RULE)]:
        agent, equals, source = text.partition("=")
        if not equals:
            agent, source = "", text
        elif agent not in agents:
            problems.append(ConfigProblem("policy", text, f"AGENT is one of {', '.join(agents)}"))
            continue
        if not agent and Path(split_shield(source)[1]).is_file() and len(agents) > 1:
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


def candidate_files(
    candidates: Sequence[str], sources: Mapping[str, str | Path]
) -> dict[str, Path]:
    """Return the candidate's file of each coordinator that has one.

    Args:
        candidates: Each ``AGENT=FILE``, or a folder with some ``AGENT.onnx``.
        sources: What decides at each coordinator.

    Raises:
        ConfigError: With every mistake found.
    """
    problems: list[ConfigProblem] = []
    found: dict[str, Path] = {}
    for text in candidates:
        agent, equals, source = text.partition("=")
        if equals:
            given = {agent: Path(source)}
        else:
            given = {a: p for a in sources if (p := Path(text) / f"{a}.onnx").is_file()}
        if not given:
            expected = f"AGENT=FILE, or a folder with one of {', '.join(sources)} as AGENT.onnx"
            problems.append(ConfigProblem("candidate", text, expected))
        for name, path in given.items():
            if name not in sources:
                expected = f"AGENT is one of {', '.join(sources)}"
                problems.append(ConfigProblem("candidate", text, expected))
            elif not path.is_file():
                problems.append(ConfigProblem(f"candidate of {name}", str(path), "a file"))
            elif not isinstance(sources[name], Path):
                expected = f"a policy file that decides; {name} has {sources[name]}"
                problems.append(ConfigProblem(f"candidate of {name}", str(path), expected))
            else:
                found[name] = path
    if problems:
        raise ConfigError(problems)
    return found


def _source_for(agent: str, source: str) -> str | Path:
    """Return a baseline's name, or a file; a shielded file keeps its prefix."""
    if is_baseline(source):
        return source
    shield, behind = split_shield(source)
    path = Path(behind)
    if path.is_dir():
        path = path / f"{agent}.onnx"
    if not path.is_file():
        known = ", ".join(BASELINES)
        expected = f"no such file: expected a folder with {agent}.onnx, a file, or one of {known}"
        raise ConfigError([ConfigProblem(f"policy of {agent}", str(path), expected)])
    return f"{shield}{path}" if shield else path


def _load(
    source: str | Path, agent: str, makers: Baselines, setup: Setup, key: str | None
) -> tuple[ActingPolicy, str]:
    if isinstance(source, str) and is_baseline(source):
        return makers.policy(source, agent), source
    shield, behind = split_shield(str(source))
    path = Path(behind)
    policy = OnnxPolicy.load(path, makers.codecs[agent], key, setup.config.name)
    name = f"{path.name}:{policy.manifest.codec_hash[:8]}"
    if isinstance(source, Path):
        return policy, name
    return makers.shielded(policy, agent, shield), f"{shield}{name}"
