"""A setup: networks, microgrids, devices, profiles and the rules of the episode.

`SetupConfig` is what ``config.yml`` says, checked. It is plain data: `heron.powergrid.networks`
builds the grid from it, `simulator.Plant` the plant, `heron.powergrid.agents` the agents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.connection import ConnectionLimits
from heron.powergrid.device_configs import DEVICE_CONFIGS, DeviceConfig
from heron.powergrid.networks.controls import CapacitorControl, RegulatorControl
from heron.powergrid.plain_numbers import PlainNumbers
from heron.powergrid.setups.coordination import SETPOINT, require_named
from heron.powergrid.setups.own_modules import import_packaged_type, packaged_types


class _Frozen(PlainNumbers):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


EngineName = Literal["threephase", "balanced", "pandapower", "lightsim2grid"]
"""Power-flow engines; lightsim2grid where it is installed."""


class HeadTransformer(_Frozen):
    """The transformer by which a microgrid joins the feeder; grounded wye on its own side."""

    s_kva: float = Field(gt=0)
    x_pct: float = Field(5.75, gt=0, lt=30)
    r_pct: float = Field(1.1, ge=0, lt=30)
    tap: float = Field(1.0, gt=0.8, lt=1.2)
    connection: Literal["wye-wye", "delta-wye"] = "wye-wye"


class DeviceEntry(_Frozen):
    """One device of a microgrid."""

    type: str
    name: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z][A-Za-z0-9_\-]*$")]
    device_state_config: SerializeAsAny[DeviceConfig]

    @field_validator("type")
    @classmethod
    def _type_is_known(cls, kind: str) -> str:
        if device_config_class(kind) is None:
            raise ValueError(f"unknown device type: expected one of {', '.join(known_types())}")
        return kind

    @field_validator("device_state_config", mode="wrap")
    @classmethod
    def _choose_config_by_type(
        cls,
        raw: Any,
        handler: ValidatorFunctionWrapHandler,
        info: ValidationInfo,
    ) -> DeviceConfig:
        model = device_config_class(info.data.get("type", ""))
        if model is None:  # the type is reported already
            return DeviceConfig.model_construct(bus="")
        return model.model_validate(raw)


RESERVED_NAMES: Mapping[str, str] = {
    "head": "the meter at the feeder's head",
    "all": "everybody, in an operator's orders",
    "simulator": "the simulator's process",
}
"""Names that no area and no device can have, and what they stand for."""


def name_problems(names: Iterable[tuple[str, str]], source: str = "") -> list[ConfigProblem]:
    """Return a problem for each (place, name) that stood before, or that stands for another."""
    seen: set[str] = set()
    problems = []
    for where, name in names:
        if name in RESERVED_NAMES:
            expected = f"another name; {name!r} is {RESERVED_NAMES[name]}"
            problems.append(ConfigProblem(where, name, expected, source))
        elif name in seen:
            expected = f"a name of its own; {name!r} is used twice"
            problems.append(ConfigProblem(where, name, expected, source))
        seen.add(name)
    return problems


_extra_types: dict[str, type[DeviceConfig]] = {}


def add_device_type(name: str, model: type[DeviceConfig], *, replace: bool = False) -> None:
    """Make a user's device type known to the setup files.

    Args:
        name: Of the type.
        model: Its configuration.
        replace: Whether it takes the place of another user's type.

    Raises:
        ValueError: The name is taken by another class.
    """
    taken = DEVICE_CONFIGS.get(name) if replace else _registered(name)
    if taken is not None and taken is not model:
        raise ValueError(f"device type {name!r} is already {taken.__qualname__}")
    _extra_types[name] = model


def device_config_class(name: str) -> type[DeviceConfig] | None:
    """Return the configuration model of a device type, or None.

    What an installed package brings is imported when it is first asked for.

    Raises:
        ConfigError: It cannot be imported.
    """
    if _registered(name) is None:
        import_packaged_type(name)
    return _registered(name)


def known_types() -> list[str]:
    """Return the names of all device types."""
    return sorted({*DEVICE_CONFIGS, *_extra_types, *packaged_types()})


def _registered(name: str) -> type[DeviceConfig] | None:
    return DEVICE_CONFIGS.get(name) or _extra_types.get(name)


class DsoConfig(_Frozen):
    """The feeder that the distribution system operator runs.

    Attributes:
        capacitors: Whether the feeder's capacitors are connected.
        capacitor_controls: Those that switch by their voltage, by the feeder's own name.
        regulators: Those that move by their voltage, by bank or by name.
    """

    name: str = "DSO"
    network: str = "ieee34"
    load_area: str = ""
    source_v_pu: float = Field(1.0, gt=0.8, lt=1.2)
    load_scale: float = Field(1.0, gt=0, le=10)
    bus_load_scale: dict[str, float] = Field(default_factory=dict)
    capacitors: bool = True
    capacitor_controls: dict[str, CapacitorControl] = Field(default_factory=dict)
    regulators: dict[str, RegulatorControl] = Field(default_factory=dict)
    load_profiles: tuple[str, ...] = ()


class MicrogridConfig(_Frozen):
    """One microgrid and its devices.

    Attributes:
        p_export_max_mw: Most that the DSO lets it export; None: no limit.
        p_import_max_mw: Most that the DSO lets it import, positive; None: no limit.
    """

    name: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z][A-Za-z0-9_\-]*$")]
    connection_bus: str
    network: str = "ieee13"
    base_power: float = Field(1.0, gt=0)
    load_scale: float = Field(1.0, gt=0, le=10)
    capacitors: bool = False
    transformer: HeadTransformer | None = None
    load_profiles: tuple[str, ...] = ()
    p_export_max_mw: float | None = Field(None, ge=0)
    p_import_max_mw: float | None = Field(None, ge=0)
    devices: tuple[DeviceEntry, ...] = Field(min_length=1)

    @property
    def limits(self) -> ConnectionLimits:
        """What the DSO lets its connection carry, unless it says otherwise."""
        return ConnectionLimits(self.p_export_max_mw, self.p_import_max_mw)


class SetupConfig(_Frozen):
    """A whole setup.

    Attributes:
        name: Name of the setup; the directory's name when it is loaded from one.
        dataset_path: CSV with one row per profile step, relative to ``config.yml``.
        train: Whether episodes start on training days (else test days).
        penalty: Weight of safety in the reward, $ per pu node hour.
        share_reward: Give every agent the mean reward.
        max_episode_steps: Steps in an episode.
        step_s: Length of a control step in plant seconds.
        engine: Power-flow engine.
        line_ratings: Whether lines count in the loading, and so in the safety, as transformers do.
        v_limits_pu: Voltage band; outside it a node violates.
        price_profile: Column of the price, $/MWh.
        forecast: What agents know of the prices to come: true: those of the day, as they are
            settled the day before; ``typical``: what the past lets expect, see
            `heron.powergrid.setups.outlook`; false: nothing.
        observe_timing: Whether coordinators see how old their readings are and what they told
            their devices last; a policy that was trained without it needs it off.
        protocol: How operator, coordinators and devices coordinate: one of
            `heron.powergrid.setups.coordination.PROTOCOLS`, or ``module:NAME`` or
            ``FILE.py:NAME``, the file found from the directory of ``config.yml``.
        imports: Modules that are imported before devices are read, so that they can register
            types: names, or ``FILE.py`` from the directory of ``config.yml``.
        seed: Seed of everything that the setup draws.
    """

    name: str = ""
    dataset_path: str | None = None
    train: bool = True
    penalty: float = Field(10.0, ge=0)
    share_reward: bool = False
    max_episode_steps: int = Field(96, ge=1)
    step_s: float = Field(900.0, gt=0, le=3600)
    engine: EngineName = "threephase"
    line_ratings: bool = False
    v_limits_pu: tuple[float, float] = (0.95, 1.05)
    price_profile: str = "price"
    forecast: bool | Literal["typical"] = True
    observe_timing: bool = False
    protocol: str = SETPOINT
    imports: tuple[str, ...] = ()
    seed: int = Field(0, ge=0)
    dso_config: DsoConfig = DsoConfig()
    microgrid_configs: tuple[MicrogridConfig, ...] = Field(min_length=1)

    @field_validator("v_limits_pu")
    @classmethod
    def _band_is_ordered(cls, v: tuple[float, float]) -> tuple[float, float]:
        if not 0.5 < v[0] < v[1] < 1.5:
            raise ValueError(f"{v!r}: expected 0.5 < low < high < 1.5")
        return v

    @field_validator("protocol")
    @classmethod
    def _protocol_is_named(cls, text: str) -> str:
        return require_named(text)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [("dso_config.name", self.dso_config.name)]
        for m, microgrid in enumerate(self.microgrid_configs):
            at = f"microgrid_configs[{m}]"
            names.append((f"{at}.name", microgrid.name))
            names += [(f"{at}.devices[{d}].name", x.name) for d, x in enumerate(microgrid.devices)]
        problems = name_problems(names)
        if problems:
            raise ConfigError(problems)
        return self

    @property
    def device_ids(self) -> tuple[str, ...]:
        """All devices, microgrid by microgrid: the order of every device array."""
        return tuple(d.name for m in self.microgrid_configs for d in m.devices)

    @property
    def microgrid_ids(self) -> tuple[str, ...]:
        """All microgrids: the order of every microgrid array."""
        return tuple(m.name for m in self.microgrid_configs)

    def device(self, device_id: str) -> DeviceEntry:
        """Return one device's entry.

        Raises:
            KeyError: No such device.
        """
        for microgrid in self.microgrid_configs:
            for entry in microgrid.devices:
                if entry.name == device_id:
                    return entry
        raise KeyError(device_id)
