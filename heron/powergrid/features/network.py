"""What a coordinator knows of its network: from its meter and its devices, nothing more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from heron.powergrid.features.base import FeatureField, RowFeature

FloatArray = npt.NDArray[np.float64]
Voltages: TypeAlias = FloatArray | Sequence[float] | Callable[[], Sequence[float]]
"""Numbers, or what returns them when they are asked for."""


class BusVoltages(RowFeature):
    """Lowest and highest voltage, and the voltages that they come from.

    Visible to the coordinator that owns it and to the system operator.

    Attributes:
        measured: The voltages, or what returns them when somebody asks for ``vm_pu``.
    """

    visibility = ("owner", "system")
    fields = (FeatureField("v_min", "pu"), FeatureField("v_max", "pu"))
    settings = ("vm_pu",)

    v_min: float
    v_max: float
    measured: Voltages

    def __init__(
        self,
        vm_pu: FloatArray | list[float] | None = None,
        v_min: float = 1.0,
        v_max: float = 1.0,
    ) -> None:
        self.row = (v_min, v_max)
        self.measured = _array(vm_pu, 1.0)

    @property
    def vm_pu(self) -> FloatArray:
        """Voltages, (n_measured,)."""
        known = self.measured() if callable(self.measured) else self.measured
        return np.asarray(known, dtype=np.float64)

    @vm_pu.setter
    def vm_pu(self, values: FloatArray | Sequence[float]) -> None:
        self.measured = values


class LineFlows(RowFeature):
    """Loading of the branches that are metered; for a microgrid, its connection.

    Visible to the coordinator that owns it and to the system operator.

    Attributes:
        max_loading_norm: Loading of the most loaded branch, 1 at its rating.
    """

    visibility = ("owner", "system")
    fields = (FeatureField("max_loading_norm"),)
    settings = ("p_MW", "loading_pct", "max_loading")

    p_MW: FloatArray
    loading_pct: FloatArray
    max_loading_norm: float

    def __init__(
        self,
        p_MW: FloatArray | list[float] | None = None,
        loading_pct: FloatArray | list[float] | None = None,
        max_loading: float = 0.0,
        max_loading_norm: float | None = None,
    ) -> None:
        """Set the values; ``max_loading`` in percent, ``max_loading_norm`` the same in pu."""
        self.row = (max_loading / 100.0 if max_loading_norm is None else max_loading_norm,)
        self.p_MW, self.loading_pct = _array(p_MW, 0.0), _array(loading_pct, 0.0)

    @property
    def max_loading(self) -> float:
        """Loading of the most loaded branch, percent."""
        return 100.0 * self.row[0]

    @max_loading.setter
    def max_loading(self, percent: float) -> None:
        self.row = (percent / 100.0,)


class NetworkMetrics(RowFeature):
    """A microgrid at a glance.

    Attributes:
        p_MW: Active power at the connection, positive = the microgrid exports.
        q_MVAr: Reactive power there.
        load_MW: Load and losses inside, from the balance of meter and devices (an amount).
        dv_min_pu: Lowest measured voltage less the nominal one.
        dv_max_pu: Highest measured voltage less the nominal one.
    """

    visibility = ("owner", "upper_level", "system")
    fields = (
        FeatureField("p_MW", "MW"),
        FeatureField("q_MVAr", "Mvar"),
        FeatureField("load_MW", "MW"),
        FeatureField("dv_min_pu", "pu", 0.05),
        FeatureField("dv_max_pu", "pu", 0.05),
    )

    p_MW: float
    q_MVAr: float
    load_MW: float
    dv_min_pu: float
    dv_max_pu: float

    def __init__(
        self,
        p_MW: float = 0.0,
        q_MVAr: float = 0.0,
        load_MW: float = 0.0,
        dv_min_pu: float = 0.0,
        dv_max_pu: float = 0.0,
    ) -> None:
        self.row = (p_MW, q_MVAr, load_MW, dv_min_pu, dv_max_pu)


def _array(values: FloatArray | list[float] | None, default: float) -> FloatArray:
    return np.array([default]) if values is None else np.asarray(values, dtype=np.float64)
