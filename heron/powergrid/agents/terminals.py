"""What stands at a device's terminals: what it showed last, and what it was told last.

One class for devices of every kind, and small: each device of a site passes here at every step,
and an interpreter finds what all share several times as fast as what differs from class to class.
"""

from __future__ import annotations

from heron.powergrid.envelope import Admitted, DeviceLimits, EnvelopeResult, admit
from heron.powergrid.features import (
    ElectricalBasePh,
    InverterBasedSource,
    StatusBlock,
    StorageBlock,
)
from heron.powergrid.quantities import DeviceReading, Setpoint


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
        result: What the envelope last said.
        energy_value: What stored energy is worth, $/MWh.
        electrical: Feature that readings fill, if it has such a one; so are the next three.
        source: The same.
        status: The same.
        storage: The same.
    """

    __slots__ = (
        "dt_s",
        "electrical",
        "energy_value",
        "limits",
        "proposal",
        "reading",
        "result",
        "setpoint",
        "source",
        "status",
        "storage",
    )

    def __init__(self, limits: DeviceLimits, safe: Setpoint, dt_s: float) -> None:
        self.limits = limits
        self.dt_s = dt_s
        self.energy_value = 0.0
        self.electrical: ElectricalBasePh | None = None
        self.source: InverterBasedSource | None = None
        self.status: StatusBlock | None = None
        self.storage: StorageBlock | None = None
        self.forget(safe)

    def forget(self, safe: Setpoint) -> None:
        """Return to the start: no reading, and the safe set-point in force."""
        self.reading: DeviceReading | None = None
        self.result: EnvelopeResult | None = None
        self.proposal = self.setpoint = safe

    def show(self, reading: DeviceReading) -> None:
        """Take a reading, and fill the features that it fills."""
        self.reading = reading
        p_mw = reading.p_mw
        if (electrical := self.electrical) is not None:
            electrical.row = (p_mw, reading.q_mvar, reading.v_pu, electrical.row[3])
        if (source := self.source) is not None:
            p_rated_mw = source.row[0]
            source.row = (p_rated_mw, p_mw / p_rated_mw)
        if (status := self.status) is not None:
            status.row = (1.0,) if reading.connected else (0.0,)
        if (storage := self.storage) is not None and (soc := reading.soc) is not None:
            capacity_mwh = storage.row[1]
            storage.row = (soc, capacity_mwh, soc * capacity_mwh)

    def command(self, setpoint: Setpoint, dt_s: float | None = None) -> EnvelopeResult:
        """Propose a set-point to the envelope and take over what it lets pass."""
        if dt_s is None:
            dt_s = self.dt_s
        result = admit(setpoint, self.limits, self.reading, self.setpoint, dt_s)
        self.result = result
        self.proposal = setpoint
        if type(result) is Admitted:
            self.setpoint = setpoint
        elif (applied := result.applied) is not None:
            self.setpoint = applied
        return result
