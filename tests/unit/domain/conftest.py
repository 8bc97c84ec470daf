"""A small setup and views of it, shared by the domain's tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heron.powergrid.agents import DSOAgent, MicrogridView, build_agents
from heron.powergrid.networks import Grid, compose
from heron.powergrid.optimization import RadialNetwork, radial_network
from heron.powergrid.quantities import DeviceReading, MeterReading
from heron.powergrid.setups import Setup, read_setup

DAY_AHEAD = tuple(20.0 + i / 2 for i in range(96))


def reading(p: float = 0.2, soc: float | None = 0.5, v: float = 1.0) -> DeviceReading:
    return DeviceReading(p, 0.05, v, v - 0.01, v + 0.01, soc=soc)


@pytest.fixture(scope="session")
def setup() -> Setup:
    return read_setup("ieee34_ieee13")


@pytest.fixture(scope="session")
def grid(setup: Setup) -> Grid:
    return compose(setup.config)


@pytest.fixture(scope="session")
def network(grid: Grid) -> RadialNetwork:
    return radial_network(grid)


@pytest.fixture
def dso(setup: Setup) -> DSOAgent:
    return build_agents(setup)


@pytest.fixture
def view(setup: Setup) -> Callable[..., MicrogridView]:
    def make(**changes: DeviceReading) -> MicrogridView:
        devices = {name: reading() for name in setup.config.device_ids} | changes
        meter = MeterReading(0.1, 0.02, 1.01, 0.99, 1.03)
        return MicrogridView(6.5 * 3600.0, meter, devices, 33.0, DAY_AHEAD)

    return make
