"""What a coordinator knows of its network: from its meter and its devices, nothing more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from heron.powergrid.features.base import DomainFeature, FeatureField

FloatArray = npt.NDArray[np.float64]


class BusVoltages(DomainFeature):
    """Lowest and highest voltage, and the voltages that they come from.

    Visible to the coordinator that owns it and to the system operator.
    """

    visibility = ("owner", "system")
    fields = (FeatureField("v_min", "pu"), FeatureField("v_max", "pu"))
    settings = ("vm_pu",)

    v_min: float
    v_max: float
    _vm_pu: FloatArray | Sequence[float]

    def __init__(
        self,
        vm_pu: FloatArray | list[float] | None = None,
        v_min: float = 1.0,
        v_max: float = 1.0,
    ) -> None:
        super().__init__(vm_pu=_array(vm_pu, 1.0), v_min=v_min, v_max=v_max)

    @property
    def vm_pu(self) -> FloatArray:
        """Voltages, (n_measured,); kept as they came until somebody looks."""
        if not isinstance(self._vm_pu, np.ndarray):
            self._vm_pu = np.array(self._vm_pu, dtype=np.float64)
        voltages: FloatArray = self._vm_pu
        return voltages

    @vm_pu.setter
    def vm_pu(self, values: FloatArray | Sequence[float]) -> None:
        self._vm_pu = values


class LineFlows(DomainFeature):
    """Loading of the branches that are metered; for a microgrid, its connection.

    Visible to the coordinator that owns it and to the system operator.
    """

    visibility = ("owner", "system")
    fields = (FeatureField("max_loading_norm"),)
    settings = ("p_MW", "loading_pct", "max_loading")

    p_MW: FloatArray
    loading_pct: FloatArray
    max_loading: float

    def __init__(
        self,
        p_MW: FloatArray | list[float] | None = None,
        loading_pct: FloatArray | list[float] | None = None,
        max_loading: float = 0.0,
        max_loading_norm: float | None = None,
    ) -> None:
        """Set the values; ``max_loading`` in percent, ``max_loading_norm`` the same in pu."""
        if max_loading_norm is not None:
            max_loading = 100.0 * max_loading_norm
        super().__init__(
            p_MW=_array(p_MW, 0.0), loading_pct=_array(loading_pct, 0.0), max_loading=max_loading
        )

    @property
    def max_loading_norm(self) -> float:
        """Loading of the most loaded branch, 1 at its rating."""
        return self.max_loading / 100.0


class NetworkMetrics(DomainFeature):
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
        super().__init__(
            p_MW=p_MW, q_MVAr=q_MVAr, load_MW=load_MW, dv_min_pu=dv_min_pu, dv_max_pu=dv_max_pu
        )


def _array(values: FloatArray | list[float] | None, default: float) -> FloatArray:
    return np.array([default]) if values is None else np.asarray(values, dtype=np.float64)
