"""From a solved power flow to what meters show and what really happens in each area."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.powergrid.networks import Grid
from heron.powergrid.quantities import AreaReading, DeviceReading, MeterReading
from heron.powergrid.setups import SetupConfig
from simulator.engines.base import ComplexArray, Engine, Solution
from simulator.fleet import FleetAdvance

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AreaArrays:
    """Truth per area; every array is (..., n_areas). See `AreaReading`."""

    v_min_pu: FloatArray
    v_max_pu: FloatArray
    undervoltage_pu: FloatArray
    overvoltage_pu: FloatArray
    violating_nodes: npt.NDArray[np.int64]
    max_loading_pct: FloatArray
    overload_pu: FloatArray
    load_mw: FloatArray


class AreaMonitor:
    """Sums violations and loadings area by area.

    Every node of an area counts, except helper points at which no customer is connected
    (``Bus.monitored``). The demand is the loads' nominal power times their profile; a load
    that follows its voltage draws a little more or less.
    """

    def __init__(self, grid: Grid, engine: Engine, config: SetupConfig) -> None:
        self.areas = grid.areas
        self._low, self._high = config.v_limits_pu
        buses = [grid.bus_by_name[bus] for bus, _ in engine.nodes]
        by_area = [
            [k for k, bus in enumerate(buses) if bus.monitored and bus.area == area]
            for area in grid.areas
        ]
        self._nodes = np.array([k for nodes in by_area for k in nodes], dtype=np.int64)
        sizes = [len(nodes) for nodes in by_area]
        self._starts = np.cumsum([0, *sizes[:-1]])
        self._branches = [
            np.array([k for k, b in enumerate(grid.branches) if b.area == area], dtype=np.int64)
            for area in grid.areas
        ]
        self._nominal_mw = np.array(
            [[x.kw / 1e3 if x.area == area else 0.0 for x in grid.loads] for area in grid.areas]
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
        under = np.maximum(self._low - v, 0.0)
        over = np.maximum(v - self._high, 0.0)
        shape = (*v.shape[:-1], len(self.areas))
        worst, overload = np.zeros(shape), np.zeros(shape)
        for k, branches in enumerate(self._branches):
            if branches.size:
                loading = loading_pct.take(branches, axis=-1)
                worst[..., k] = loading.max(axis=-1)
                overload[..., k] = np.maximum(loading / 100.0 - 1.0, 0.0).sum(axis=-1)
        starts = self._starts
        outside = ((under > 0.0) | (over > 0.0)).astype(np.int64)
        return AreaArrays(
            v_min_pu=np.minimum.reduceat(v, starts, axis=-1),
            v_max_pu=np.maximum.reduceat(v, starts, axis=-1),
            undervoltage_pu=np.add.reduceat(under, starts, axis=-1),
            overvoltage_pu=np.add.reduceat(over, starts, axis=-1),
            violating_nodes=np.add.reduceat(outside, starts, axis=-1),
            max_loading_pct=worst,
            overload_pu=overload,
            load_mw=load_scale @ self._nominal_mw.T,
        )

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
        return {area: AreaReading(*values) for area, *values in rows}


def _voltages(phases: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, lowest and highest of the phases that are there (not NaN)."""
    present = [v for v in phases if v == v]
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
            p, q, *_voltages(v), None if soc != soc else soc, None if av != av else av, connected
        )
        for name, p, q, v, soc, av, connected in rows
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
