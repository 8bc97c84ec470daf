"""What one cycle wanted of a device, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from edge.modes import Mode
from heron.powergrid.link import WriteResult
from heron.powergrid.quantities import Setpoint


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
