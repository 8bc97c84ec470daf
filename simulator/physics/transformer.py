"""Transformers as devices: they inject nothing, and their tap changers take their time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from heron.powergrid.device_configs import TransformerConfig
from heron.powergrid.quantities import ClipReason
from simulator.engines.jit import exact_kernel
from simulator.physics.base import BoolArray, FloatArray, IntArray
from simulator.physics.compiled import CompiledPhysics, put
from simulator.physics.rules import BIT, within_p_limits, within_q_limits

_UNLIMITED = 10**6
"""More moves than any tap changer has."""
_ROUNDING_S = 1e-6
"""So much earlier a move may be done: many short steps must not lose it to rounding."""


@exact_kernel
def _advance(  # noqa: PLR0917 - compiled code takes positions
    units: Any,
    at: IntArray,
    asked: FloatArray,
    _profile: FloatArray,
    p_start_mw: FloatArray,
    _dt_s: float,
    new: FloatArray,
    done: FloatArray,
    reasons: IntArray,
    connected: BoolArray,
) -> None:
    n = len(units)
    for j in range(len(p_start_mw)):
        unit, s, k = units[j % n], j // n, at[j % n]
        p_mw, limits = within_p_limits(unit, asked[0, s, k])
        q_mvar, reactive = within_q_limits(unit, p_mw, asked[1, s, k])
        new[0, j], reasons[s, k], connected[s, k] = p_mw, limits | reactive, True
        put(done, s, k, p_mw, q_mvar)


class TransformerPhysics(CompiledPhysics[TransformerConfig]):
    """Transformers between two buses: no power comes from them, whatever is asked.

    Where their taps stand belongs to the network; see `TapChangerPhysics`.
    """

    kernel = staticmethod(_advance)

    def idle(self) -> tuple[FloatArray, FloatArray]:
        """Inject nothing."""
        return np.zeros(self.n), np.zeros(self.n)


@dataclass(frozen=True, slots=True)
class TapState:
    """What tap changers carry from step to step; every array is (..., n_changers).

    Attributes:
        under_way_s: How long the present move has been going on.
        used: Moves in the present interval.
        waited_s: How long the voltage has been out of the band of a control of its own.
    """

    under_way_s: FloatArray
    used: IntArray
    waited_s: FloatArray


class TapChangerPhysics:
    """The mechanisms of all tap changers of a setup.

    A move takes ``tap_time_s``, and a move that a step cuts in two goes on in the next one, so
    that it does not matter how time is cut. ``max_tap_moves`` counts within intervals of the
    plant's clock; who has used it up waits for the next interval.
    """

    def __init__(self, configs: Sequence[TransformerConfig]) -> None:
        self.n = len(configs)
        self.tap_min = np.array([c.tap_min for c in configs], dtype=np.int64)
        self.tap_max = np.array([c.tap_max for c in configs], dtype=np.int64)
        self.initial = np.array([c.start_tap for c in configs], dtype=np.int64)
        self._move_s = np.array([c.tap_time_s for c in configs])
        most = [_UNLIMITED if c.max_tap_moves is None else c.max_tap_moves for c in configs]
        self._most = np.array(most, dtype=np.int64)
        self._each_step = np.array([c.tap_moves_interval_s is None for c in configs])
        self._interval_s = np.array([c.tap_moves_interval_s or np.inf for c in configs])

    def initial_state(self, lead: tuple[int, ...]) -> TapState:
        """Return tap changers at rest, (*lead, n_changers)."""
        shape = (*lead, self.n)
        return TapState(np.zeros(shape), np.zeros(shape, dtype=np.int64), np.zeros(shape))

    def advance(
        self,
        state: TapState,
        taps: IntArray,
        target: IntArray,
        time_s: float | FloatArray,
        dt_s: float,
    ) -> tuple[IntArray, TapState, IntArray]:
        """Move towards a position for one step, as far as the mechanisms get.

        Args:
            state: At the start.
            taps: (..., n_changers) positions at the start.
            target: (..., n_changers) where to; beyond the range counts as its end.
            time_s: Start of the step; (n_scenarios, 1) for a batch.
            dt_s: Length of the step.

        Returns:
            Positions at the end, the state then, and the sums of `BIT` of what held them up.
        """
        wanted = np.minimum(np.maximum(target, self.tap_min), self.tap_max)
        now_s = np.broadcast_to(np.asarray(time_s, dtype=np.float64), taps.shape)
        rest_s = np.full(taps.shape, float(dt_s))
        at, under_way_s = taps, state.under_way_s
        used = np.where(self._each_step, 0, state.used)
        while True:
            piece_s, begins = self._within_interval(now_s, rest_s)
            at, under_way_s, used = self._move(
                at, wanted, piece_s, under_way_s, np.where(begins, 0, used)
            )
            now_s, rest_s = now_s + piece_s, rest_s - piece_s
            if not (rest_s > _ROUNDING_S).any():
                break
        reasons = (wanted != target) * BIT[ClipReason.TAP_RANGE]
        reasons = reasons | ((at != wanted) * BIT[ClipReason.TAP_MOVES])
        return at, TapState(under_way_s, used, state.waited_s), reasons

    def _within_interval(
        self, now_s: FloatArray, rest_s: FloatArray
    ) -> tuple[FloatArray, BoolArray]:
        """Return how long the present interval still lasts in this step, and whether it begins."""
        width = np.where(np.isinf(self._interval_s), 1.0, self._interval_s)
        number = np.floor((now_s + _ROUNDING_S) / width)
        begins = np.abs(now_s - number * width) <= _ROUNDING_S
        left_s = np.where(np.isinf(self._interval_s), rest_s, (number + 1.0) * width - now_s)
        return np.minimum(rest_s, left_s), begins & np.isfinite(self._interval_s)

    def _move(
        self,
        at: IntArray,
        wanted: IntArray,
        piece_s: FloatArray,
        under_way_s: FloatArray,
        used: IntArray,
    ) -> tuple[IntArray, FloatArray, IntArray]:
        """Move within one interval; return positions, time of the present move, moves used."""
        away = np.abs(wanted - at)
        slow = self._move_s > 0.0
        going_s = under_way_s + piece_s
        done = np.floor((going_s + _ROUNDING_S) / np.where(slow, self._move_s, 1.0))
        by_time = np.where(slow, done, _UNLIMITED).astype(np.int64)
        by_number = self._most - used
        moves = np.minimum(np.minimum(away, by_time), by_number)
        goes_on = slow & (moves < away) & (moves < by_number)
        left_s = np.maximum(going_s - moves * self._move_s, 0.0)
        return at + np.sign(wanted - at) * moves, np.where(goes_on, left_s, 0.0), used + moves
