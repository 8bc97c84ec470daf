"""What a coordinator decides, and from there to one command a device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from heron.messaging.wire import (
    Command,
    Coordinated,
    PolicyReport,
    PolicyRequest,
    SystemSignal,
)
from heron.powergrid.agents import MicrogridView
from heron.powergrid.quantities import Setpoint

LIVES = 3
"""A command lives for this many control intervals."""


@dataclass(frozen=True, slots=True)
class Decided:
    """A coordinator decided.

    Attributes:
        action: In [-1, 1], (act_dim,).
        setpoints: What it means for each device, before the envelope.
        note: What the policy has to say about it: where a shield moved it; empty if nothing.
    """

    action: tuple[float, ...]
    setpoints: Mapping[str, Setpoint]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """A coordinator did not decide, and why: its devices' last commands run out."""

    why: str


Outcome = Decided | Held


class Mind(Protocol):
    """What turns a view into set-points: the agent with its policy."""

    @property
    def agent_id(self) -> str:
        """The coordinator; its meter has the same name."""
        ...

    @property
    def device_ids(self) -> tuple[str, ...]:
        """Its devices, in the order of the configuration."""
        ...

    @property
    def policy_name(self) -> str:
        """Who decides, for reports."""
        ...

    @property
    def negotiates(self) -> bool:
        """Whether it shows the operator something and waits for the answer before it acts."""
        ...

    @property
    def proposes(self) -> bool:
        """Whether its policy should be answered only when the others' have proposed, too."""
        ...

    def consider(self, view: MicrogridView) -> None:
        """Take in a view and let the policy act on it.

        Raises:
            PolicyError: No usable answer.
        """
        ...

    def shows(self) -> dict[str, dict[str, float]]:
        """Return what the operator may see, by feature and field."""
        ...

    def answer(self, request: PolicyRequest) -> PolicyReport:
        """Do what was asked of the policy, if it may be, and say how it does."""
        ...

    def settle(self, letter: Coordinated | None = None) -> Decided:
        """Turn what was considered, and the operator's answer, into set-points.

        Raises:
            PolicyError: No usable answer.
        """
        ...


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
        interval_s: Plant seconds between two decisions.
        wall: Unix time.
    """

    def __init__(
        self,
        issuer: str,
        interval_s: float,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._issuer = issuer
        self._ttl_s = LIVES * interval_s
        self._wall = wall
        self._sequence = Sequence()

    def commands(self, decided: Decided, signal: SystemSignal, reason: str) -> list[Command]:
        """Return one command a device, for the step of the signal.

        Args:
            decided: What each device shall do.
            signal: The operator's.
            reason: Who decides, for the devices' logs.
        """
        sent_s = self._wall()
        return [
            Command(
                agent=device_id,
                sequence=self._sequence.next(),
                step=signal.step,
                p_mw=setpoint.p_mw,
                q_mvar=setpoint.q_mvar,
                tap=setpoint.tap,
                ttl_s=self._ttl_s,
                issuer=self._issuer,
                reason=reason,
                sent_s=sent_s,
            )
            for device_id, setpoint in decided.setpoints.items()
        ]
