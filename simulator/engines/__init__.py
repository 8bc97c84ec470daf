"""Power-flow engines behind one interface; see `simulator.engines.base.Engine`."""

from simulator.engines.base import (
    Engine,
    GridState,
    Injections,
    Solution,
    commanded_taps,
    with_taps,
)
from simulator.engines.registry import available_engines, make_engine

__all__ = [
    "Engine",
    "GridState",
    "Injections",
    "Solution",
    "available_engines",
    "commanded_taps",
    "make_engine",
    "with_taps",
]
