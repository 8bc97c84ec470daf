"""What a microgrid's part of a setup says: as the setup's models, or as the guide's mappings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.device_configs import guide_spelling
from heron.powergrid.setups.models import DeviceEntry, HeadTransformer, MicrogridConfig
from heron.powergrid.setups.problems import problems_of


def microgrid_parts(
    grid_config: Mapping[str, Any] | MicrogridConfig | None,
) -> tuple[str, Sequence[Any], float | None]:
    """Return name, device entries and the connection's rating in kVA.

    Raises:
        ConfigError: With everything that no microgrid or device entry may be.
    """
    if isinstance(grid_config, MicrogridConfig):
        transformer = grid_config.transformer
        rating = None if transformer is None else transformer.s_kva
        return grid_config.name, grid_config.devices, rating
    config = grid_config or {}
    name, devices = str(config.get("name", "grid")), config.get("devices") or ()
    expected = "no such key; is it spelt right?"
    problems = [
        ConfigProblem(f"{name}.{key}", config[key], expected)
        for key in config
        if key not in MicrogridConfig.model_fields
    ]
    for i, entry in enumerate(devices):
        if not isinstance(entry, DeviceEntry):
            problems += _entry_problems(f"{name}.devices[{i}]", entry)
    rating_kva = None
    if config.get("transformer") is not None:
        try:
            rating_kva = HeadTransformer.model_validate(config["transformer"]).s_kva
        except ValidationError as error:
            problems += problems_of(error, f"{name}.transformer")
    if problems:
        raise ConfigError(problems)
    return name, list(devices), rating_kva


def _entry_problems(where: str, entry: Any) -> Iterator[ConfigProblem]:
    if not isinstance(entry, Mapping):
        yield ConfigProblem(where, entry, "a mapping: type, name, device_state_config")
        return
    for key in entry:
        if key not in DeviceEntry.model_fields:
            yield ConfigProblem(f"{where}.{key}", entry[key], "no such key; is it spelt right?")
    for key in ("type", "name"):
        if not (isinstance(entry.get(key), str) and entry[key]):
            yield ConfigProblem(f"{where}.{key}", entry.get(key), "a name that is not empty")


def device_parts(entry: Any) -> tuple[str, str, Mapping[str, Any]]:
    """Return type, name and configuration of one device entry that `microgrid_parts` passed."""
    if isinstance(entry, DeviceEntry):
        return entry.type, entry.name, guide_spelling(entry.device_state_config)
    return entry["type"], entry["name"], entry.get("device_state_config", {})
