"""What `heron up` is to run, and how it went."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from heron.cli.processes import memory_mb
from heron.messaging.bus import BusCounters
from heron.messaging.tally import Tally


@dataclass(frozen=True, slots=True)
class LoopPlan:
    """What is to be run.

    Attributes:
        setup: Name or path.
        step_s: Plant seconds a step.
        folder: Takes the logs and the edge's report.
        steps: Steps to run; None: until stopped.
        min_step_s: Wall seconds that a step takes at least; 0 for as fast as it goes.
        free_rate: Plant seconds a wall second without lock-step; None: lock-step.
        protocol: How the site coordinates, as `heron controller` takes it; None: as the setup says.
        start: Plant time at the start, as `heron simulate` takes it.
        port: Modbus port; None takes a free one.
        broker: URL; None starts the embedded one.
        record: File for every message.
        http: Port of the operator's page; None for no page.
        dso: Name of the setup's DSO.
        controller: Further options of `heron controller`.
    """

    setup: str
    step_s: float
    folder: Path
    steps: int | None = None
    min_step_s: float = 0.0
    free_rate: float | None = None
    seed: int = 0
    start: str = "auto"
    policy: str | None = None
    protocol: str | None = None
    port: int | None = None
    broker: str | None = None
    site: str = "site"
    record: Path | None = None
    http: int | None = None
    dso: str = "DSO"
    controller: tuple[str, ...] = ()


@dataclass(slots=True)
class Memory:
    """Resident memory of one process, MB."""

    first: float | None = None
    last: float | None = None
    peak: float | None = None

    def sample(self, pid: int) -> None:
        """Look now."""
        now = memory_mb(pid)
        if now is not None:
            self.first = now if self.first is None else self.first
            self.last = now
            self.peak = now if self.peak is None else max(self.peak, now)


@dataclass(slots=True)
class LoopResult:
    """How a run went; filled while it runs, so that a failure has its report, too.

    Attributes:
        outcome: ``finished``, ``stopped`` or ``failed``.
        started_s: Monotonic clock at the start.
        edges: Report of each edge process.
        memory: Per process.
    """

    tally: Tally = field(default_factory=Tally)
    outcome: str = "failed"
    started_s: float = field(default_factory=time.monotonic)
    wall_s: float = 0.0
    edges: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    bus: BusCounters = field(default_factory=BusCounters)

    @property
    def first_closed_s(self) -> float | None:
        """Wall seconds from the start to the first closed-loop step."""
        at_s = self.tally.first_closed_s
        return None if at_s is None else at_s - self.started_s

    def memory_table(self) -> dict[str, dict[str, float | None]]:
        """Return plain data for the report, rounded."""
        return {
            name: {k: None if v is None else round(v, 1) for k, v in asdict(m).items()}
            for name, m in self.memory.items()
        }
