"""What must fit between the parts of a setup, beyond what each model checks for itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from heron.errors import ConfigProblem
from heron.powergrid.device_configs import (
    ControllableLoadConfig,
    DeviceConfig,
    InverterSourceConfig,
    WindTurbineConfig,
)
from heron.powergrid.setups.models import SetupConfig
from heron.powergrid.setups.profiles import Profiles


def load_profile_names(
    config: SetupConfig, profiles: Profiles, area: str
) -> tuple[str, ...] | tuple[None]:
    """Return the profiles that an area's loads follow, one after the other, cyclically.

    They are its ``load_profiles``; without any, its ``load_area`` if that is a column, then
    the column ``load`` if there is one; else (None,): the loads stay at their nominal values.
    """
    if area == config.dso_config.name:
        names, load_area = config.dso_config.load_profiles, config.dso_config.load_area
    else:
        microgrid = next(m for m in config.microgrid_configs if m.name == area)
        names, load_area = microgrid.load_profiles, ""
    if names:
        return names
    for name in (load_area, "load"):
        if name and name in profiles:
            return (name,)
    return (None,)


def device_profile_name(config: DeviceConfig, profiles: Profiles) -> str | None:
    """Return the profile that a device follows, or None for a device without one.

    A PV or wind device that names none follows ``solar`` (or ``PV1``) or ``wind``.
    """
    if isinstance(config, InverterSourceConfig):
        usual = ("wind",) if isinstance(config, WindTurbineConfig) else ("solar", "PV1")
        return config.profile or next((name for name in usual if name in profiles), usual[0])
    if isinstance(config, ControllableLoadConfig):
        return config.profile or None
    return None


def profile_problems(
    config: SetupConfig, profiles: Profiles, source: str = ""
) -> list[ConfigProblem]:
    """Return a problem for each profile that the setup names and its data set lacks."""
    wanted = [("price_profile", config.price_profile)]
    for k, name in enumerate(config.dso_config.load_profiles):
        wanted.append((f"dso_config.load_profiles[{k}]", name))
    for m, microgrid in enumerate(config.microgrid_configs):
        for k, name in enumerate(microgrid.load_profiles):
            wanted.append((f"microgrid_configs[{m}].load_profiles[{k}]", name))
    for at, device in _devices(config):
        profile = device_profile_name(device, profiles)
        if profile is not None:
            wanted.append((f"{at}.profile", profile))
    expected = f"a column of the data set: {', '.join(profiles.names)}"
    return [
        ConfigProblem(where, name, expected, source)
        for where, name in wanted
        if name not in profiles
    ]


def safe_setpoint_problems(config: SetupConfig, source: str = "") -> list[ConfigProblem]:
    """Return a problem for each safe set-point that its device could not carry out."""
    return [p for at, device in _devices(config) for p in beyond_its_range(at, device, source)]


def beyond_its_range(where: str, device: DeviceConfig, source: str = "") -> Iterator[ConfigProblem]:
    """Yield what of a device's safe set-point it could not carry out.

    Args:
        where: Place of the device's configuration.
        device: The configuration.
        source: File that it stands in.
    """
    for key, value, (low, high) in (
        ("safe_p_mw", device.safe_p_mw, device.p_range_mw),
        ("safe_q_mvar", device.safe_q_mvar, device.q_range_mvar),
    ):
        # Doing nothing is always safe: a generator below its minimum goes to its minimum.
        least, most = min(low, 0.0), max(high, 0.0)
        if not least <= value <= most:
            expected = f"within the device's range, {least:g} to {most:g}"
            yield ConfigProblem(f"{where}.{key}", value, expected, source)


def _devices(config: SetupConfig) -> Iterator[tuple[str, DeviceConfig]]:
    for m, microgrid in enumerate(config.microgrid_configs):
        for d, entry in enumerate(microgrid.devices):
            yield (
                f"microgrid_configs[{m}].devices[{d}].device_state_config",
                entry.device_state_config,
            )


def names_in(raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield place and name of each area and device of a setup as it was written.

    Whatever has not its form is passed over.
    """

    def name_of(part: Any, default: str | None = None) -> str | None:
        name = part.get("name", default) if isinstance(part, Mapping) else default
        return name if isinstance(name, str) else None

    def parts_of(whole: Any, key: str) -> Iterator[tuple[int, Any]]:
        parts = whole.get(key) if isinstance(whole, Mapping) else None
        return enumerate(parts if isinstance(parts, list | tuple) else [])

    feeder = name_of(raw.get("dso_config"), "DSO")
    if feeder is not None:
        yield "dso_config.name", feeder
    for m, microgrid in parts_of(raw, "microgrid_configs"):
        if (name := name_of(microgrid)) is not None:
            yield f"microgrid_configs[{m}].name", name
        for d, device in parts_of(microgrid, "devices"):
            if (name := name_of(device)) is not None:
                yield f"microgrid_configs[{m}].devices[{d}].name", name
