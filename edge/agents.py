"""The device agent's part that stands at the device: its reading and its envelope."""

from __future__ import annotations

from heron.powergrid.device_configs import DeviceConfig
from heron.powergrid.envelope import EnvelopeResult, admit
from heron.powergrid.quantities import DeviceReading, Setpoint


class EnvelopeAgent:
    """Admits set-points for one device by its configured limits and its latest reading."""

    def __init__(self, config: DeviceConfig) -> None:
        self._limits = config.limits
        self._reading: DeviceReading | None = None
        self._previous: Setpoint | None = None

    def observe_reading(self, reading: DeviceReading) -> None:
        """Take over a reading of good quality."""
        self._reading = reading

    def holds(self, setpoint: Setpoint) -> None:
        """Note which set-point is in force, for the ramp."""
        self._previous = setpoint

    def admit(self, setpoint: Setpoint, dt_s: float) -> EnvelopeResult:
        """Return what of a set-point the envelope lets pass."""
        return admit(setpoint, self._limits, self._reading, self._previous, dt_s)
