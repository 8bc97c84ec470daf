import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from edge.commands import CommandInbox
from edge.cycle import DeviceCycle
from edge.fallback import BumplessReturn, SafeSetpoint
from edge.runtime import EdgeRuntime, EdgeSettings, Parts, rate_of
from edge.sensor import Sensor
from edge.timing import PlantTime
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.topics import ACTED, CLOCK, COMMAND, MODE, RESULT, STATUS, TELEMETRY
from heron.messaging.wire import Command, Message, ModeRequest, PlantClock, Telemetry
from heron.powergrid.agents import ESS
from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.kept_orders import KeptOrders
from heron.powergrid.modes import Mode, ModeMachine
from heron.powergrid.quantities import DeviceReading, MeterReading, Setpoint
from heron.testing.links import InMemoryLink

STEP_S = 900.0
CONFIG = StorageConfig(bus="b", p_min_mw=-0.5, p_max_mw=0.5, e_capacity_mwh=9.0, safe_p_mw=0.05)
AT_HALF = DeviceReading(p_mw=0.0, q_mvar=0.0, v_pu=1.0, v_min_pu=1.0, v_max_pu=1.0, soc=0.5)
AT_PCC = MeterReading(p_mw=-0.2, q_mvar=0.0, v_pu=1.0, v_min_pu=1.0, v_max_pu=1.0)


def wall() -> float:
    return asyncio.get_running_loop().time()


class Rig:
    """Two batteries and a meter behind in-memory links, and somebody who listens."""

    def __init__(
        self,
        *,
        lockstep: bool,
        mode: Mode = Mode.CLOSED_LOOP,
        orders: Path | None = None,
        clock: Literal["plant", "wall"] = "plant",
    ) -> None:
        self.hub = MemoryHub()
        self.bus = InMemoryBus(self.hub)
        self.others = InMemoryBus(self.hub)
        self.time = PlantTime(wall, rate=STEP_S, lockstep=lockstep)
        self.links = {n: InMemoryLink(n, AT_HALF, now=wall) for n in ("ess1", "ess2")}
        self.meter = InMemoryLink("MG1", AT_PCC, now=wall)
        self.heard: list[tuple[str, str, Message]] = []
        self.stop = asyncio.Event()
        self.sequence = 0
        self.settings = EdgeSettings(edge_id="edge-1", period_s=1.0, clock=clock)
        self.runtime = EdgeRuntime(
            self.settings,
            self.bus,
            self.time,
            Parts(
                devices={n: self._cycle(link, mode) for n, link in self.links.items()},
                meters={"MG1": Sensor(self.meter, self.time, 3.0)},
            ),
            orders=None if orders is None else KeptOrders(orders),
        )

    def _cycle(self, link: InMemoryLink, mode: Mode) -> DeviceCycle:
        return DeviceCycle(
            link=link,
            agent=ESS("ess", device_state_config=CONFIG),
            modes=ModeMachine(mode),
            inbox=CommandInbox(self.time),
            fallback=SafeSetpoint(CONFIG),
            time=self.time,
            sensor=Sensor(link, self.time, 3.0),
            bumpless=BumplessReturn(),
            first_command_s=3 * STEP_S,
        )

    async def command(self, agent: str, p_mw: float, *, step: int = -1) -> None:
        self.sequence += 1
        command = Command(
            agent=agent,
            sequence=self.sequence,
            step=step,
            p_mw=p_mw,
            ttl_s=3 * STEP_S,
            issuer="MG1",
        )
        await self.others.publish(COMMAND, command, agent=agent)

    async def clock(self, step: int, *, epoch: int = 1) -> None:
        clock = PlantClock(
            epoch=epoch, step=step, time_s=step * STEP_S, step_s=STEP_S, pace="lockstep"
        )
        await self.others.publish(CLOCK, clock)

    def of(self, topic: str) -> list[tuple[str, Message]]:
        return [(agent, message) for name, agent, message in self.heard if name == topic]

    async def until(self, true: Callable[[], bool], within_s: float = 10.0) -> None:
        for _ in range(round(within_s / 0.01)):
            if true():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"not within {within_s} s")

    def acted(self, step: int) -> Callable[[], bool]:
        return lambda: any(m.step == step for _, m in self.of("acted"))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        async with self.bus, self.others, asyncio.TaskGroup() as group:
            ears = [
                group.create_task(self._listen(topic))
                for topic in (TELEMETRY, RESULT, ACTED, STATUS)
            ]
            await asyncio.sleep(0)
            edge = group.create_task(self.runtime.run(self.stop))
            await asyncio.sleep(0.01)
            yield self
            self.stop.set()
            await edge
            await asyncio.sleep(0.01)
            for ear in ears:
                ear.cancel()

    async def _listen(self, topic) -> None:
        async with self.others.subscribe(topic) as messages:
            async for agent, message in messages:
                self.heard.append((topic.name, agent, message))


async def test_a_lockstep_step_reads_tells_waits_writes_and_says_acted() -> None:
    async with Rig(lockstep=True).running() as rig:
        await rig.clock(0)
        await rig.until(lambda: len(rig.of("telemetry")) == 3)
        assert {agent for agent, _ in rig.of("telemetry")} == {"ess1", "ess2", "MG1"}
        assert rig.of("acted") == []
        await rig.command("ess1", 0.3, step=0)
        await rig.command("ess2", -0.9, step=0)
        await rig.until(rig.acted(0))
        assert rig.links["ess1"].held == Setpoint(0.3)
        assert rig.links["ess2"].held == Setpoint(-0.5)
        results = dict(rig.of("result"))
        assert (results["ess1"].step, results["ess1"].written) == (0, True)
        assert results["ess2"].reasons == ("power_limit",)
        assert (results["ess2"].proposed_p_mw, results["ess2"].applied_p_mw) == (-0.9, -0.5)


async def test_telemetry_carries_every_point_of_the_reading_with_quality() -> None:
    async with Rig(lockstep=True).running() as rig:
        await rig.clock(3)
        await rig.until(lambda: len(rig.of("telemetry")) == 3)
        message = dict(rig.of("telemetry"))["ess1"]
        assert isinstance(message, Telemetry)
        assert (message.step, message.time_s, message.mode) == (3, 2700.0, "closed_loop")
        assert message.points["soc"].value == 0.5
        assert {"p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu", "soc", "connected"} <= set(
            message.points
        )
        assert all(p.quality == "good" for p in message.points.values())


async def test_a_command_of_another_step_does_not_count() -> None:
    async with Rig(lockstep=True).running() as rig:
        await rig.clock(5)
        await rig.until(lambda: len(rig.of("telemetry")) == 3)
        for agent in rig.links:
            await rig.command(agent, 0.3, step=4)
        await asyncio.sleep(0.5)
        assert rig.of("acted") == []
        assert rig.runtime.units.counters.refused_commands == 2


async def test_without_commands_a_step_ends_in_fallback_and_does_not_hold_the_plant() -> None:
    async with Rig(lockstep=True).running() as rig:
        for step in range(6):
            await rig.clock(step)
            await rig.until(rig.acted(step), within_s=40.0)
        assert {c.modes.mode for c in rig.runtime.units.devices.values()} == {Mode.FALLBACK}
        assert rig.links["ess1"].held == Setpoint(0.05)
        began = wall()
        await rig.clock(6)
        await rig.until(rig.acted(6))
        assert wall() - began < 2.0
        # The coordinator is back: the next step is a commanded one again.
        await rig.clock(7)
        await rig.until(lambda: any(m.step == 7 for _, m in rig.of("telemetry")))
        for agent in rig.links:
            await rig.command(agent, 0.2, step=7)
        await rig.until(rig.acted(7))
        assert {c.modes.mode for c in rig.runtime.units.devices.values()} == {Mode.CLOSED_LOOP}
        assert rig.links["ess2"].held == Setpoint(0.2)


async def test_telemetry_is_said_again_while_commands_are_waited_for() -> None:
    async with Rig(lockstep=True).running() as rig:
        await rig.clock(0)
        await asyncio.sleep(3.5)
        assert sum(agent == "ess1" for agent, _ in rig.of("telemetry")) == 4


async def test_a_clock_said_again_is_answered_again() -> None:
    async with Rig(lockstep=True, mode=Mode.MONITOR).running() as rig:
        await rig.clock(0)
        await rig.until(rig.acted(0))
        await rig.clock(0)
        await rig.until(lambda: len(rig.of("acted")) == 2)
        assert rig.links["ess1"].written == []


async def test_a_restarted_plant_ends_the_step_in_hand() -> None:
    async with Rig(lockstep=True).running() as rig:
        await rig.clock(40)
        await rig.until(lambda: len(rig.of("telemetry")) == 3)
        await rig.clock(0, epoch=2)
        await rig.until(lambda: any(m.step == 0 for _, m in rig.of("telemetry")))
        for agent in rig.links:
            await rig.command(agent, 0.1, step=0)
        await rig.until(rig.acted(0))
        assert not rig.acted(40)()
        assert rig.links["ess1"].held == Setpoint(0.1)


async def test_a_broker_that_was_away_does_not_stop_the_lockstep() -> None:
    async with Rig(lockstep=True).running() as rig:
        await rig.clock(0)
        await rig.until(lambda: len(rig.of("telemetry")) == 3)
        rig.bus.lose()
        await asyncio.sleep(2.0)
        await rig.bus.restore()
        for agent in rig.links:
            await rig.command(agent, 0.1, step=0)
        await rig.until(rig.acted(0))


async def test_free_running_devices_take_turns_and_obey_commands() -> None:
    async with Rig(lockstep=False).running() as rig:
        for _ in range(5):
            await rig.command("ess1", 0.3)
            await asyncio.sleep(1.0)
        assert rig.links["ess1"].held == Setpoint(0.3)
        assert rig.runtime.units.counters.overruns == 0
        assert rig.runtime.units.counters.cycles in (10, 11)


async def test_free_running_an_expired_command_leads_to_fallback_and_back() -> None:
    async with Rig(lockstep=False).running() as rig:
        await rig.command("ess1", 0.3)
        await asyncio.sleep(5.0)
        assert rig.runtime.units.devices["ess1"].modes.mode is Mode.FALLBACK
        assert rig.links["ess1"].held == Setpoint(0.05)
        modes = [m.mode for agent, m in rig.of("status") if agent == "ess1"]
        assert modes == ["closed_loop", "fallback"]
        await rig.command("ess1", 0.3)
        await asyncio.sleep(2.0)
        assert rig.links["ess1"].held == Setpoint(0.3)


async def test_a_slow_device_does_not_delay_the_others() -> None:
    async with Rig(lockstep=False).running() as rig:
        rig.links["ess1"].trouble.delay_s = 2.5
        for _ in range(10):
            await rig.command("ess2", 0.2)
            await asyncio.sleep(1.0)
        assert sum(agent == "ess2" for agent, _ in rig.of("telemetry")) >= 9
        assert rig.runtime.units.counters.overruns > 0


async def test_an_operator_stops_one_device_or_all() -> None:
    async with Rig(lockstep=False).running() as rig:
        for agent in ("ess1", "all"):
            request = ModeRequest(agent=agent, mode="stopped", issuer="operator:eva")
            await rig.others.publish(MODE, request, agent=agent)
            await asyncio.sleep(1.1)
            stopped = [
                n for n, c in rig.runtime.units.devices.items() if c.modes.mode is Mode.STOPPED
            ]
            assert stopped == (["ess1"] if agent == "ess1" else ["ess1", "ess2"])
        assert rig.links["ess2"].held == Setpoint(0.05)


async def test_what_an_operator_stopped_stays_stopped_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "orders.json"
    async with Rig(lockstep=False, orders=file).running() as rig:
        stop = ModeRequest(agent="ess1", mode="stopped", issuer="operator:eva", reason="fuse out")
        await rig.others.publish(MODE, stop, agent="ess1")
        await asyncio.sleep(1.1)
    async with Rig(lockstep=False, orders=file).running() as rig:
        for name in ("ess1", "ess2"):
            await rig.command(name, 0.3)
        await asyncio.sleep(2.0)
        assert [rig.links[name].held for name in ("ess1", "ess2")] == [
            Setpoint(0.05),
            Setpoint(0.3),
        ]
        said = next(m for agent, m in rig.of("status") if agent == "ess1")
        assert said.mode == "stopped"
        go = ModeRequest(agent="ess1", mode="closed_loop", issuer="operator:eva")
        await rig.others.publish(MODE, go, agent="ess1")
        await rig.command("ess1", 0.3)
        await asyncio.sleep(2.0)
        assert rig.links["ess1"].held == Setpoint(0.3)
    async with Rig(lockstep=False, orders=file).running() as rig:
        assert rig.runtime.units.devices["ess1"].modes.mode is Mode.CLOSED_LOOP


async def test_a_coordinator_cannot_end_an_operators_stop() -> None:
    async with Rig(lockstep=False).running() as rig:
        stop = ModeRequest(agent="ess1", mode="stopped", issuer="operator")
        go = ModeRequest(agent="ess1", mode="closed_loop", issuer="MG1")
        await rig.others.publish(MODE, stop, agent="ess1")
        await rig.others.publish(MODE, go, agent="ess1")
        await rig.command("ess1", 0.4)
        await asyncio.sleep(2.0)
        assert rig.runtime.units.devices["ess1"].modes.mode is Mode.STOPPED
        assert rig.links["ess1"].held == Setpoint(0.05)


async def test_leaving_sends_the_safe_setpoint_and_says_offline() -> None:
    async with Rig(lockstep=False).running() as rig:
        await rig.command("ess1", 0.3)
        await asyncio.sleep(1.5)
    assert rig.links["ess1"].held == Setpoint(0.05)
    last = dict(rig.of("status"))
    assert {agent: m.online for agent, m in last.items()} == {"ess1": False, "ess2": False}


@pytest.mark.parametrize("mode", [Mode.MONITOR, Mode.ADVISORY])
async def test_a_watching_edge_leaves_without_writing(mode: Mode) -> None:
    async with Rig(lockstep=False, mode=mode).running() as rig:
        await rig.command("ess1", 0.3)
        await asyncio.sleep(3.0)
    assert [link.written for link in rig.links.values()] == [[], []]


@pytest.mark.parametrize(
    ("pace", "rate"), [("real", 1.0), ("x60", 60.0), ("x0.5", 0.5), ("max", None), ("x", None)]
)
def test_the_pace_gives_the_rate(pace: str, rate: float | None) -> None:
    assert rate_of(pace) == rate


async def test_a_device_that_is_handed_back_gets_its_safe_setpoint_and_then_nothing() -> None:
    async with Rig(lockstep=False).running() as rig:
        link = rig.links["ess1"]
        await rig.command("ess1", 0.3)
        await rig.until(lambda: link.held == Setpoint(0.3))
        order = ModeRequest(agent="ess1", mode="monitor", issuer="operator:ann", reason="look")
        await rig.others.publish(MODE, order, agent="ess1")
        await rig.until(lambda: link.held == Setpoint(0.05))
        written = len(link.written)
        await rig.command("ess1", 0.4)
        await asyncio.sleep(30.0)
        assert len(link.written) == written
    assert link.held == Setpoint(0.05)
    assert len(link.written) == written


@pytest.mark.parametrize("pace", ["x900", "x0.0001"])
async def test_beside_real_devices_nobody_on_the_broker_sets_the_clock(pace: str) -> None:
    async with Rig(lockstep=False, clock="wall").running() as rig:
        before_s = rig.time.time_s()
        clock = PlantClock(epoch=7, step=1, time_s=1e6, step_s=900.0, pace=pace)
        await rig.others.publish(CLOCK, clock)
        await asyncio.sleep(10.0)
        assert rig.time.rate == STEP_S
        assert rig.time.time_s() - before_s == pytest.approx(10.0 * STEP_S)
