"""The codec: what a policy sees and what it says, as ordered, named, scaled numbers.

The ordered list of (agent, feature, field, unit, scale) is the observation; the ordered list of
bounded set-points is the action. Training and the deployed controller build both with this code
from the same agents, and the codec's hash stands in the policy's manifest, so that a policy
never runs on an observation that it was not trained on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, Self, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from heron.core import FeatureProvider, State
from heron.errors import ConfigError, ConfigProblem, ManifestMismatch, PolicyError
from heron.policy.encoder import JointEncoder

FloatArray = npt.NDArray[np.float32]


class ActionMapping(StrEnum):
    """How a normalised action in [-1, 1] becomes a set-point; see `SetpointSpec.decode`."""

    LINEAR = "linear"
    CENTRED = "centred"
    CEILING = "ceiling"


CEILING_FULL_AT = 0.7
"""Width of action, counted from -1, over which a ceiling rises from zero to its maximum: every
action above ``-1 + 0.7`` leaves the source uncurtailed, so that small actions do nothing."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One number of an observation.

    Attributes:
        agent: Agent that owns the feature.
        feature: Name of the feature.
        field: Name of the field in it.
        unit: Its unit; empty for a pure number.
        scale: The observation holds the value divided by this.
    """

    agent: str
    feature: str
    field: str
    unit: str = ""
    scale: float = 1.0

    @property
    def path(self) -> str:
        """``agent.feature.field``."""
        return f"{self.agent}.{self.feature}.{self.field}"


@dataclass(frozen=True, slots=True)
class SetpointSpec:
    """One number of an action.

    Attributes:
        agent: Device that it is for.
        quantity: ``p_mw``, ``q_mvar`` or another name with its unit.
        low: Smallest set-point, positive = injects.
        high: Largest set-point.
        mapping: ``linear`` (-1 is low, 1 is high), ``centred`` (0 is zero, -1 is low, 1 is
            high) or ``ceiling`` (-1 is zero, from -0.3 on it is high).
    """

    agent: str
    quantity: str
    low: float
    high: float
    mapping: str = ActionMapping.LINEAR

    @property
    def path(self) -> str:
        """``agent.quantity``."""
        return f"{self.agent}.{self.quantity}"

    def decode(self, x: float) -> float:
        """Return the set-point for a normalised action; values outside [-1, 1] are clipped.

        Raises:
            PolicyError: ``x`` is not finite, or the mapping is unknown.
        """
        if not math.isfinite(x):
            raise PolicyError(f"{self.path}: the action is {x}")
        return Decoder(self).decode(float(x))

    def encode(self, value: float) -> float:
        """Return the normalised action that gives a set-point, the inverse of `decode`.

        A full ceiling gives 1.

        Raises:
            PolicyError: The mapping is unknown.
        """
        match self.mapping:
            case ActionMapping.LINEAR:
                span = self.high - self.low
                x = 2.0 * (value - self.low) / span - 1.0 if span else 0.0
            case ActionMapping.CENTRED:
                side = self.high if value >= 0.0 else -self.low
                x = value / side if side else 0.0
            case ActionMapping.CEILING:
                share = value / self.high if self.high else 1.0
                x = 1.0 if share >= 1.0 else share * CEILING_FULL_AT - 1.0
            case _:
                raise PolicyError(f"{self.path}: unknown mapping {self.mapping!r}")
        return min(1.0, max(-1.0, x))


class Decoder:
    """`SetpointSpec.decode` for finite numbers, for whoever calls it every step.

    Raises:
        PolicyError: The mapping is unknown.
    """

    __slots__ = ("_centred", "_high", "_linear", "_low", "_span")

    def __init__(self, spec: SetpointSpec) -> None:
        if spec.mapping not in list(ActionMapping):
            raise PolicyError(f"{spec.path}: unknown mapping {spec.mapping!r}")
        self._centred = spec.mapping == ActionMapping.CENTRED
        self._linear = spec.mapping == ActionMapping.LINEAR
        self._low, self._high, self._span = spec.low, spec.high, spec.high - spec.low

    def decode(self, x: float) -> float:
        """Return the set-point for a finite number."""
        # Conditions, not min() and max(): every number of every action passes here.
        if x < -1.0:
            x = -1.0
        elif x > 1.0:
            x = 1.0
        if self._centred:
            return x * self._high if x >= 0.0 else -x * self._low
        if self._linear:
            return self._low + (x + 1.0) / 2.0 * self._span
        share = (x + 1.0) / CEILING_FULL_AT
        return self._high if share > 1.0 else self._high * share


@runtime_checkable
class Commandable(Protocol):
    """A device agent whose action a policy can fill."""

    def setpoint_specs(self) -> Sequence[SetpointSpec]:
        """Return one specification for each number of its action, in the action's order."""
        ...


@dataclass(frozen=True)
class PolicyCodec:
    """Ordered observation fields and ordered set-points of one coordinator.

    Attributes:
        agent_id: The coordinator.
        fields: Observation, (obs_dim,).
        setpoints: Action, (act_dim,).
    """

    agent_id: str
    fields: tuple[FieldSpec, ...]
    setpoints: tuple[SetpointSpec, ...]
    _groups: tuple[tuple[str, str, slice, tuple[str, ...]], ...] = field(
        init=False, repr=False, compare=False
    )
    _scale: npt.NDArray[np.float64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        scale = np.array([f.scale for f in self.fields], dtype=np.float64)
        if not (np.isfinite(scale) & (scale > 0.0)).all():
            bad = [f.path for f, s in zip(self.fields, scale, strict=True) if not s > 0.0]
            raise PolicyError(f"scales must be positive and finite: {', '.join(bad)}")
        object.__setattr__(self, "_scale", scale)
        object.__setattr__(self, "_groups", tuple(_group(self.fields)))

    @property
    def obs_dim(self) -> int:
        """Length of the observation."""
        return len(self.fields)

    @property
    def scale(self) -> npt.NDArray[np.float64]:
        """(obs_dim,) what each value is divided by."""
        return self._scale

    @property
    def act_dim(self) -> int:
        """Length of the action."""
        return len(self.setpoints)

    @property
    def hash(self) -> str:
        """SHA-256 of the codec's content, in hex."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def index(self, agent: str, feature: str, name: str) -> int:
        """Return the position of a field in the observation.

        Raises:
            KeyError: The observation holds no such field.
        """
        for i, spec in enumerate(self.fields):
            if (spec.agent, spec.feature, spec.field) == (agent, feature, name):
                return i
        raise KeyError(f"{agent}.{feature}.{name}")

    def layout(self) -> Iterator[tuple[str, str, int]]:
        """Yield owner, feature and number of fields, in the order of the observation."""
        for owner, name, _, fields in self._groups:
            yield owner, name, len(fields)

    def encode(self, agent: Any) -> FloatArray:
        """Return the observation of a coordinator, scaled, (obs_dim,).

        Raises:
            ManifestMismatch: The agent lacks a feature of the codec, or it has other fields.
        """
        kept: tuple[PolicyCodec, JointEncoder] | None = getattr(agent, "_encoder", None)
        if kept is None or kept[0] is not self or not kept[1].holds():
            kept = agent._encoder = (self, JointEncoder([(self, agent)]))
        return kept[1].encode()[agent.agent_id]

    def encode_observation(self, observation: Any) -> FloatArray:
        """Return the same from what a coordinator was given to see, which may be older.

        Args:
            observation: A `heron.core.Observation` of the coordinator.

        Raises:
            ManifestMismatch: It lacks a feature of the codec, or one has other fields.
        """
        local: Mapping[str, Any] = observation.local
        below: Mapping[str, Any] = local.get("subordinates", {})
        out = np.empty(self.obs_dim, dtype=np.float32)
        for owner, name, where, fields in self._groups:
            seen = local if owner == self.agent_id else below.get(owner, {})
            values = seen.get(name)
            if values is None or len(values) != len(fields):
                raise ManifestMismatch(
                    f"the observation does not hold the {len(fields)} fields of {owner}.{name}"
                )
            out[where] = values
        return self._scaled(out)

    def _scaled(self, raw: FloatArray) -> FloatArray:
        # Features travel as float32 in reports; rounding here too makes both ways the same.
        return (raw / self._scale).astype(np.float32)

    def differences(self, other: PolicyCodec) -> list[str]:
        """Return what differs, one line each; empty when the codecs are the same."""
        found: list[str] = []
        if self.agent_id != other.agent_id:
            found.append(f"agent: {self.agent_id!r} here, {other.agent_id!r} there")
        found += _differences("observation", self.fields, other.fields)
        found += _differences("action", self.setpoints, other.setpoints)
        return found

    def require_same(self, other: PolicyCodec, what: str) -> None:
        """Refuse another codec.

        Args:
            other: The codec that is wanted.
            what: Named in the message, e.g. the policy's file.

        Raises:
            ManifestMismatch: They differ; the message says where first, and in how many places.
        """
        found = self.differences(other)
        if found:
            more = f" (and {len(found) - 1} more differences)" if len(found) > 1 else ""
            raise ManifestMismatch(f"{what}: made for another codec: {found[0]}{more}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "agent_id": self.agent_id,
            "fields": [asdict(f) for f in self.fields],
            "setpoints": [asdict(s) for s in self.setpoints],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Build from plain data.

        Raises:
            PolicyError: A key is missing or unknown.
        """
        try:
            return cls(
                str(data["agent_id"]),
                tuple(FieldSpec(**f) for f in data["fields"]),
                tuple(SetpointSpec(**s) for s in data["setpoints"]),
            )
        except (KeyError, TypeError) as error:
            raise PolicyError(f"this is not a codec: {error}") from error


View = Literal["upper_level", "owner", "public", "system"]
"""Whose view an observation is built for; see `codec_of`."""


def codec_of(agent: Any, view: View = "upper_level") -> PolicyCodec:
    """Return the codec of a coordinator: its own features, then each device's that it may see.

    Args:
        agent: A coordinator with ``agent_id``, ``state`` and ``subordinates``, who is
            `Commandable`, or whose devices are.
        view: ``upper_level``: what the coordinator may see, its devices' features among it;
            ``owner``: its own features only; ``public``: features that everyone may see;
            ``system``: also what only the system operator may see.

    Raises:
        ConfigError: There is no such view.
        PolicyError: A device cannot say what its action is.
    """
    if view not in get_args(View):
        expected = f"one of {', '.join(get_args(View))}"
        raise ConfigError([ConfigProblem("visibility_level", view, expected)])
    fields: list[FieldSpec] = []
    setpoints: list[SetpointSpec] = []
    for owner in (agent, *agent.subordinates.values()):
        for name, feature in owner.state.items():
            if _in_view(view, agent.state, owner.state, feature):
                fields += _field_specs(owner.agent_id, name, feature)
    agent_id = agent.agent_id
    if isinstance(agent, Commandable):
        setpoints += agent.setpoint_specs()
        return PolicyCodec(agent_id, tuple(fields), tuple(setpoints))
    for device_id, device in agent.subordinates.items():
        if not isinstance(device, Commandable):
            raise PolicyError(f"{device_id}: {type(device).__name__} declares no setpoint_specs()")
        setpoints += device.setpoint_specs()
    return PolicyCodec(agent.agent_id, tuple(fields), tuple(setpoints))


def hidden_features(agent: Any, codec: PolicyCodec, view: View) -> list[str]:
    """Return what a codec holds and a view does not show now: as ``device.Feature``.

    Args:
        agent: The coordinator, as in `codec_of`.
        codec: Its codec.
        view: Whose view, as in `codec_of`.
    """
    owners = {agent.agent_id: agent, **agent.subordinates}
    wanted = {(owner, name) for owner, name, _ in codec.layout()}
    return [
        f"{owner_id}.{name}"
        for owner_id, owner in owners.items()
        for name, feature in owner.state.items()
        if (owner_id, name) in wanted and not _in_view(view, agent.state, owner.state, feature)
    ]


def _in_view(view: View, mine: State, owner: State, feature: FeatureProvider) -> bool:
    if view == "public":
        return "public" in feature.visibility
    if view == "owner" and owner is not mine:
        return False
    if view == "system" and "system" in feature.visibility:
        return True
    return feature.is_observable_by(
        mine.owner_id, mine.owner_level, owner.owner_id, owner.owner_level
    )


def _field_specs(owner: str, feature_name: str, feature: FeatureProvider) -> Iterator[FieldSpec]:
    names, units, scales = feature.names(), feature.units(), feature.scales()
    if not len(names) == len(units) == len(scales):
        raise PolicyError(
            f"{owner}.{feature_name}: {len(names)} names, {len(units)} units and "
            f"{len(scales)} scales"
        )
    for name, unit, scale in zip(names, units, scales, strict=True):
        yield FieldSpec(owner, feature_name, name, unit, float(scale))


def _group(
    fields: Sequence[FieldSpec],
) -> Iterator[tuple[str, str, slice, tuple[str, ...]]]:
    start = 0
    for i in range(1, len(fields) + 1):
        here = fields[start]
        if i < len(fields) and (fields[i].agent, fields[i].feature) == (here.agent, here.feature):
            continue
        names = tuple(f.field for f in fields[start:i])
        yield here.agent, here.feature, slice(start, i), names
        start = i


def _differences(
    what: str,
    mine: Sequence[FieldSpec | SetpointSpec],
    theirs: Sequence[FieldSpec | SetpointSpec],
) -> Iterable[str]:
    if len(mine) != len(theirs):
        yield f"{what}: {len(mine)} numbers here, {len(theirs)} there"
    for i, (a, b) in enumerate(zip(mine, theirs, strict=False)):
        if a != b:
            yield f"{what}[{i}]: {_short(a)} here, {_short(b)} there"
    for label, longer, shorter in (("here", mine, theirs), ("there", theirs, mine)):
        for i in range(len(shorter), len(longer)):
            yield f"{what}[{i}]: {_short(longer[i])} only {label}"


def _short(spec: FieldSpec | SetpointSpec) -> str:
    if isinstance(spec, FieldSpec):
        return f"{spec.path} [{spec.unit or '-'}] / {spec.scale:g}"
    return f"{spec.path} {spec.mapping} [{spec.low:g}, {spec.high:g}]"
