"""The operator's protocol over the bus: reports in, one answer to each coordinator.

The protocol classes are those of every other clock. Here a coordinator's report comes as a
`wire.AgentReport`, the operator's agent sees it as it would see any report, and what its protocol
tells the coordinators goes out as `wire.Coordinated`, one a report. Who does not report in time
does not take part, and is not waited for again until it reports.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.fleet import Fleet, Readings
from heron.agents import Agent
from heron.errors import HeronError
from heron.messaging import MessageType
from heron.messaging.bus import Bus
from heron.messaging.topics import COORDINATED, MARKET
from heron.messaging.wire import AgentReport, Coordinated, MarketRecord, SystemSignal
from heron.powergrid.agents import DSOAgent
from heron.powergrid.quantities import MeterReading
from heron.protocols import Coordination

logger = logging.getLogger(__name__)

HEAD = "head"
"""The meter at the feeder's head."""
ALIKE = 1e-6
"""$/MWh by which prices may differ and still be one price."""


class Outbox:
    """Keeps what an agent tells others, for the bus to carry; a `Dispatch`."""

    def __init__(self, time_s: float) -> None:
        self.current_time = time_s
        self.signals: dict[str, Mapping[str, float]] = {}
        self.actions: dict[str, tuple[float, ...]] = {}

    def schedule_message_delivery(
        self, recipient_id: str, message: Any, delay: float = 0.0
    ) -> None:
        """Keep a signal or a command."""
        kind, _, content = message
        if kind is MessageType.SIGNAL:
            self.signals[recipient_id] = content
        elif kind is MessageType.ACTION:
            self.actions[recipient_id] = tuple(float(x) for x in content)

    def schedule_action_effect(
        self, agent_id: str, action: Any, delay: float = 0.0, *, priority: int | None = None
    ) -> None:
        """Do nothing: effects are the devices' own."""


@dataclass(slots=True)
class Round:
    """One step of the protocol.

    Attributes:
        signal: The operator's signal that opened it.
        reports: What came in for it in time.
        letters: What each participant is told, once it is decided.
    """

    signal: SystemSignal
    reports: dict[str, AgentReport] = field(default_factory=dict)
    letters: dict[str, Coordinated] | None = None


class OperatorDesk:
    """The operator's part.

    Args:
        dso: The operator's agent with its tree; the coordinators in it stand for those on the
            bus, whose reports are all that is known of them.
        bus: Carries the answers.
        fleet: Knows the meter at the feeder's head.
        protocol: Name of the scheme, for answers and records.
        patience_s: Wall seconds that a round waits for reports.
    """

    def __init__(
        self, dso: DSOAgent, bus: Bus, fleet: Fleet, protocol: str, patience_s: float
    ) -> None:
        self._dso = dso
        self._bus = bus
        self._fleet = fleet
        self._protocol = protocol
        self._patience_s = patience_s
        self._round: Round | None = None
        self._early: dict[str, AgentReport] = {}
        self._absent: set[str] = set()
        self._opened = asyncio.Event()
        self._news = asyncio.Event()
        dso.listen()

    def open(self, signal: SystemSignal) -> None:
        """Open a round; a signal that was sent again opens none."""
        if self._round is None or self._round.signal.time_s != signal.time_s:
            self._round = Round(signal)
            for agent, report in self._early.items():
                if report.time_s == signal.time_s:
                    self._round.reports[agent] = report
            self._early.clear()
            self._opened.set()

    async def hear(self, agent: str, report: AgentReport) -> None:
        """Take a report; one that was sent again is answered again."""
        if agent not in self._dso.subordinates:
            return
        now = self._round
        self._absent.discard(agent)
        if now is None or report.time_s > now.signal.time_s:
            self._early[agent] = report
        elif report.time_s == now.signal.time_s:
            letter = None if now.letters is None else now.letters.get(agent)
            if letter is not None:
                await self._send(letter, report)
            elif now.letters is None:
                now.reports[agent] = report
                self._news.set()
            else:
                logger.info("report_late agent=%s step=%d", agent, report.step)
        else:
            logger.info("report_late agent=%s step=%d", agent, report.step)

    async def run(self) -> None:
        """Do rounds until cancelled."""
        while True:
            await self._opened.wait()
            self._opened.clear()
            current = self._round
            if current is not None:
                await self._wait_for_reports(current)
                await self._wait_for_head(current)
                if current is self._round:
                    await self._close(current)

    async def _wait_for_reports(self, current: Round) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                while current is self._round and not self._complete(current):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return

    async def _wait_for_head(self, current: Round) -> None:
        """Give the head's telemetry of the step, sent with the others', the time to arrive."""
        step = current.signal.step
        if step < 0 or self._dso.policy is None or self._fleet.heard(HEAD) is None:
            return
        try:
            async with asyncio.timeout(self._patience_s):
                await self._fleet.wait_for_step(HEAD, (), step)
        except TimeoutError:
            logger.debug("head_late step=%d", step)

    def _complete(self, current: Round) -> bool:
        return {*self._dso.subordinates} - self._absent <= {*current.reports}

    async def _close(self, current: Round) -> None:
        missing = tuple(n for n in self._dso.subordinates if n not in current.reports)
        for agent in missing:
            if agent not in self._absent:
                logger.warning("no_report agent=%s step=%d", agent, current.signal.step)
        self._absent.update(missing)
        outbox = Outbox(current.signal.time_s)
        why = self._coordinate(current, outbox) if current.reports else "nobody took part"
        current.letters = {agent: self._letter(agent, current, outbox) for agent in current.reports}
        for agent, letter in current.letters.items():
            await self._send(letter, current.reports[agent])
        await self._bus.publish(
            MARKET, self._record(current, missing, why), agent=self._dso.agent_id
        )

    def _coordinate(self, current: Round, outbox: Outbox) -> str:
        """Let the operator's agent run its protocol; return why not, or nothing."""
        signal, dso = current.signal, self._dso
        dso.update_from(
            signal.time_s,
            self._head(signal.step),
            signal.price_usd_per_mwh,
            signal.day_ahead_usd_per_mwh,
        )
        for name, agent in dso.subordinates.items():
            report = current.reports.get(name)
            shown = {} if report is None else vectors_of(agent, report)
            dso.on_message(MessageType.STATE, name, shown)
        try:
            observation = dso.observe()
            dso.coordinate_subordinates(observation, dso.act(observation), outbox)
        except (ValueError, HeronError) as error:
            logger.error("protocol_failed step=%d reason=%s", signal.step, error)
            outbox.signals.clear()
            outbox.actions.clear()
            dso.coordination = Coordination()
            return str(error)
        return ""

    def _head(self, step: int) -> MeterReading:
        """Return what the head's meter shows; not a number where that is not known."""
        readings = self._fleet.readings(HEAD, (), step)
        if isinstance(readings, Readings):
            return readings.meter
        return MeterReading(math.nan, math.nan, math.nan, math.nan, math.nan)

    def _letter(self, agent: str, current: Round, outbox: Outbox) -> Coordinated:
        return Coordinated(
            agent=agent,
            sequence=current.reports[agent].sequence,
            step=current.signal.step,
            protocol=self._protocol,
            signal=dict(outbox.signals.get(agent, {})),
            action=outbox.actions.get(agent),
        )

    async def _send(self, letter: Coordinated, report: AgentReport) -> None:
        answer = letter.model_copy(update={"sequence": report.sequence})
        await self._bus.publish(COORDINATED, answer, agent=letter.agent)

    def _record(self, current: Round, missing: Sequence[str], why: str) -> MarketRecord:
        told = self._dso.coordination.signals if not why else {}
        trades = {
            name: {k: signal[k] for k in ("trade_mwh", "income_usd") if k in signal}
            for name, signal in told.items()
            if "trade_mwh" in signal and name in current.reports
        }
        return MarketRecord(
            agent=self._dso.agent_id,
            step=current.signal.step,
            time_s=current.signal.time_s,
            protocol=self._protocol,
            participants=tuple(n for n in self._dso.subordinates if n in current.reports),
            missing=tuple(missing),
            price_usd_per_mwh=_common_price(told, current.reports),
            energy_mwh=sum(max(0.0, t["trade_mwh"]) for t in trades.values()),
            fees_usd=round(-sum(t.get("income_usd", 0.0) for t in trades.values()), 2) or 0.0,
            trades=trades,
            why=why,
        )


def _common_price(
    told: Mapping[str, Mapping[str, float]], participants: Mapping[str, Any]
) -> float | None:
    """Return the price that all who took part were told, or None."""
    prices = [
        signal.get("price", signal.get("local_price"))
        for name, signal in told.items()
        if name in participants
    ]
    known = [p for p in prices if p is not None]
    if not known or len(known) < len(prices) or max(known) - min(known) > ALIKE:
        return None
    return known[0]


def features_of(agent: Agent) -> dict[str, dict[str, float]]:
    """Return what the agent above may see of an agent's state, by feature and field."""
    shown = agent.shown_upstream()
    return {
        name: dict(zip(provider.names(), shown[name].tolist(), strict=True))
        for name, provider in agent.state.items()
        if name in shown
    }


def vectors_of(agent: Agent, report: AgentReport) -> dict[str, NDArray[np.float32]]:
    """Return a report as vectors; a feature that lacks a field is left out."""
    vectors: dict[str, NDArray[np.float32]] = {}
    for name, provider in agent.state.items():
        given = report.features.get(name)
        if given is not None and all(field in given for field in provider.names()):
            vectors[name] = np.array([given[f] for f in provider.names()], dtype=np.float32)
    return vectors


class Mailbox:
    """Where a coordinator waits for the answer to its report."""

    def __init__(self) -> None:
        self._letter: Coordinated | None = None
        self._news = asyncio.Event()

    def put(self, letter: Coordinated) -> None:
        """Take an answer."""
        self._letter = letter
        self._news.set()

    async def answer_to(self, sequence: int, timeout_s: float) -> Coordinated | None:
        """Return the answer to a report; None if it does not come in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._letter is None or self._letter.sequence != sequence:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return None
        return self._letter
