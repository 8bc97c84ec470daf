"""HERON: hierarchical agents for power grids, from training to the device."""

from typing import Any

__all__ = ["__version__", "make", "register", "registered"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("make", "register", "registered"):
        from heron.envs import registry

        return getattr(registry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
