"""The interface that every power-flow engine implements.

An engine is built once for a `Grid` (network data, no state). `solve` is a pure function of
its inputs and of the `GridState` passed in, so a failed solve leaves everything as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from heron.powergrid.networks import Grid

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Injections:
    """What is put on the network for one solve.

    Attributes:
        load_scale: (n_loads,) multiplier on each load's nominal P and Q, order of
            ``Grid.loads``.
        p_mw: (n_devices,) active power, positive = injects, order of ``Grid.devices``.
        q_mvar: (n_devices,) reactive power, positive = injects.
    """

    load_scale: FloatArray
    p_mw: FloatArray
    q_mvar: FloatArray


@dataclass(frozen=True, slots=True)
class GridState:
    """What an engine carries from one solve to the next.

    Attributes:
        taps: (n_regulators,) tap positions, -16 to 16.
        v: Complex voltages for a warm start, in the engine's own order; empty or
            NaN for a flat start.
        capacitors: (n_capacitors,) 1 = switched in; empty for as the grid says.
        waited_s: How long each control has been out of its band, in the engine's own order;
            empty for not at all.
    """

    taps: IntArray
    v: ComplexArray
    capacitors: IntArray = field(default_factory=lambda: np.empty(0, np.int64))
    waited_s: FloatArray = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, slots=True)
class BatchState:
    """The states of N scenarios; see `GridState`.

    Attributes:
        taps: (N, n_regulators) positions.
        v: (N, n_slots) voltages in the engine's own order; NaN for a flat start.
        capacitors: (N, n_capacitors) 1 = switched in.
        waited_s: (N, n_controls) how long each control has been out of its band.
    """

    taps: IntArray
    v: ComplexArray
    capacitors: IntArray
    waited_s: FloatArray

    def __getitem__(self, rows: slice | IntArray | BoolArray) -> BatchState:
        """Return some of the scenarios."""
        return BatchState(self.taps[rows], self.v[rows], self.capacitors[rows], self.waited_s[rows])

    def single(self, scenario: int) -> GridState:
        """Return the state of one scenario."""
        return GridState(
            self.taps[scenario].copy(),
            self.v[scenario].copy(),
            self.capacitors[scenario].copy(),
            self.waited_s[scenario].copy(),
        )

    def replaced(self, rows: IntArray | BoolArray, other: BatchState) -> BatchState:
        """Return a copy in which ``rows`` are those of ``other``, which has as many."""
        copy = BatchState(
            self.taps.copy(), self.v.copy(), self.capacitors.copy(), self.waited_s.copy()
        )
        copy.taps[rows] = other.taps
        copy.v[rows] = other.v
        copy.capacitors[rows] = other.capacitors
        copy.waited_s[rows] = other.waited_s
        return copy


class Solution(NamedTuple):
    """One solved power flow.

    Attributes:
        v_pu: (n_nodes,) complex voltages in pu, in the order of ``engine.nodes``.
        source_p_mw: Active power that the source supplies, positive = into the feeder.
        source_q_mvar: Reactive power that the source supplies.
        losses_mw: Losses of the whole network.
        device_v_pu: (n_devices, 3) phase voltages at each device; NaN where it has no phase.
        pcc_p_mw: (n_microgrids,) positive = the microgrid exports into the feeder, measured
            on the feeder's side of its transformer.
        pcc_q_mvar: (n_microgrids,) the same for reactive power.
        pcc_v_pu: (n_microgrids, 3) phase voltages on the feeder's side.
        head_v_pu: (3,) phase voltages of the source bus.
        loading_pct: (n_branches,) loading of each rated branch, order of ``Grid.branches``.
        iterations: Iterations of the last inner solve.
        tap_moves: Regulator steps taken.
        state: To be passed to the next solve.
        capacitor_switchings: How often capacitors were switched.
    """

    v_pu: ComplexArray
    source_p_mw: float
    source_q_mvar: float
    losses_mw: float
    device_v_pu: FloatArray
    pcc_p_mw: FloatArray
    pcc_q_mvar: FloatArray
    pcc_v_pu: FloatArray
    head_v_pu: FloatArray
    loading_pct: FloatArray
    iterations: int
    tap_moves: int
    state: GridState
    capacitor_switchings: int = 0


_State = TypeVar("_State", GridState, BatchState)


def with_taps(grid: Grid, state: _State, positions: npt.ArrayLike) -> _State:
    """Return a state in which the commanded tap changers stand where they are told.

    Works for every engine, single and batch: what no control moves stays at the state's taps.

    Args:
        grid: The engine's grid.
        state: From `Engine.initial_state` or an earlier solution; not changed.
        positions: (..., n_tap_changers) whole steps in the order of ``grid.tap_changers``, with
            the state's leading scenario axis.

    Raises:
        ValueError: A shape that does not fit, a fraction of a step, or a position beyond what
            the tap changer has: everything at once.
    """
    asked = np.asarray(positions, np.float64)
    shape = (*state.taps.shape[:-1], len(grid.tap_changers))
    if asked.shape != shape:
        raise ValueError(f"positions has the shape {asked.shape}; {grid.name} takes {shape}")
    low = np.array([c.tap_min for c in grid.tap_changers], np.float64)
    high = np.array([c.tap_max for c in grid.tap_changers], np.float64)
    wrong = ~((asked >= low) & (asked <= high) & (asked == np.rint(asked)))
    if wrong.any():
        raise ValueError(
            "; ".join(
                f"tap of {c.device_id} = {value:g}: expected a whole position from {c.tap_min} to"
                f" {c.tap_max}"
                for c, column, bad in zip(
                    grid.tap_changers,
                    asked.reshape(-1, shape[-1]).T,
                    wrong.reshape(-1, shape[-1]).T,
                    strict=True,
                )
                for value in column[bad][:1]
            )
        )
    taps = state.taps.copy()
    for k, changer in enumerate(grid.tap_changers):
        taps[..., changer.regulators] = asked[..., k, None]
    return replace(state, taps=taps)


def commanded_taps(grid: Grid, state: GridState | BatchState) -> IntArray:
    """Return where the commanded tap changers stand, (..., n_tap_changers)."""
    return state.taps[..., [c.regulators[0] for c in grid.tap_changers]]


class Engine(Protocol):
    """A power-flow solver for one grid.

    Not safe to share between threads or processes; one owner each.
    """

    @property
    def name(self) -> str:
        """Name in configurations: one of `simulator.engines.available_engines`."""
        ...

    @property
    def grid(self) -> Grid:
        """The network that it was built for."""
        ...

    @property
    def nodes(self) -> tuple[tuple[str, str], ...]:
        """(bus, phase) of each entry of ``Solution.v_pu``; phase is a, b, c, or "1"."""
        ...

    def initial_state(self) -> GridState:
        """Return the state for a flat start with the grid's own tap positions."""
        ...

    def solve(
        self,
        injections: Injections,
        state: GridState,
        *,
        move_taps: bool = True,
        dt_s: float = math.inf,
    ) -> Solution:
        """Solve one instant.

        Args:
            injections: What loads and devices do.
            state: From `initial_state` or an earlier solution.
            move_taps: Let the controls of regulators and capacitors act.
            dt_s: Length of the step, against which the controls' delays count.

        Raises:
            PowerFlowDiverged: No solution; also for NaN or infinite inputs, and for islands
                or dead buses that carry load.
        """
        ...
