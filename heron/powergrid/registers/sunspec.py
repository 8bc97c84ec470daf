"""SunSpec models, from the Alliance's own JSON definitions, placed at addresses.

The order of points in a definition is their order in the registers: the points of a group first,
then its sub-groups, each as often as its count says.

Source: SunSpec Device Information Model Specification 1.1; the definitions are those of
``github.com/sunspec/models`` (Apache-2.0), see ``models/README.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.registers.codec import RegisterType
from heron.powergrid.registers.table import Access, Block, Register, RegisterMap

BASE_ADDRESS = 40000
"""Where we serve our maps; SunSpec also allows 0 and 50000."""
BASE_ADDRESSES = (40000, 0, 50000)
MARKER = b"SunS"
END_MODEL_ID = 0xFFFF
HEADER_REGISTERS = 2


@dataclass(frozen=True, slots=True)
class PlacedModel:
    """A model at its address.

    Attributes:
        model_id: SunSpec number.
        address: Address of its ID register.
        count: Registers with the two of the header.
        registers: Its points, named ``<id>.<group>.<point>``.
    """

    model_id: int
    address: int
    count: int
    registers: tuple[Register, ...]


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model that a device has.

    Attributes:
        model_id: SunSpec number.
        repeats: How often each repeating group stands, by its name, e.g. ``{"Crv": 3}``.
        exponents: Value of each scale-factor point.
    """

    model_id: int
    repeats: Mapping[str, int] = field(default_factory=dict)
    exponents: Mapping[str, int] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.model_id, *sorted(self.repeats.items()), *sorted(self.exponents.items())))


@cache
def definition(model_id: int) -> dict[str, Any]:
    """Return a model's definition as its JSON file has it.

    Raises:
        ConfigError: The model does not ship.
    """
    files = resources.files(__package__) / "models"
    try:
        text = (files / f"model_{model_id}.json").read_text(encoding="utf-8")
    except FileNotFoundError as error:
        shipped = ", ".join(str(m) for m in shipped_models())
        raise ConfigError(
            [ConfigProblem("model", model_id, f"expected a SunSpec model that ships: {shipped}")]
        ) from error
    group: dict[str, Any] = json.loads(text)["group"]
    return group


@cache
def shipped_models() -> tuple[int, ...]:
    """Return the numbers of all models that ship."""
    names = [f.name for f in (resources.files(__package__) / "models").iterdir()]
    found = (n.removeprefix("model_").removesuffix(".json") for n in names if n.endswith(".json"))
    return tuple(sorted(int(n) for n in found))


def place(choice: ModelChoice, address: int) -> PlacedModel:
    """Lay a model's points out from an address on."""
    group = definition(choice.model_id)
    registers: list[Register] = []
    end = address
    for register in _lay_out(group, f"{choice.model_id}.", address, choice, {}):
        registers.append(register)
        end = register.end
    return PlacedModel(choice.model_id, address, end - address, tuple(registers))


def _lay_out(
    group: Mapping[str, Any],
    prefix: str,
    address: int,
    choice: ModelChoice,
    outer: Mapping[str, str],
) -> Iterator[Register]:
    scale_points = dict(outer)
    for point in group["points"]:
        if point["type"] == RegisterType.SUNSSF:
            scale_points[point["name"]] = f"{prefix}{point['name']}"
    for point in group["points"]:
        yield _register(point, prefix, address, choice, scale_points)
        address += point["size"]
    for inner in group.get("groups", ()):
        count = inner.get("count", 1)
        repeated = count != 1
        times = choice.repeats.get(inner["name"], 1 if isinstance(count, str) else count)
        for index in range(times):
            label = f"{inner['name']}[{index + 1}]" if repeated else inner["name"]
            for register in _lay_out(inner, f"{prefix}{label}.", address, choice, scale_points):
                yield register
                address = register.end


def _register(
    point: Mapping[str, Any],
    prefix: str,
    address: int,
    choice: ModelChoice,
    scale_points: Mapping[str, str],
) -> Register:
    scale = point.get("sf", "")
    constant = scale if isinstance(scale, int) else 0
    return Register(
        name=f"{prefix}{point['name']}",
        address=address,
        count=point["size"],
        type=RegisterType(point["type"]),
        unit=point.get("units", ""),
        access=Access(point.get("access", "R")),
        exponent=choice.exponents.get(scale, constant) if isinstance(scale, str) else constant,
        scale_factor=scale_points.get(scale, "") if isinstance(scale, str) else "",
        static=point.get("static") == "S",
        mandatory=point.get("mandatory") == "M",
        symbols={s["value"]: s["name"] for s in point.get("symbols", ())},
    )


@dataclass(frozen=True, slots=True)
class SunSpecLayout:
    """Models one behind the other, with the marker before and the end model behind.

    Attributes:
        base: Address of the marker ``SunS``.
        models: The models in their order.
        registers: All points, and ``marker`` and the two of the end model.
    """

    base: int
    models: tuple[PlacedModel, ...]
    registers: RegisterMap

    @property
    def span(self) -> Block:
        """All registers, marker and end model included."""
        return self.registers.span

    def model(self, model_id: int) -> PlacedModel:
        """Return one model.

        Raises:
            KeyError: The device does not have it.
        """
        for placed in self.models:
            if placed.model_id == model_id:
                return placed
        raise KeyError(model_id)


def lay_out(choices: Iterable[ModelChoice], base: int = BASE_ADDRESS) -> SunSpecLayout:
    """Place models one behind the other; devices with the same models share one layout."""
    return _lay_out_models(tuple(choices), base)


@lru_cache(maxsize=256)
def _lay_out_models(choices: tuple[ModelChoice, ...], base: int) -> SunSpecLayout:
    address = base + len(MARKER) // 2
    models: list[PlacedModel] = []
    for choice in choices:
        placed = place(choice, address)
        models.append(placed)
        address += placed.count
    registers = [Register("marker", base, 2, RegisterType.STRING, static=True)]
    registers += [register for placed in models for register in placed.registers]
    registers.append(Register("end.ID", address, 1, RegisterType.RAW16, static=True))
    registers.append(Register("end.L", address + 1, 1, RegisterType.RAW16, static=True))
    return SunSpecLayout(base, tuple(models), RegisterMap(registers))


def fixed_values(layout: SunSpecLayout, choices: Iterable[ModelChoice]) -> dict[str, int | str]:
    """Return the values that follow from the layout: marker, headers, scale factors, counts."""
    values: dict[str, int | str] = {
        "marker": MARKER.decode(),
        "end.ID": END_MODEL_ID,
        "end.L": 0,
    }
    for placed, choice in zip(layout.models, choices, strict=True):
        group = definition(choice.model_id)
        head = f"{choice.model_id}."
        values[f"{head}ID"] = choice.model_id
        values[f"{head}L"] = placed.count - HEADER_REGISTERS
        for name, exponent in choice.exponents.items():
            values[f"{head}{name}"] = exponent
        values.update(_counts(group, head, choice))
    return values


def _counts(group: Mapping[str, Any], prefix: str, choice: ModelChoice) -> dict[str, int]:
    """Return the values of the points that say how often a sub-group stands."""
    values: dict[str, int] = {}
    names = {point["name"] for point in group["points"]}
    waiting = list(group.get("groups", ()))
    while waiting:
        inner = waiting.pop()
        count = inner.get("count")
        if isinstance(count, str) and count in names:
            values[f"{prefix}{count}"] = choice.repeats.get(inner["name"], 1)
        elif count == 0 and "N" in names:
            values[f"{prefix}N"] = choice.repeats.get(inner["name"], 0)
        waiting.extend(inner.get("groups", ()))
    return values
