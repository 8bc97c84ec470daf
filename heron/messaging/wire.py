"""What travels over MQTT: one frozen model a message, JSON on the wire.

Powers in MW and Mvar, positive = injects. ``step`` is the plant's step in lock-step and -1
where there is no common clock. ``time_s`` is plant time; ``sent_s`` is the sender's wall clock
(Unix), for people and logs: no decision rests on it, because clocks differ between hosts.

No number of any message is infinite or not a number, and no text for people has a second line: it
stands in logs. What somebody goes by (set-points, limits, prices, times, counters) has a range as
well; what only tells of something is finite, so that an absurd value can still be told.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

QualityName = Literal["good", "stale", "bad"]
ModeName = Literal["monitor", "advisory", "closed_loop", "fallback", "stopped"]

LONGEST_LIFE_S = 86_400.0
"""Of a command: one that holds for longer is no longer a decision about now."""
LARGEST = 1e9
"""Of powers and prices: beyond any plant and any market, whatever the unit was mistaken for."""
LARGEST_COUNT = 2**53 - 1
"""The largest that every JSON reader takes over unchanged."""
LONGEST_TEXT = 1000
LARGEST_RATE = 1e5
"""Plant seconds a wall second."""

_PACE = re.compile(r"lockstep|real|rated|max|x(\d+(?:\.\d+)?)")


def _number(value: Any, info: ValidationInfo) -> Any:
    """Refuse what JSON does not call a number: ``true`` would pass for 1 MW, ``"5"`` for 5."""
    if info.mode == "json" and isinstance(value, (bool, str)):
        raise ValueError("expected a number")
    return value


def one_line(text: str) -> str:
    """Return a text as it may stand in a log: without control characters, and not too long."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    return text[:LONGEST_TEXT]


Line = Annotated[str, AfterValidator(one_line)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
StepNumber = Annotated[int, Field(ge=-1, le=LARGEST_COUNT)]
"""A step of the plant in lock-step; -1 where there is no common clock."""
PlantSeconds = Annotated[float, Field(ge=0, le=1e11)]
"""Since the start of the data year."""
Power = Annotated[float, Field(ge=-LARGEST, le=LARGEST), BeforeValidator(_number)]
"""MW or Mvar."""
Limit = Annotated[float | None, Field(ge=0, le=LARGEST), BeforeValidator(_number)]
"""MW; None: no limit."""
Price = Annotated[float, Field(ge=-LARGEST, le=LARGEST), BeforeValidator(_number)]


class Message(BaseModel):
    """The base of all messages; unknown keys from a newer sender are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Status(Message):
    """Who is alive. Retained; the last will says ``online=False``.

    Attributes:
        process: Agent of the process that speaks for this one; empty where it speaks for itself.
            When that one is gone, so is this one.
    """

    agent: str
    online: bool
    role: Literal["edge", "device", "meter", "coordinator", "system", "simulator"]
    mode: ModeName | None = None
    version: str = ""
    detail: Line = ""
    process: Line = ""
    sent_s: float = 0.0


class Point(Message):
    """One measured value."""

    value: float | None
    quality: QualityName = "good"
    age_s: float = Field(0.0, ge=0)


class Telemetry(Message):
    """What a device or meter shows; point names are those of the readings' fields."""

    agent: str
    sequence: Count
    step: StepNumber = -1
    time_s: PlantSeconds
    points: dict[str, Point]
    mode: ModeName | None = None
    historical: bool = False
    sent_s: float = 0.0


class Command(Message):
    """A set-point for one device.

    Attributes:
        sequence: Grows with each command from one issuer; an older one is dropped.
        tap: Position of a tap changer; None leaves it to the device, or there is none.
        ttl_s: Life in plant seconds, counted by the receiver from receipt on its own
            clock; after it the device returns to fallback. At most `LONGEST_LIFE_S`.
        issuer: Who decided.
        reason: Why, for the log.
    """

    agent: str
    sequence: Count
    step: StepNumber = -1
    p_mw: Power
    q_mvar: Power = 0.0
    tap: Annotated[int | None, Field(ge=-1000, le=1000), BeforeValidator(_number)] = None
    ttl_s: Annotated[float, Field(gt=0, le=LONGEST_LIFE_S), BeforeValidator(_number)]
    issuer: Line
    reason: Line = ""
    sent_s: float = 0.0


class CommandResult(Message):
    """What became of a command, or (``sequence`` -1) of the device agent's own decision."""

    agent: str
    sequence: Annotated[int, Field(ge=-1, le=LARGEST_COUNT)]
    step: StepNumber = -1
    proposed_p_mw: float | None
    proposed_q_mvar: float | None
    applied_p_mw: float | None
    applied_q_mvar: float | None
    proposed_tap: Annotated[int | None, Field(ge=-LARGEST_COUNT, le=LARGEST_COUNT)] = None
    applied_tap: Annotated[int | None, Field(ge=-LARGEST_COUNT, le=LARGEST_COUNT)] = None
    reasons: tuple[str, ...] = ()
    written: bool
    read_back_ok: bool | None = None
    cycle_ms: float = Field(0.0, ge=0)


class ModeRequest(Message):
    """An operator's (or a rule's) wish to change a mode."""

    agent: str
    mode: ModeName
    issuer: Line
    reason: Line = ""


class LimitRequest(Message):
    """An operator's wish to change what a microgrid's connection may carry.

    Attributes:
        p_export_max_mw: Most that it may export; None: no limit.
        p_import_max_mw: Most that it may import, positive; None: no limit.
    """

    agent: str
    p_export_max_mw: Limit = None
    p_import_max_mw: Limit = None
    issuer: Line
    reason: Line = ""


class PolicyRequest(Message):
    """A wish about the policy that decides at a device.

    Attributes:
        action: ``promote`` its candidate, ``roll_back`` to the one before it, or only
            ``report``; the first two are for operators.
    """

    agent: str
    action: Literal["promote", "roll_back", "report"]
    issuer: Line
    reason: Line = ""


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
    decisions: Count = 0
    failures: Count = 0
    mean_difference: float = Field(0.0, ge=0)
    largest_difference: float = Field(0.0, ge=0)
    swaps: Count = 0
    rollbacks: Count = 0
    refused: Line = ""


class SystemSignal(Message):
    """What the DSO tells a coordinator: the price and, if any, limits at its connection.

    Attributes:
        day_ahead_usd_per_mwh: Prices of the plant day, one a profile step, or empty.
        p_export_max_mw: Most that it may export; None: no limit.
        p_import_max_mw: Most that it may import, positive; None: no limit.
    """

    agent: str
    sequence: Count
    step: StepNumber = -1
    time_s: PlantSeconds
    price_usd_per_mwh: Price
    day_ahead_usd_per_mwh: Annotated[tuple[Price, ...], Field(max_length=86_400)] = ()
    p_export_max_mw: Limit = None
    p_import_max_mw: Limit = None


class AgentReport(Message):
    """What a coordinator shows the operator of a step: offers, prices, whatever it may see.

    Attributes:
        features: Values by feature and field, e.g. ``MarketOffer`` with ``sell_mwh``.
    """

    agent: str
    sequence: Count
    step: StepNumber = -1
    time_s: PlantSeconds
    features: dict[str, dict[str, Finite]]


class Coordinated(Message):
    """What the operator's protocol has for one coordinator; answers its report.

    Attributes:
        sequence: That of the report which it answers; it answers no other.
        protocol: Who decided.
        signal: Named numbers, e.g. ``trade_mwh`` (positive = sells), ``price``, ``local_price``.
        action: The coordinator's action, where the protocol commands instead of telling.
    """

    agent: str
    sequence: Count
    step: StepNumber = -1
    protocol: str
    signal: dict[str, Finite] = Field(default_factory=dict)
    action: tuple[Finite, ...] | None = None


class MarketRecord(Message):
    """What the operator's protocol decided in a step, for everybody to see and to settle.

    Attributes:
        protocol: Which.
        participants: Who took part.
        missing: Who was waited for in vain.
        price_usd_per_mwh: The price that all of them have; None if there is no common one.
        energy_mwh: Energy that changed hands.
        fees_usd: What the market keeps.
        trades: Per trader: ``trade_mwh`` (positive = sold) and ``income_usd`` after fees.
        why: Why nothing was decided; empty if something was.
    """

    agent: str
    step: StepNumber = -1
    time_s: PlantSeconds
    protocol: str
    participants: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    price_usd_per_mwh: float | None = None
    energy_mwh: float = 0.0
    fees_usd: float = 0.0
    trades: dict[str, dict[str, Finite]] = Field(default_factory=dict)
    why: Line = ""


class Acted(Message):
    """An edge process says that all its devices have acted on this step."""

    agent: str
    step: Count


class PlantClock(Message):
    """The simulator's clock, sent at each step of the plant.

    Attributes:
        epoch: Grows with each start or reset of the simulator.
        pace: ``lockstep``, ``real``, ``max`` or ``x60`` and the like.
        step_s: Plant seconds a step.
    """

    epoch: Count
    step: Count
    time_s: PlantSeconds
    step_s: float = Field(gt=0, le=86_400)
    pace: str
    finished: bool = False

    @field_validator("pace")
    @classmethod
    def _pace_is_known(cls, value: str) -> str:
        known = _PACE.fullmatch(value)
        if known is None or not (known[1] is None or 0.0 < float(known[1]) <= LARGEST_RATE):
            raise ValueError(
                f"expected lockstep, real, rated, max or xK, 0 < K <= {LARGEST_RATE:g}"
            )
        return value


class AgentAccount(Message):
    """One agent's part in the account of a step."""

    reward: float
    cost_usd: float
    safety: float
    v_min_pu: float
    v_max_pu: float


class StepAccount(Message):
    """What the emulated plant knows and no agent may see: reward, cost, violations."""

    step: Count
    time_s: PlantSeconds
    agents: dict[str, AgentAccount]
    reward: float
    cost_usd: float
    violation_pu: float
    v_min_pu: float
    v_max_pu: float
    losses_mw: float
    price_usd_per_mwh: float
    tap_moves: Count = 0
    clipped: tuple[str, ...] = ()


class Decision(Message):
    """What a coordinator decided, how long it took, and where a shield moved it (``note``)."""

    agent: str
    step: StepNumber = -1
    time_s: PlantSeconds
    action: tuple[float, ...]
    decide_ms: float = Field(ge=0)
    policy: str = ""
    mode: ModeName = "closed_loop"
    note: Line = ""


class Alarm(Message):
    """Something that a person should see."""

    agent: str
    severity: Literal["info", "warning", "critical"]
    text: Line
    active: bool = True
    sent_s: float = 0.0
