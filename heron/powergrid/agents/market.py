"""A microgrid's coordinator that a policy leads through prices, in every clock.

What it would trade and what energy is worth to it follow from its devices (`TradingGridAgent`).
Its policy adds one number: how far from that its price shall lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.core.observation import Observation
from heron.messaging import MessageType
from heron.policy.codec import ActionMapping, SetpointSpec
from heron.powergrid.agents.trading import TradingGridAgent
from heron.protocols.base import Signal
from heron.scheduling import EventScheduler
from heron.scheduling.dispatch import Dispatch

if TYPE_CHECKING:
    from heron.agents import ProxyAgent

LARGEST_OFFSET = 50.0
"""$/MWh by which a policy may move the price inside its microgrid."""


class MarketGridAgent(TradingGridAgent):
    """A trading coordinator whose action is an offset to its price, normalised to [-1, 1].

    Where the operator does not answer (``negotiates=False``), the price inside is the market's
    price plus the offset. Where it does, the offset moves the agent's `MarketOffer` and its
    `LocalPrice`; `bring` makes them, the operator's answer ends in the price to which the
    devices dispatch, and an empty answer in `serve_itself`. An action of 0 is the honest one.

    Args:
        negotiates: Whether the operator's protocol answers what the agent shows it.
        kwargs: As for `TradingGridAgent`.
    """

    def __init__(self, *args: Any, negotiates: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.negotiates = negotiates
        self._asked: float | None = None
        self._unanswered = False

    def set_action(self) -> None:
        """One normalised number."""
        self.action.set_specs(dim_c=1, range=(-np.ones(1), np.ones(1)))

    def setpoint_specs(self) -> tuple[SetpointSpec, ...]:
        """Return what the number of the action means."""
        return (
            SetpointSpec(
                self.agent_id,
                "price_offset_usd_per_mwh",
                -LARGEST_OFFSET,
                LARGEST_OFFSET,
                ActionMapping.CENTRED,
            ),
        )

    def from_normalised(self, action: ArrayLike) -> ArrayLike:
        """Return the action as it is: its own is normalised."""
        return action

    def offset(self, action: ArrayLike) -> float:
        """Return the $/MWh that an action means.

        Raises:
            ValueError: It has the wrong shape or is not finite.
        """
        return self.setpoint_specs()[0].decode(float(self.checked_action(action)[0]))

    def bring(self, action: ArrayLike | None) -> None:
        """Make the offer and the price that the operator is shown; dispatch nothing yet."""
        offset = 0.0 if action is None else self.offset(action)
        self._make_offer(offset)
        self._local_price.local_price = self.price_for(0.0) + offset

    def serve_itself(self) -> None:
        """Dispatch at once at the price that it brought, without its neighbours."""
        self._dispatch(self._local_price.local_price, None)

    # --- the message path, in every clock -------------------------------------------------

    def take_action(
        self,
        action: NDArray[np.float64] | None,
        observation: Observation | None = None,
        scheduler: Dispatch | None = None,
    ) -> None:
        """Dispatch: to an action of its own, or (None) to the price that was asked for."""
        if action is not None:
            self.action.set_valid(action)
            self._dispatch(self._market.price + self.offset(action), scheduler)
        elif self._asked is not None:
            self._dispatch(self._asked, scheduler)

    def _reconsider(self) -> None:
        """Leave actions to the protocol: its devices answer a price by themselves."""
        self.tell = None

    def _dispatch(self, price: float, scheduler: Dispatch | None) -> None:
        self.coordinate_subordinates(None, np.array([price]), scheduler)

    def answer(self, price: float, scheduler: Dispatch | None) -> None:
        """Dispatch to a price that was asked for, after the action delay."""
        self._asked = price
        self.schedule_effect(None, None, scheduler)

    def price_from(self, signal: Signal) -> float | None:
        """Return the price inside that a signal asks for; its own where it asks for none."""
        price = super().price_from(signal)
        return self._local_price.local_price if price is None else price

    def on_message(
        self, kind: MessageType, sender_id: str, content: Any, scheduler: Dispatch | None = None
    ) -> None:
        """Take a message; an answer of the operator ends the wait for one."""
        if kind in (MessageType.SIGNAL, MessageType.ACTION):
            self._unanswered = False
        super().on_message(kind, sender_id, content, scheduler)

    # --- event-driven time ----------------------------------------------------------------

    @property
    def decides(self) -> bool:
        """Whether a tick leads to a decision of its own; where it negotiates, the answer does."""
        return not self.negotiates and super().decides

    def tick(
        self,
        scheduler: EventScheduler,
        current_time: float,
        global_state: Mapping[str, Any] | None = None,
        proxy: ProxyAgent | None = None,
    ) -> None:
        """Bring what the operator is shown, and report it; without an answer serve itself.

        A report that was not answered until the next tick is taken for lost.
        """
        if self.negotiates:
            self.time_s = current_time
            if self._unanswered:
                self.answer(self._local_price.local_price, scheduler)
            action = self.pending_action
            if action is None and self.policy is not None:
                action = self.checked_action(self.policy.forward(self.observe(global_state, proxy)))
            self.bring(action)
            self._unanswered = True
        super().tick(scheduler, current_time, global_state, proxy)

    def reset_agent(self, **kwargs: Any) -> None:
        """Forget what was asked for."""
        super().reset_agent(**kwargs)
        self._asked, self._unanswered = None, False
