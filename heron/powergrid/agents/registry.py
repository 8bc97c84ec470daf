"""Which class stands for which device type of a setup."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.device_configs import DEVICE_CONFIGS
from heron.powergrid.setups.models import add_device_type, device_config_class, known_types

if TYPE_CHECKING:
    from heron.powergrid.agents.device import DeviceAgent

DeviceClass = TypeVar("DeviceClass", bound="type[DeviceAgent]")


class DeviceRegistry(dict[str, "type[DeviceAgent]"]):
    """Device type to agent class; entering one makes the type known to the setups."""

    def __setitem__(self, name: str, agent_class: type[DeviceAgent]) -> None:
        """Enter a class; it replaces another of the same name."""
        if name not in DEVICE_CONFIGS:
            add_device_type(name, agent_class.config_model, replace=True)
        super().__setitem__(name, agent_class)

    def find(self, name: str) -> type[DeviceAgent]:
        """Return the class of a device type.

        Raises:
            ConfigError: There is none.
        """
        if name not in self:
            device_config_class(name)  # imports what an installed package brings
        if name not in self:
            expected = f"one of the device types {', '.join(known_types())}"
            raise ConfigError([ConfigProblem("type", name, expected)])
        return self[name]


DEVICE_REGISTRY = DeviceRegistry()
"""All device types; `register_device` adds to it."""


def register_device(name: str) -> Callable[[DeviceClass], DeviceClass]:
    """Make a device agent known under a type name, for setups and for `PowerGridAgent`.

    Example::

        @register_device("Electrolyser")
        class Electrolyser(DeviceAgent):
            config_model = ElectrolyserConfig

    Raises:
        ConfigError: The name belongs to another class.
    """

    def register(agent_class: DeviceClass) -> DeviceClass:
        taken = DEVICE_REGISTRY.get(name)
        if taken is not None and taken.__qualname__ != agent_class.__qualname__:
            expected = f"a free name: it is {taken.__qualname__}"
            raise ConfigError([ConfigProblem("device type", name, expected)])
        DEVICE_REGISTRY[name] = agent_class
        return agent_class

    return register
