"""What really happens in each area: violations, loadings and demand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.powergrid.networks import Grid, Node
from heron.powergrid.quantities import AreaReading
from heron.powergrid.setups import SetupConfig
from simulator.engines.base import ComplexArray, Solution
from simulator.engines.jit import inner, kernel

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


N_FIGURES = 8
"""Number of fields of `AreaArrays`, in their order in the kernel's output."""


@kernel
def _reduce(  # noqa: PLR0917 - compiled code takes positions
    v_pu: ComplexArray,
    node_area: IntArray,
    low: float,
    high: float,
    loading_pct: FloatArray,
    branch_area: IntArray,
    scale: FloatArray,
    nominal_mw: FloatArray,
    load_area: IntArray,
    out: FloatArray,
) -> None:
    """Fill the figures of all areas and scenarios, which are 0."""
    for s in range(v_pu.shape[0]):
        _reduce_nodes(v_pu[s], node_area, low, high, out[s])
        for k in range(loading_pct.shape[1]):
            figures = out[s, branch_area[k]]
            loading = loading_pct[s, k]
            if not loading <= figures[5]:
                figures[5] = loading
            if not loading <= 100.0:
                figures[6] += loading / 100.0 - 1.0
        for k in range(scale.shape[1]):
            out[s, load_area[k], 7] += scale[s, k] * nominal_mw[k]


@inner
def _reduce_nodes(
    v_pu: ComplexArray, area_of: IntArray, low: float, high: float, out: FloatArray
) -> None:
    """Fill the first five figures of a scenario; NaN makes NaN of its area."""
    out[:, 0] = math.inf
    out[:, 1] = -math.inf
    for k in range(len(v_pu)):
        area = area_of[k]
        if area < 0:
            continue
        v = abs(v_pu[k])
        figures = out[area]
        if v < figures[0] or v != v:  # noqa: PLR0124
            figures[0] = v
        if v > figures[1] or v != v:  # noqa: PLR0124
            figures[1] = v
        if v < low:
            figures[2] += low - v
            figures[4] += 1.0
        elif v > high:
            figures[3] += v - high
            figures[4] += 1.0
        elif v != v:  # noqa: PLR0124
            figures[2] = figures[3] = v


class AreaMonitor:
    """Sums violations and loadings area by area.

    Every node of an area counts, except helper points at which no customer is connected
    (``Bus.monitored``). The demand is the loads' nominal power times their profile; a load
    that follows its voltage draws a little more or less.
    """

    def __init__(self, grid: Grid, nodes: Sequence[Node], config: SetupConfig) -> None:
        self.areas = grid.areas
        self._low, self._high = config.v_limits_pu
        number = {area: k for k, area in enumerate(grid.areas)}
        buses = [grid.bus_by_name[bus] for bus, _ in nodes]
        self._node_areas = np.array([number[b.area] if b.monitored else -1 for b in buses])
        self._branch_areas = np.array([number[b.area] for b in grid.branches], dtype=np.int64)
        self._load_areas = np.array([number[x.area] for x in grid.loads], dtype=np.int64)
        self._nominal_mw = np.array([x.kw / 1e3 for x in grid.loads])

    def arrays(
        self, v_pu: ComplexArray, loading_pct: FloatArray, load_scale: FloatArray
    ) -> AreaArrays:
        """Reduce nodes, branches and loads to areas for many scenarios.

        Args:
            v_pu: (N, n_nodes) complex voltages in the engine's order.
            loading_pct: (N, n_branches) in the grid's order.
            load_scale: (N, n_loads) in the grid's order.
        """
        figures = self._figures(v_pu, loading_pct, load_scale)
        return AreaArrays(*(figures[..., k] for k in range(N_FIGURES)))

    def readings(self, solution: Solution, load_scale: FloatArray) -> dict[str, AreaReading]:
        """Return the truth about each area after one solve."""
        figures = self._figures(solution.v_pu[None], solution.loading_pct[None], load_scale[None])
        return {
            area: AreaReading(
                low, high, under, over, int(nodes), loading, overload, load, under + over
            )
            for area, (low, high, under, over, nodes, loading, overload, load) in zip(
                self.areas, figures[0].tolist(), strict=True
            )
        }

    def _figures(
        self, v_pu: ComplexArray, loading_pct: FloatArray, load_scale: FloatArray
    ) -> FloatArray:
        out = np.zeros((len(v_pu), len(self.areas), N_FIGURES))
        _reduce(
            np.ascontiguousarray(v_pu),
            self._node_areas,
            self._low,
            self._high,
            np.ascontiguousarray(loading_pct),
            self._branch_areas,
            np.ascontiguousarray(load_scale),
            self._nominal_mw,
            self._load_areas,
            out,
        )
        return out
