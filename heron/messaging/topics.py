"""The one table of topics: what is sent, by whom, how, how often and how old it may be.

Everything about a topic stands in its row; the MQTT adapter, the runtimes, the tests and the
documentation are made from it. Only status (and its last will) is retained, so that an old
command or an old measurement never looks fresh to whoever subscribes later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from heron.messaging import wire

ROOT = "heron"
_FORBIDDEN = frozenset("/+#\0")

M = TypeVar("M", bound=wire.Message)


class WhileDown(StrEnum):
    """What publishing does while there is no connection to the broker."""

    DROP = "drop"
    """Lost, and counted: by the time the broker is back it would be old."""
    RAISE = "raise"
    """`heron.errors.BrokerUnavailable`: the sender must know that nobody was told."""
    KEEP = "keep"
    """The last one of each agent is sent as soon as the connection is back."""


@dataclass(frozen=True, slots=True)
class Topic(Generic[M]):
    """One row of the table.

    Attributes:
        name: Its name in code and documentation.
        pattern: Path below ``heron/{site}/``; ``{agent}`` stands for one level.
        model: Type of the payload (JSON).
        qos: MQTT quality of service.
        retain: Whether the broker keeps the last one.
        sender: Who publishes.
        max_age_s: Wall seconds after which a receiver treats it as stale; None: never.
        while_down: What publishing does without a connection.
        meaning: One line for the documentation.
    """

    name: str
    pattern: str
    model: type[M]
    qos: int
    retain: bool
    sender: str
    max_age_s: float | None
    while_down: WhileDown
    meaning: str

    def path(self, site: str, agent: str = "") -> str:
        """Return the full topic for one site and agent.

        Raises:
            ValueError: A name is empty where one is needed, or would add or match levels.
        """
        names = [site, agent] if "{agent}" in self.pattern else [site]
        for name in names:
            _named(name, self.pattern)
        return f"{ROOT}/{site}/{self.pattern.format(agent=agent)}"

    def wildcard(self, site: str) -> str:
        """Return the subscription that takes this topic from every agent of a site.

        Raises:
            ValueError: The site is empty, or would add or match levels.
        """
        return f"{ROOT}/{_named(site, self.pattern)}/{self.pattern.format(agent='+')}"

    def agent_of(self, topic: str) -> str | None:
        """Return the agent named in a full topic, or None if it is not of this row."""
        parts = topic.split("/")
        want = self.pattern.split("/")
        if len(parts) != len(want) + 2 or parts[0] != ROOT:
            return None
        agent = ""
        for got, expected in zip(parts[2:], want, strict=True):
            if expected == "{agent}":
                agent = got
            elif got != expected:
                return None
        return agent


def _named(name: str, pattern: str) -> str:
    if not name or _FORBIDDEN & set(name):
        raise ValueError(f"{name!r} cannot stand in topic {pattern!r}")
    return name


_DROP, _RAISE, _KEEP = WhileDown.DROP, WhileDown.RAISE, WhileDown.KEEP

STATUS = Topic(
    "status",
    "status/{agent}",
    wire.Status,
    1,
    True,
    "everyone",
    None,
    _KEEP,
    "who is alive; the last will says offline",
)
TELEMETRY = Topic(
    "telemetry",
    "telemetry/{agent}",
    wire.Telemetry,
    0,
    False,
    "edge",
    10.0,
    _DROP,
    "what a device or meter shows",
)
COMMAND = Topic(
    "command",
    "command/{agent}",
    wire.Command,
    1,
    False,
    "coordinator",
    None,
    _RAISE,
    "a set-point with sequence and time to live",
)
RESULT = Topic(
    "result",
    "result/{agent}",
    wire.CommandResult,
    0,
    False,
    "edge",
    None,
    _DROP,
    "what became of a command",
)
MODE = Topic(
    "mode",
    "mode/{agent}",
    wire.ModeRequest,
    1,
    False,
    "operator",
    None,
    _RAISE,
    "a wish to change a mode",
)
LIMITS = Topic(
    "limits",
    "limits/{agent}",
    wire.LimitRequest,
    1,
    False,
    "operator",
    None,
    _RAISE,
    "a wish to limit what a microgrid exports and imports",
)
POLICY = Topic(
    "policy",
    "policy/{agent}",
    wire.PolicyRequest,
    1,
    False,
    "operator",
    None,
    _RAISE,
    "a wish to promote, roll back or report on a device's policy",
)
POLICY_REPORT = Topic(
    "policy_report",
    "policy_report/{agent}",
    wire.PolicyReport,
    1,
    False,
    "edge",
    None,
    _KEEP,
    "which policy decides at a device, and how its candidate differs",
)
SIGNAL = Topic(
    "signal",
    "signal/{agent}",
    wire.SystemSignal,
    1,
    False,
    "DSO",
    None,
    _KEEP,
    "price, day-ahead prices and limits for a coordinator",
)
REPORT = Topic(
    "report",
    "report/{agent}",
    wire.AgentReport,
    1,
    False,
    "coordinator",
    None,
    _DROP,
    "what a coordinator shows the DSO of a step: offers, prices",
)
COORDINATED = Topic(
    "coordinated",
    "coordinated/{agent}",
    wire.Coordinated,
    1,
    False,
    "DSO",
    None,
    _DROP,
    "what the DSO's protocol has for a coordinator: a trade, a price",
)
MARKET = Topic(
    "market",
    "market/{agent}",
    wire.MarketRecord,
    1,
    False,
    "DSO",
    None,
    _DROP,
    "what a market, a consensus or another protocol decided in a step",
)
ACTED = Topic(
    "acted",
    "acted/{agent}",
    wire.Acted,
    1,
    False,
    "edge",
    None,
    _KEEP,
    "an edge process has acted on a step",
)
CLOCK = Topic(
    "clock",
    "plant/clock",
    wire.PlantClock,
    1,
    False,
    "simulator",
    None,
    _KEEP,
    "the plant's step and time",
)
ACCOUNT = Topic(
    "account",
    "plant/account",
    wire.StepAccount,
    1,
    False,
    "simulator",
    None,
    _DROP,
    "reward, cost and violations of a step, for reports only",
)
DECISION = Topic(
    "decision",
    "decision/{agent}",
    wire.Decision,
    0,
    False,
    "coordinator",
    None,
    _DROP,
    "what a coordinator decided",
)
ALARM = Topic(
    "alarm",
    "alarm/{agent}",
    wire.Alarm,
    1,
    False,
    "everyone",
    None,
    _KEEP,
    "something that a person should see",
)

TOPICS: tuple[Topic[Any], ...] = (
    STATUS,
    TELEMETRY,
    COMMAND,
    RESULT,
    MODE,
    LIMITS,
    POLICY,
    POLICY_REPORT,
    SIGNAL,
    REPORT,
    COORDINATED,
    MARKET,
    ACTED,
    CLOCK,
    ACCOUNT,
    DECISION,
    ALARM,
)
"""Every topic there is."""


def markdown_table() -> str:
    """Return the table for the documentation."""
    lines = [
        "| topic | path below `heron/{site}/` | message | QoS | retained | sender | stale after "
        "| without a connection | meaning |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for topic in TOPICS:
        age = "" if topic.max_age_s is None else f"{topic.max_age_s:g} s"
        lines.append(
            f"| {topic.name} | `{topic.pattern}` | `{topic.model.__name__}` | {topic.qos} "
            f"| {'yes' if topic.retain else 'no'} | {topic.sender} | {age} "
            f"| {topic.while_down} | {topic.meaning} |"
        )
    return "\n".join(lines)
