"""The network that engines solve: a feeder, or a feeder with microgrids joined to it."""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.networks.elements import (
    Bus,
    Capacitor,
    Line,
    Load,
    Regulator,
    Transformer,
)
from heron.powergrid.networks.feeder import Feeder, energised

Node = tuple[str, str]
"""A bus and one of its phases."""


@dataclass(frozen=True, slots=True)
class DeviceConnection:
    """Where a device is connected; three-phase devices are balanced.

    Attributes:
        device_id: Whose.
        bus: Name of the bus in the grid.
        phases: Phases that share its power equally.
        area: Microgrid that it belongs to.
    """

    device_id: str
    bus: str
    phases: str
    area: str


@dataclass(frozen=True, slots=True)
class MicrogridConnection:
    """How a microgrid is joined to the feeder.

    Attributes:
        name: Name of the microgrid.
        connection_bus: Bus of the feeder.
        head_bus: Bus of the microgrid behind its transformer.
        transformer: Name of the transformer in ``Grid.transformers``.
    """

    name: str
    connection_bus: str
    head_bus: str
    transformer: str


@dataclass(frozen=True, slots=True)
class TapChanger:
    """A tap that a device commands, instead of a control of its own.

    Attributes:
        device_id: The device whose action it is.
        element: Transformer or bank of regulators, by its full name.
        regulators: Their places in ``Grid.regulators``; all stand at one position.
        tap_min: Lowest position.
        tap_max: Highest position; positive raises the voltage of the output.
    """

    device_id: str
    element: str
    regulators: tuple[int, ...]
    tap_min: int
    tap_max: int


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch with a rating, whose loading is reported.

    Attributes:
        name: Name of the transformer or line.
        area: Feeder or microgrid that owns it.
        rating_kva: Rating of all phases together; a line's at nominal voltage.
        kind: "transformer" or "line".
    """

    name: str
    area: str
    rating_kva: float
    kind: Literal["transformer", "line"] = "transformer"


@dataclass(frozen=True)
class Grid:
    """Network data for one solver: immutable, engine-neutral, without state.

    Attributes:
        name: Name for messages.
        areas: The feeder's name first, then the microgrids'.
        buses: All buses.
        lines: All lines and switches.
        transformers: All transformers, those of the microgrids' heads included.
        regulators: All regulators; the order of ``GridState.taps``.
        capacitors: All capacitors; the order of ``GridState.capacitors``.
        loads: All loads; the order of ``Injections.load_scale``.
        devices: All devices; the order of ``Injections.p_mw``.
        microgrids: All microgrids; the order of ``Solution.pcc_p_mw``.
        source_bus: Bus that the upstream grid holds.
        source_v_pu: Voltage there for the phases a, b and c.
        tap_changers: Taps that devices command; they move no other way.
        line_ratings: Whether ``branches`` has the lines with an ampacity, after the transformers.
    """

    name: str
    areas: tuple[str, ...]
    buses: tuple[Bus, ...]
    lines: tuple[Line, ...]
    transformers: tuple[Transformer, ...]
    regulators: tuple[Regulator, ...]
    capacitors: tuple[Capacitor, ...]
    loads: tuple[Load, ...]
    devices: tuple[DeviceConnection, ...]
    microgrids: tuple[MicrogridConnection, ...]
    source_bus: str
    source_v_pu: tuple[complex, complex, complex]
    tap_changers: tuple[TapChanger, ...] = ()
    line_ratings: bool = False

    @cached_property
    def bus_by_name(self) -> dict[str, Bus]:
        """Each bus by its name."""
        return {b.name: b for b in self.buses}

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every (bus, phase), bus by bus: the nodes of the three-phase engines."""
        return tuple((b.name, p) for b in self.buses for p in b.phases)

    @cached_property
    def node_areas(self) -> tuple[str, ...]:
        """Area of each of ``nodes``."""
        return tuple(self.bus_by_name[bus].area for bus, _ in self.nodes)

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """Rated branches, in the order of ``Solution.loading_pct``."""
        units = tuple(Branch(t.name, t.area, t.kva) for t in self.transformers)
        lines = tuple(
            Branch(x.name, x.area, len(x.phases) * x.ampacity_a * self._kv(x), "line")
            for x in self.rated_lines
            if x.ampacity_a is not None
        )
        return units + lines

    @cached_property
    def rated_lines(self) -> tuple[Line, ...]:
        """Closed lines whose loading is reported, in the order of ``branches``."""
        rated = (x for x in self.lines if x.closed and x.ampacity_a is not None)
        return tuple(rated) if self.line_ratings else ()

    def _kv(self, line: Line) -> float:
        return self.bus_by_name[line.from_bus].kv_ln

    @cached_property
    def live_nodes(self) -> frozenset[Node]:
        """Nodes that closed branches connect to the source."""
        return energised(self.source_bus, self.lines, self.transformers, self.regulators)

    @cached_property
    def dead_consumers(self) -> tuple[str, ...]:
        """What is connected to a node without supply, in words; empty in a sound grid."""
        live = self.live_nodes
        found = [
            f"{kind} {name} on {bus}"
            for kind, name, bus, phases in (
                *(("load", x.name, x.bus, x.phases) for x in self.loads),
                *(("device", x.device_id, x.bus, x.phases) for x in self.devices),
            )
            if any((bus, p) not in live for p in phases)
        ]
        found += [
            f"microgrid {m.name} on {m.connection_bus}"
            for m in self.microgrids
            if any((m.connection_bus, p) not in live for p in "abc")
        ]
        return tuple(found)

    def with_open(self, *lines: str) -> Grid:
        """Return the grid with the named lines opened.

        Raises:
            ConfigError: A name is no line of this grid.
        """
        known = {line.name for line in self.lines}
        unknown = [name for name in lines if name not in known]
        if unknown:
            raise ConfigError([ConfigProblem("line", n, "no such line") for n in unknown])
        return replace(
            self,
            lines=tuple(
                line.model_copy(update={"closed": False}) if line.name in lines else line
                for line in self.lines
            ),
        )


def balanced_source(v_pu: float) -> tuple[complex, complex, complex]:
    """Return the phase voltages of a balanced source."""
    turn = cmath.exp(2j * math.pi / 3)
    return (complex(v_pu), v_pu / turn, v_pu * turn)


def grid_of(feeder: Feeder) -> Grid:
    """Return a feeder by itself, with its own bus names and its published taps and head voltage.

    Its regulators keep their controls; solve with ``move_taps=False`` to hold the taps.
    """
    va, vb, vc = (
        cmath.rect(v, math.radians(degrees))
        for v, degrees in (feeder.head_voltage[p] for p in "abc")
    )
    area = feeder.name

    return Grid(
        name=feeder.name,
        areas=(area,),
        buses=tuple(x.model_copy(update={"area": area}) for x in feeder.buses),
        lines=tuple(x.model_copy(update={"area": area}) for x in feeder.lines),
        transformers=tuple(x.model_copy(update={"area": area}) for x in feeder.transformers),
        regulators=tuple(x.model_copy(update={"area": area}) for x in feeder.regulators),
        capacitors=tuple(x.model_copy(update={"area": area}) for x in feeder.capacitors),
        loads=tuple(x.model_copy(update={"area": area}) for x in feeder.loads),
        devices=(),
        microgrids=(),
        source_bus=feeder.head,
        source_v_pu=(va, vb, vc),
    )
