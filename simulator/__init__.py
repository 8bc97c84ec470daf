"""The plant: a simulated feeder with its devices, and the server that speaks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.batch_plant import BatchPlant
    from simulator.plant import Plant

__all__ = ["BatchPlant", "Plant"]


def __getattr__(name: str) -> Any:
    """Import the plants when they are asked for: solvers take a while to load."""
    if name == "Plant":
        from simulator.plant import Plant

        return Plant
    if name == "BatchPlant":
        from simulator.batch_plant import BatchPlant

        return BatchPlant
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
