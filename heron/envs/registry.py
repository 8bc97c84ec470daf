"""Environments by name: ``heron.make("MultiAgentMicrogrids-v0", env_config=...)``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from heron.errors import ConfigError, ConfigProblem

ENTRY_POINT_GROUP = "heron.environments"

EnvFactory = Callable[..., Any]

_REGISTERED: dict[str, str | EnvFactory] = {}


def register(env_name: str, factory: str | EnvFactory) -> None:
    """Give an environment a name.

    A package can do the same without being imported, with an entry point of the group
    ``heron.environments``.

    Args:
        env_name: E.g. ``"Toy-v0"``.
        factory: What makes it, or where that is: ``"package.module:attribute"``.

    Raises:
        ConfigError: The name is taken by another factory.
    """
    if _REGISTERED.get(env_name, factory) != factory:
        raise ConfigError([ConfigProblem("environment", env_name, "a name that is not taken")])
    _REGISTERED[env_name] = factory


def registered() -> tuple[str, ...]:
    """Return the names of all environments that can be made."""
    found = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    return tuple(sorted(found | set(_REGISTERED)))


def make(env_name: str, *args: Any, **kwargs: Any) -> Any:
    """Make an environment by its name.

    Args:
        env_name: One of `registered`.
        args: Passed to its factory.
        kwargs: Passed to its factory.

    Raises:
        ConfigError: No environment has this name.
    """
    factory = _REGISTERED.get(env_name)
    if factory is None:
        for point in entry_points(group=ENTRY_POINT_GROUP, name=env_name):
            factory = point.value
    if factory is None:
        known = ", ".join(registered()) or "none"
        raise ConfigError([ConfigProblem("environment", env_name, f"one of: {known}")])
    if isinstance(factory, str):
        module, _, attribute = factory.partition(":")
        factory = getattr(importlib.import_module(module), attribute)
    return factory(*args, **kwargs)
