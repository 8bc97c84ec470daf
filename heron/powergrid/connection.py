"""What a microgrid's connection may carry, and which devices give way so that it does: pure.

The operator says how much a microgrid may export and import. Its coordinator looks at what it is
about to tell its devices and, where that would be too much, moves the cheapest to move first:
generators, then stores, then the ceilings of sun and wind; for imports stores stop charging,
generators run, stores discharge, loads are shed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

TOLERANCE_MW = 1e-9


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits at a microgrid's connection.

    Attributes:
        p_export_max_mw: Most that it may export; None: no limit.
        p_import_max_mw: Most that it may import, positive; None: no limit.
        given: Whether there is any limit.

    Raises:
        ValueError: A limit is negative or not finite: it would hold nothing.
    """

    p_export_max_mw: float | None = None
    p_import_max_mw: float | None = None
    given: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for way, p_mw in (("export", self.p_export_max_mw), ("import", self.p_import_max_mw)):
            if p_mw is not None and not 0.0 <= p_mw < math.inf:
                raise ValueError(f"p_{way}_max_mw {p_mw}: expected 0 or more, or none at all")
        given = self.p_export_max_mw is not None or self.p_import_max_mw is not None
        object.__setattr__(self, "given", given)

    def __str__(self) -> str:
        ways = (("export", self.p_export_max_mw), ("import", self.p_import_max_mw))
        return ", ".join(f"{way} {_text(p_mw)}" for way, p_mw in ways)


def _text(p_max_mw: float | None) -> str:
    return "free" if p_max_mw is None else f"at most {p_max_mw:g} MW"


NO_LIMITS = ConnectionLimits()


class Kind(StrEnum):
    """What a device is, as far as giving way goes."""

    GENERATOR = "generator"
    STORE = "store"
    SOURCE = "source"
    LOAD = "load"


@dataclass(frozen=True, slots=True)
class Part:
    """One device and what it is about to be told.

    Attributes:
        name: The device.
        kind: What it is.
        p_mw: Its set-point; of a source the ceiling.
        expected_mw: What it will inject at that, as far as is known.
        lowest_mw: Least that it could be told.
        highest_mw: Most that it could be told.
    """

    name: str
    kind: Kind
    p_mw: float
    expected_mw: float
    lowest_mw: float
    highest_mw: float


def within_connection(
    parts: Sequence[Part], load_mw: float, limits: ConnectionLimits
) -> dict[str, float]:
    """Return new set-points in MW for the devices that give way, by name.

    Sources are held to ceilings whose sum fits, so that a cloud that clears does not break the
    limit. What is left over is the change of the load until the next decision.

    Args:
        parts: The devices.
        load_mw: What the microgrid's other loads draw, losses included, positive.
        limits: At its connection.
    """
    told = {part.name: part.p_mw for part in parts}
    expected = {part.name: part.expected_mw for part in parts}
    if limits.p_import_max_mw is not None:
        _hold_import(parts, load_mw - limits.p_import_max_mw, told, expected)
    # Exports last: the ceilings of the sources fill what the others leave.
    if limits.p_export_max_mw is not None:
        _hold_export(parts, load_mw + limits.p_export_max_mw, told, expected)
    return {p.name: told[p.name] for p in parts if abs(told[p.name] - p.p_mw) > TOLERANCE_MW}


def _hold_export(
    parts: Sequence[Part], most_mw: float, told: dict[str, float], expected: dict[str, float]
) -> None:
    """Bring the sum of what is injected down to ``most_mw``."""
    excess = sum(expected.values()) - most_mw
    for kind in (Kind.GENERATOR, Kind.STORE):
        for part in (p for p in parts if p.kind is kind and excess > TOLERANCE_MW):
            down = min(excess, max(0.0, expected[part.name] - part.lowest_mw))
            if down > 0.0:
                told[part.name] = expected[part.name] = expected[part.name] - down
                excess -= down
    sources = [p for p in parts if p.kind is Kind.SOURCE]
    others = sum(expected[p.name] for p in parts if p.kind is not Kind.SOURCE)
    ceilings = _shared(max(0.0, most_mw - others), {p.name: told[p.name] for p in sources})
    for name, ceiling in ceilings.items():
        told[name] = ceiling
        expected[name] = min(expected[name], ceiling)


def _shared(room_mw: float, ceilings: Mapping[str, float]) -> dict[str, float]:
    """Return ceilings that together fit into the room; each gives in proportion."""
    total = sum(ceilings.values())
    if total <= room_mw + TOLERANCE_MW:
        return dict(ceilings)
    return {name: room_mw * ceiling / total for name, ceiling in ceilings.items()}


def _hold_import(
    parts: Sequence[Part], least_mw: float, told: dict[str, float], expected: dict[str, float]
) -> None:
    """Bring the sum of what is injected up to ``least_mw``."""
    lack = least_mw - sum(expected.values())
    # A store first stops charging, and discharges only after the generators run.
    steps = [(Kind.STORE, 0.0), (Kind.GENERATOR, None), (Kind.STORE, None), (Kind.LOAD, None)]
    for kind, only_to in steps:
        for part in (p for p in parts if p.kind is kind and lack > TOLERANCE_MW):
            top = part.highest_mw if only_to is None else min(only_to, part.highest_mw)
            up = min(lack, max(0.0, top - expected[part.name]))
            if up > 0.0:
                told[part.name] = expected[part.name] = expected[part.name] + up
                lack -= up
