"""The shipped feeders by the names under which the guide builds them."""

from __future__ import annotations

from heron.powergrid.networks.feeder import load_feeder
from heron.powergrid.networks.grid import Grid, grid_of


def IEEE13Bus(name: str = "ieee13") -> Grid:  # noqa: N802 - the guide's name
    """Return the IEEE 13-bus feeder as a grid of its own, its area called ``name``."""
    return _named("ieee13", name)


def IEEE34Bus(name: str = "ieee34") -> Grid:  # noqa: N802 - the guide's name
    """Return the IEEE 34-bus feeder as a grid of its own, its area called ``name``."""
    return _named("ieee34", name)


def _named(feeder: str, name: str) -> Grid:
    return grid_of(load_feeder(feeder).model_copy(update={"name": name}))
