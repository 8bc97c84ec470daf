"""The balanced equivalent of a grid: what its positive sequence sees.

Every bus becomes one node for three equal phases. Loads keep their total power, whatever phases
they are on; a one- or two-phase lateral keeps the impedance that its own phases see; a bank of
regulators has one position. On a real feeder this is off by 2-5 % on single phases: it is fast and
it is what balanced tools compute, but it is not what the three-phase engine computes.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heron.powergrid.networks import Grid, Line, Load
from heron.powergrid.networks.controls import RegulatorControl
from simulator.engines.base import IntArray
from simulator.engines.nodal import (
    GROUND,
    LOAD_MODELS,
    CapacitorMeasure,
    NodalModel,
    RegulatorMeasure,
    RegulatorPhase,
    Shunt,
    Terminal,
    commanded_regulators,
    line_terminals,
)

_TURN = cmath.exp(2j * math.pi / 3)


@dataclass(frozen=True, slots=True)
class Bank:
    """The regulators between the same two buses, moved together.

    Attributes:
        members: Indices into ``Grid.regulators``.
        from_bus: Input.
        to_bus: Output.
        kv_ln: Rated voltage, kV.
        phase_kva: Base of the impedance, per phase.
        r_pct: Series resistance.
        x_pct: Series reactance.
        control: That of the first member.
        step_pu: Ratio of one step.
        max_tap: Steps each way.
    """

    members: tuple[int, ...]
    from_bus: str
    to_bus: str
    kv_ln: float
    phase_kva: float
    r_pct: float
    x_pct: float
    control: RegulatorControl | None
    step_pu: float
    max_tap: int

    def ratio(self, position: int) -> float:
        """Return the voltage ratio at a position."""
        return 1.0 + self.step_pu * position


def banks_of(grid: Grid) -> tuple[Bank, ...]:
    """Return the regulator banks of a grid, in the order of their first members."""
    members: dict[tuple[str, str, str], list[int]] = {}
    for k, r in enumerate(grid.regulators):
        members.setdefault((r.area, r.from_bus, r.to_bus), []).append(k)
    result = []
    for owners in members.values():
        first = grid.regulators[owners[0]]
        result.append(
            Bank(
                members=tuple(owners),
                from_bus=first.from_bus,
                to_bus=first.to_bus,
                kv_ln=first.kv_ln,
                phase_kva=first.kva / len(first.phases),
                r_pct=first.r_pct,
                x_pct=first.x_pct,
                control=first.control,
                step_pu=first.step_pu,
                max_tap=first.max_tap,
            )
        )
    return tuple(result)


class BankTaps:
    """Between the taps of all regulators and the positions of their banks.

    Arrays are (..., n_regulators) and (..., n_banks).
    """

    def __init__(self, banks: Sequence[Bank]) -> None:
        n = sum(len(b.members) for b in banks)
        self._bank_of = np.zeros(n, np.int64)
        self._share = np.zeros((n, len(banks)))
        for k, bank in enumerate(banks):
            self._bank_of[list(bank.members)] = k
            self._share[list(bank.members), k] = 1.0 / len(bank.members)

    def positions(self, taps: IntArray) -> IntArray:
        """Return each bank's position: the mean of its taps, to the nearest step."""
        return np.rint(taps @ self._share).astype(np.int64)

    def taps(self, taps: IntArray, before: IntArray, after: IntArray) -> IntArray:
        """Return the taps once the banks went from ``before`` to ``after``."""
        if np.array_equal(before, after):
            return taps.copy()
        moved = (before != after)[..., self._bank_of]
        return np.where(moved, after[..., self._bank_of], taps)


def line_impedance(line: Line) -> tuple[complex, float]:
    """Return positive-sequence impedance (ohm) and half the shunt susceptance (S)."""
    z = np.array(line.r_ohm) + 1j * np.array(line.x_ohm)
    b = np.array(line.b_half_s)
    off = ~np.eye(len(z), dtype=bool)
    z1 = complex(np.mean(np.diag(z)) - (np.mean(z[off]) if len(z) > 1 else 0.0))
    b1 = float(np.mean(np.diag(b)) - (np.mean(b[off]) if len(b) > 1 else 0.0))
    return z1, b1


def voltage_ratio(load: Load, kv_ln: float) -> float:
    """Return the voltage across a load's elements at 1 pu over their rated voltage."""
    across = kv_ln * (math.sqrt(3) if load.connection == "delta" else 1.0)
    return across / load.element_kv


def source_voltage(grid: Grid) -> complex:
    """Return the positive-sequence voltage of the source, pu."""
    a, b, c = grid.source_v_pu
    return (a + _TURN * b + _TURN**2 * c) / 3.0


def balanced_model(grid: Grid) -> NodalModel:
    """Return the nodal model with one node for each bus."""
    index = {b.name: k for k, b in enumerate(grid.buses)}
    kv = {b.name: b.kv_ln for b in grid.buses}
    model = NodalModel(
        nodes=tuple((b.name, "1") for b in grid.buses),
        multiplicity=3,
        source=[index[grid.source_bus]],
        source_v=np.array([source_voltage(grid)]),
    )
    rated_lines: dict[str, list[Terminal]] = {}
    for line in grid.lines:
        if line.closed:
            z, b_half = line_impedance(line)
            y = kv[line.from_bus] ** 2 / z
            end = y + 1j * b_half * kv[line.from_bus] ** 2
            ends = [index[line.from_bus], index[line.to_bus]]
            pi = np.array([[end, -y], [-y, end]])
            model.stamp(ends, pi)
            if line.ampacity_a is not None:
                # what one node stands for is three phases, and a lateral carries it on fewer
                most = line.ampacity_a * kv[line.from_bus] / 1e3 * len(line.phases) / 3.0
                rated_lines[line.name] = line_terminals(ends, pi, most, 2)
    for owner, capacitor in enumerate(grid.capacitors):
        node = index[capacitor.bus]
        ratio = kv[capacitor.bus] / capacitor.element_kv
        reactive = -1j * capacitor.kvar / 3e3
        model.capacitors.append(
            Shunt(node, GROUND, reactive, LOAD_MODELS["impedance"], ratio, owner)
        )
        model.capacitor_controls.append(
            CapacitorMeasure(capacitor.control, kv[capacitor.bus] * 1e3, (node, node, node))
        )
    commanded = commanded_regulators(grid)
    for owner, bank in enumerate(banks_of(grid)):
        ohm = bank.kv_ln**2 * 1e3 / bank.phase_kva
        y = kv[bank.from_bus] ** 2 / (complex(bank.r_pct, bank.x_pct) / 100.0 * ohm)
        i, j = index[bank.from_bus], index[bank.to_bus]
        moves = bank.control is not None or not commanded.isdisjoint(bank.members)
        model.regulators.append(RegulatorPhase(i, j, y, owner, bank.step_pu, moves))
        model.regulator_controls.append(
            RegulatorMeasure(bank.control, kv[bank.to_bus] * 1e3, bank.max_tap, len(bank.members))
        )
    head_terminals: dict[str, list[Terminal]] = {}
    for t in grid.transformers:
        ids = [index[t.from_bus], index[t.to_bus]]
        ratio = t.kv_to * t.tap / t.kv_from
        turns = np.array([[-ratio * kv[t.from_bus], kv[t.to_bus]]]) * math.sqrt(3) / t.kv_to
        impedance = complex(t.r_pct, t.x_pct) / 100.0 / (t.kva / 3e3) * t.tap**2
        y_matrix = np.asarray(turns.T @ turns / impedance, np.complex128)
        model.stamp(ids, y_matrix)
        rated = [
            t.kva / 3e3 * kv[t.from_bus] * math.sqrt(3) / t.kv_from,
            t.kva / 3e3 * kv[t.to_bus] * math.sqrt(3) / t.kv_to,
        ]
        terminals = [
            Terminal(ids[r], [(ids[c], complex(y_matrix[r, c])) for c in (0, 1)], 1.0 / rated[r])
            for r in (0, 1)
        ]
        model.branch_terminals.append(terminals)
        head_terminals[t.name] = terminals[:1]
    model.branch_terminals += [rated_lines[x.name] for x in grid.rated_lines]
    for owner, load in enumerate(grid.loads):
        s = complex(load.kw, load.kvar) / 3e3
        ratio = voltage_ratio(load, kv[load.bus])
        shunt = Shunt(index[load.bus], GROUND, s, LOAD_MODELS[load.model], ratio, owner)
        model.loads.append(shunt)
    for owner, device in enumerate(grid.devices):
        node = index[device.bus]
        model.devices.append(Shunt(node, GROUND, 1.0 / 3.0, 0, 1.0, owner))
        a, b, c = (node if p in device.phases else GROUND for p in "abc")
        model.device_nodes.append((a, b, c))
    for microgrid in grid.microgrids:
        node = index[microgrid.connection_bus]
        model.pcc_terminals.append(head_terminals[microgrid.transformer])
        model.pcc_nodes.append((node, node, node))
    return model
