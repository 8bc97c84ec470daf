"""What a run of the loop adds up to, from the messages on the bus alone."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field

from heron.messaging.wire import (
    Acted,
    Alarm,
    Command,
    CommandResult,
    Decision,
    MarketRecord,
    Message,
    PlantClock,
    PolicyReport,
    Status,
    StepAccount,
    Telemetry,
)

KEPT_SAMPLES = 20_000
KEPT_ALARMS = 50


class Samples:
    """Durations: exact count and maximum, percentiles of the last `KEPT_SAMPLES`."""

    def __init__(self) -> None:
        self._kept: deque[float] = deque(maxlen=KEPT_SAMPLES)
        self.count = 0
        self.largest = 0.0

    def add(self, value: float) -> None:
        """Take one sample; one that is not finite is left out."""
        if math.isfinite(value):
            self._kept.append(value)
            self.count += 1
            self.largest = max(self.largest, value)

    @property
    def last(self) -> float | None:
        """The newest sample."""
        return self._kept[-1] if self._kept else None

    def summary(self) -> dict[str, float | int | None]:
        """Return count, p50, p99 (nearest rank) and maximum."""
        ordered = sorted(self._kept)

        def rank(share: float) -> float | None:
            if not ordered:
                return None
            return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3)

        return {
            "count": self.count,
            "p50": rank(0.50),
            "p99": rank(0.99),
            "max": round(self.largest, 3) if ordered else None,
        }


@dataclass(slots=True)
class AgentTotal:
    """One area's account, summed over the steps."""

    reward: float = 0.0
    cost_usd: float = 0.0
    safety: float = 0.0
    v_min_pu: float = math.inf
    v_max_pu: float = -math.inf


@dataclass(slots=True)
class RunTotal:
    """The whole loop's account, summed over the steps.

    Attributes:
        violation_pu: Voltage violation, pu summed over nodes and steps.
        violating_steps: Steps with any violation.
        losses_mwh: Energy lost in the network.
    """

    reward: float = 0.0
    cost_usd: float = 0.0
    safety: float = 0.0
    violation_pu: float = 0.0
    violating_steps: int = 0
    v_min_pu: float = math.inf
    v_max_pu: float = -math.inf
    losses_mwh: float = 0.0
    tap_moves: int = 0


@dataclass(slots=True)
class Commands:
    """Commands that were sent, and what became of those that were reported on."""

    sent: int = 0
    written: int = 0
    not_written: int = 0
    read_back_differs: int = 0
    clipped: int = 0


@dataclass(slots=True)
class MarketTotal:
    """What the operator's protocol decided, summed over its rounds.

    Attributes:
        protocol: Which.
        rounds: Times that it ran.
        cleared: Times that something was traded.
        energy_mwh: Energy that changed hands.
        fees_usd: Fees taken.
        income_usd: Per trader, after fees.
        missing: Per agent: rounds in which it was waited for, or known to be away.
        failed: Rounds that decided nothing.
    """

    protocol: str = ""
    rounds: int = 0
    cleared: int = 0
    energy_mwh: float = 0.0
    fees_usd: float = 0.0
    income_usd: dict[str, float] = field(default_factory=dict)
    missing: Counter[str] = field(default_factory=Counter)
    failed: int = 0

    def add(self, record: MarketRecord) -> None:
        """Take one round."""
        self.protocol = record.protocol
        self.rounds += 1
        self.cleared += record.energy_mwh > 0.0
        self.energy_mwh += record.energy_mwh
        self.fees_usd = round(self.fees_usd + record.fees_usd, 2)
        for agent, trade in record.trades.items():
            income = self.income_usd.get(agent, 0.0) + trade.get("income_usd", 0.0)
            self.income_usd[agent] = round(income, 2)
        self.missing.update(record.missing)
        self.failed += bool(record.why)


@dataclass(slots=True)
class Tally:
    """Everything that is counted, and the newest message of each kind.

    Attributes:
        steps: Steps accounted for by the plant.
        acted: Steps on which every device has acted.
        first_closed_s: Wall time (the caller's clock) at which the first step was closed: the
            coordinators had decided and the edge had acted; without lock-step: at which the
            first command was written to a device.
        clipped_edge: Envelope reasons, counted.
        clipped_plant: What the device physics clipped, counted.
    """

    steps: int = 0
    acted: int = 0
    first_closed_s: float | None = None
    total: RunTotal = field(default_factory=RunTotal)
    agents: dict[str, AgentTotal] = field(default_factory=dict)
    commands: Commands = field(default_factory=Commands)
    market: MarketTotal = field(default_factory=MarketTotal)
    clipped_edge: Counter[str] = field(default_factory=Counter)
    clipped_plant: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    step_ms: Samples = field(default_factory=Samples)
    decide_ms: Samples = field(default_factory=Samples)
    edge_ms: Samples = field(default_factory=Samples)
    alarms: deque[Alarm] = field(default_factory=lambda: deque(maxlen=KEPT_ALARMS))
    policies: dict[str, str] = field(default_factory=dict)
    clock: PlantClock | None = None
    account: StepAccount | None = None
    last_market: MarketRecord | None = None
    policy_reports: dict[str, PolicyReport] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)
    telemetry: dict[str, Telemetry] = field(default_factory=dict)
    results: dict[str, CommandResult] = field(default_factory=dict)
    decide_by: dict[str, float] = field(default_factory=dict)
    first_time_s: float | None = None
    _clock_at_s: float | None = None
    _decided: bool = False

    def take(self, topic: str, agent: str, message: Message, at_s: float) -> None:
        """Count one message.

        Args:
            topic: Name of its topic.
            agent: Agent in the topic.
            message: The message.
            at_s: Wall seconds when it came in, on the caller's clock.
        """
        self.messages[topic] += 1
        match message:
            case StepAccount():
                self._take_account(message)
            case PlantClock():
                self._take_clock(message, at_s)
            case Status():
                self.statuses[agent] = message
            case Telemetry():
                self.telemetry[agent] = message
            case Command():
                self.commands.sent += 1
            case CommandResult():
                self._take_result(agent, message)
                if message.step < 0 <= message.sequence and message.written:
                    self._note_closed(at_s)
            case Decision():
                self._decided = True
                self.policies[agent] = message.policy
                self.decide_ms.add(message.decide_ms)
                self.decide_by[agent] = message.decide_ms
            case Acted():
                self.acted += 1
                self._note_closed(at_s)
            case MarketRecord():
                self.market.add(message)
                self.last_market = message
            case PolicyReport():
                self.policy_reports[agent] = message
            case Alarm():
                self.alarms.append(message)

    def _note_closed(self, at_s: float) -> None:
        """A device acted: in lock-step all on one step, else one on a coordinator's command."""
        if self._decided and self.first_closed_s is None:
            self.first_closed_s = at_s

    def _take_clock(self, clock: PlantClock, at_s: float) -> None:
        before = self.clock
        if before is None:
            self.first_time_s = clock.time_s
        elif (clock.epoch, clock.step) == (before.epoch, before.step):
            self.clock = clock
            return
        elif self._clock_at_s is not None and clock.step > before.step:
            self.step_ms.add((at_s - self._clock_at_s) * 1e3)
        self.clock, self._clock_at_s = clock, at_s

    def _take_account(self, account: StepAccount) -> None:
        hours = 0.0 if self.clock is None else self.clock.step_s / 3600.0
        self.steps += 1
        self.account = account
        total = self.total
        total.reward += account.reward
        total.cost_usd += account.cost_usd
        total.violation_pu += account.violation_pu
        total.violating_steps += account.violation_pu > 0.0
        total.v_min_pu = min(total.v_min_pu, account.v_min_pu)
        total.v_max_pu = max(total.v_max_pu, account.v_max_pu)
        total.losses_mwh += account.losses_mw * hours
        total.tap_moves += account.tap_moves
        self.clipped_plant.update(account.clipped)
        for name, part in account.agents.items():
            agent = self.agents.setdefault(name, AgentTotal())
            agent.reward += part.reward
            agent.cost_usd += part.cost_usd
            agent.safety += part.safety
            agent.v_min_pu = min(agent.v_min_pu, part.v_min_pu)
            agent.v_max_pu = max(agent.v_max_pu, part.v_max_pu)
            total.safety += part.safety

    def _take_result(self, agent: str, result: CommandResult) -> None:
        self.results[agent] = result
        self.edge_ms.add(result.cycle_ms)
        counts = self.commands
        counts.written += result.written
        counts.not_written += not result.written
        counts.read_back_differs += result.read_back_ok is False
        if result.reasons:
            counts.clipped += 1
            self.clipped_edge.update(f"{agent}: {reason}" for reason in result.reasons)
