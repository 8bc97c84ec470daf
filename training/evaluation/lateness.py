"""Observations that are whole control steps old: what a policy is worth that sees the past."""

from __future__ import annotations

from collections import deque

import numpy as np
import numpy.typing as npt

from heron.policy import PolicyCodec
from heron.powergrid.features import Timeliness
from training.envs.vector_agents import told_columns

FloatArray = npt.NDArray[np.float32]


class Belated:
    """Shows one coordinator what it would have seen some control steps ago.

    All that it sees is late: measurements, prices, the clock. At the start of an episode, when
    nothing is that old yet, it sees the first observation. Where it observes its timing, it is
    told how late it is, and it knows what it said itself.

    Args:
        codec: Of the coordinator.
        steps: How late, control steps.
    """

    def __init__(self, codec: PolicyCodec, steps: int) -> None:
        self._kept: deque[FloatArray] = deque(maxlen=steps + 1)
        self._told = told_columns(codec)[0]
        self._ages = [i for i, f in enumerate(codec.fields) if f.feature == Timeliness.feature_name]

    def show(self, obs: FloatArray) -> FloatArray:
        """Take in what there is to see now; return what is shown, (obs_dim,)."""
        self._kept.append(obs)
        shown = self._kept[0].copy()
        shown[self._told] = obs[self._told]
        shown[self._ages] += len(self._kept) - 1.0
        return shown
