"""Who decides for a device, what was wanted of it, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from heron.powergrid.envelope import EnvelopeResult
from heron.powergrid.link import WriteResult
from heron.powergrid.modes import Mode
from heron.powergrid.quantities import DeviceReading, Setpoint

LocalPolicy = Callable[[DeviceReading], Setpoint]
"""A decision taken at the device itself. Raises: PolicyError."""


class AdmittingAgent(Protocol):
    """What the cycle needs of a device agent; `heron.powergrid.agents.DeviceAgent` has it."""

    def hold(self, setpoint: Setpoint) -> None:
        """Take the set-point that is in force at the device, from which ramps count."""
        ...

    def on_reading(self, reading: DeviceReading) -> None:
        """Take over a reading of good quality."""
        ...

    def admit(self, setpoint: Setpoint, dt_s: float) -> EnvelopeResult:
        """Return what of a set-point the envelope lets pass."""
        ...


@dataclass(frozen=True, slots=True)
class Proposal:
    """What somebody wants the device to do, before the envelope.

    Attributes:
        setpoint: What is wanted.
        source: ``command``, ``policy``, ``fallback`` or ``stop``.
        sequence: Of the command; -1 for the edge's own decisions.
    """

    setpoint: Setpoint
    source: str
    sequence: int = -1


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What one cycle did to its device."""

    device_id: str
    mode: Mode
    proposal: Proposal | None = None
    applied: Setpoint | None = None
    reasons: tuple[str, ...] = ()
    write: WriteResult | None = None
    error: str = ""
    busy_s: float = 0.0
