"""What the edge tells the others, and what it counts about itself."""

from __future__ import annotations

import math
import time as wall_time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from edge.decisions import CycleReport
from edge.timing import PlantTime
from heron import __version__
from heron.messaging.bus import Bus
from heron.messaging.topics import ACTED, POLICY_REPORT, RESULT, STATUS, TELEMETRY
from heron.messaging.wire import Acted, CommandResult, PolicyReport, Status, Telemetry
from heron.powergrid.link import Snapshot, WriteStatus
from heron.powergrid.modes import Mode
from heron.powergrid.quantities import Setpoint

KEPT_SAMPLES = 10_000


@dataclass(slots=True)
class EdgeCounters:
    """What an edge process did since its start.

    Attributes:
        cycles: Control cycles of single devices.
        overruns: Slots missed because a cycle took too long.
        failed_reads: Cycles in which a device or meter could not be read.
        failed_writes: Cycles in which a write failed or was not confirmed.
        written: Set-points written because they changed or had to be refreshed.
        unchanged: Cycles in which the device held the set-point already.
        fallbacks: Cycles decided by the fallback rule.
        refused_commands: Commands that were older, or for another step.
        clipped: Reason to number of cycles in which the envelope changed a set-point.
        cycle_s: Busy wall seconds of the latest cycles.
    """

    cycles: int = 0
    overruns: int = 0
    failed_reads: int = 0
    failed_writes: int = 0
    written: int = 0
    unchanged: int = 0
    fallbacks: int = 0
    refused_commands: int = 0
    clipped: Counter[str] = field(default_factory=Counter)
    cycle_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_SAMPLES))

    def count(self, report: CycleReport, read_failed: bool, busy_s: float) -> None:
        """Add one device's cycle."""
        self.cycles += 1
        self.failed_reads += read_failed
        self.failed_writes += bool(report.error)
        if report.write is not None:
            self.written += report.write.status is not WriteStatus.UNCHANGED
            self.unchanged += report.write.status is WriteStatus.UNCHANGED
        self.fallbacks += report.mode is Mode.FALLBACK
        self.clipped.update(report.reasons)
        self.cycle_s.append(busy_s)

    def summary(self) -> dict[str, object]:
        """Return everything as plain data; times in ms over the latest cycles."""
        ordered = sorted(self.cycle_s)
        return {
            "cycles": self.cycles,
            "overruns": self.overruns,
            "failed_reads": self.failed_reads,
            "failed_writes": self.failed_writes,
            "written": self.written,
            "unchanged": self.unchanged,
            "fallbacks": self.fallbacks,
            "refused_commands": self.refused_commands,
            "clipped": dict(self.clipped),
            "cycle_ms": {
                "p50": _quantile_ms(ordered, 0.5),
                "p99": _quantile_ms(ordered, 0.99),
                "max": _quantile_ms(ordered, 1.0),
            },
        }


def _quantile_ms(ordered: list[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)


TelemetrySink = Callable[[Telemetry], Awaitable[None]]
"""Sends telemetry, or keeps it for later."""


class Reporter:
    """Publishes telemetry, results and status of the devices of one edge process.

    Args:
        bus: Where it goes.
        time: Clocks.
        edge_id: Name of the process.
        send: Takes the telemetry in the bus's place.
    """

    def __init__(
        self, bus: Bus, time: PlantTime, edge_id: str, send: TelemetrySink | None = None
    ) -> None:
        self._bus = bus
        self._send = self._publish_telemetry if send is None else send
        self._time = time
        self._edge_id = edge_id
        self._sequence = 0

    async def telemetry(self, snapshot: Snapshot, mode: Mode | None, step: int) -> None:
        """Say what a device or meter shows; a value that is not finite is sent as none."""
        now = self._time.now()
        points = {
            name: {
                "value": _finite(v.value),
                "quality": v.quality.value,
                "age_s": max(0.0, v.age_s(now)),
            }
            for name, v in snapshot.values.items()
        }
        self._sequence += 1
        # One validation of the whole is several times cheaper than one a point.
        message = Telemetry.model_validate(
            {
                "agent": snapshot.device_id,
                "sequence": self._sequence,
                "step": step,
                "time_s": self._time.time_s(),
                "points": points,
                "mode": None if mode is None else mode.value,
                "sent_s": wall_time.time(),
            }
        )
        await self._send(message)

    async def _publish_telemetry(self, message: Telemetry) -> None:
        await self._bus.publish(TELEMETRY, message, agent=message.agent)

    async def result(self, report: CycleReport, step: int, busy_s: float) -> None:
        """Say what became of a decision; silent where nothing was decided."""
        proposal = report.proposal
        if proposal is None:
            return
        applied = report.applied or Setpoint(math.nan, math.nan)
        wrote = report.write
        message = CommandResult(
            agent=report.device_id,
            sequence=proposal.sequence,
            step=step,
            proposed_p_mw=_finite(proposal.setpoint.p_mw),
            proposed_q_mvar=_finite(proposal.setpoint.q_mvar),
            applied_p_mw=_finite(applied.p_mw),
            applied_q_mvar=_finite(applied.q_mvar),
            proposed_tap=proposal.setpoint.tap,
            applied_tap=applied.tap,
            reasons=(*report.reasons, *((report.error,) if report.error else ())),
            written=wrote is not None,
            read_back_ok=None
            if wrote is None
            else wrote.status is not WriteStatus.READ_BACK_DIFFERS,
            cycle_ms=1e3 * busy_s,
        )
        await self._bus.publish(RESULT, message, agent=report.device_id)

    async def policy(self, report: PolicyReport) -> None:
        """Say which policy decides at a device."""
        await self._bus.publish(POLICY_REPORT, report, agent=report.agent)

    async def status(
        self, device_id: str, mode: Mode, *, reason: str = "", online: bool = True
    ) -> None:
        """Say that a device is looked after, by whom, and in which mode; retained."""
        message = Status(
            agent=device_id,
            online=online,
            role="device",
            mode=mode.value if online else None,
            version=__version__,
            process=self._edge_id,
            detail=f"edge={self._edge_id}" + (f" reason={reason}" if reason else ""),
            sent_s=wall_time.time(),
        )
        await self._bus.publish(STATUS, message, agent=device_id)

    async def acted(self, step: int) -> None:
        """Say that all devices of this process have acted on a step."""
        await self._bus.publish(ACTED, Acted(agent=self._edge_id, step=step), agent=self._edge_id)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
