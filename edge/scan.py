"""Finding out what answers behind an address: units, SunSpec models, ratings.

Only reads. A unit that does not answer costs one time-out.

Source: SunSpec Device Information Model Specification 1.1, "Discovery".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

from edge.links.connection import LinkDown, ModbusConnection
from heron.errors import ConfigError, DeviceRejected, DeviceTimeout
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers.custom import parse_map
from heron.powergrid.registers.discovery import Discovered, describe, discover
from heron.powergrid.registers.map_table import MapTable
from heron.powergrid.registers.sunspec import BASE_ADDRESSES, MARKER
from heron.powergrid.registers.table import Block

DER_MODELS = frozenset({701, 702, 704})
"""What a device needs to be looked after without a map of its own."""
METER_MODELS = frozenset(range(201, 215))
IDENTITY = ("Mn", "Md", "Vr", "SN")
GATEWAY_NO_ANSWER = frozenset({10, 11})


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that a unit has: number, address of its ID register, length with the header."""

    model_id: int
    address: int
    count: int


@dataclass(frozen=True)
class FoundUnit:
    """A unit that answers.

    Attributes:
        unit: Unit id.
        base: Where its SunSpec map begins; None where it has none.
        models: Its models, in order.
        identity: Points of model 1 that it gives: Mn, Md, Vr, SN.
        ratings: Points of models 702 and 713 that it gives, scaled.
        map: Custom register map made from what it has; None where it does not give its power.
    """

    unit: int
    base: int | None = None
    models: tuple[FoundModel, ...] = ()
    identity: dict[str, str] = field(default_factory=dict)
    ratings: dict[str, float] = field(default_factory=dict)
    map: dict[str, Any] | None = None

    @property
    def kind(self) -> str:
        """``der``, ``meter``, ``mapped`` (a device that needs its map) or ``other``."""
        ids = {model.model_id for model in self.models}
        if ids >= DER_MODELS:
            return "der"
        if ids & METER_MODELS:
            return "meter"
        return "other" if self.map is None else "mapped"

    @property
    def name(self) -> str:
        """A name for the site file, from its serial number."""
        name = self.identity.get("SN") or f"unit{self.unit}"
        name = "".join(c if c.isalnum() or c in "_-" else "_" for c in name)
        return name if name[0].isalpha() else f"d{name}"

    def site_entry(self, link: str) -> dict[str, Any] | None:
        """Return its entry for a site file; None where there is none to make.

        What a register cannot tell (PV or generator, safe set-point) is for a person to check.
        """
        name = self.name
        if self.kind == "meter":
            return {"name": name, "link": link, "unit": self.unit, "nominal_v": 480.0}
        if self.kind == "other":
            return None
        mega = {key: value / 1e6 for key, value in self.ratings.items()}
        config: dict[str, float] = {}
        if "VAMaxRtg" in mega:
            config["s_rated_MVA"] = mega["VAMaxRtg"]
        if "VarMaxInjRtg" in mega:
            config["q_max_MVAr"] = mega["VarMaxInjRtg"]
        if "VarMaxAbsRtg" in mega:
            config["q_min_MVAr"] = -mega["VarMaxAbsRtg"]
        p_max = mega.get("WMaxRtg", 1.0)
        stores = "WHRtg" in mega or (self.map is not None and "soc" in self.map["points"])
        if stores:
            config["e_capacity_MWh"] = mega.get("WHRtg", 1.0)
            config["p_max_MW"] = mega.get("WDisChaRteMaxRtg", p_max)
            config["p_min_MW"] = -mega.get("WChaRteMaxRtg", p_max)
        else:
            config["p_rated_MW"] = p_max
        return {
            "name": name,
            "type": "ESS" if stores else "PV",
            "link": link,
            "unit": self.unit,
            **({"map": map_file(name)} if self.kind == "mapped" else {}),
            "mode": "monitor",
            "config": {key: round(value, 9) for key, value in config.items()},
        }


def map_file(name: str) -> str:
    """Return the name of the file that holds a unit's map, beside the site file."""
    return f"{name}.map.yml"


async def scan(connection: ModbusConnection, units: Iterable[int]) -> AsyncIterator[FoundUnit]:
    """Yield each unit that answers.

    Raises:
        LinkDown: There is no connection.
    """
    for unit in units:
        found = await _look_at(connection, unit)
        if found is not None:
            yield found


async def _look_at(connection: ModbusConnection, unit: int) -> FoundUnit | None:
    device = f"unit {unit}"
    answers = False
    for base in BASE_ADDRESSES:
        try:
            marker = await connection.read(device, unit, base, 2)
        except LinkDown:
            raise
        except DeviceTimeout:
            return FoundUnit(unit) if answers else None
        except DeviceRejected as error:
            if error.exception_code in GATEWAY_NO_ANSWER:
                return None
            answers = True
            continue
        answers = True
        if b"".join(word.to_bytes(2, "big") for word in marker) == MARKER:
            return await _walk(connection, unit, base)
    return FoundUnit(unit) if answers else None


async def _walk(connection: ModbusConnection, unit: int, base: int) -> FoundUnit:
    device = f"unit {unit}"

    async def read(address: int, count: int) -> bytes | None:
        try:
            return await connection.read_block(device, unit, Block(address, count))
        except DeviceRejected:
            return None

    try:
        found = await discover(read, bases=(base,))
    except DeviceTimeout:
        found = None
    if found is None:
        return FoundUnit(unit, base)
    models = [FoundModel(m.model_id, m.address, m.count) for m in found.layout.models]
    models += [FoundModel(m.model_id, m.address, m.count) for m in found.unknown]
    registers, words = found.layout.registers, found.words
    identity = {
        key: registers.read(words, f"1.{key}") for key in IDENTITY if f"1.{key}" in registers
    }
    ratings = {
        name.split(".", 1)[1]: registers.number(words, name)
        for name in registers
        if name.split(".", 1)[0] in ("702", "713")
    }
    return FoundUnit(
        unit,
        base,
        tuple(sorted(models, key=lambda model: model.address)),
        {key: str(value) for key, value in identity.items() if value},
        {key: value for key, value in ratings.items() if value is not None},
        _ready_map(found, device),
    )


def _ready_map(found: Discovered, name: str) -> dict[str, Any] | None:
    """Return a custom map of a unit that gives its power; None where it does not."""
    described = describe(found, name)
    try:
        MapTable(name, parse_map(described), Setpoint(0.0))
    except ConfigError:
        return None
    return dict(described)
