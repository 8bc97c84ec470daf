"""Where agents hand their messages and effects: the clock decides when these arrive."""

from __future__ import annotations

from typing import Any, Protocol

from heron.scheduling.events import Event


class Dispatch(Protocol):
    """What an agent needs of a scheduler to send and to act.

    `EventScheduler` carries things out after their delays; an environment's synchronous step
    carries them out at once.
    """

    @property
    def current_time(self) -> float:
        """Plant seconds."""
        ...

    def schedule_message_delivery(
        self, recipient_id: str, message: Any, delay: float = 0.0
    ) -> Event | None:
        """Deliver a message after ``delay`` seconds."""
        ...

    def schedule_action_effect(
        self, agent_id: str, action: Any, delay: float = 0.0, *, priority: int | None = None
    ) -> Event | None:
        """Let an action take effect after ``delay`` seconds."""
        ...
