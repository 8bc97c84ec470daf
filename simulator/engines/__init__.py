"""Power-flow engines behind one interface; see `simulator.engines.base.Engine`."""

from simulator.engines.base import Engine, GridState, Injections, Solution
from simulator.engines.registry import available_engines, make_engine

__all__ = ["Engine", "GridState", "Injections", "Solution", "available_engines", "make_engine"]
