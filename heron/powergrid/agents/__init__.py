"""Agents of the power domain: devices, microgrid coordinators and the system operator."""

from heron.powergrid.agents.build import build_agents
from heron.powergrid.agents.connected import ConnectedAgent
from heron.powergrid.agents.device import DeviceAgent
from heron.powergrid.agents.dso_agent import DSOAgent
from heron.powergrid.agents.generator import Generator
from heron.powergrid.agents.load import ControllableLoad
from heron.powergrid.agents.market import MarketGridAgent
from heron.powergrid.agents.power_grid_agent import GridAgent, PowerGridAgent
from heron.powergrid.agents.registry import DEVICE_REGISTRY, DeviceRegistry, register_device
from heron.powergrid.agents.schemes import SCHEMES, Scheme, scheme_of
from heron.powergrid.agents.sources import PV, InverterSource, WindTurbine
from heron.powergrid.agents.storage import ESS, EVCharger
from heron.powergrid.agents.trading import LocalPrice, TradingGridAgent
from heron.powergrid.agents.transformer import Transformer
from heron.powergrid.agents.view import MicrogridView, views_of

__all__ = [
    "DEVICE_REGISTRY",
    "ESS",
    "PV",
    "SCHEMES",
    "ConnectedAgent",
    "ControllableLoad",
    "DSOAgent",
    "DeviceAgent",
    "DeviceRegistry",
    "EVCharger",
    "Generator",
    "GridAgent",
    "InverterSource",
    "LocalPrice",
    "MarketGridAgent",
    "MicrogridView",
    "PowerGridAgent",
    "Scheme",
    "TradingGridAgent",
    "Transformer",
    "WindTurbine",
    "build_agents",
    "register_device",
    "scheme_of",
    "views_of",
]
