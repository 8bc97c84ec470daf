"""The nodal model: a grid as admittances between nodes, in per unit.

Three-phase: each phase of a bus is a node. Balanced: each bus is one node, the positive sequence,
that stands for three equal phases. Every power is per phase on a base of 1 MVA; voltages are in
pu of the bus's nominal voltage, so admittances are in siemens times kV of both ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from heron.powergrid.networks import (
    CapacitorControl,
    Grid,
    Line,
    Load,
    Regulator,
    RegulatorControl,
    Transformer,
)
from simulator.engines.base import ComplexArray, FloatArray

GROUND = -1
ANTIFLOAT = 0.5e-6
"""Reactive admittance from each end of a winding to ground, as a part of its rating.

A delta winding without it floats. OpenDSS gives it to every transformer ("ppm_antifloat"), and so
do we, since 1 var per MVA can be seen at the sixth digit.
"""
LOAD_MODELS = {"power": 0, "current": 1, "impedance": 2, "cvr": 3}

Row = list[tuple[int, complex]]
"""The current into a terminal as admittances times node voltages."""


@dataclass(slots=True)
class Shunt:
    """One element that draws or injects power between two nodes, or a node and ground.

    Attributes:
        i: First node.
        j: Second node, or `GROUND`.
        s_mva: Power per unit of the owner's scale, positive = consumed; complex.
        model: A value of `LOAD_MODELS`.
        inv_v: Base voltage over the element's rated voltage.
        owner: Index of the load, or of the device.
    """

    i: int
    j: int
    s_mva: complex
    model: int
    inv_v: float
    owner: int


@dataclass(slots=True)
class RegulatorPhase:
    """One phase of a regulator: an ideal ratio with a series admittance at its output.

    Attributes:
        i: Input node.
        j: Output node.
        y: Series admittance at neutral, pu.
        owner: Index of the regulator.
        step_pu: Ratio of one step.
        moves: Whether a control or a command moves it. One that stands still may be given any
            tap, too, but a change of it factors the whole matrix anew.
    """

    i: int
    j: int
    y: complex
    owner: int
    step_pu: float
    moves: bool


@dataclass(slots=True)
class RegulatorMeasure:
    """What a regulator's control sees.

    Attributes:
        control: None for a fixed tap.
        v_base: Base voltage of its output, V.
        max_tap: Steps each way.
        members: Regulators that it moves together.
    """

    control: RegulatorControl | None
    v_base: float
    max_tap: int
    members: int = 1


@dataclass(slots=True)
class CapacitorMeasure:
    """What a capacitor's control sees.

    Attributes:
        control: None for a fixed one.
        v_base: Base voltage of its bus, V.
        measured: Three nodes whose mean it measures; one that it lacks is another one twice.
    """

    control: CapacitorControl | None
    v_base: float
    measured: tuple[int, int, int]


@dataclass(slots=True)
class Terminal:
    """A connection point of a branch.

    Attributes:
        node: Node that it is connected to.
        row: Its current into the branch, pu.
        inv_rated: One over the rated current, 1/pu; 0 without a rating.
    """

    node: int
    row: Row
    inv_rated: float = 0.0


@dataclass(slots=True)
class NodalModel:
    """A grid ready to be factored.

    Attributes:
        nodes: (bus, phase) of each node.
        multiplicity: Phases that one node stands for: 1 or 3.
        source: Nodes of the source.
        source_v: Their voltages.
        triplets: Constant part of the admittance matrix as (row, column, value).
        loads: Elements of the loads.
        devices: Elements of the devices; ``s_mva`` is the share of the device's power.
        regulators: Phases of the regulators.
        regulator_controls: Control of each regulator that owns phases.
        capacitors: Elements of the capacitors, per unit of "switched in".
        capacitor_controls: Control of each capacitor.
        branch_terminals: Terminals of each rated branch, both sides.
        pcc_terminals: Terminals of each microgrid's transformer on the feeder's side.
        device_nodes: Nodes of each device for the phases a, b, c; `GROUND` where it has none.
        pcc_nodes: Nodes of each connection bus, likewise.
    """

    nodes: tuple[tuple[str, str], ...]
    multiplicity: int
    source: list[int]
    source_v: ComplexArray
    triplets: list[tuple[int, int, complex]] = field(default_factory=list)
    loads: list[Shunt] = field(default_factory=list)
    devices: list[Shunt] = field(default_factory=list)
    regulators: list[RegulatorPhase] = field(default_factory=list)
    regulator_controls: list[RegulatorMeasure] = field(default_factory=list)
    capacitors: list[Shunt] = field(default_factory=list)
    capacitor_controls: list[CapacitorMeasure] = field(default_factory=list)
    branch_terminals: list[list[Terminal]] = field(default_factory=list)
    pcc_terminals: list[list[Terminal]] = field(default_factory=list)
    device_nodes: list[tuple[int, int, int]] = field(default_factory=list)
    pcc_nodes: list[tuple[int, int, int]] = field(default_factory=list)

    def stamp(self, ids: list[int], y: ComplexArray) -> None:
        """Add a small admittance matrix between the nodes ``ids``."""
        for r, i in enumerate(ids):
            for c, j in enumerate(ids):
                if y[r, c] != 0.0:
                    self.triplets.append((i, j, complex(y[r, c])))


def threephase_model(grid: Grid) -> NodalModel:
    """Return the model with a node for each phase of each bus."""
    index = {node: k for k, node in enumerate(grid.nodes)}
    kv = {b.name: b.kv_ln for b in grid.buses}
    model = NodalModel(
        nodes=grid.nodes,
        multiplicity=1,
        source=[index[grid.source_bus, p] for p in "abc"],
        source_v=np.array(grid.source_v_pu),
    )
    rated_lines: dict[str, list[Terminal]] = {}
    for line in grid.lines:
        if line.closed:
            ends = [(b, p) for b in (line.from_bus, line.to_bus) for p in line.phases]
            nodes, pi = [index[e] for e in ends], pi_section(line) * kv[line.from_bus] ** 2
            model.stamp(nodes, pi)
            if line.ampacity_a is not None:
                rated_lines[line.name] = line_terminals(
                    nodes, pi, line.ampacity_a * kv[line.from_bus] / 1e3, 6
                )
    for owner, capacitor in enumerate(grid.capacitors):
        n = len(capacitor.phases)
        ids = [index[capacitor.bus, p] for p in capacitor.phases]
        ratio = kv[capacitor.bus] / capacitor.element_kv
        s = -1j * capacitor.kvar / n / 1e3
        model.capacitors += [
            Shunt(k, GROUND, s, LOAD_MODELS["impedance"], ratio, owner) for k in ids
        ]
        model.capacitor_controls.append(
            CapacitorMeasure(
                capacitor.control,
                kv[capacitor.bus] * 1e3,
                (ids[0], ids[1 % n], ids[2 % n]) if n != 2 else (ids[0], ids[1], ids[0]),
            )
        )
    commanded = commanded_regulators(grid)
    for owner, regulator in enumerate(grid.regulators):
        moves = regulator.control is not None or owner in commanded
        y = regulator_admittance(regulator, kv[regulator.from_bus])
        model.regulator_controls.append(
            RegulatorMeasure(regulator.control, kv[regulator.to_bus] * 1e3, regulator.max_tap)
        )
        for p in regulator.phases:
            i, j = index[regulator.from_bus, p], index[regulator.to_bus, p]
            model.regulators.append(RegulatorPhase(i, j, y, owner, regulator.step_pu, moves))
            floating = -1j * ANTIFLOAT * regulator.kva / len(regulator.phases) / 1e3
            floating *= (kv[regulator.from_bus] / regulator.kv_ln) ** 2
            model.triplets += [(i, i, floating), (j, j, floating)]
    head_terminals: dict[str, list[Terminal]] = {}
    for transformer in grid.transformers:
        ids = [index[bus, p] for bus in (transformer.from_bus, transformer.to_bus) for p in "abc"]
        y_matrix = transformer_admittance(
            transformer, kv[transformer.from_bus], kv[transformer.to_bus]
        )
        model.stamp(ids, y_matrix)
        rated = (
            transformer.kva / 3e3 * kv[transformer.from_bus] * math.sqrt(3) / transformer.kv_from,
            transformer.kva / 3e3 * kv[transformer.to_bus] * math.sqrt(3) / transformer.kv_to,
        )
        terminals = [
            Terminal(
                node,
                [(ids[c], complex(y_matrix[r, c])) for c in range(6) if y_matrix[r, c] != 0.0],
                1.0 / rated[r // 3],
            )
            for r, node in enumerate(ids)
        ]
        model.branch_terminals.append(terminals)
        head_terminals[transformer.name] = terminals[:3]
    model.branch_terminals += [rated_lines[x.name] for x in grid.rated_lines]
    for owner, load in enumerate(grid.loads):
        model.loads += _load_shunts(load, owner, index, kv[load.bus])
    for owner, device in enumerate(grid.devices):
        for p in device.phases:
            share = 1.0 / len(device.phases)
            model.devices.append(Shunt(index[device.bus, p], GROUND, share, 0, 1.0, owner))
        a, b, c = (index[device.bus, p] if p in device.phases else GROUND for p in "abc")
        model.device_nodes.append((a, b, c))
    for microgrid in grid.microgrids:
        model.pcc_terminals.append(head_terminals[microgrid.transformer])
        a, b, c = (index[microgrid.connection_bus, p] for p in "abc")
        model.pcc_nodes.append((a, b, c))
    return model


def commanded_regulators(grid: Grid) -> set[int]:
    """Return the indices of the regulators that devices command."""
    return {k for changer in grid.tap_changers for k in changer.regulators}


def line_terminals(nodes: list[int], y: ComplexArray, rated: float, n_ends: int) -> list[Terminal]:
    """Return the terminals of a line; a lateral repeats its first one up to ``n_ends``.

    Args:
        nodes: Its nodes at both ends.
        y: Its admittance matrix, pu.
        rated: Rated current of one phase, pu.
        n_ends: Terminals that every rated branch has.
    """
    found = [
        Terminal(
            node,
            [(other, complex(y[r, c])) for c, other in enumerate(nodes) if y[r, c] != 0.0],
            1.0 / rated,
        )
        for r, node in enumerate(nodes)
    ]
    return found + found[:1] * (n_ends - len(found))


def _load_shunts(
    load: Load, owner: int, index: dict[tuple[str, str], int], kv_ln: float
) -> list[Shunt]:
    s = complex(load.kw, load.kvar) / 1e3 / len(load.elements)
    return [
        Shunt(
            i=index[load.bus, element[0]],
            j=index[load.bus, element[1]] if len(element) == 2 else GROUND,
            s_mva=s,
            model=LOAD_MODELS[load.model],
            inv_v=kv_ln / load.element_kv,
            owner=owner,
        )
        for element in load.elements
    ]


def pi_section(line: Line) -> ComplexArray:
    """Return the (2n, 2n) admittance matrix of a line, siemens; its from-end comes first."""
    series = np.linalg.inv(np.array(line.r_ohm) + 1j * np.array(line.x_ohm))
    end = series + 1j * np.array(line.b_half_s)
    result: ComplexArray = np.block([[end, -series], [-series, end]])
    return result


def regulator_admittance(regulator: Regulator, kv_ln: float) -> complex:
    """Return the series admittance of one phase at neutral, pu of ``kv_ln``."""
    ohm = regulator.kv_ln**2 * 1e3 / (regulator.kva / len(regulator.phases))
    return kv_ln**2 / (complex(regulator.r_pct, regulator.x_pct) / 100.0 * ohm)


def transformer_admittance(t: Transformer, kv_from: float, kv_to: float) -> ComplexArray:
    """Return the (6, 6) admittance matrix of a transformer, pu; ``from_bus`` comes first.

    Source: three coils on each side, coupled by ideal ratios, with the series impedance on the
    to-side, which grows with the square of the tap; `ANTIFLOAT` at both ends of each coil. A coil
    of a wye goes from its phase to ground, one of a delta to another phase: which one decides
    whether the delta leads or lags, as in OpenDSS's Transformer (``LeadLag=ANSI``).
    """
    first, second = t.connection.split("-")
    # in a delta on the lower side coil a lies between a and b, on the higher one between a and c
    step = 1 if first == second or (first == "wye") == (t.kv_from >= t.kv_to) else 2
    from_coils, from_kv = _coils(first, t.kv_from, step)
    to_coils, to_kv = _coils(second, t.kv_to, step)
    ratio = to_kv * t.tap / from_kv
    turns = np.hstack([-ratio * kv_from * from_coils, kv_to * to_coils])
    impedance = complex(t.r_pct, t.x_pct) / 100.0 / (t.kva / 3e3)
    y = to_kv**-2 / (impedance * t.tap**2)
    result: ComplexArray = np.asarray(y * (turns.T @ turns), np.complex128)
    for k, (coils, rated, base) in enumerate(
        ((from_coils, from_kv, kv_from), (to_coils, to_kv, kv_to))
    ):
        ends = np.abs(coils).sum(axis=0)
        at = np.arange(3 * k, 3 * k + 3)
        result[at, at] -= 1j * ends * ANTIFLOAT * t.kva / 3e3 * (base / rated) ** 2
    return result


def _coils(connection: str, kv: float, step: int) -> tuple[FloatArray, float]:
    """Return (coil, phase) with the voltages that each coil takes, and a coil's rated voltage."""
    if connection == "wye":
        return np.eye(3), kv / math.sqrt(3)
    return np.eye(3) - np.roll(np.eye(3), step, axis=1), kv
