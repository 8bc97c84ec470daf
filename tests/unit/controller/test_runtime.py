"""The controller over an in-memory bus, against a real plant stepped in lock-step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import numpy as np
import pytest

from controller.minds import build_minds
from controller.runtime import ControllerRuntime
from heron.errors import PolicyError
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.topics import ALARM, CLOCK, COMMAND, STATUS
from heron.messaging.wire import Status
from heron.policy.together import decide
from heron.powergrid.setups import Setup

STEP_S = 900.0
DAY = 40
Controlled = Callable[..., AbstractAsyncContextManager[tuple[Any, ControllerRuntime]]]


@pytest.mark.parametrize("policy", ["none", "rule", "shield-network:rule"])
async def test_the_deployed_coordinators_do_exactly_what_the_environment_does(
    setup: Setup, controlled: Controlled, policy: str
) -> None:
    from training.envs import MultiAgentMicrogrids

    steps = 24
    env = MultiAgentMicrogrids(setup)
    obs, _ = env.reset(seed=0, options={"day": DAY})
    minds = build_minds(setup, [policy])
    policies = {mind.agent_id: mind.policy for mind in minds}
    async with (
        controlled(setup, policy) as (field, _),
        field.bus.subscribe(COMMAND) as messages,
    ):
        for _ in range(steps):
            await field.bus.publish(CLOCK, field.clock())
            await field.report()
            commands = dict([await anext(messages) for _ in setup.config.device_ids])
            assert {c.step for c in commands.values()} == {field.now.step}
            field.act(commands)
            obs, *_ = env.step(decide(policies, obs))
            for name, reading in field.now.devices.items():
                expected = env.measurements.devices[name]
                assert (reading.p_mw, reading.q_mvar, reading.soc) == (
                    expected.p_mw,
                    expected.q_mvar,
                    expected.soc,
                )
    assert field.now.meters == env.measurements.meters


async def test_a_command_lives_for_three_control_intervals(
    setup: Setup, controlled: Controlled
) -> None:
    async with (
        controlled(setup, "none") as (field, _),
        field.bus.subscribe(COMMAND) as messages,
    ):
        await field.bus.publish(CLOCK, field.clock())
        await field.report()
        agent, command = await anext(messages)
    assert (command.agent, command.ttl_s, command.reason) == (agent, 3 * STEP_S, "none")


async def test_without_a_meter_a_coordinator_decides_nothing_and_says_so(
    setup: Setup, controlled: Controlled
) -> None:
    async with (
        controlled(setup, "rule", pace="x60") as (field, runtime),
        field.bus.subscribe(COMMAND) as commands,
        field.bus.subscribe(ALARM) as alarms,
    ):
        await field.report("MG2")
        await field.bus.publish(CLOCK, field.clock())
        agent, alarm = await anext(alarms)
        assert (agent, alarm.active) == ("MG2", True)
        assert alarm.text == "no decision: MG2 was not heard yet"
        others = {(await anext(commands))[1].issuer for _ in range(5)}
        assert others == {"MG1", "MG3"}
    assert runtime.tally.held == {"MG2": 1}


async def test_a_coordinator_decides_as_soon_as_the_missing_is_heard_and_says_so(
    setup: Setup,
    controlled: Controlled,
) -> None:
    async with (
        controlled(setup, "rule", pace="x60") as (field, _),
        field.bus.subscribe(ALARM, agent="MG2") as alarms,
    ):
        await field.report("MG2")
        await field.bus.publish(CLOCK, field.clock())
        assert (await anext(alarms))[1].active
        await field.report()
        assert not (await anext(alarms))[1].active


async def test_a_repeated_step_gets_its_commands_again_with_a_higher_sequence(
    setup: Setup,
    controlled: Controlled,
) -> None:
    async with (
        controlled(setup, "rule") as (field, _),
        field.bus.subscribe(COMMAND, agent="ess1") as messages,
    ):
        await field.bus.publish(CLOCK, field.clock())
        await field.report()
        _, first = await anext(messages)
        await field.report()
        _, second = await anext(messages)
    assert second.sequence > first.sequence
    assert (second.step, second.p_mw, second.q_mvar) == (first.step, first.p_mw, first.q_mvar)


async def test_the_controller_ends_with_the_plant(setup: Setup, controlled: Controlled) -> None:
    async with (
        controlled(setup, "none") as (field, _),
        field.bus.subscribe(STATUS, agent="MG1") as statuses,
    ):
        assert (await anext(statuses))[1].online
        await field.bus.publish(CLOCK, field.clock(finished=True))
        agent, status = await anext(statuses)
    assert (agent, status.online) == ("MG1", False)


async def test_a_policy_that_fails_holds_its_coordinator_and_no_other(
    setup: Setup, make_field: Any
) -> None:
    class Broken:
        def act(self, obs: object) -> np.ndarray:
            raise PolicyError("observation: MG1.price is not finite")

    minds = build_minds(setup, ["rule"])
    minds[0]._policy = Broken()
    hub = MemoryHub()
    async with (
        asyncio.timeout(60),
        InMemoryBus(hub) as bus,
        asyncio.TaskGroup() as group,
        bus.subscribe(STATUS) as statuses,
        bus.subscribe(ALARM) as alarms,
        bus.subscribe(COMMAND) as commands,
    ):
        running = group.create_task(ControllerRuntime(setup, minds, bus).run())
        await _until_online(statuses, "DSO")
        field = make_field(setup, bus)
        await bus.publish(CLOCK, field.clock())
        await field.report()
        issuers = {(await anext(commands))[1].issuer for _ in range(4)}
        agent, alarm = await anext(alarms)
        running.cancel()
    assert issuers == {"MG2", "MG3"}
    assert (agent, alarm.text) == (
        "MG1",
        "no decision: policy: observation: MG1.price is not finite",
    )


async def _until_online(statuses: AsyncIterator[tuple[str, Status]], agent: str) -> None:
    async for name, status in statuses:
        if name == agent and status.online:
            return
