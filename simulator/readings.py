"""From a solved power flow to what meters show and what really happens in each area."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
import numpy.typing as npt

from heron.powergrid.networks import Grid, Node
from heron.powergrid.quantities import AreaReading, DeviceReading, MeterReading
from heron.powergrid.setups import SetupConfig
from simulator.engines.base import ComplexArray, Solution
from simulator.fleet import FleetAdvance

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class AreaArrays:
    """Truth per area; every array is (..., n_areas). See `AreaReading`."""

    v_min_pu: FloatArray
    v_max_pu: FloatArray
    undervoltage_pu: FloatArray
    overvoltage_pu: FloatArray
    violating_nodes: FloatArray
    max_loading_pct: FloatArray
    overload_pu: FloatArray
    load_mw: FloatArray


def _by_area(
    owners: Sequence[str | None], areas: Sequence[str]
) -> tuple[IntArray, IntArray, IntArray]:
    """Sort items by area.

    Returns:
        The items' numbers area by area, where each area's items start among them, and the
        numbers of the areas that have any.
    """
    members = [[k for k, owner in enumerate(owners) if owner == area] for area in areas]
    some = [k for k, items in enumerate(members) if items]
    sizes = [len(members[k]) for k in some]
    starts = np.cumsum([0, *sizes])[:-1]
    items = [k for items in members for k in items]
    return np.array(items, dtype=np.int64), starts, np.array(some, dtype=np.int64)


class AreaMonitor:
    """Sums violations and loadings area by area.

    Every node of an area counts, except helper points at which no customer is connected
    (``Bus.monitored``). The demand is the loads' nominal power times their profile; a load
    that follows its voltage draws a little more or less.
    """

    def __init__(self, grid: Grid, nodes: Sequence[Node], config: SetupConfig) -> None:
        self.areas = grid.areas
        self._low, self._high = config.v_limits_pu
        buses = [grid.bus_by_name[bus] for bus, _ in nodes]
        self._nodes, self._starts, _ = _by_area(
            [bus.area if bus.monitored else None for bus in buses], grid.areas
        )
        self._branches, self._branch_starts, self._rated = _by_area(
            [branch.area for branch in grid.branches], grid.areas
        )
        self._nominal_mw = np.array(
            [[x.kw / 1e3 if x.area == area else 0.0 for area in grid.areas] for x in grid.loads]
        )

    def arrays(
        self, v_pu: ComplexArray, loading_pct: FloatArray, load_scale: FloatArray
    ) -> AreaArrays:
        """Reduce nodes, branches and loads to areas, for one scenario or many.

        Args:
            v_pu: (..., n_nodes) complex voltages in the engine's order.
            loading_pct: (..., n_branches) in the grid's order.
            load_scale: (..., n_loads) in the grid's order.
        """
        v = np.abs(v_pu.take(self._nodes, axis=-1))
        v_min = np.minimum.reduceat(v, self._starts, axis=-1)
        v_max = np.maximum.reduceat(v, self._starts, axis=-1)
        under, over, outside = np.zeros(v_min.shape), np.zeros(v_min.shape), np.zeros(v_min.shape)
        # The negation lets NaN, a scenario without a solution, through to its area.
        if not (v_min.min() >= self._low and v_max.max() <= self._high):
            below = np.maximum(self._low - v, 0.0)
            above = np.maximum(v - self._high, 0.0)
            under = np.add.reduceat(below, self._starts, axis=-1)
            over = np.add.reduceat(above, self._starts, axis=-1)
            outside = np.add.reduceat(below + above > 0.0, self._starts, axis=-1, dtype=float)
        worst, overload = self._loading(loading_pct)
        return AreaArrays(
            v_min, v_max, under, over, outside, worst, overload, load_scale @ self._nominal_mw
        )

    def _loading(self, loading_pct: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the worst loading, and the overload, of each area's rated branches."""
        shape = (*loading_pct.shape[:-1], len(self.areas))
        worst, overload = np.zeros(shape), np.zeros(shape)
        if not self._branches.size:
            return worst, overload
        loading = loading_pct.take(self._branches, axis=-1)
        worst[..., self._rated] = np.maximum.reduceat(loading, self._branch_starts, axis=-1)
        if not worst.max() <= 100.0:
            over = np.maximum(loading / 100.0 - 1.0, 0.0)
            overload[..., self._rated] = np.add.reduceat(over, self._branch_starts, axis=-1)
        return worst, overload

    def readings(self, solution: Solution, load_scale: FloatArray) -> dict[str, AreaReading]:
        """Return the truth about each area after one solve."""
        a = self.arrays(solution.v_pu, solution.loading_pct, load_scale)
        rows = zip(
            self.areas,
            a.v_min_pu.tolist(),
            a.v_max_pu.tolist(),
            a.undervoltage_pu.tolist(),
            a.overvoltage_pu.tolist(),
            a.violating_nodes.tolist(),
            a.max_loading_pct.tolist(),
            a.overload_pu.tolist(),
            a.load_mw.tolist(),
            strict=True,
        )
        return {
            area: AreaReading(low, high, under, over, int(nodes), loading, overload, load)
            for area, low, high, under, over, nodes, loading, overload, load in rows
        }


def _voltages(phases: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, lowest and highest of the phases that are there (not NaN)."""
    if not isnan(sum(phases)):
        return sum(phases) / len(phases), min(phases), max(phases)
    present = [v for v in phases if not isnan(v)]
    return sum(present) / len(present), min(present), max(present)


def device_readings(
    device_ids: Sequence[str], done: FleetAdvance, solution: Solution
) -> dict[str, DeviceReading]:
    """Return what each device shows at its terminals."""
    rows = zip(
        device_ids,
        done.p_mw.tolist(),
        done.q_mvar.tolist(),
        solution.device_v_pu.tolist(),
        done.soc.tolist(),
        done.available_mw.tolist(),
        done.connected.tolist(),
        strict=True,
    )
    return {
        name: DeviceReading(
            p,
            q,
            *_voltages(v),
            None if isnan(soc) else soc,
            None if isnan(available) else available,
            connected,
        )
        for name, p, q, v, soc, available, connected in rows
    }


def meter_readings(grid: Grid, solution: Solution) -> Mapping[str, MeterReading]:
    """Return the head's meter, which counts supply, and one per microgrid, counting export."""
    meters = {
        "head": MeterReading(
            solution.source_p_mw, solution.source_q_mvar, *_voltages(solution.head_v_pu.tolist())
        )
    }
    rows = zip(
        grid.microgrids,
        solution.pcc_p_mw.tolist(),
        solution.pcc_q_mvar.tolist(),
        solution.pcc_v_pu.tolist(),
        strict=True,
    )
    for microgrid, p, q, v in rows:
        meters[microgrid.name] = MeterReading(p, q, *_voltages(v))
    return meters
