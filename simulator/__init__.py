"""The plant: a simulated feeder with its devices, and the server that speaks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.plant import Plant as Plant

__all__ = ["Plant"]


def __getattr__(name: str) -> Any:
    """Import `Plant` when it is asked for: solvers take a while to load."""
    if name == "Plant":
        from simulator.plant import Plant

        return Plant
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
