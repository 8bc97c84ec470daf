"""Register tables: SunSpec models, our clock device, custom maps, and who is where on a site."""

from heron.powergrid.registers.clock import ClockReading, ClockTable
from heron.powergrid.registers.codec import Order, RegisterType
from heron.powergrid.registers.custom import MapConfig, PointConfig, load_map, parse_map
from heron.powergrid.registers.der import DerTable
from heron.powergrid.registers.map_table import DeviceTable, MapTable
from heron.powergrid.registers.meter import MeterTable
from heron.powergrid.registers.plan import (
    DEFAULT_PORT,
    ClockUnit,
    DeviceUnit,
    MeterUnit,
    SitePlan,
    Unit,
    site_plan,
)
from heron.powergrid.registers.ratings import Ratings
from heron.powergrid.registers.resolution import RegisterResolution
from heron.powergrid.registers.table import (
    Access,
    Block,
    Register,
    RegisterMap,
    Words,
    Write,
    coalesce,
)
from heron.powergrid.registers.tap import TapTable

__all__ = [
    "DEFAULT_PORT",
    "Access",
    "Block",
    "ClockReading",
    "ClockTable",
    "ClockUnit",
    "DerTable",
    "DeviceTable",
    "DeviceUnit",
    "MapConfig",
    "MapTable",
    "MeterTable",
    "MeterUnit",
    "Order",
    "PointConfig",
    "Ratings",
    "Register",
    "RegisterMap",
    "RegisterResolution",
    "RegisterType",
    "SitePlan",
    "TapTable",
    "Unit",
    "Words",
    "Write",
    "coalesce",
    "load_map",
    "parse_map",
    "site_plan",
]
