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
from heron.powergrid.registers import RegisterMap, Words
from heron.powergrid.registers.sunspec import (
    BASE_ADDRESSES,
    END_MODEL_ID,
    HEADER_REGISTERS,
    MARKER,
    ModelChoice,
    place,
)

LARGEST_READ = 125
MOST_MODELS = 60
"""A chain of models longer than this is a device that answers anything."""
METER_MODELS = frozenset(range(201, 215))
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
    """

    unit: int
    base: int | None = None
    models: tuple[FoundModel, ...] = ()
    identity: dict[str, str] = field(default_factory=dict)
    ratings: dict[str, float] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """``der``, ``meter`` or ``other``."""
        ids = {model.model_id for model in self.models}
        if 704 in ids:
            return "der"
        return "meter" if ids & METER_MODELS else "other"

    def site_entry(self, link: str) -> dict[str, Any] | None:
        """Return its entry for a site file; None where there is none to make.

        What a register cannot tell (PV or generator, safe set-point) is for a person to check.
        """
        name = self.identity.get("SN") or f"unit{self.unit}"
        name = "".join(c if c.isalnum() or c in "_-" else "_" for c in name)
        if not name[0].isalpha():
            name = f"d{name}"
        if self.kind == "meter":
            return {"name": name, "link": link, "unit": self.unit, "nominal_v": 480.0}
        if self.kind != "der":
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
        stores = "WHRtg" in mega
        if stores:
            config["e_capacity_MWh"] = mega["WHRtg"]
            config["p_max_MW"] = mega.get("WDisChaRteMaxRtg", p_max)
            config["p_min_MW"] = -mega.get("WChaRteMaxRtg", p_max)
        else:
            config["p_rated_MW"] = p_max
        return {
            "name": name,
            "type": "ESS" if stores else "PV",
            "link": link,
            "unit": self.unit,
            "mode": "monitor",
            "config": {key: round(value, 9) for key, value in config.items()},
        }


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
    models: list[FoundModel] = []
    at = base + 2
    try:
        while len(models) < MOST_MODELS:
            model_id, length = await connection.read(device, unit, at, HEADER_REGISTERS)
            if model_id == END_MODEL_ID:
                break
            models.append(FoundModel(model_id, at, length + HEADER_REGISTERS))
            at += length + HEADER_REGISTERS
        identity = await _points(connection, unit, models, 1)
        ratings = {
            **await _points(connection, unit, models, 702),
            **await _points(connection, unit, models, 713),
        }
    except (DeviceTimeout, DeviceRejected):
        return FoundUnit(unit, base, tuple(models))
    wanted = ("Mn", "Md", "Vr", "SN")
    return FoundUnit(
        unit,
        base,
        tuple(models),
        {key: str(identity[key]) for key in wanted if identity.get(key)},
        {key: float(v) for key, v in ratings.items() if isinstance(v, (int, float))},
    )


async def _points(
    connection: ModbusConnection, unit: int, models: list[FoundModel], model_id: int
) -> dict[str, float | str]:
    """Return the points of one model that the unit gives, in their units."""
    model = next((m for m in models if m.model_id == model_id), None)
    if model is None:
        return {}
    try:
        registers = RegisterMap(place(ModelChoice(model_id), model.address).registers)
    except ConfigError:
        return {}
    words = Words()
    values: list[int] = []
    for start in range(model.address, model.address + model.count, LARGEST_READ):
        count = min(LARGEST_READ, model.address + model.count - start)
        values += await connection.read(f"unit {unit}", unit, start, count)
    words.add(model.address, values)
    scaled = registers.with_scale_factors(words)
    prefix = f"{model_id}."
    return {
        name.removeprefix(prefix): value
        for name in scaled
        if (value := scaled.read(words, name)) is not None
    }
