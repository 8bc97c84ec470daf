"""Device physics: one file a device type, and nowhere else in the project."""

from __future__ import annotations

from typing import Any

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.device_configs import (
    ControllableLoadConfig,
    DeviceConfig,
    EVChargerConfig,
    GeneratorConfig,
    InverterSourceConfig,
    StorageConfig,
    TransformerConfig,
)
from simulator.physics.base import Advance, Ambient, DevicePhysics, PhysicsState
from simulator.physics.compiled import CompiledPhysics
from simulator.physics.ev import EVChargerPhysics
from simulator.physics.generator import GeneratorPhysics
from simulator.physics.inverter import InverterSourcePhysics
from simulator.physics.load import ControllableLoadPhysics
from simulator.physics.rules import BIT, reasons_of
from simulator.physics.storage import StoragePhysics
from simulator.physics.transformer import TapChangerPhysics, TapState, TransformerPhysics

__all__ = [
    "BIT",
    "Advance",
    "Ambient",
    "CompiledPhysics",
    "ControllableLoadPhysics",
    "DevicePhysics",
    "EVChargerPhysics",
    "GeneratorPhysics",
    "InverterSourcePhysics",
    "PhysicsState",
    "StoragePhysics",
    "TapChangerPhysics",
    "TapState",
    "TransformerPhysics",
    "add_physics",
    "physics_class",
    "reasons_of",
]

_PHYSICS: dict[type[DeviceConfig], type[DevicePhysics[Any]]] = {
    GeneratorConfig: GeneratorPhysics,
    StorageConfig: StoragePhysics,
    InverterSourceConfig: InverterSourcePhysics,
    TransformerConfig: TransformerPhysics,
    ControllableLoadConfig: ControllableLoadPhysics,
    EVChargerConfig: EVChargerPhysics,
}


def add_physics(config: type[DeviceConfig], physics: type[DevicePhysics[Any]]) -> None:
    """Make the physics of a user's device type known to the plant.

    Raises:
        ValueError: That configuration class has physics already.
    """
    taken = _PHYSICS.get(config)
    if taken is not None and taken is not physics:
        raise ValueError(f"{config.__qualname__} has physics already: {taken.__qualname__}")
    _PHYSICS[config] = physics


def physics_class(config: type[DeviceConfig]) -> type[DevicePhysics[Any]]:
    """Return the physics of a device's configuration class, or of the nearest base class.

    Raises:
        ConfigError: None is known.
    """
    for base in config.__mro__:
        if issubclass(base, DeviceConfig) and base in _PHYSICS:
            return _PHYSICS[base]
    expected = "a device with physics: give them to simulator.physics.add_physics"
    raise ConfigError([ConfigProblem("device type", config.__qualname__, expected)])
