"""What a device shows at its terminals, and what it may do there."""

from __future__ import annotations

from heron.powergrid.features.base import FeatureField, RowFeature


class ElectricalBasePh(RowFeature):
    """Power and voltage at the terminals; positive = injects into the grid."""

    visibility = ("owner", "upper_level", "system")
    fields = (
        FeatureField("p_MW", "MW"),
        FeatureField("q_MVAr", "Mvar"),
        FeatureField("v_pu", "pu"),
        FeatureField("va_deg", "deg", 180.0),
    )
    settings = ("base_MVA",)

    p_MW: float
    q_MVAr: float
    v_pu: float
    va_deg: float

    def __init__(
        self,
        p_MW: float = 0.0,
        q_MVAr: float = 0.0,
        v_pu: float = 1.0,
        va_deg: float = 0.0,
        base_MVA: float = 1.0,
    ) -> None:
        """Set the values; ``base_MVA`` is the size by which observations scale the powers."""
        self.row = (p_MW, q_MVAr, v_pu, va_deg)
        self.base_MVA = base_MVA

    def scales(self) -> list[float]:
        """Return the rating for the powers, 1 pu and half a turn."""
        return [self.base_MVA, self.base_MVA, 1.0, 180.0]


class PhaseConnection(RowFeature):
    """Which phases the device is connected to: 1 or 0 each."""

    visibility = ("owner", "upper_level", "system")
    fields = (FeatureField("a"), FeatureField("b"), FeatureField("c"))

    a: float
    b: float
    c: float

    def __init__(self, a: float = 1.0, b: float = 1.0, c: float = 1.0) -> None:
        self.row = (a, b, c)

    @classmethod
    def of(cls, phases: tuple[str, ...]) -> PhaseConnection:
        """Build from the names of the phases, e.g. ``("a", "c")``."""
        return cls(*(float(name in phases) for name in "abc"))


class PowerLimits(RowFeature):
    """The ranges of active and reactive power."""

    visibility = ("owner", "upper_level")
    fields = (
        FeatureField("p_min_MW", "MW"),
        FeatureField("p_max_MW", "MW"),
        FeatureField("q_min_MVAr", "Mvar"),
        FeatureField("q_max_MVAr", "Mvar"),
    )

    p_min_MW: float
    p_max_MW: float
    q_min_MVAr: float
    q_max_MVAr: float

    def __init__(
        self,
        p_max_MW: float = 0.0,
        p_min_MW: float = 0.0,
        q_max_MVAr: float = 0.0,
        q_min_MVAr: float = 0.0,
    ) -> None:
        if p_min_MW > p_max_MW or q_min_MVAr > q_max_MVAr:
            raise ValueError(
                f"limits cross: p {p_min_MW} to {p_max_MW} MW, q {q_min_MVAr} to {q_max_MVAr} Mvar"
            )
        self.row = (p_min_MW, p_max_MW, q_min_MVAr, q_max_MVAr)


class StatusBlock(RowFeature):
    """Whether the device is connected to the grid: 1 or 0."""

    visibility = ("owner", "upper_level", "system")
    fields = (FeatureField("in_service"),)

    in_service: float

    def __init__(self, in_service: float = 1.0) -> None:
        self.row = (in_service,)


class ThermalLoading(RowFeature):
    """How heavily a piece of equipment is loaded, in percent of its rating."""

    visibility = ("owner", "upper_level", "system")
    fields = (FeatureField("loading_pct", "%", 100.0),)
    settings = ("s_rated_MVA",)

    loading_pct: float
    s_rated_MVA: float

    def __init__(self, loading_pct: float = 0.0, s_rated_MVA: float = 1.0) -> None:
        self.row, self.s_rated_MVA = (loading_pct,), s_rated_MVA
