"""Single numbers of the public test feeders that are easily got wrong."""

from __future__ import annotations

from collections import Counter

import pytest

from heron.powergrid.networks import load_feeder


def test_bus_692_of_the_13_bus_feeder_carries_170_kw() -> None:
    at_692 = [load for load in load_feeder("ieee13").loads if load.bus == "692"]
    assert [(load.kw, load.kvar) for load in at_692] == [(170.0, 151.0)]


def test_the_13_bus_feeder_has_its_distributed_load_between_632_and_671() -> None:
    feeder = load_feeder("ieee13")
    on_the_way = [load for load in feeder.loads if load.bus == "670"]
    assert {load.phases: load.kw for load in on_the_way} == {"a": 17.0, "b": 66.0, "c": 117.0}
    ends = [{line.from_bus, line.to_bus} for line in feeder.lines]
    assert {"632", "670"} in ends
    assert {"670", "671"} in ends


def test_the_13_bus_feeder_has_its_regulator_behind_the_substation() -> None:
    regulators = load_feeder("ieee13").regulators
    assert {(r.from_bus, r.phases) for r in regulators} == {("650", p) for p in "abc"}


@pytest.mark.parametrize(
    ("name", "kvar"),
    [("ieee13", {"675": 600.0, "611": 100.0}), ("ieee34", {"844": 300.0, "848": 450.0})],
)
def test_capacitors_stand_where_they_were_published(name: str, kvar: dict[str, float]) -> None:
    assert {c.bus: c.kvar for c in load_feeder(name).capacitors} == kvar


@pytest.mark.parametrize("name", ["ieee13", "ieee34", "ieee34mod1", "ieee123"])
def test_a_radial_feeder_joins_each_bus_once_and_carries_no_negative_load(name: str) -> None:
    feeder = load_feeder(name)
    reached_by = Counter(branch.to_bus for branch in (*feeder.lines, *feeder.transformers))
    assert all(load.kw >= 0.0 for load in feeder.loads)
    assert max(reached_by.values()) == 1
