"""An agent's state: its features in a fixed order, and immutable pictures of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from heron.core.features import FeatureProvider, Vector, check_fields, feature_class, snake_case
from heron.core.visibility import (
    COORDINATOR_LEVEL,
    FIELD_LEVEL,
    SYSTEM_LEVEL,
    can_observe,
)
from heron.errors import ConfigError, ConfigProblem


class State:
    """The features of one agent.

    A feature is found by its class name (``state.feature("BusVoltages")``), by that name in
    snake case as an attribute (``state.bus_voltages``), or by the name that `add_feature` gave.

    Attributes:
        owner_id: Whose state it is.
        owner_level: The owner's level, 1 to 3.
        upstream_id: Whom the owner reports to, if known.
        features: In the order of `vector`. Append to it to add a feature.
    """

    owner_level = FIELD_LEVEL

    def __init__(
        self,
        owner_id: str,
        owner_level: int | None = None,
        upstream_id: str | None = None,
    ) -> None:
        self.owner_id = owner_id
        if owner_level is not None:
            self.owner_level = owner_level
        self.upstream_id = upstream_id
        self.features: list[FeatureProvider] = []

    def __getattr__(self, name: str) -> Any:
        """Return the feature of this name in snake case."""
        if name.startswith("_") or name == "features":
            raise AttributeError(name)
        for key, feature in self.items():
            if name in (key, snake_case(key)):
                return feature
        raise AttributeError(
            f"state of {self.owner_id!r} has no feature {name!r}; "
            f"it has {', '.join(snake_case(key) for key, _ in self.items()) or 'none'}"
        )

    def items(self) -> Iterator[tuple[str, FeatureProvider]]:
        """Yield (name, feature) in order."""
        for feature in self.features:
            yield feature.feature_name, feature

    def add_feature(self, name: str, feature: FeatureProvider) -> None:
        """Append a feature under a name of its own, e.g. to have two of one class."""
        feature.feature_name = name
        self.features.append(feature)

    def feature(self, name: str) -> FeatureProvider:
        """Return a feature by its name.

        Raises:
            ConfigError: There is none.
        """
        for key, feature in self.items():
            if key == name or snake_case(key) == name:
                return feature
        raise ConfigError(
            [
                ConfigProblem(
                    f"state of {self.owner_id!r}",
                    name,
                    f"one of its features: {', '.join(key for key, _ in self.items()) or 'none'}",
                )
            ]
        )

    def update_feature(self, name: str, **values: Any) -> None:
        """Set fields of one feature.

        Raises:
            ConfigError: There is no such feature.
            ValueError: It has no such field.
        """
        feature = self.feature(name)
        check_fields(feature, values)
        feature.set_values(**values)

    def check(self) -> None:
        """Raise `ConfigError` if two features share a name or names and values differ in number."""
        problems: list[ConfigProblem] = []
        seen: set[str] = set()
        for name, feature in self.items():
            where = f"state of {self.owner_id!r}"
            if name in seen:
                problems.append(
                    ConfigProblem(where, name, "a feature name only once; use add_feature()")
                )
            seen.add(name)
            n_names, n_values = len(feature.names()), len(feature.vector())
            if n_names != n_values:
                problems.append(
                    ConfigProblem(
                        f"{where}: {name}", n_names, f"as many names as values: {n_values}"
                    )
                )
        if problems:
            raise ConfigError(problems)

    def vector(self) -> Vector:
        """Return all features' values as float32, in order, whoever may see them."""
        if not self.features:
            return np.zeros(0, dtype=np.float32)
        return np.concatenate([feature.vector() for feature in self.features])

    def names(self) -> list[str]:
        """Return ``Feature.field`` for each element of `vector`."""
        return [f"{key}.{field}" for key, feature in self.items() for field in feature.names()]

    def observed_by(self, requestor_id: str, requestor_level: int) -> dict[str, Vector]:
        """Return the vectors of the features that a requester may see, by name, in order.

        They are copies: what is under way does not change when the feature does.
        """
        owner, level, upstream = self.owner_id, self.owner_level, self.upstream_id
        return {
            feature.feature_name: np.array(feature.vector(), dtype=np.float32)
            for feature in self.features
            if can_observe(
                feature.visibility, requestor_id, requestor_level, owner, level, upstream
            )
        }

    def snapshot(self, time_s: float = 0.0) -> StateSnapshot:
        """Return an immutable picture of the state as it is now."""
        pictures: list[FeaturePicture] = []
        for name, feature in self.items():
            vector = np.array(feature.vector(), dtype=np.float32)
            vector.setflags(write=False)
            pictures.append(FeaturePicture(name, tuple(feature.visibility), vector))
        return StateSnapshot(
            self.owner_id, self.owner_level, self.upstream_id, time_s, tuple(pictures)
        )

    def reset(self, **overrides: Mapping[str, Any]) -> State:
        """Reset every feature; ``overrides`` gives fields by feature name."""
        for name in overrides:
            self.feature(name)
        for name, feature in self.items():
            feature.reset(**(overrides.get(name) or overrides.get(snake_case(name)) or {}))
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return owner and features, for logs and files."""
        return {
            "owner_id": self.owner_id,
            "owner_level": self.owner_level,
            "upstream_id": self.upstream_id,
            "features": [
                {"name": name, "type": type(feature).__name__, "values": feature.to_dict()}
                for name, feature in self.items()
            ],
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> State:
        """Build a state from what `to_dict` gave; feature classes come from the registry."""
        state = cls(d["owner_id"], d["owner_level"], d.get("upstream_id"))
        for entry in d["features"]:
            feature = feature_class(entry["type"]).from_dict(entry["values"])
            if entry["name"] == entry["type"]:
                state.features.append(feature)
            else:
                state.add_feature(entry["name"], feature)
        return state


class FieldAgentState(State):
    """State of an L1 agent."""

    owner_level = FIELD_LEVEL


class CoordinatorAgentState(State):
    """State of an L2 agent."""

    owner_level = COORDINATOR_LEVEL


class SystemAgentState(State):
    """State of an L3 agent."""

    owner_level = SYSTEM_LEVEL


@dataclass(frozen=True, slots=True)
class FeaturePicture:
    """One feature at one instant; the vector cannot be written to."""

    name: str
    visibility: tuple[str, ...]
    vector: Vector


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """A state at one instant, never changed afterwards.

    Attributes:
        time_s: When it was taken, plant seconds.
    """

    owner_id: str
    owner_level: int
    upstream_id: str | None
    time_s: float
    pictures: tuple[FeaturePicture, ...]

    def observed_by(
        self, requestor_id: str | None, requestor_level: int | None
    ) -> Mapping[str, Vector]:
        """Return the vectors that a requester may see, by feature name; read-only."""
        return MappingProxyType(
            {
                picture.name: picture.vector
                for picture in self.pictures
                if can_observe(
                    picture.visibility,
                    requestor_id,
                    requestor_level,
                    self.owner_id,
                    self.owner_level,
                    self.upstream_id,
                )
            }
        )
