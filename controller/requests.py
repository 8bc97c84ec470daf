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
    """

    def __init__(
        self,
        minds: Sequence[Mind],
        modes: Mapping[str, ModeMachine],
        bus: Bus,
        done: Callable[[Mind, bool], Awaitable[None]],
    ) -> None:
        self._minds = {mind.agent_id: mind for mind in minds}
        self._modes = modes
        self._bus = bus
        self._done = done

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


async def take_limits(requests: Subscription[LimitRequest], system: SystemCycle) -> None:
    """Take an operator's limits; they hold from the next signal on."""
    async for agent, request in requests:
        if authority_of(request.issuer) is not Authority.OPERATOR:
            logger.warning("limits_refused microgrid=%s why=limits are for: operator", agent)
            continue
        if agent not in system.limits:
            logger.warning("limits_refused microgrid=%s why=no such microgrid", agent)
            continue
        limits = ConnectionLimits(request.p_export_max_mw, request.p_import_max_mw)
        system.limits[agent] = limits
        logger.warning(
            "limits microgrid=%s export_mw=%s import_mw=%s issuer=%s reason=%s",
            agent,
            limits.p_export_max_mw,
            limits.p_import_max_mw,
            request.issuer,
            request.reason,
        )
