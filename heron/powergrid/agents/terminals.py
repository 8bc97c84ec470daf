"""What stands at a device's terminals: what it showed last, and what it was told last.

One class for devices of every kind, and small: each device of a site passes here at every step,
and an interpreter finds what all share several times as fast as what differs from class to class.
"""

from __future__ import annotations

from typing import Literal

from heron.powergrid.envelope import (
    Admitted,
    DeviceLimits,
    EnvelopeResult,
    Limited,
    Refused,
    cut_back,
)
from heron.powergrid.features import Row
from heron.powergrid.quantities import DeviceReading, Setpoint

_PASSED: Literal[True] = True
"""Stands for `Admitted` of the last proposal until somebody asks for that."""


class Terminals:
    """The last reading and the set-point in force of one device.

    Args:
        limits: Its envelope.
        safe: What is in force before anything was told.
        dt_s: Plant seconds until the next set-point can come.

    Attributes:
        reading: What it showed last; None before the first.
        setpoint: The set-point in force, after the envelope.
        proposal: What was last proposed, before the envelope.
        energy_value: What stored energy is worth, $/MWh.
        electrical: Row of the `ElectricalBasePh` that readings fill, if it has such a one.
        source: The same of an `InverterBasedSource`.
        status: The same of a `StatusBlock`.
        storage: The same of a `StorageBlock`.
    """

    __slots__ = (
        "_result",
        "dt_s",
        "electrical",
        "energy_value",
        "limits",
        "proposal",
        "reading",
        "setpoint",
        "source",
        "status",
        "storage",
    )

    def __init__(self, limits: DeviceLimits, safe: Setpoint, dt_s: float) -> None:
        self.limits = limits
        self.dt_s = dt_s
        self.energy_value = 0.0
        self.electrical: Row | None = None
        self.source: Row | None = None
        self.status: Row | None = None
        self.storage: Row | None = None
        self.forget(safe)

    def forget(self, safe: Setpoint) -> None:
        """Return to the start: no reading, and the safe set-point in force."""
        self.reading: DeviceReading | None = None
        self._result: EnvelopeResult | Literal[True] | None = None
        self.proposal = self.setpoint = safe

    def show(self, reading: DeviceReading) -> None:
        """Take a reading, and fill the features that it fills, which have the shipped fields."""
        self.reading = reading
        p_mw = reading.p_mw
        if (electrical := self.electrical) is not None:
            electrical.numbers = (p_mw, reading.q_mvar, reading.v_pu, electrical.numbers[3])
        if (source := self.source) is not None:
            p_rated_mw = source.numbers[0]
            source.numbers = (p_rated_mw, p_mw / p_rated_mw)
        if (status := self.status) is not None:
            status.numbers = (1.0,) if reading.connected else (0.0,)
        if (storage := self.storage) is not None and (soc := reading.soc) is not None:
            capacity_mwh = storage.numbers[1]
            storage.numbers = (soc, capacity_mwh, soc * capacity_mwh)

    @property
    def result(self) -> EnvelopeResult | None:
        """What the envelope said of the last proposal; None before there is one."""
        if self._result is True:
            self._result = Admitted(self.proposal)
        return self._result

    @result.setter
    def result(self, result: EnvelopeResult | None) -> None:
        self._result = result

    def command(self, setpoint: Setpoint, dt_s: float | None = None) -> EnvelopeResult:
        """Do as `tell`; return all that the envelope said."""
        cut = self.tell(setpoint, dt_s)
        return Admitted(setpoint) if cut is None else cut

    def tell(self, setpoint: Setpoint, dt_s: float | None = None) -> Limited | Refused | None:
        """Propose a set-point to the envelope and take over what it lets pass.

        Returns:
            What the envelope said; None where it let pass what was proposed.
        """
        if dt_s is None:
            dt_s = self.dt_s
        cut = cut_back(setpoint, self.limits, self.reading, self.setpoint, dt_s)
        self.proposal = setpoint
        if cut is None:
            self._result = _PASSED
            self.setpoint = setpoint
            return None
        self._result = cut
        if (applied := cut.applied) is not None:
            self.setpoint = applied
        return cut
