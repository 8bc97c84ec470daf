"""The whole loop as processes: broker, simulator, controller, edge.

The broker starts first, then simulator and controller together, and the edge when both are
ready. They end in the other order: the edge first, while there is still a plant to send the safe
set-points to. One that dies ends the rest.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from heron.cli.plan import LoopPlan, LoopResult, Memory
from heron.cli.processes import Child, ChildFailed
from heron.errors import HeronError
from heron.messaging.bus import Bus
from heron.messaging.embedded import LOOPBACK, EmbeddedBroker, free_port
from heron.messaging.mqtt import MqttBus
from heron.messaging.observer import Observer, Recorder
from heron.messaging.presence import is_there
from heron.messaging.tally import Tally

logger = logging.getLogger(__name__)

READY_S = 180.0
"""Wall seconds until a process is ready; at the very first start the engine compiles."""
MEMORY_EVERY_S = 1.0
GRACE_S = 30.0
"""Wall seconds between a process' end without error and the message that explains it: on a machine
that has more to do than it can, the message may wait long in our own queue."""

FREE_PERIOD_S = 0.1
"""Wall seconds between two cycles of a device, and two steps of the plant, without lock-step."""

SIMULATE, CONTROLLER, EDGE, BROKER, UP = "simulate", "controller", "edge", "broker", "up"


@dataclass(frozen=True, slots=True)
class _Command:
    """One process: ``agent`` is whose status says that it is ready."""

    name: str
    argv: list[str]
    agent: str


class LoopRunner:
    """Runs a plan once.

    Args:
        result: Filled while it runs.
        stop: Set it to end the run.
        watch: Runs beside the loop once everything is ready, e.g. the live table.
    """

    def __init__(
        self,
        plan: LoopPlan,
        result: LoopResult,
        stop: asyncio.Event,
        watch: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._plan = plan
        self._result = result
        self._stop = stop
        self._watch = watch
        self._pids: dict[str, int] = {}

    async def run(self) -> None:
        """Start everything, run, and end everything.

        Raises:
            HeronError: Something could not start, or died; nothing is left running.
        """
        plan, result = self._plan, self._result
        async with AsyncExitStack() as outer:
            url, broker = plan.broker, None
            if url is None:
                broker = await outer.enter_async_context(EmbeddedBroker())
                url = broker.url
                self._pids[BROKER] = broker.pid
            bus = await outer.enter_async_context(MqttBus(url, site=plan.site))
            result.bus = bus.counters
            recorder = None
            if plan.record is not None:
                plan.record.parent.mkdir(parents=True, exist_ok=True)
                recorder = outer.enter_context(Recorder(plan.record))
            observer = Observer(bus, result.tally, recorder)
            try:
                async with AsyncExitStack() as children:
                    await self._supervise(observer, bus, children, url, broker)
            except BaseExceptionGroup as errors:
                ours = _first_of_ours(errors)
                if ours is None:
                    raise
                raise ours from errors
            finally:
                result.wall_s = time.monotonic() - result.started_s
                self._collect_edge_report()

    async def _supervise(
        self,
        observer: Observer,
        bus: Bus,
        children: AsyncExitStack,
        url: str,
        broker: EmbeddedBroker | None,
    ) -> None:
        async with asyncio.TaskGroup() as group:
            listening = asyncio.Event()
            jobs = [group.create_task(observer.run(listening))]
            if broker is not None:
                jobs.append(group.create_task(_broker_must_live(broker)))
            await listening.wait()
            await self._require_free_site(observer, bus)
            if await self._start(observer, children, group, jobs, url):
                jobs.append(group.create_task(self._sample_memory()))
                if self._watch is not None:
                    jobs.append(group.create_task(_as_coroutine(self._watch)))
                await self._unless_stopped(observer.until(_finished))
                await observer.caught_up()
            self._result.outcome = "finished" if _finished(self._result.tally) else "stopped"
            for job in jobs:
                job.cancel()

    async def _require_free_site(self, observer: Observer, bus: Bus) -> None:
        """Refuse a site on which others run: two of each would command the same devices."""
        statuses = await observer.roll_call(UP)
        others = sorted(
            agent
            for agent, status in statuses.items()
            if status.online and status.role in ("simulator", "edge")
        )
        if others:
            where = f"site {self._plan.site!r} on {bus.address}"
            what = f"is in use ({', '.join(others)} online): stop them, or choose another --site"
            raise HeronError(f"{where} {what}")

    async def _start(
        self,
        observer: Observer,
        children: AsyncExitStack,
        group: asyncio.TaskGroup,
        jobs: list[asyncio.Task[None]],
        url: str,
    ) -> bool:
        """Start one stage after the other; False when told to stop meanwhile."""
        port = free_port() if self._plan.port is None else self._plan.port
        for stage in self._stages(url, port):
            for command in stage:
                child = Child(command.name, command.argv, self._plan.folder / f"{command.name}.log")
                await children.enter_async_context(child)
                self._pids[command.name] = child.pid
                jobs.append(group.create_task(self._must_live(child, observer)))
            for command in stage:
                try:
                    async with asyncio.timeout(READY_S):
                        ready = observer.until(partial(_online, command.agent))
                        if not await self._unless_stopped(ready):
                            return False
                except TimeoutError as error:
                    text = f"{command.name} was not ready within {READY_S:.0f} s"
                    raise HeronError(text) from error
                logger.info("ready name=%s", command.name)
        return True

    def _stages(self, url: str, port: int) -> list[list[_Command]]:
        """Return what starts together, in the order of the start.

        The edge comes last: it writes to no device unless somebody can decide.
        """
        plan = self._plan
        common = ["--setup", plan.setup, "--broker", url, "--site", plan.site]
        simulate = [
            *("simulate", *common, "--host", LOOPBACK, "--port", str(port)),
            *("--seed", str(plan.seed), "--start", plan.start, "--verbose"),
            *_pacing(plan),
        ]
        controller = ["controller", *common, *plan.controller]
        if plan.protocol is not None:
            controller += ["--protocol", plan.protocol]
        if plan.policy is not None:
            controller += ["--policy", plan.policy]
        if plan.http is not None:
            controller += ["--http", str(plan.http)]
        edge = [
            *("edge", *common, "--modbus", f"{LOOPBACK}:{port}", "--edge-id", EDGE),
            *("--report", str(self._edge_report_path)),
        ]
        if plan.free_rate is not None:
            edge += ["--pace", f"x{plan.free_rate:g}", "--period", str(FREE_PERIOD_S)]
        return [
            [
                _Command(SIMULATE, simulate, "simulator"),
                _Command(CONTROLLER, controller, plan.dso),
            ],
            [_Command(EDGE, edge, EDGE)],
        ]

    @property
    def _edge_report_path(self) -> Path:
        return self._plan.folder / "edge.json"

    async def _must_live(self, child: Child, observer: Observer) -> None:
        """Watch one process: it may end only with code 0, and after the plant has finished."""
        code = await child.wait()
        if code == 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(GRACE_S):
                    await observer.until(_finished)
                return
        raise ChildFailed(child.name, code, child.last_lines)

    async def _unless_stopped(self, waiting: Awaitable[None]) -> bool:
        """Wait for something, or for the stop; False when stopped."""
        tasks = [asyncio.ensure_future(waiting), asyncio.ensure_future(self._stop.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return not self._stop.is_set()

    async def _sample_memory(self) -> None:
        pids = {**self._pids, UP: os.getpid()}
        while True:
            for name, pid in pids.items():
                self._result.memory.setdefault(name, Memory()).sample(pid)
            await asyncio.sleep(MEMORY_EVERY_S)

    def _collect_edge_report(self) -> None:
        try:
            text = self._edge_report_path.read_text(encoding="utf-8")
        except OSError:
            return
        try:
            self._result.edges[EDGE] = json.loads(text)
        except json.JSONDecodeError as error:
            logger.warning("edge_report_unreadable reason=%s", error)


def _pacing(plan: LoopPlan) -> list[str]:
    """Return the simulator's options of time: lock-step, or on its own."""
    steps_a_step = 1
    if plan.free_rate is None:
        options = ["--pace", "lockstep", "--wait-for", EDGE]
        if plan.min_step_s > 0:
            options += ["--min-step-s", str(plan.min_step_s)]
    else:
        # The plant moves about as often as the devices are read, in whole parts of a step.
        steps_a_step = max(1, round(plan.step_s / (plan.free_rate * FREE_PERIOD_S)))
        plant_dt_s = plan.step_s / steps_a_step
        options = ["--pace", f"x{plan.free_rate:g}", "--plant-dt", f"{plant_dt_s:.9g}"]
    if plan.steps is not None:
        options += ["--steps", str(plan.steps * steps_a_step)]
    return options


async def _broker_must_live(broker: EmbeddedBroker) -> None:
    raise ChildFailed(BROKER, await broker.wait(), ())


async def _as_coroutine(call: Callable[[], Awaitable[None]]) -> None:
    await call()


def _finished(tally: Tally) -> bool:
    return tally.clock is not None and tally.clock.finished


def _online(agent: str, tally: Tally) -> bool:
    return is_there(agent, tally.statuses)


def _first_of_ours(errors: BaseExceptionGroup[Any]) -> HeronError | None:
    """Return the error that ended the group, if it is ours; a bug is not."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, HeronError) else None
