"""The operator's signal: what the DSO says at each step, and what stands in for it in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from controller.allocation import Sequence
from heron.messaging.bus import Bus
from heron.messaging.topics import SIGNAL
from heron.messaging.wire import PlantClock, SystemSignal
from heron.powergrid.connection import NO_LIMITS, ConnectionLimits
from heron.powergrid.data_year import step_of_day
from heron.powergrid.setups import PriceFeed, Setup

LATE = 2.0
"""Control intervals without a signal after which the DSO counts as silent, free-running."""


class Desk(Protocol):
    """Where a round of the DSO's protocol is opened; `controller.market.OperatorDesk` is one."""

    def open(self, signal: SystemSignal) -> None:
        """Open the round of a signal."""
        ...


class SystemCycle:
    """The DSO's part: price and limits for every coordinator, at each step of the plant.

    Args:
        setup: Prices, names, limits.
        bus: Carries the signals.
        coordinators: Whom it tells.
        interval_s: Plant seconds between two decisions.
        desk: Opens a round of the DSO's protocol, where there is one.

    Attributes:
        limits: What each connection may carry; an operator changes it.
    """

    def __init__(
        self,
        setup: Setup,
        bus: Bus,
        coordinators: tuple[str, ...],
        interval_s: float,
        desk: Desk | None = None,
    ) -> None:
        self._prices = PriceFeed(setup.config, setup.profiles, interval_s)
        self._bus = bus
        self._coordinators = coordinators
        self._desk = desk
        self._sequence = Sequence()
        self.limits: dict[str, ConnectionLimits] = {
            m.name: m.limits for m in setup.config.microgrid_configs
        }

    async def run(self, clock: PlantClock) -> None:
        """Signal one step: the price of the control interval that starts now."""
        now_s = clock.time_s
        price, day_ahead = self._prices.at(now_s)
        for agent in self._coordinators:
            limits = self.limits.get(agent, NO_LIMITS)
            signal = SystemSignal(
                agent=agent,
                sequence=self._sequence.next(),
                step=clock.step if clock.pace == "lockstep" else -1,
                time_s=now_s,
                price_usd_per_mwh=price,
                day_ahead_usd_per_mwh=day_ahead,
                p_export_max_mw=limits.p_export_max_mw,
                p_import_max_mw=limits.p_import_max_mw,
            )
            if self._desk is not None:
                self._desk.open(signal)
            await self._bus.publish(SIGNAL, signal, agent=agent)


class StandIn:
    """What coordinators go by while the DSO of another process says nothing.

    The plant's clock goes on and says so: in lock-step it repeats a step that nobody acts on,
    free-running it moves past the next decision. Price and limits are then the last known: from
    the day-ahead prices where they were given, else the last price.

    Args:
        interval_s: Plant seconds between two decisions.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._last: dict[str, SystemSignal] = {}
        self._clock: PlantClock | None = None

    def hear(self, agent: str, signal: SystemSignal) -> None:
        """Take what the DSO says."""
        self._last[agent] = signal

    def needed(self, clock: PlantClock) -> Mapping[str, SystemSignal]:
        """Return a signal for each coordinator that the DSO has left without one.

        Args:
            clock: Newest message of the plant's clock.
        """
        before, self._clock = self._clock, clock
        lockstep = clock.pace == "lockstep"
        if lockstep and not _same_step(before, clock):
            return {}
        found = {}
        for agent, last in self._last.items():
            late_s = abs(clock.time_s - last.time_s)  # a year ends
            due = last.step != clock.step if lockstep else late_s >= LATE * self._interval_s
            if due:
                found[agent] = self._last[agent] = self._instead(last, clock)
        return found

    def _instead(self, last: SystemSignal, clock: PlantClock) -> SystemSignal:
        prices = last.day_ahead_usd_per_mwh
        price = last.price_usd_per_mwh
        if prices:
            price = prices[step_of_day(clock.time_s, len(prices))]
        return last.model_copy(
            update={
                "step": clock.step if clock.pace == "lockstep" else -1,
                "time_s": clock.time_s,
                "price_usd_per_mwh": price,
            }
        )


def _same_step(before: PlantClock | None, now: PlantClock) -> bool:
    return before is not None and (before.epoch, before.step) == (now.epoch, now.step)
