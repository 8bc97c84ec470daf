"""The shipped feeders under the guide's names, by themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from heron.powergrid.networks import Grid, IEEE13Bus, IEEE34Bus, grid_of, load_feeder
from simulator.engines import make_engine
from simulator.engines.base import Injections


@pytest.mark.parametrize(("build", "feeder"), [(IEEE13Bus, "ieee13"), (IEEE34Bus, "ieee34")])
def test_it_is_the_feeder_under_a_name_of_ones_own(
    build: Callable[[str], Grid], feeder: str
) -> None:
    named, published = build("MG1"), grid_of(load_feeder(feeder))
    assert named.areas == ("MG1",)
    assert {bus.area for bus in named.buses} == {"MG1"}
    volts = []
    for grid in (named, published):
        engine = make_engine("threephase", grid)
        nothing = np.zeros(len(grid.devices))
        injections = Injections(np.ones(len(grid.loads)), nothing, nothing)
        volts.append(engine.solve(injections, engine.initial_state()).v_pu)
    assert np.array_equal(volts[0], volts[1])
