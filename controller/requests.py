"""What operators ask of coordinators and of the DSO: modes, policies and limits."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import assert_never

from controller.allocation import Mind
from controller.system import SystemCycle
from heron.messaging.bus import Bus, Subscription
from heron.messaging.topics import MODE, POLICY_REPORT
from heron.messaging.wire import LimitRequest, ModeName, ModeRequest, PolicyRequest
from heron.powergrid.connection import ConnectionLimits
from heron.powergrid.kept_orders import KeptOrders
from heron.powergrid.modes import (
    Authority,
    Changed,
    Kept,
    Mode,
    ModeMachine,
    Refused,
    authority_of,
)

logger = logging.getLogger(__name__)


class ModeRequests:
    """Changes coordinators' modes as asked, and hands their devices over.

    Args:
        minds: The coordinators that run here.
        modes: Each one's state machine.
        bus: Tells the devices.
        done: Called after each request, with whether the mode changed.
        orders: Where operators' orders outlive the process; None to forget them.
    """

    def __init__(
        self,
        minds: Sequence[Mind],
        modes: Mapping[str, ModeMachine],
        bus: Bus,
        done: Callable[[Mind, bool], Awaitable[None]],
        orders: KeptOrders | None = None,
    ) -> None:
        self._minds = {mind.agent_id: mind for mind in minds}
        self._modes = modes
        self._bus = bus
        self._done = done
        self._orders = orders
        if orders is not None:
            for agent, machine in modes.items():
                orders.recall(agent, machine)

    async def take_modes(self, requests: Subscription[ModeRequest]) -> None:
        """Take requests until cancelled; those for devices are the edge's."""
        async for agent, request in requests:
            mind = self._minds.get(agent)
            if mind is not None:
                await self._change(mind, request)

    async def _change(self, mind: Mind, request: ModeRequest) -> None:
        outcome = self._modes[mind.agent_id].request(
            Mode(request.mode), authority_of(request.issuer), request.reason or request.issuer
        )
        match outcome:
            case Changed():
                logger.warning(
                    "mode coordinator=%s before=%s after=%s issuer=%s reason=%s",
                    mind.agent_id,
                    outcome.before,
                    outcome.after,
                    request.issuer,
                    outcome.reason,
                )
                await self._hand_over(mind, outcome)
            case Refused():
                logger.warning("mode_refused coordinator=%s why=%s", mind.agent_id, outcome.why)
            case Kept():
                pass
            case _:
                assert_never(outcome)
        if self._orders is not None:
            self._orders.note_mode(mind.agent_id, self._modes[mind.agent_id])
        await self._done(mind, isinstance(outcome, Changed))

    async def _hand_over(self, mind: Mind, change: Changed) -> None:
        """Tell the devices at once who decides: commands would only run out after a while."""
        commanded, commands = (m is Mode.CLOSED_LOOP for m in (change.before, change.after))
        if commanded == commands:
            return
        wanted: ModeName = "closed_loop" if commands else "fallback"
        for device in mind.device_ids:
            request = ModeRequest(
                agent=device,
                mode=wanted,
                issuer=mind.agent_id,
                reason=f"{mind.agent_id} is in {change.after}",
            )
            await self._bus.publish(MODE, request, agent=device)


async def take_policies(
    requests: Subscription[PolicyRequest], minds: Sequence[Mind], bus: Bus
) -> None:
    """Promote, roll back and report on coordinators' policies as asked."""
    by_name = {mind.agent_id: mind for mind in minds}
    async for agent, request in requests:
        mind = by_name.get(agent)
        if mind is None:
            continue
        report = mind.answer(request)
        logger.warning(
            "policy_request coordinator=%s action=%s issuer=%s refused=%s",
            agent,
            request.action,
            request.issuer,
            report.refused or "no",
        )
        await bus.publish(POLICY_REPORT, report, agent=agent)


async def take_limits(
    requests: Subscription[LimitRequest],
    system: SystemCycle,
    tell: Callable[[str], Awaitable[None]],
    orders: KeptOrders | None = None,
) -> None:
    """Take an operator's limits; they hold from the next signal on.

    Args:
        requests: What is asked for.
        system: Whose limits they are.
        tell: Says what became of a request.
        orders: Where they outlive the process; None to forget them.
    """
    async for agent, request in requests:
        if authority_of(request.issuer) is not Authority.OPERATOR:
            said = f"limits of {agent} refused: they are for: operator"
        elif agent not in system.limits:
            said = f"limits of {agent} refused: expected one of {', '.join(system.limits)}"
        else:
            limits = ConnectionLimits(request.p_export_max_mw, request.p_import_max_mw)
            system.limits[agent] = limits
            if orders is not None:
                orders.note_limits(agent, limits)
            said = f"limits of {agent}: {limits}"
        logger.warning("%s issuer=%s reason=%s", said, request.issuer, request.reason)
        await tell(said)
