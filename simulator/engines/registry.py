"""Engines by name."""

from __future__ import annotations

from importlib.util import find_spec

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.networks import Grid
from simulator.engines.base import Engine


def available_engines() -> tuple[str, ...]:
    """Return the names that `make_engine` takes; lightsim2grid only where it is installed."""
    optional = ("lightsim2grid",) if find_spec("lightsim2grid") else ()
    return ("threephase", "balanced", "pandapower", *optional)


def make_engine(name: str, grid: Grid) -> Engine:
    """Build an engine for a grid.

    Raises:
        ConfigError: No engine has this name.
    """
    if name == "threephase":
        from simulator.engines.fixed_point import ThreePhaseEngine

        return ThreePhaseEngine(grid)
    if name == "balanced":
        from simulator.engines.fixed_point import BalancedEngine

        return BalancedEngine(grid)
    if name == "pandapower":
        from simulator.engines.pandapower_engine import PandapowerEngine

        return PandapowerEngine(grid)
    if name == "lightsim2grid" and name in available_engines():
        from simulator.engines.lightsim_engine import LightsimEngine

        return LightsimEngine(grid)
    expected = f"expected one of {', '.join(available_engines())}"
    raise ConfigError([ConfigProblem("engine", name, expected)])
