"""Feeders as data, and their composition into the grid of a setup; no solver in here."""

from heron.powergrid.networks.by_name import IEEE13Bus, IEEE34Bus
from heron.powergrid.networks.compose import bus_name, compose
from heron.powergrid.networks.controls import CapacitorControl, RegulatorControl
from heron.powergrid.networks.elements import (
    MAX_TAP,
    TAP_STEP,
    Bus,
    Capacitor,
    Line,
    Load,
    Regulator,
    Transformer,
)
from heron.powergrid.networks.feeder import Feeder, available_feeders, load_feeder, parse_feeder
from heron.powergrid.networks.grid import (
    Branch,
    DeviceConnection,
    Grid,
    MicrogridConnection,
    Node,
    TapChanger,
    grid_of,
)

__all__ = [
    "MAX_TAP",
    "TAP_STEP",
    "Branch",
    "Bus",
    "Capacitor",
    "CapacitorControl",
    "DeviceConnection",
    "Feeder",
    "Grid",
    "IEEE13Bus",
    "IEEE34Bus",
    "Line",
    "Load",
    "MicrogridConnection",
    "Node",
    "Regulator",
    "RegulatorControl",
    "TapChanger",
    "Transformer",
    "available_feeders",
    "bus_name",
    "compose",
    "grid_of",
    "load_feeder",
    "parse_feeder",
]
