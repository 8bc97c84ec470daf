"""The coordinator's cycle, told in one file.

    signal -> telemetry -> fleet (who is alive, how old is what) -> view -> observe -> decide
    -> allocate -> publish

The DSO says at each step of the plant's clock what the price is (`SystemCycle`). A coordinator
takes that as its beat (`CoordinatorCycle`): it waits for what its devices and its meter say of
the same step, decides with its policy, and sends each device a set-point that lives for three
control intervals. Without a full and fresh view it decides nothing, says so once, and lets the
last commands expire: the devices then fall back by themselves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol, assert_never

from controller.allocation import Allocator, Decided, Held, Outcome, Sequence
from controller.fleet import Fleet, Missing, Readings
from heron.errors import BrokerUnavailable, PolicyError
from heron.messaging.bus import Bus
from heron.messaging.topics import ALARM, COMMAND, DECISION, SIGNAL
from heron.messaging.wire import Alarm, Decision, PlantClock, SystemSignal
from heron.powergrid.agents import MicrogridView
from heron.powergrid.setups import Setup

logger = logging.getLogger(__name__)


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

    def decide(self, view: MicrogridView) -> Decided:
        """Decide.

        Raises:
            PolicyError: No usable answer.
        """
        ...


class SystemCycle:
    """The DSO's part: price and limits for every coordinator, at each step of the plant."""

    def __init__(
        self, setup: Setup, bus: Bus, coordinators: tuple[str, ...], interval_s: float
    ) -> None:
        self._config = setup.config
        self._profiles = setup.profiles
        self._bus = bus
        self._coordinators = coordinators
        self._interval_s = interval_s
        self._sequence = Sequence()

    async def run(self, clock: PlantClock) -> None:
        """Signal one step: the price of the control interval that starts now."""
        column, now_s = self._config.price_profile, clock.time_s
        price = self._profiles.mean(column, now_s, self._interval_s)
        day_ahead = self._profiles.day_ahead(now_s, column) if self._config.forecast else ()
        for agent in self._coordinators:
            signal = SystemSignal(
                agent=agent,
                sequence=self._sequence.next(),
                step=clock.step if clock.pace == "lockstep" else -1,
                time_s=now_s,
                price_usd_per_mwh=price,
                day_ahead_usd_per_mwh=day_ahead,
            )
            await self._bus.publish(SIGNAL, signal, agent=agent)


class CoordinatorCycle:
    """One coordinator's part.

    Args:
        patience_s: Wall seconds that it waits in lock-step for the telemetry of a step.
        now: Monotonic clock.

    Attributes:
        held: Why it cannot decide; empty while it can.
    """

    def __init__(
        self,
        mind: Mind,
        fleet: Fleet,
        bus: Bus,
        *,
        interval_s: float,
        patience_s: float = 10.0,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._mind = mind
        self._fleet = fleet
        self._bus = bus
        self._patience_s = patience_s
        self._now = now
        self._allocator = Allocator(mind.agent_id, mind.policy_name, interval_s)
        self.held = ""

    async def run(self, signal: SystemSignal) -> Outcome:
        """Do one cycle and return what came of it."""
        mind = self._mind
        if signal.step >= 0:
            await self._wait_for_step(signal.step)
        start = self._now()
        readings = self._fleet.readings(mind.agent_id, mind.device_ids, signal.step)
        match readings:
            case Missing():
                outcome: Outcome = Held(str(readings))
            case Readings():
                outcome = self._decide(signal, readings)
            case _:
                assert_never(readings)
        if isinstance(outcome, Decided):
            outcome = await self._publish(signal, outcome, (self._now() - start) * 1e3)
        await self._say_if_changed(outcome)
        return outcome

    async def _wait_for_step(self, step: int) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._fleet.wait_for_step(self._mind.agent_id, self._mind.device_ids, step)
        except TimeoutError:
            logger.debug("telemetry_late agent=%s step=%d", self._mind.agent_id, step)

    def _decide(self, signal: SystemSignal, readings: Readings) -> Outcome:
        view = MicrogridView(
            time_s=signal.time_s,
            meter=readings.meter,
            devices=readings.devices,
            price_usd_per_mwh=signal.price_usd_per_mwh,
            day_ahead=signal.day_ahead_usd_per_mwh,
        )
        try:
            return self._mind.decide(view)
        except PolicyError as error:
            return Held(f"policy: {error}")

    async def _publish(self, signal: SystemSignal, decided: Decided, decide_ms: float) -> Outcome:
        mind = self._mind
        try:
            for command in self._allocator.commands(decided, signal):
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
        )
        await self._bus.publish(DECISION, decision, agent=mind.agent_id)
        return decided

    async def _say_if_changed(self, outcome: Outcome) -> None:
        """Raise an alarm when deciding stops or its reason changes, clear it when it is back."""
        why = outcome.why if isinstance(outcome, Held) else ""
        if why == self.held:
            return
        agent = self._mind.agent_id
        text = f"no decision: {why}" if why else f"deciding again, after: {self.held}"
        logger.warning("coordinator agent=%s %s", agent, text)
        self.held = why
        alarm = Alarm(
            agent=agent, severity="warning", text=text, active=bool(why), sent_s=time.time()
        )
        await self._bus.publish(ALARM, alarm, agent=agent)
