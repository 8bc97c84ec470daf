"""Who is alive, and how old what they said is.

The fleet holds the newest telemetry of every device and meter. A coordinator asks it for a
view, and gets one only when every point that control needs is there, good and fresh:
otherwise it is told, in words, what is missing.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from heron.messaging.presence import is_there
from heron.messaging.topics import TELEMETRY
from heron.messaging.wire import Status, Telemetry
from heron.powergrid.quantities import DeviceReading, MeterReading

NEEDED = ("p_mw", "q_mvar", "v_pu")
"""Points without which there is no reading."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What an agent last said, and when it came in."""

    telemetry: Telemetry
    at_s: float

    def age_s(self, now_s: float) -> float:
        """Wall seconds since the value was read, as far as sender and receiver know.

        Counted from receipt, plus the age that the sender itself gave.
        """
        own = max((p.age_s for p in self.telemetry.points.values()), default=0.0)
        return now_s - self.at_s + own


@dataclass(frozen=True, slots=True)
class Readings:
    """Everything that a coordinator needs, all of it good and fresh.

    Attributes:
        meter: At the microgrid's connection.
        devices: By name.
        time_s: Plant time of the oldest of them, as who read it knew it.
    """

    meter: MeterReading
    devices: Mapping[str, DeviceReading]
    time_s: float


@dataclass(frozen=True, slots=True)
class Missing:
    """What keeps a coordinator from deciding: agent to reason."""

    reasons: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(f"{agent} {reason}" for agent, reason in self.reasons.items())


class Fleet:
    """The newest of every agent. One writer, many readers, one event loop.

    Args:
        now: Monotonic clock.
        max_age_s: Wall seconds after which telemetry is stale; not counted in lock-step,
            where the step's number says whether it is of now.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.monotonic,
        max_age_s: float | None = TELEMETRY.max_age_s,
    ) -> None:
        self._now = now
        self._max_age_s = math.inf if max_age_s is None else max_age_s
        self._heard: dict[str, Heard] = {}
        self._status: dict[str, Status] = {}
        self._changed = asyncio.Condition()

    @property
    def statuses(self) -> Mapping[str, Status]:
        """Last status of each agent."""
        return MappingProxyType(self._status)

    def alive(self, agent: str) -> bool | None:
        """Whether an agent said that it is online; None if it never said anything."""
        return is_there(agent, self._status) if agent in self._status else None

    def heard(self, agent: str) -> Heard | None:
        """Return what an agent last said."""
        return self._heard.get(agent)

    async def hear(self, agent: str, telemetry: Telemetry) -> bool:
        """Take telemetry; one that is historical or older than what is known is dropped.

        Returns:
            Whether it repeats a step that the agent had spoken of before.
        """
        if telemetry.historical:
            return False
        known = self._heard.get(agent)
        if known is not None and _older(telemetry, known.telemetry):
            return False
        self._heard[agent] = Heard(telemetry, self._now())
        await self._notify()
        return known is not None and 0 <= telemetry.step == known.telemetry.step

    async def note(self, agent: str, status: Status) -> None:
        """Take a status. An agent that comes or goes starts to count anew.

        Only devices' statuses and their edges' count here: a coordinator has the name of its meter.
        """
        if status.role not in {"device", "edge"}:
            return
        known = self._status.get(agent)
        self._status[agent] = status
        if known is not None and known.online != status.online:
            for name in (agent, *self._looked_after_by(agent)):
                self._heard.pop(name, None)
        await self._notify()

    def _looked_after_by(self, process: str) -> list[str]:
        return [name for name, status in self._status.items() if status.process == process]

    async def forget(self) -> None:
        """Drop all telemetry: the plant was started anew."""
        self._heard.clear()
        await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def readings(self, meter: str, devices: Iterable[str], step: int = -1) -> Readings | Missing:
        """Return the readings of a microgrid.

        Args:
            meter: Its meter.
            devices: Its devices, in the order of the configuration.
            step: In lock-step, the step that the telemetry must be of; -1: by age.
        """
        missing: dict[str, str] = {}
        for agent in (meter, *devices):
            reason = self._why_not(agent, step)
            if reason is not None:
                missing[agent] = reason
        if missing:
            return Missing(missing)
        return Readings(
            _meter_reading(self._heard[meter].telemetry),
            {d: _device_reading(self._heard[d].telemetry) for d in devices},
            min(self._heard[agent].telemetry.time_s for agent in (meter, *devices)),
        )

    async def wait_for_step(self, meter: str, devices: Iterable[str], step: int) -> None:
        """Wait until every agent of a microgrid has spoken about this step or a later one.

        An agent whose telemetry of the step is bad has spoken, too.
        """
        agents = (meter, *devices)

        def spoken() -> bool:
            return all(a in self._heard and self._heard[a].telemetry.step >= step for a in agents)

        async with self._changed:
            await self._changed.wait_for(spoken)

    def _why_not(self, agent: str, step: int) -> str | None:
        heard = self._heard.get(agent)
        if self.alive(agent) is False:
            return "is offline"
        if heard is None:
            return "was not heard yet"
        if step >= 0 and heard.telemetry.step != step:
            return f"spoke of step {heard.telemetry.step}"
        if step < 0 and heard.age_s(self._now()) > self._max_age_s:
            return f"is older than {self._max_age_s:g} s"
        for name in NEEDED:
            point = heard.telemetry.points.get(name)
            if point is None or point.value is None:
                return f"lacks {name}"
            if point.quality != "good":
                return f"has {point.quality} {name}"
        return None


def _older(new: Telemetry, known: Telemetry) -> bool:
    """Tell whether ``new`` was overtaken. A sender that restarts counts from the start again,
    which shows in a plant time that has not gone back."""
    if new.step >= 0 and known.step >= 0 and new.step != known.step:
        return new.step < known.step and new.time_s < known.time_s
    return new.sequence < known.sequence and new.time_s < known.time_s


def _value(telemetry: Telemetry, name: str) -> float | None:
    point = telemetry.points.get(name)
    return None if point is None or point.quality != "good" else point.value


def _meter_reading(telemetry: Telemetry) -> MeterReading:
    v = _or_nan(_value(telemetry, "v_pu"))
    low, high = _value(telemetry, "v_min_pu"), _value(telemetry, "v_max_pu")
    return MeterReading(
        p_mw=_or_nan(_value(telemetry, "p_mw")),
        q_mvar=_or_nan(_value(telemetry, "q_mvar")),
        v_pu=v,
        v_min_pu=v if low is None else low,
        v_max_pu=v if high is None else high,
    )


def _device_reading(telemetry: Telemetry) -> DeviceReading:
    meter = _meter_reading(telemetry)
    connected, tap = _value(telemetry, "connected"), _value(telemetry, "tap")
    return DeviceReading(
        p_mw=meter.p_mw,
        q_mvar=meter.q_mvar,
        v_pu=meter.v_pu,
        v_min_pu=meter.v_min_pu,
        v_max_pu=meter.v_max_pu,
        soc=_value(telemetry, "soc"),
        available_mw=_value(telemetry, "available_mw"),
        connected=connected is None or connected != 0.0,
        tap=None if tap is None else round(tap),
        loading_pct=_value(telemetry, "loading_pct"),
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
