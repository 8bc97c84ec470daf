"""The one table of topics: what is sent, by whom, how, how often and how old it may be.

Everything about a topic stands in its row; the MQTT adapter, the runtimes, the tests and the
documentation are made from it. Only status (and its last will) is retained, so that an old
command or an old measurement never looks fresh to whoever subscribes later.
"""

from __future__ import annotations

from dataclasses import dataclass

from heron.messaging import wire

ROOT = "heron"


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the table.

    Attributes:
        name: Its name in code and documentation.
        pattern: Path below ``heron/{site}/``; ``{agent}`` stands for one level.
        model: Type of the payload (JSON).
        qos: MQTT quality of service.
        retain: Whether the broker keeps the last one.
        sender: Who publishes.
        max_age_s: Wall seconds after which a receiver treats it as stale; None: never.
    """

    name: str
    pattern: str
    model: type[wire.Message]
    qos: int
    retain: bool
    sender: str
    max_age_s: float | None

    def path(self, site: str, agent: str = "") -> str:
        """Return the full topic for one site and agent."""
        return f"{ROOT}/{site}/{self.pattern.format(agent=agent)}"

    def wildcard(self, site: str) -> str:
        """Return the subscription that takes this topic from every agent of a site."""
        return f"{ROOT}/{site}/{self.pattern.format(agent='+')}"

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


STATUS = Topic("status", "status/{agent}", wire.Status, 1, True, "everyone", None)
TELEMETRY = Topic("telemetry", "telemetry/{agent}", wire.Telemetry, 0, False, "edge", 10.0)
COMMAND = Topic("command", "command/{agent}", wire.Command, 1, False, "coordinator", None)
RESULT = Topic("result", "result/{agent}", wire.CommandResult, 0, False, "edge", None)
MODE = Topic("mode", "mode/{agent}", wire.ModeRequest, 1, False, "operator", None)
SIGNAL = Topic("signal", "signal/{agent}", wire.SystemSignal, 1, False, "DSO", None)
ACTED = Topic("acted", "acted/{agent}", wire.Acted, 1, False, "edge", None)
CLOCK = Topic("clock", "plant/clock", wire.PlantClock, 1, False, "simulator", None)
ACCOUNT = Topic("account", "plant/account", wire.StepAccount, 1, False, "simulator", None)
DECISION = Topic("decision", "decision/{agent}", wire.Decision, 0, False, "coordinator", None)
ALARM = Topic("alarm", "alarm/{agent}", wire.Alarm, 1, False, "everyone", None)

TOPICS: tuple[Topic, ...] = (
    STATUS,
    TELEMETRY,
    COMMAND,
    RESULT,
    MODE,
    SIGNAL,
    ACTED,
    CLOCK,
    ACCOUNT,
    DECISION,
    ALARM,
)
"""Every topic there is."""
