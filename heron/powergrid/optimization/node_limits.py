"""Voltage limits of single nodes, moved by what the balanced equivalent does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.powergrid.optimization.network import RadialNetwork

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NEAR_PU = 0.02
"""A node farther than this from a limit is not watched at that limit."""
EXTRA_PU = 5e-4
"""How much farther inside the band a node is kept, for what one round does not settle."""


@dataclass(frozen=True, slots=True)
class NodeLimits:
    """Limits on the equivalent's voltages by which the plant's nodes keep the band.

    Attributes:
        bus: (n_nodes,) bus of the equivalent that stands for each node.
        low_pu: (T, n_nodes) lowest voltage of that bus; -inf where it is not watched.
        high_pu: (T, n_nodes) highest; inf where it is not watched.
    """

    bus: IntArray
    low_pu: FloatArray
    high_pu: FloatArray


class NodeCorrections:
    """How far each node of the plant lies from the bus that stands for it.

    Args:
        network: The balanced equivalent.
        nodes: (bus, phase) of each of the plant's nodes.
        band_pu: Voltage band.
    """

    def __init__(
        self,
        network: RadialNetwork,
        nodes: Sequence[tuple[str, str]],
        band_pu: tuple[float, float],
    ) -> None:
        at = {name: k for k, name in enumerate(network.buses)}
        watched = [
            (k, at[bus])
            for k, (bus, _) in enumerate(nodes)
            if bus in at and network.monitored[at[bus]]
        ]
        self._node = np.array([k for k, _ in watched], dtype=np.int64)
        self._bus = np.array([bus for _, bus in watched], dtype=np.int64)
        self._band = band_pu
        self._below: FloatArray | None = None
        self._above: FloatArray | None = None

    def learn(
        self, v_pu: FloatArray, v_upper_pu: FloatArray, real_pu: FloatArray, share: float
    ) -> NodeLimits:
        """Take in one run of a plan; return the limits for the next.

        Args:
            v_pu: (T, n_buses) voltages of the plan.
            v_upper_pu: (T, n_buses) its voltages without losses.
            real_pu: (T, n_nodes) what the plant's nodes really had.
            share: Part of the way to what was seen now that the corrections go.
        """
        real = real_pu[:, self._node]
        below = v_pu[:, self._bus] - real
        above = real - v_upper_pu[:, self._bus]
        if self._below is not None and self._above is not None:
            below = self._below + share * (below - self._below)
            above = self._above + share * (above - self._above)
        self._below, self._above = below, above
        low, high = self._band
        return NodeLimits(
            self._bus,
            np.where(real < low + NEAR_PU, low + below + EXTRA_PU, -np.inf),
            np.where(real > high - NEAR_PU, high - above - EXTRA_PU, np.inf),
        )
