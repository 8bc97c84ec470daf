"""The balanced radial equivalent of a grid, for optimisation.

One node a bus, powers of all phases together, per unit on 1 MVA. A lateral of one or two phases
keeps the losses that it has with its load on its own phases. The regulators' ratio is a range.
It is 2-5 % off on single phases, so what it says is re-checked on the three-phase plant.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.networks import (
    Grid,
    Line,
    Load,
    Regulator,
    RegulatorControl,
    Transformer,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_VOLTAGE_SHARE = {"power": (0.0, 0.0), "current": (0.5, 0.5), "impedance": (1.0, 1.0)}
_VOLTAGE_SHARE["cvr"] = (0.5, 1.0)


@dataclass(frozen=True, slots=True)
class RegulatedBranch:
    """What a regulator with line-drop compensation holds at its output, linearised.

    The squared voltage is held at ``v2 + p * P + q * Q`` (P and Q in MW and Mvar through the
    branch), within ``half_band``.
    """

    branch: int
    v2: float
    p: float
    q: float
    half_band: float


@dataclass(frozen=True, slots=True)
class _Edge:
    a: str
    b: str
    z: complex
    ratio: tuple[float, float]
    control: RegulatorControl | None = None
    forward: bool = True


@dataclass(frozen=True, slots=True)
class RadialNetwork:
    """A tree of buses; entry k of a branch array is the branch that feeds bus k + 1.

    Attributes:
        buses: Names; the source is first and every bus comes after its parent.
        areas: Area of each bus.
        monitored: Whether voltage limits apply at a bus.
        phases: Number of phases of each bus.
        parent: (n_branches,) index of the bus that feeds bus k + 1.
        r_pu: (n_branches,) series resistance on 1 MVA.
        x_pu: (n_branches,) series reactance.
        ratio: (n_branches, 2) lowest and highest voltage ratio; equal where it is fixed.
        shunt_mvar: (n_buses,) line charging and capacitors at 1 pu.
        load_bus: (n_loads,) bus of each load, in the order of ``Grid.loads``.
        load_mva: (n_loads,) complex nominal consumption at 1 pu.
        load_slope: (n_loads, 2) share of P and of Q that grows with the squared voltage.
        device_bus: (n_devices,) bus of each device, in the order of ``Grid.devices``.
        regulated: What the regulators' controls hold.
        meter_branch: Per microgrid, the branch of its connection.
        source_v_pu: Voltage of the source.
    """

    buses: tuple[str, ...]
    areas: tuple[str, ...]
    monitored: npt.NDArray[np.bool_]
    phases: IntArray
    parent: IntArray
    r_pu: FloatArray
    x_pu: FloatArray
    ratio: FloatArray
    shunt_mvar: FloatArray
    load_bus: IntArray
    load_mva: npt.NDArray[np.complex128]
    load_slope: FloatArray
    device_bus: IntArray
    regulated: tuple[RegulatedBranch, ...]
    meter_branch: dict[str, int]
    source_v_pu: float

    @property
    def n_branches(self) -> int:
        """Number of branches: one less than buses."""
        return len(self.parent)

    def downstream(self) -> FloatArray:
        """Return (n_branches, n_buses): 1 where a branch feeds a bus."""
        feeds = np.zeros((self.n_branches, len(self.buses)))
        for bus in range(len(self.buses)):
            k = bus
            while k > 0:
                feeds[k - 1, bus] = 1.0
                k = int(self.parent[k - 1])
        return feeds

    def sensitivity(self, at: IntArray, of: IntArray) -> tuple[FloatArray, FloatArray]:
        """Return dv/dp and dv/dq, pu per MW and Mvar, without moving taps.

        Args:
            at: (n,) buses whose voltage is asked for.
            of: (m,) buses into which power is injected.

        Returns:
            Two (n, m) arrays: resistance and reactance of the common path from the source.

        Source: Baran and Wu, "Optimal capacitor placement on radial distribution systems",
        IEEE Trans. Power Delivery 4(1), 1989: linearised DistFlow.
        """
        feeds = self.downstream()
        common = feeds[:, at][:, :, None] * feeds[:, of][:, None, :]
        return (
            np.einsum("k,kij->ij", self.r_pu, common),
            np.einsum("k,kij->ij", self.x_pu, common),
        )


def radial_network(grid: Grid) -> RadialNetwork:
    """Return the balanced radial equivalent of a grid.

    Raises:
        ConfigError: The grid has a loop, or a load or device on a bus without supply.
    """
    order, edges = _walk(grid)
    index = {name: k for k, name in enumerate(order)}
    _require_supply(grid, index)
    by_name = grid.bus_by_name
    return RadialNetwork(
        buses=tuple(order),
        areas=tuple(by_name[b].area for b in order),
        monitored=np.array([by_name[b].monitored for b in order]),
        phases=np.array([len(by_name[b].phases) for b in order]),
        parent=np.array([index[e.a] for e in edges], dtype=np.int64),
        r_pu=np.array([e.z.real for e in edges]),
        x_pu=np.array([e.z.imag for e in edges]),
        ratio=np.array([e.ratio for e in edges]),
        shunt_mvar=_shunts(grid, order, index),
        load_bus=np.array([index[x.bus] for x in grid.loads], dtype=np.int64),
        load_mva=np.array([_nominal(x, by_name[x.bus].kv_ln) for x in grid.loads]),
        load_slope=np.array([_VOLTAGE_SHARE[x.model] for x in grid.loads]).reshape(-1, 2),
        device_bus=np.array([index[d.bus] for d in grid.devices], dtype=np.int64),
        regulated=tuple(
            _held(k, e.control, by_name[e.b].kv_ln)
            for k, e in enumerate(edges)
            if e.control is not None and e.forward
        ),
        meter_branch={m.name: index[m.head_bus] - 1 for m in grid.microgrids},
        source_v_pu=float(np.mean(np.abs(grid.source_v_pu))),
    )


def _edges(grid: Grid) -> Iterator[_Edge]:
    kv = {b.name: b.kv_ln for b in grid.buses}
    for line in grid.lines:
        if line.closed:
            yield _Edge(line.from_bus, line.to_bus, _line_z(line, kv[line.from_bus]), (1.0, 1.0))
    for t in grid.transformers:
        yield _Edge(t.from_bus, t.to_bus, _percent_z(t, t.kva), (t.tap, t.tap))
    banks: dict[tuple[str, str], list[Regulator]] = defaultdict(list)
    for regulator in grid.regulators:
        banks[regulator.from_bus, regulator.to_bus].append(regulator)
    for (a, b), members in banks.items():
        step, most = members[0].step_pu, members[0].max_tap
        tap = float(np.mean([m.tap for m in members])) * step
        moves = any(m.control is not None for m in members)
        ends = (1.0 - most * step, 1.0 + most * step) if moves else (1 + tap, 1 + tap)
        z = _percent_z(members[0], sum(m.kva for m in members))
        yield _Edge(a, b, z, ends, members[0].control)


def _held(branch: int, control: RegulatorControl, kv_ln: float) -> RegulatedBranch:
    """Linearise a control around its set voltage; powers are of three phases together."""
    volts = kv_ln * 1000.0 / control.pt_ratio
    v = control.v_set / volts
    amps_per_mw = 1000.0 / (3.0 * kv_ln)
    per_mw = 2.0 * v * amps_per_mw / control.ct_primary_a / volts
    half_band = 2.0 * v * control.bandwidth_v / 2.0 / volts
    return RegulatedBranch(branch, v * v, control.r_v * per_mw, control.x_v * per_mw, half_band)


def _line_z(line: Line, kv_ln: float) -> complex:
    """Return what gives the right losses with the line's load spread over its own phases."""
    z = np.array(line.r_ohm) + 1j * np.array(line.x_ohm)
    n = len(z)
    mutual = (z.sum() - np.trace(z)) / (n * (n - 1)) if n > 1 else 0.0
    return complex(np.trace(z) / n - mutual) / (n * kv_ln**2)


def _percent_z(element: Transformer | Regulator, kva: float) -> complex:
    return complex(element.r_pct, element.x_pct) / 100.0 / (kva / 1000.0)


def _walk(grid: Grid) -> tuple[list[str], list[_Edge]]:
    """Return buses from the source outwards and the edge that feeds each but the first."""
    neighbours: dict[str, list[_Edge]] = defaultdict(list)
    for edge in _edges(grid):
        neighbours[edge.a].append(edge)
        low, high = edge.ratio
        back = _Edge(edge.b, edge.a, edge.z, (1.0 / high, 1.0 / low), forward=False)
        neighbours[edge.b].append(back)
    order, feeding = [grid.source_bus], []
    seen, queue, used = {grid.source_bus}, deque([grid.source_bus]), 0
    while queue:
        for edge in neighbours[queue.popleft()]:
            if edge.b not in seen:
                seen.add(edge.b)
                order.append(edge.b)
                feeding.append(edge)
                queue.append(edge.b)
                used += 1
    live = sum(1 for edges in neighbours.values() for e in edges if e.forward and e.a in seen)
    if live != used:
        expected = f"a radial network: {live - used} branches close loops"
        raise ConfigError([ConfigProblem("grid", grid.name, expected)])
    return order, feeding


def _require_supply(grid: Grid, index: dict[str, int]) -> None:
    names = [(x.name, x.bus) for x in grid.loads] + [(d.device_id, d.bus) for d in grid.devices]
    problems = [
        ConfigProblem(name, bus, "a bus that closed branches connect to the source")
        for name, bus in names
        if bus not in index
    ]
    if problems:
        raise ConfigError(problems)


def _shunts(grid: Grid, order: list[str], index: dict[str, int]) -> FloatArray:
    kv = {b.name: b.kv_ln for b in grid.buses}
    mvar = np.zeros(len(order))
    for line in grid.lines:
        if line.closed and line.from_bus in index:
            b = float(np.trace(np.array(line.b_half_s)))
            for bus in (line.from_bus, line.to_bus):
                mvar[index[bus]] += b * kv[bus] ** 2
    for c in grid.capacitors:
        if c.closed and c.bus in index:
            mvar[index[c.bus]] += c.kvar / 1000.0 * (kv[c.bus] / c.element_kv) ** 2
    return mvar


def _nominal(load: Load, kv_ln: float) -> complex:
    """Return consumption in MVA at 1 pu of the bus, which may differ from the load's rating."""
    across = kv_ln * (np.sqrt(3.0) if load.connection == "delta" else 1.0) / load.element_kv
    p_slope, q_slope = _VOLTAGE_SHARE[load.model]
    return complex(load.kw * across ** (2 * p_slope), load.kvar * across ** (2 * q_slope)) / 1e3
