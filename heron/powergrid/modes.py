"""Who may do what to a device or a coordinator: one state machine, with its table.

A coordinator has the same modes: it commands in ``closed_loop`` only, decides without commanding
in ``advisory``, and decides nothing in the others.

=============  ============================  =================================================
mode           what the agent does           what it writes
=============  ============================  =================================================
monitor        reads and reports             nothing; no write function code leaves the machine
advisory       also decides, and logs it     nothing
closed_loop    decides or takes commands     admitted set-points
fallback       follows a local safe rule     the rule's set-points
stopped        reads and reports             the safe set-point if it has ever driven the device,
                                             else nothing
=============  ============================  =================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final


class Mode(StrEnum):
    """What an agent may do to its device."""

    MONITOR = "monitor"
    ADVISORY = "advisory"
    CLOSED_LOOP = "closed_loop"
    FALLBACK = "fallback"
    STOPPED = "stopped"


class Authority(IntEnum):
    """Who asks for a change; a higher one is not undone by a lower one."""

    RULE = 0
    COORDINATOR = 1
    OPERATOR = 2


_R, _C, _O = Authority.RULE, Authority.COORDINATOR, Authority.OPERATOR
_M, _A, _L, _F, _S = Mode.MONITOR, Mode.ADVISORY, Mode.CLOSED_LOOP, Mode.FALLBACK, Mode.STOPPED

TRANSITIONS: Final[Mapping[tuple[Mode, Mode], Authority]] = {
    (_M, _A): _O,
    (_M, _L): _O,
    (_M, _S): _O,
    (_A, _M): _O,
    (_A, _L): _O,
    (_A, _S): _O,
    (_L, _M): _O,
    (_L, _A): _O,
    (_L, _F): _R,
    (_L, _S): _O,
    (_F, _M): _O,
    (_F, _A): _O,
    (_F, _L): _R,
    (_F, _S): _O,
    (_S, _M): _O,
    (_S, _A): _O,
    (_S, _L): _O,
    (_S, _F): _O,
}
"""(from, to) to the lowest authority that may do it. What is not listed nobody may do. Leaving
fallback also needs at least the authority that ordered it."""

DRIVING: Final = frozenset({Mode.CLOSED_LOOP, Mode.FALLBACK})
"""Modes in which the agent decides what the device does."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The mode was changed."""

    before: Mode
    after: Mode
    by: Authority
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The mode stays; ``why`` says who could change it."""

    mode: Mode
    wanted: Mode
    why: str


@dataclass(frozen=True, slots=True)
class Kept:
    """It was in that mode already."""

    mode: Mode


ModeOutcome = Changed | Refused | Kept


def authority_of(issuer: str) -> Authority:
    """Return the authority of the issuer of a mode request.

    ``operator`` and ``operator:NAME`` are operators; anyone else who can publish a mode
    request is a coordinator.
    """
    return Authority.OPERATOR if issuer.split(":", 1)[0] == "operator" else Authority.COORDINATOR


class ModeMachine:
    """The mode of one device.

    Args:
        start: Mode to begin in.
        read_only: The link cannot write, so no driving mode can ever be entered.

    Raises:
        ValueError: ``start`` is a driving mode on a read-only link.
    """

    def __init__(self, start: Mode = Mode.CLOSED_LOOP, *, read_only: bool = False) -> None:
        if read_only and start in DRIVING:
            raise ValueError(f"mode {start}: a read-only link allows monitor, advisory, stopped")
        self._mode = start
        self._read_only = read_only
        self._by = Authority.RULE
        self._reason = "start"
        self._has_driven = start in DRIVING

    @property
    def mode(self) -> Mode:
        """The present mode."""
        return self._mode

    @property
    def reason(self) -> str:
        """Why it is in this mode."""
        return self._reason

    @property
    def ordered_by(self) -> Authority:
        """Who ordered it."""
        return self._by

    @property
    def writes(self) -> bool:
        """Whether anything may be written to the device."""
        if self._read_only:
            return False
        return self._mode in DRIVING or (self._mode is Mode.STOPPED and self._has_driven)

    def request(self, wanted: Mode, by: Authority, reason: str) -> ModeOutcome:
        """Ask for a mode.

        A rule that asks to leave a fallback which a coordinator or an operator ordered is
        refused, and nothing but an operator leaves ``stopped``.
        """
        if wanted is self._mode:
            if by > self._by:
                self._by, self._reason = by, reason
            return Kept(self._mode)
        needed = TRANSITIONS.get((self._mode, wanted))
        if needed is not None and self._mode is Mode.FALLBACK:
            needed = max(needed, self._by)
        if needed is None or by < needed:
            who = "nobody" if needed is None else needed.name.lower()
            return Refused(self._mode, wanted, f"{self._mode} to {wanted} is for: {who}")
        if self._read_only and wanted in DRIVING:
            return Refused(self._mode, wanted, "the link is read-only")
        before = self._mode
        self._has_driven = self._has_driven or wanted in DRIVING
        self._mode, self._by, self._reason = wanted, by, reason
        return Changed(before, wanted, by, reason)

    def resume(self, mode: Mode, reason: str, *, writes: bool) -> None:
        """Begin in a mode that an operator ordered in an earlier life.

        Args:
            mode: What was ordered.
            reason: Why.
            writes: What `writes` said then: whether a stopped device had ever been driven. On a
                link that cannot write nothing is driven all the same.
        """
        if self._read_only and mode in DRIVING:
            return
        self._mode, self._by, self._reason = mode, Authority.OPERATOR, reason
        self._has_driven = writes

    def lose(self, reason: str) -> ModeOutcome:
        """Go to fallback by rule: a command expired, or data cannot be trusted."""
        return self.request(Mode.FALLBACK, Authority.RULE, reason)

    def recover(self) -> ModeOutcome:
        """Return to closed loop by rule: data is good and a fresh command came."""
        return self.request(Mode.CLOSED_LOOP, Authority.RULE, "recovered")
