"""What a coordinator last told a device, for as long as it holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edge.timing import PlantTime
from heron.messaging.wire import Command


class CommandFate(StrEnum):
    """What became of a command when it came in."""

    TAKEN = "taken"
    OLDER = "older"
    WRONG_STEP = "wrong_step"


@dataclass(frozen=True, slots=True)
class _Held:
    command: Command
    received_s: float


class CommandInbox:
    """Keeps the newest command of one device and counts its life on the edge's own clock.

    An older one is dropped: ordered by (step, sequence), per issuer. An issuer that was
    restarted counts from the start again, so its last sequence is forgotten when that command
    has expired.
    """

    def __init__(self, time: PlantTime) -> None:
        self._time = time
        self._held: _Held | None = None
        self._newest: dict[str, _Held] = {}

    def _expired(self, held: _Held) -> bool:
        return self._time.elapsed_s() - held.received_s > held.command.ttl_s

    def offer(self, command: Command, *, step: int = -1) -> CommandFate:
        """Take a command unless it is older than the newest, or for another step.

        Args:
            command: As received just now.
            step: The plant's step in lock-step; -1 where there is no common clock.
        """
        if command.step >= 0 and step >= 0 and command.step != step:
            return CommandFate.WRONG_STEP
        newest = self._newest.get(command.issuer)
        if newest is not None and not self._expired(newest):
            known = newest.command
            if (command.step, command.sequence) <= (known.step, known.sequence):
                return CommandFate.OLDER
        held = _Held(command, self._time.elapsed_s())
        self._newest = {i: h for i, h in self._newest.items() if not self._expired(h)}
        self._newest[command.issuer] = held
        self._held = held
        return CommandFate.TAKEN

    def current(self) -> Command | None:
        """Return the command that holds now; None if there is none or it has expired."""
        if self._held is None or self._expired(self._held):
            return None
        return self._held.command

    def has_for(self, step: int) -> bool:
        """Whether the command of this very step is here."""
        return self._held is not None and self._held.command.step == step

    def clear(self) -> None:
        """Forget everything: the plant was started anew."""
        self._held = None
        self._newest.clear()
