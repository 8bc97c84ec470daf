"""L1: the agent of one device."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.agents.base import Agent
from heron.core.observation import Observation
from heron.core.state import FieldAgentState
from heron.core.visibility import FIELD_LEVEL
from heron.messaging.base import MessageType
from heron.protocols.base import Signal
from heron.scheduling.dispatch import Dispatch
from heron.scheduling.tick import FIELD_TICK_S


class FieldAgent(Agent):
    """Controls a single device.

    Override `set_state` (append features), `set_action` (declare the action) and
    `apply_action` (do it); to respond to prices, `respond_to_price`.
    """

    level = FIELD_LEVEL
    default_tick_s = FIELD_TICK_S

    def set_state(self) -> None:
        """Set an empty state; override to append features."""
        self.state = FieldAgentState(self.agent_id)

    def apply_action(self, action: NDArray[np.float64]) -> None:
        """Carry out an action that lies within its bounds.

        Args:
            action: Shape (dim_c + dim_d,), in the units of the action's range.
        """

    def respond_to(self, signal: Signal) -> ArrayLike | None:
        """Return the action with which the agent answers a signal; None: no answer."""
        if "price" in signal:
            return self.respond_to_price(signal["price"])
        return None

    def respond_to_price(self, price: float) -> ArrayLike | None:
        """Return the action with which the agent answers a price in $/MWh; None: no answer."""
        return None

    def take_action(
        self,
        action: NDArray[np.float64],
        observation: Observation | None = None,
        scheduler: Dispatch | None = None,
    ) -> None:
        """Set the action's values, clipped to their bounds, and apply them."""
        self.apply_action(self.action.set_valid(action).values())

    def schedule_effect(
        self,
        action: NDArray[np.float64],
        observation: Observation | None,
        scheduler: Dispatch | None,
    ) -> None:
        """Apply an action after the action delay."""
        if scheduler is None:
            self.take_action(action)
        else:
            delay = self.tick_config.next_act_delay()
            delay = self.in_order("effect", scheduler.current_time, delay)
            scheduler.schedule_action_effect(self.agent_id, action, delay)

    def on_message(
        self, kind: MessageType, sender_id: str, content: Any, scheduler: Dispatch | None = None
    ) -> None:
        """Obey a command; answer a signal."""
        super().on_message(kind, sender_id, content, scheduler)
        if kind is MessageType.SIGNAL:
            answer = self.respond_to(content)
            if answer is not None:
                self.schedule_effect(self.checked_action(answer), None, scheduler)
