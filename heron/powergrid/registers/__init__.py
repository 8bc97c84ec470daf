"""Register tables: SunSpec models, our clock device, custom maps, and who is where on a site."""

from heron.powergrid.registers.clock import ClockReading, ClockTable
from heron.powergrid.registers.codec import Order, RegisterType
from heron.powergrid.registers.der import DerTable, Ratings
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

__all__ = [
    "DEFAULT_PORT",
    "Access",
    "Block",
    "ClockReading",
    "ClockTable",
    "ClockUnit",
    "DerTable",
    "DeviceUnit",
    "MeterTable",
    "MeterUnit",
    "Order",
    "Ratings",
    "Register",
    "RegisterMap",
    "RegisterResolution",
    "RegisterType",
    "SitePlan",
    "Unit",
    "Words",
    "Write",
    "coalesce",
    "site_plan",
]
