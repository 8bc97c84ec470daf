"""What travels over MQTT: one frozen model a message, JSON on the wire.

Powers in MW and Mvar, positive = injects. ``step`` is the plant's step in lock-step and -1
where there is no common clock. ``time_s`` is plant time; ``sent_s`` is the sender's wall clock
(Unix), for people and logs: no decision rests on it, because clocks differ between hosts.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

QualityName = Literal["good", "stale", "bad"]
ModeName = Literal["monitor", "advisory", "closed_loop", "fallback", "stopped"]


class Message(BaseModel):
    """The base of all messages; unknown keys from a newer sender are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Status(Message):
    """Who is alive. Retained; the last will says ``online=False``."""

    agent: str
    online: bool
    role: Literal["edge", "device", "meter", "coordinator", "system", "simulator"]
    mode: ModeName | None = None
    version: str = ""
    detail: str = ""
    sent_s: float = 0.0


class Point(Message):
    """One measured value."""

    value: float | None
    quality: QualityName = "good"
    age_s: float = Field(0.0, ge=0)


class Telemetry(Message):
    """What a device or meter shows; point names are those of the readings' fields."""

    agent: str
    sequence: int
    step: int = -1
    time_s: float
    points: dict[str, Point]
    mode: ModeName | None = None
    historical: bool = False
    sent_s: float = 0.0


class Command(Message):
    """A set-point for one device.

    Attributes:
        sequence: Grows with each command from one issuer; an older one is dropped.
        ttl_s: Life in plant seconds, counted by the receiver from receipt on its own
            clock; after it the device returns to fallback.
        issuer: Who decided.
        reason: Why, for the log.
    """

    agent: str
    sequence: int
    step: int = -1
    p_mw: float = Field(allow_inf_nan=False)
    q_mvar: float = Field(0.0, allow_inf_nan=False)
    ttl_s: float = Field(gt=0)
    issuer: str
    reason: str = ""
    sent_s: float = 0.0


class CommandResult(Message):
    """What became of a command or of the device agent's own decision."""

    agent: str
    sequence: int
    step: int = -1
    proposed_p_mw: float | None
    proposed_q_mvar: float | None
    applied_p_mw: float | None
    applied_q_mvar: float | None
    reasons: tuple[str, ...] = ()
    written: bool
    read_back_ok: bool | None = None
    cycle_ms: float = 0.0


class ModeRequest(Message):
    """An operator's (or a rule's) wish to change a mode."""

    agent: str
    mode: ModeName
    issuer: str
    reason: str = ""


class PolicyRequest(Message):
    """A wish about the policy that decides at a device.

    Attributes:
        action: ``promote`` its candidate, ``roll_back`` to the one before it, or only
            ``report``; the first two are for operators.
    """

    agent: str
    action: Literal["promote", "roll_back", "report"]
    issuer: str
    reason: str = ""


class PolicyReport(Message):
    """Who decides at a device, and how its candidate's decisions differ; answers a request.

    Attributes:
        active: Name and version of the policy that decides; None where none does.
        candidate: The one in its shadow.
        former: The one that a rollback would bring back.
        decisions: Decisions that both took.
        failures: Times that the candidate could not decide.
        mean_difference: Mean over decisions of the largest difference of one action in [-1, 1].
        largest_difference: Largest of them.
        swaps: Times that another policy took over.
        rollbacks: Times that the former one came back.
        refused: Why what was asked was not done; empty when it was.
    """

    agent: str
    active: str | None = None
    candidate: str | None = None
    former: str | None = None
    decisions: int = 0
    failures: int = 0
    mean_difference: float = 0.0
    largest_difference: float = 0.0
    swaps: int = 0
    rollbacks: int = 0
    refused: str = ""


class SystemSignal(Message):
    """What the DSO tells a coordinator: the price and, if any, limits at its connection.

    Attributes:
        day_ahead_usd_per_mwh: Prices of the plant day, one a profile step, or empty.
    """

    agent: str
    sequence: int
    step: int = -1
    time_s: float
    price_usd_per_mwh: float
    day_ahead_usd_per_mwh: tuple[float, ...] = ()
    p_export_max_mw: float | None = None
    p_import_max_mw: float | None = None


class Acted(Message):
    """An edge process says that all its devices have acted on this step."""

    agent: str
    step: int


class PlantClock(Message):
    """The simulator's clock, sent at each step of the plant.

    Attributes:
        epoch: Grows with each start or reset of the simulator.
        pace: ``lockstep``, ``real``, ``max`` or ``x60`` and the like.
        step_s: Plant seconds a step.
    """

    epoch: int
    step: int
    time_s: float
    step_s: float
    pace: str
    finished: bool = False


class AgentAccount(Message):
    """One agent's part in the account of a step."""

    reward: float
    cost_usd: float
    safety: float
    v_min_pu: float
    v_max_pu: float


class StepAccount(Message):
    """What the emulated plant knows and no agent may see: reward, cost, violations."""

    step: int
    time_s: float
    agents: dict[str, AgentAccount]
    reward: float
    cost_usd: float
    violation_pu: float
    v_min_pu: float
    v_max_pu: float
    losses_mw: float
    price_usd_per_mwh: float
    tap_moves: int = 0
    clipped: tuple[str, ...] = ()


class Decision(Message):
    """What a coordinator decided, and how long it took."""

    agent: str
    step: int = -1
    time_s: float
    action: tuple[float, ...]
    decide_ms: float
    policy: str = ""
    mode: ModeName = "closed_loop"


class Alarm(Message):
    """Something that a person should see."""

    agent: str
    severity: Literal["info", "warning", "critical"]
    text: str
    active: bool = True
    sent_s: float = 0.0
