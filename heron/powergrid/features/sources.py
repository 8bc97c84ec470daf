"""Inverters, volt-var curves, capacitors and tap changers."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

from heron.powergrid.features.base import DomainFeature, FeatureField, RowFeature

Curve = tuple[tuple[float, float], ...]

IEEE1547_CATEGORY_B: Curve = ((0.92, 0.44), (0.98, 0.0), (1.02, 0.0), (1.08, -0.44))
"""Default volt-var curve: (voltage in pu, reactive power in pu of the rating, positive injects).

Source: IEEE 1547-2018, table 8, category B.
"""


class InverterBasedSource(RowFeature):
    """A source behind an inverter: its rating, and how much of it is used now."""

    visibility = ("owner", "upper_level")
    fields = (FeatureField("p_rated_MW", "MW"), FeatureField("output"))

    p_rated_MW: float
    output: float

    def __init__(self, p_rated_MW: float = 1.0, output: float = 0.0) -> None:
        """Set the rating and ``output``, the active power as a share of it."""
        if not p_rated_MW > 0.0:
            raise ValueError(f"p_rated_MW = {p_rated_MW}: expected a positive power")
        self.row = (p_rated_MW, output)


class VoltVarCurve(DomainFeature):
    """A volt-var curve and the reactive power that it asks for at the present voltage.

    Attributes:
        curve: Corners (v in pu, q in pu of the rating), rising in v; flat beyond the ends.
        q_pu: Reactive power that the curve asks for, positive = injects.
    """

    visibility = ("owner", "upper_level")
    fields = (FeatureField("q_pu", "pu", 0.44),)
    settings = ("curve",)

    q_pu: float
    curve: Curve

    def __init__(self, curve: Curve = IEEE1547_CATEGORY_B, q_pu: float = 0.0) -> None:
        corners = tuple((float(v), float(q)) for v, q in curve)
        voltages = [v for v, _ in corners]
        if len(corners) < 2 or any(a >= b for a, b in pairwise(voltages)):
            raise ValueError(f"curve {corners}: expected two or more corners, rising in voltage")
        super().__init__(q_pu=q_pu, curve=corners)

    def respond(self, v_pu: float) -> float:
        """Set and return the reactive power for a voltage, pu of the rating."""
        corners = self.curve
        i = bisect_right(corners, v_pu, key=lambda corner: corner[0])
        if i in (0, len(corners)):
            self.q_pu = corners[0][1] if i == 0 else corners[-1][1]
        else:
            (v0, q0), (v1, q1) = corners[i - 1], corners[i]
            self.q_pu = q0 + (q1 - q0) * (v_pu - v0) / (v1 - v0)
        return self.q_pu


class ShuntCapacitorBlock(DomainFeature):
    """A switched capacitor bank: reactive power at nominal voltage, and whether it is closed."""

    visibility = ("owner", "upper_level", "system")
    fields = (FeatureField("q_nominal_MVAr", "Mvar"), FeatureField("closed"))

    q_nominal_MVAr: float
    closed: float

    def __init__(self, q_nominal_MVAr: float = 0.0, closed: float = 1.0) -> None:
        super().__init__(q_nominal_MVAr=q_nominal_MVAr, closed=closed)

    def q_mvar(self, v_pu: float) -> float:
        """Return the reactive power that it injects at a voltage."""
        return self.q_nominal_MVAr * v_pu * v_pu if self.closed else 0.0


class TapChangerPh(DomainFeature):
    """Position of a tap changer between its ends."""

    visibility = ("owner", "upper_level", "system")
    fields = (FeatureField("tap_position", "tap", 16.0),)
    settings = ("tap_min", "tap_max", "tap_step_pu")

    tap_position: float
    tap_min: int
    tap_max: int
    tap_step_pu: float

    def __init__(
        self,
        tap_position: float = 0.0,
        tap_min: int = -16,
        tap_max: int = 16,
        tap_step_pu: float = 0.00625,
    ) -> None:
        if not tap_min <= tap_position <= tap_max:
            raise ValueError(f"tap_position {tap_position}: expected {tap_min} to {tap_max}")
        super().__init__(
            tap_position=tap_position, tap_min=tap_min, tap_max=tap_max, tap_step_pu=tap_step_pu
        )

    @property
    def ratio(self) -> float:
        """Voltage ratio at this position, 1 at neutral."""
        return 1.0 + self.tap_step_pu * self.tap_position
