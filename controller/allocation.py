"""From a coordinator's decision to one command a device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from heron.messaging.wire import Command, SystemSignal
from heron.powergrid.quantities import Setpoint

LIVES = 3
"""A command lives for this many control intervals."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A coordinator decided.

    Attributes:
        action: In [-1, 1], (act_dim,).
        setpoints: What it means for each device, before the envelope.
    """

    action: tuple[float, ...]
    setpoints: Mapping[str, Setpoint]


@dataclass(frozen=True, slots=True)
class Held:
    """A coordinator did not decide, and why: its devices' last commands run out."""

    why: str


Outcome = Decided | Held


class Sequence:
    """Numbers that grow, also over a restart of the process: they start at the Unix time."""

    def __init__(self, start: int | None = None) -> None:
        self._last = int(time.time() * 1000) if start is None else start

    def next(self) -> int:
        """Return the next number."""
        self._last += 1
        return self._last


class Allocator:
    """Makes the commands of one coordinator.

    Args:
        issuer: The coordinator.
        reason: Who decides, for the devices' logs.
        interval_s: Plant seconds between two decisions.
        wall: Unix time.
    """

    def __init__(
        self,
        issuer: str,
        reason: str,
        interval_s: float,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._reason = reason
        self._ttl_s = LIVES * interval_s
        self._wall = wall
        self._sequence = Sequence()

    def commands(self, decided: Decided, signal: SystemSignal) -> list[Command]:
        """Return one command a device, for the step of the signal."""
        sent_s = self._wall()
        return [
            Command(
                agent=device_id,
                sequence=self._sequence.next(),
                step=signal.step,
                p_mw=setpoint.p_mw,
                q_mvar=setpoint.q_mvar,
                ttl_s=self._ttl_s,
                issuer=self._issuer,
                reason=self._reason,
                sent_s=sent_s,
            )
            for device_id, setpoint in decided.setpoints.items()
        ]
