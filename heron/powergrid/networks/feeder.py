"""Feeders as data: read, checked, and free of any solver."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.networks.elements import (
    Bus,
    Capacitor,
    Element,
    Line,
    Load,
    Regulator,
    Transformer,
)

SAME_VOLTAGE = 0.01
"""Difference of the nominal voltages at the ends of one line that is no mistake."""
FITTING_VOLTAGE = 0.15
"""Difference between a winding's rating and its bus's nominal voltage that is no mistake."""


class Feeder(BaseModel):
    """A distribution feeder below its head bus, which is held at a given voltage.

    Attributes:
        name: Name by which `load_feeder` finds it.
        title: One line for people.
        head: Bus that the upstream grid holds.
        head_voltage: Voltage of the head per phase as (pu, degrees): that of the reference
            results.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    title: str = ""
    head: str
    head_voltage: dict[str, tuple[float, float]] = Field(
        default_factory=lambda: {"a": (1.0, 0.0), "b": (1.0, -120.0), "c": (1.0, 120.0)}
    )
    buses: tuple[Bus, ...]
    lines: tuple[Line, ...] = ()
    transformers: tuple[Transformer, ...] = ()
    regulators: tuple[Regulator, ...] = ()
    capacitors: tuple[Capacitor, ...] = ()
    loads: tuple[Load, ...] = ()

    @cached_property
    def bus_by_name(self) -> dict[str, Bus]:
        """Each bus by its name."""
        return {b.name: b for b in self.buses}


def available_feeders() -> tuple[str, ...]:
    """Return the names of the feeders that ship."""
    data = files("heron.powergrid.networks") / "data"
    return tuple(sorted(f.name[:-5] for f in data.iterdir() if f.name.endswith(".json")))


def load_feeder(name: str) -> Feeder:
    """Return a feeder that ships, or one from a JSON file of the same form.

    Args:
        name: A shipped name (``ieee13``) or the path of a ``.json`` file.

    Raises:
        ConfigError: Unknown name, unreadable file, or a network that cannot be: every
            problem with its element and field.
    """
    if name in available_feeders():
        text = (files("heron.powergrid.networks") / "data" / f"{name}.json").read_text()
        source = f"{name}.json"
    elif name.endswith(".json"):
        source = name
        try:
            text = Path(name).read_text()
        except OSError as error:
            expected = f"cannot be read: {error.strerror}"
            raise ConfigError([ConfigProblem("network", name, expected)]) from error
    else:
        expected = f"no such feeder; expected one of {', '.join(available_feeders())} or a .json"
        raise ConfigError([ConfigProblem("network", name, expected)])
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError([ConfigProblem("network", name, f"not JSON: {error}", source)]) from error
    return parse_feeder(raw, source)


def parse_feeder(raw: Any, source: str = "") -> Feeder:
    """Build a feeder from plain data and check that it can be a network.

    Raises:
        ConfigError: Every problem found.
    """
    try:
        feeder = Feeder.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(
            [
                ConfigProblem(
                    ".".join(str(p) for p in e["loc"]) or "feeder", e["input"], e["msg"], source
                )
                for e in error.errors()
            ]
        ) from error
    problems = [
        ConfigProblem(where, value, expected, source)
        for where, value, expected in _problems_of(feeder)
    ]
    if problems:
        raise ConfigError(problems)
    return feeder


_Problem = tuple[str, object, str]
_End = tuple[str, str]


def _problems_of(feeder: Feeder) -> Iterator[_Problem]:
    buses = feeder.bus_by_name
    yield from _duplicates(feeder)
    if feeder.head not in buses or buses[feeder.head].phases != "abc":
        yield "head", feeder.head, "expected a three-phase bus of the feeder"
        return
    if set(feeder.head_voltage) != set("abc"):
        yield "head_voltage", sorted(feeder.head_voltage), "expected phases a, b and c"
    broken = False
    for element, ends in _ends(feeder):
        for key, bus in ends:
            where = f"{type(element).__name__.lower()} {element.name}.{key}"
            if bus not in buses:
                broken = True
                yield where, bus, "no such bus"
            elif missing := sorted(set(element.phases) - set(buses[bus].phases)):
                broken = True
                has = buses[bus].phases
                yield where, bus, f"carries phases {has!r}, not {''.join(missing)!r}"
    yield from _voltages(feeder)
    if broken:
        return
    live = energised(feeder.head, feeder.lines, feeder.transformers, feeder.regulators)
    for place in feeder.buses:
        dead = "".join(p for p in place.phases if (place.name, p) not in live)
        if dead:
            yield f"bus {place.name}.phases", place.phases, f"phase {dead} is not fed: an island"
    shunts: list[Load | Capacitor] = [*feeder.loads, *feeder.capacitors]
    for shunt in shunts:
        dead = "".join(p for p in shunt.phases if (shunt.bus, p) not in live)
        if dead:
            where = f"{type(shunt).__name__.lower()} {shunt.name}.bus"
            yield where, shunt.bus, f"phase {dead} is not fed there: a dead bus"


def _voltages(feeder: Feeder) -> Iterator[_Problem]:
    """Find branches between buses of other voltages than they are made for."""
    kv = {b.name: b.kv_ln * math.sqrt(3) for b in feeder.buses}
    for branch in (*feeder.lines, *feeder.regulators):
        a, b = kv.get(branch.from_bus), kv.get(branch.to_bus)
        if a and b and abs(a / b - 1.0) > SAME_VOLTAGE:
            where = f"{type(branch).__name__.lower()} {branch.name}.to_bus"
            yield where, branch.to_bus, f"is at {b:.3g} kV, and {branch.from_bus} at {a:.3g} kV"
    for unit in feeder.transformers:
        for key, bus, rated in (
            ("kv_from", unit.from_bus, unit.kv_from),
            ("kv_to", unit.to_bus, unit.kv_to),
        ):
            if bus in kv and abs(rated / kv[bus] - 1.0) > FITTING_VOLTAGE:
                expected = f"expected about the {kv[bus]:.3g} kV of bus {bus}"
                yield f"transformer {unit.name}.{key}", rated, expected


def _duplicates(feeder: Feeder) -> Iterator[_Problem]:
    kinds: tuple[tuple[str, Sequence[Element]], ...] = (
        ("buses", feeder.buses),
        ("lines", feeder.lines),
        ("transformers", feeder.transformers),
        ("regulators", feeder.regulators),
        ("capacitors", feeder.capacitors),
        ("loads", feeder.loads),
    )
    for key, elements in kinds:
        seen: set[str] = set()
        for element in elements:
            if element.name in seen:
                yield key, element.name, "the name is used twice"
            seen.add(element.name)


def _ends(
    feeder: Feeder,
) -> Iterator[tuple[Line | Transformer | Regulator | Capacitor | Load, tuple[_End, ...]]]:
    branches: list[Line | Transformer | Regulator] = [
        *feeder.lines,
        *feeder.transformers,
        *feeder.regulators,
    ]
    shunts: list[Capacitor | Load] = [*feeder.capacitors, *feeder.loads]
    for branch in branches:
        yield branch, (("from_bus", branch.from_bus), ("to_bus", branch.to_bus))
    for shunt in shunts:
        yield shunt, (("bus", shunt.bus),)


def energised(
    head: str,
    lines: Sequence[Line],
    transformers: Sequence[Transformer],
    regulators: Sequence[Regulator],
) -> frozenset[tuple[str, str]]:
    """Return the (bus, phase) nodes that closed branches connect to the head."""
    near: dict[tuple[str, str], list[tuple[str, str]]] = {}
    closed = (*(line for line in lines if line.closed), *transformers, *regulators)
    for branch in closed:
        for phase in branch.phases:
            a, b = (branch.from_bus, phase), (branch.to_bus, phase)
            near.setdefault(a, []).append(b)
            near.setdefault(b, []).append(a)
    reached = {(head, phase) for phase in "abc"}
    frontier = list(reached)
    while frontier:
        for node in near.get(frontier.pop(), ()):
            if node not in reached:
                reached.add(node)
                frontier.append(node)
    return frozenset(reached)
