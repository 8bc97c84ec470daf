"""The coordinator's cycle, told in one file.

    signal -> telemetry -> fleet (who is alive, how old is what) -> view -> observe -> decide
    -> allocate -> publish

The DSO says at each step of the plant's clock what the price is (`controller.system`). A
coordinator takes that as its beat (`CoordinatorCycle`): it waits for what its devices and its
meter say of the same step, decides with its policy, and sends each device a set-point that lives
for three control intervals. Where the DSO runs a market or another protocol, the coordinator
shows it what it would trade and dispatches to the answer; without one in time it serves itself,
and says so.
Without a full and fresh view it decides nothing, says so once, and lets the last commands expire:
the devices then fall back by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import assert_never

from controller.allocation import Allocator, Decided, Held, Mind, Outcome, Sequence
from controller.fleet import Fleet, Missing, Readings
from controller.market import Mailbox
from controller.meeting import Meeting
from heron.errors import BrokerUnavailable, PolicyError
from heron.messaging.bus import Bus
from heron.messaging.topics import ALARM, COMMAND, DECISION, REPORT
from heron.messaging.wire import (
    AgentReport,
    Alarm,
    Coordinated,
    Decision,
    SystemSignal,
)
from heron.powergrid.agents import MicrogridView
from heron.powergrid.connection import ConnectionLimits
from heron.powergrid.modes import Mode, ModeMachine

logger = logging.getLogger(__name__)


ANSWER_S = 3.0
"""Wall seconds that a coordinator waits for the operator's answer."""


class CoordinatorCycle:
    """One coordinator's part.

    Args:
        patience_s: Wall seconds that it waits in lock-step for the telemetry of a step.
        answer_s: Wall seconds that it waits for the operator's answer to its report, and for
            the others to propose.
        meeting: Where the site's coordinators meet, if their policies propose before they act.
        now: Monotonic clock.

    Attributes:
        held: Why it cannot decide; empty while it can.
        alone: Why it decides without the operator; empty while it is heard.
        mailbox: Takes the operator's answers.
        modes: What it may do; an operator changes it.
    """

    def __init__(
        self,
        mind: Mind,
        fleet: Fleet,
        bus: Bus,
        *,
        interval_s: float,
        patience_s: float = 10.0,
        answer_s: float = ANSWER_S,
        meeting: Meeting | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._mind = mind
        self._fleet = fleet
        self._bus = bus
        self._patience_s = patience_s
        self._answer_s = answer_s
        self._meeting = meeting if mind.proposes else None
        self._now = now
        self._allocator = Allocator(mind.agent_id, interval_s)
        self._reports = Sequence()
        self.mailbox = Mailbox()
        self.modes = ModeMachine()
        self.held = ""
        self.alone = ""

    async def run(self, signal: SystemSignal, silent: str = "") -> Outcome:
        """Do one cycle and return what came of it.

        Args:
            signal: What the operator says.
            silent: Why it does not say so itself; empty when it does.
        """
        outcome, alone = await self._outcome(signal, silent)
        if self._meeting is not None:
            await self._meeting.excuse(self._mind.agent_id, signal.time_s)
        return await self._say_if_changed(outcome, alone)

    async def _outcome(self, signal: SystemSignal, silent: str) -> tuple[Outcome, str]:
        """Return what comes of a cycle, and why it went without the operator."""
        mind, mode = self._mind, self.modes.mode
        if mode not in (Mode.CLOSED_LOOP, Mode.ADVISORY):
            return Held(f"mode {mode}: {self.modes.reason}"), ""
        if signal.step >= 0:
            await self._wait_for_step(signal.step)
        readings = self._fleet.readings(mind.agent_id, mind.device_ids, signal.step)
        alone, spent_s = silent, 0.0
        match readings:
            case Missing():
                outcome: Outcome = Held(str(readings))
            case Readings():
                outcome, alone, spent_s = await self._decide(signal, readings, silent)
            case _:
                assert_never(readings)
        if isinstance(outcome, Decided):
            outcome = await self._publish(signal, outcome, spent_s * 1e3)
        return outcome, alone

    async def _wait_for_step(self, step: int) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._fleet.wait_for_step(self._mind.agent_id, self._mind.device_ids, step)
        except TimeoutError:
            logger.debug("telemetry_late agent=%s step=%d", self._mind.agent_id, step)

    async def _decide(
        self, signal: SystemSignal, readings: Readings, silent: str
    ) -> tuple[Outcome, str, float]:
        """Return what it decides, why it does so alone, and the seconds spent on thinking."""
        mind, start = self._mind, self._now()
        view = MicrogridView(
            time_s=signal.time_s,
            meter=readings.meter,
            devices=readings.devices,
            price_usd_per_mwh=signal.price_usd_per_mwh,
            day_ahead=signal.day_ahead_usd_per_mwh,
            limits=ConnectionLimits(signal.p_export_max_mw, signal.p_import_max_mw),
            age_s=_age_s(signal, readings),
        )
        try:
            mind.consider(view)
            considered_s = self._now() - start
            letter, alone = None, silent
            if self._meeting is not None:
                await self._meeting.attend(mind.agent_id, signal.time_s, self._answer_s)
            if mind.negotiates and not silent:
                letter = await self._answer(signal)
                if letter is None:
                    alone = f"no answer from the operator within {self._answer_s:g} s"
            start = self._now()
            try:
                decided = mind.settle(letter)
            except PolicyError as error:
                if letter is None:
                    raise
                alone = f"the operator's answer cannot be used: {error}"
                decided = mind.settle(None)
        except PolicyError as error:
            return Held(f"policy: {error}"), silent, self._now() - start
        return decided, alone, considered_s + self._now() - start

    async def _answer(self, signal: SystemSignal) -> Coordinated | None:
        """Show the operator what there is to see, and wait for what it says."""
        mind = self._mind
        report = AgentReport(
            agent=mind.agent_id,
            sequence=self._reports.next(),
            step=signal.step,
            time_s=signal.time_s,
            features=mind.shows(),
        )
        await self._bus.publish(REPORT, report, agent=mind.agent_id)
        # One that did not answer last time costs no full wait again.
        wait_s = self._answer_s / 10.0 if self.alone else self._answer_s
        return await self.mailbox.answer_to(report.sequence, wait_s)

    async def _publish(self, signal: SystemSignal, decided: Decided, decide_ms: float) -> Outcome:
        mind, mode = self._mind, self.modes.mode
        if mode is Mode.CLOSED_LOOP:
            try:
                for command in self._allocator.commands(decided, signal, mind.policy_name):
                    await self._bus.publish(COMMAND, command, agent=command.agent)
            except BrokerUnavailable as error:
                return Held(str(error))
        decision = Decision(
            agent=mind.agent_id,
            step=signal.step,
            time_s=signal.time_s,
            action=decided.action,
            decide_ms=decide_ms,
            policy=mind.policy_name,
            mode=mode.value,
            note=decided.note,
        )
        await self._bus.publish(DECISION, decision, agent=mind.agent_id)
        return decided

    async def _say_if_changed(self, outcome: Outcome, alone: str) -> Outcome:
        """Raise an alarm when deciding, or hearing the operator, stops; clear it afterwards."""
        why = outcome.why if isinstance(outcome, Held) else ""
        before, self.held = self.held, why
        await self._say("no decision", "deciding again, after", before, why)
        if not why:
            before, self.alone = self.alone, alone
            await self._say("on its own", "with the operator again, after", before, alone)
        return outcome

    async def _say(self, what: str, over: str, before: str, why: str) -> None:
        if why == before:
            return
        agent = self._mind.agent_id
        text = f"{what}: {why}" if why else f"{over}: {before}"
        logger.warning("coordinator agent=%s %s", agent, text)
        alarm = Alarm(
            agent=agent, severity="warning", text=text, active=bool(why), sent_s=time.time()
        )
        await self._bus.publish(ALARM, alarm, agent=agent)


def _age_s(signal: SystemSignal, readings: Readings) -> float:
    """Return how old the readings are, plant seconds; in lock-step they are of this very step."""
    return 0.0 if signal.step >= 0 else max(0.0, signal.time_s - readings.time_s)
