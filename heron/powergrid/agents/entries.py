"""What a microgrid's part of a setup says: as the setup's models, or as the guide's mappings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.device_configs import guide_spelling
from heron.powergrid.setups.models import DeviceEntry, MicrogridConfig


def microgrid_parts(
    grid_config: Mapping[str, Any] | MicrogridConfig | None,
) -> tuple[str, Sequence[Any], float | None]:
    """Return name, device entries and the connection's rating in kVA.

    Raises:
        ConfigError: A key that no microgrid or device entry has.
    """
    if isinstance(grid_config, MicrogridConfig):
        transformer = grid_config.transformer
        rating = None if transformer is None else transformer.s_kva
        return grid_config.name, grid_config.devices, rating
    config = grid_config or {}
    name, devices = str(config.get("name", "grid")), list(config.get("devices", []))
    unknown = [
        (name, key, config[key]) for key in config if key not in MicrogridConfig.model_fields
    ]
    for i, entry in enumerate(devices):
        if isinstance(entry, Mapping):
            where = f"{name}.devices[{i}]"
            unknown += [(where, k, entry[k]) for k in entry if k not in DeviceEntry.model_fields]
    if unknown:
        expected = "no such key; is it spelt right?"
        raise ConfigError([ConfigProblem(f"{w}.{k}", value, expected) for w, k, value in unknown])
    return name, devices, (config.get("transformer") or {}).get("s_kva")


def device_parts(entry: Any) -> tuple[str, str, Mapping[str, Any]]:
    """Return type, name and configuration of one device entry."""
    if isinstance(entry, DeviceEntry):
        return entry.type, entry.name, guide_spelling(entry.device_state_config)
    return str(entry.get("type")), str(entry.get("name")), entry.get("device_state_config", {})
