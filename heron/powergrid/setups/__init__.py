"""Setups: a network, microgrids, devices and a year of profiles, read and checked."""

from heron.powergrid.setups.checks import device_profile_name, load_profile_names
from heron.powergrid.setups.dataset import load_dataset, profiles_from
from heron.powergrid.setups.loader import (
    Setup,
    as_setup,
    check_setup,
    get_available_setups,
    load_setup,
    read_setup,
    stated_protocol,
)
from heron.powergrid.setups.models import (
    DeviceEntry,
    DsoConfig,
    MicrogridConfig,
    SetupConfig,
    add_device_type,
)
from heron.powergrid.setups.outlook import PriceFeed, price_outlook
from heron.powergrid.setups.profiles import Profiles

__all__ = [
    "DeviceEntry",
    "DsoConfig",
    "MicrogridConfig",
    "PriceFeed",
    "Profiles",
    "Setup",
    "SetupConfig",
    "add_device_type",
    "as_setup",
    "check_setup",
    "device_profile_name",
    "get_available_setups",
    "load_dataset",
    "load_profile_names",
    "load_setup",
    "price_outlook",
    "profiles_from",
    "read_setup",
    "stated_protocol",
]
