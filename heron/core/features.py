"""Features: the pieces of an agent's state, each declaring who may see it."""

from __future__ import annotations

import dataclasses
import re
from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from heron.core.visibility import OWNER, VISIBILITIES, can_observe
from heron.errors import ConfigError, ConfigProblem

Vector = NDArray[np.float32]


class FeatureProvider(ABC):
    """One observable piece of state.

    The shortest feature is a dataclass of numbers::

        @dataclass
        class StateOfCharge(FeatureProvider):
            visibility = ("owner", "upper_level")
            soc: float = 0.5

    `names` then defaults to the dataclass's fields and everything else follows from it. A
    feature whose vector is not its fields overrides `names` and `vector`, and, if its
    constructor takes something else, `to_dict` and `from_dict`.

    Attributes:
        visibility: Who may see it, any of ``owner``, ``upper_level``, ``system``, ``public``.
            May be overridden on one instance.
        feature_name: Its name in a state: the class's, unless the state was given another.
        not_fields: Attributes that `set_values` refuses and `reset` leaves as they are.
    """

    visibility: Sequence[str] = (OWNER,)
    feature_name: str
    not_fields: ClassVar[frozenset[str]] = frozenset({"visibility", "feature_name"})
    _made_from: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember what the feature was built from, so that `reset` can return to it."""
        self = super().__new__(cls)
        object.__setattr__(self, "_made_from", (args, kwargs))
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check the declared visibility and enter the class into the registry."""
        super().__init_subclass__(**kwargs)
        check_visibility(cls.visibility, cls.__name__)
        if "feature_name" not in vars(cls):
            cls.feature_name = cls.__name__
        # one entry a module: a dataclass with slots is made twice, a reloaded module again
        _REGISTRY.setdefault(cls.__name__, {})[f"{cls.__module__}.{cls.__name__}"] = cls

    def names(self) -> Sequence[str]:
        """Return the field names, one for each element of `vector`."""
        if dataclasses.is_dataclass(self):
            return tuple(f.name for f in dataclasses.fields(self))
        raise NotImplementedError(f"{type(self).__name__} must define names()")

    def vector(self) -> Vector:
        """Return the values as float32, shape (n_fields,)."""
        return np.array([getattr(self, name) for name in self.names()], dtype=np.float32)

    def units(self) -> Sequence[str]:
        """Return the unit of each element of `vector`; "" where it has none."""
        return ("",) * len(self.names())

    def scales(self) -> Sequence[float]:
        """Return what each element is divided by before a policy sees it."""
        return (1.0,) * len(self.names())

    def to_dict(self) -> dict[str, Any]:
        """Return the values by field name, for messages and logs."""
        return {name: getattr(self, name) for name in self.names()}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Self:
        """Build a feature from what `to_dict` gave.

        Raises:
            ConfigError: A field is unknown or missing.
        """
        try:
            return cls(**d)
        except TypeError as error:
            raise ConfigError(f"{cls.__name__}: {error}") from error

    def set_values(self, **kwargs: Any) -> None:
        """Set fields by name; numbers stay numbers.

        Raises:
            ValueError: A field does not exist; nothing is set then.
        """
        check_fields(self, kwargs)
        for name, value in kwargs.items():
            old = getattr(self, name)
            is_number = isinstance(old, (float, int)) and not isinstance(old, bool)
            setattr(self, name, float(value) if is_number else value)

    def reset(self, **overrides: Any) -> Self:
        """Return to the values that the feature was built with, then set ``overrides``."""
        args, kwargs = self._made_from
        self._become(type(self)(*args, **kwargs))
        if overrides:
            self.set_values(**overrides)
        return self

    def _become(self, fresh: Self) -> None:
        """Take over the values of another of its class."""
        fields: tuple[dataclasses.Field[Any], ...] = ()
        if dataclasses.is_dataclass(self):
            fields = dataclasses.fields(self)
        values = {*(f.name for f in fields), *vars(fresh)}
        for name in values - {"_made_from"} - self.not_fields:
            setattr(self, name, getattr(fresh, name))

    @final
    def is_observable_by(
        self, requestor_id: str, requestor_level: int, owner_id: str, owner_level: int
    ) -> bool:
        """Tell whether a requester may see this feature (see `can_observe`)."""
        return can_observe(self.visibility, requestor_id, requestor_level, owner_id, owner_level)


_REGISTRY: dict[str, dict[str, type[FeatureProvider]]] = {}


def check_visibility(visibility: Sequence[str], where: str) -> None:
    """Raise `ConfigError` if a visibility is not one of the four."""
    if isinstance(visibility, str):
        raise ConfigError([ConfigProblem(f"{where}.visibility", visibility, "a list of names")])
    problems = [
        ConfigProblem(f"{where}.visibility", rule, f"one of {', '.join(VISIBILITIES)}")
        for rule in visibility
        if rule not in VISIBILITIES
    ]
    if problems:
        raise ConfigError(problems)


def check_fields(feature: FeatureProvider, values: Mapping[str, Any]) -> None:
    """Raise `ValueError` naming the fields that a feature does not have."""
    unknown = [
        name
        for name in values
        if name.startswith("_") or name in feature.not_fields or not _is_field(feature, name)
    ]
    if unknown:
        raise ValueError(
            f"{type(feature).__name__} has no field {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(feature.to_dict())}"
        )


def _is_field(feature: FeatureProvider, name: str) -> bool:
    return hasattr(feature, name) and not callable(getattr(feature, name))


def feature_class(name: str) -> type[FeatureProvider]:
    """Return the feature class of a name.

    Raises:
        ConfigError: No class, or more than one, has this name.
    """
    found = _REGISTRY.get(name, {})
    if not found:
        known = ", ".join(sorted(_REGISTRY)) or "none"
        raise ConfigError([ConfigProblem("feature", name, f"one of the features: {known}")])
    if len(found) > 1:
        raise ConfigError(
            [ConfigProblem("feature", name, f"a name of one class only, not {', '.join(found)}")]
        )
    return next(iter(found.values()))


def registered_features() -> tuple[str, ...]:
    """Return the names of all feature classes that were defined so far."""
    return tuple(sorted(_REGISTRY))


_BEFORE_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SNAKE: dict[str, str] = {}


def snake_case(name: str) -> str:
    """Return a class name as an attribute name: ``BusVoltages`` is ``bus_voltages``."""
    if name not in _SNAKE:
        _SNAKE[name] = _BEFORE_CAPITAL.sub("_", name).lower()
    return _SNAKE[name]
