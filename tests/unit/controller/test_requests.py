"""What operators ask of coordinators: modes, and limits at the connections."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from controller.runtime import ControllerRuntime
from heron.messaging.topics import CLOCK, COMMAND, DECISION, LIMITS, MODE, SIGNAL, STATUS
from heron.messaging.wire import LimitRequest, ModeRequest
from heron.powergrid.kept_orders import KeptOrders
from heron.powergrid.setups import Setup

Controlled = Callable[..., AbstractAsyncContextManager[tuple[Any, ControllerRuntime]]]


async def ask(field: Any, agent: str, mode: str, issuer: str = "operator:test") -> None:
    request = ModeRequest(agent=agent, mode=mode, issuer=issuer, reason="test")  # type: ignore[arg-type]
    await field.bus.publish(MODE, request, agent=agent)


async def until_mode(statuses: Any, mode: str) -> None:
    async for _, status in statuses:
        if status.mode == mode:
            return


async def test_a_stopped_coordinator_commands_nothing_and_hands_its_devices_over(
    setup: Setup, controlled: Controlled
) -> None:
    async with (
        controlled(setup, "rule") as (field, runtime),
        field.bus.subscribe(STATUS, agent="MG2") as statuses,
        field.bus.subscribe(MODE) as modes,
        field.bus.subscribe(COMMAND) as commands,
    ):
        await ask(field, "MG2", "stopped")
        await until_mode(statuses, "stopped")
        told = [await anext(modes) for _ in range(3)][1:]
        assert {(agent, m.mode, m.issuer) for agent, m in told} == {
            ("gen2", "fallback", "MG2"),
            ("pv2", "fallback", "MG2"),
        }
        await field.bus.publish(CLOCK, field.clock())
        await field.report()
        issuers = {(await anext(commands))[1].issuer for _ in range(5)}
        assert issuers == {"MG1", "MG3"}
        # and back
        await ask(field, "MG2", "closed_loop")
        await until_mode(statuses, "closed_loop")
        told = [await anext(modes) for _ in range(3)][1:]
        assert {m.mode for _, m in told} == {"closed_loop"}
        issuers = {(await anext(commands))[1].issuer for _ in range(2)}
        assert issuers == {"MG2"}
    assert runtime.tally.held == {"MG2": 1}


async def test_in_advisory_it_decides_and_says_so_without_commanding(
    setup: Setup, controlled: Controlled
) -> None:
    async with (
        controlled(setup, "rule") as (field, _),
        field.bus.subscribe(STATUS, agent="MG2") as statuses,
        field.bus.subscribe(COMMAND) as commands,
        field.bus.subscribe(DECISION, agent="MG2") as decisions,
    ):
        await ask(field, "MG2", "advisory")
        await until_mode(statuses, "advisory")
        await field.bus.publish(CLOCK, field.clock())
        await field.report()
        assert (await anext(decisions))[1].mode == "advisory"
        assert {(await anext(commands))[1].issuer for _ in range(5)} == {"MG1", "MG3"}


async def test_only_an_operator_changes_a_coordinators_mode(
    setup: Setup, controlled: Controlled
) -> None:
    async with (
        controlled(setup, "rule") as (field, _),
        field.bus.subscribe(STATUS, agent="MG2") as statuses,
    ):
        await anext(statuses)
        await ask(field, "MG2", "stopped", issuer="MG1")
        _, status = await anext(statuses)
        assert status.mode == "closed_loop"


async def test_an_operators_limits_go_out_with_the_next_signal(
    setup: Setup, controlled: Controlled
) -> None:
    async with (
        controlled(setup, "rule") as (field, _),
        field.bus.subscribe(SIGNAL) as signals,
        field.bus.subscribe(LIMITS) as seen,
    ):
        for issuer, agent in (("MG1", "MG1"), ("operator:test", "MG9"), ("operator:test", "MG1")):
            wish = LimitRequest(agent=agent, p_export_max_mw=0.2, issuer=issuer)
            await field.bus.publish(LIMITS, wish, agent=agent)
            await anext(seen)
        await field.bus.publish(CLOCK, field.clock())
        limits = {}
        for _ in range(3):
            agent, signal = await anext(signals)
            limits[agent] = (signal.p_export_max_mw, signal.p_import_max_mw)
    assert limits == {"MG1": (0.2, None), "MG2": (None, None), "MG3": (None, None)}


async def test_commands_hold_the_limits_that_the_signal_brought(
    setup: Setup, controlled: Controlled
) -> None:
    """MG1's devices may not be told to send out more than the operator allows."""
    async with (
        controlled(setup, "rule", day=200) as (field, _),
        field.bus.subscribe(COMMAND) as commands,
        field.bus.subscribe(LIMITS) as seen,
    ):
        sent: list[dict[str, float]] = []
        for _ in range(2):
            await field.bus.publish(CLOCK, field.clock())
            await field.report()
            got = dict([await anext(commands) for _ in range(7)])
            sent.append({a: c.p_mw for a, c in got.items() if c.issuer == "MG1"})
            wish = LimitRequest(
                agent="MG1", p_export_max_mw=0.0, p_import_max_mw=0.3, issuer="operator:test"
            )
            await field.bus.publish(LIMITS, wish, agent="MG1")
            await anext(seen)
        now = field.now
        load = sum(now.devices[d].p_mw for d in sent[0]) - now.meters["MG1"].p_mw
        assert sum(sent[0].values()) - load > 0.1
        assert sum(sent[1].values()) - load <= 1e-6


async def test_what_operators_ordered_outlives_the_controller(
    setup: Setup, controlled: Controlled, tmp_path: Path
) -> None:
    file = tmp_path / "controller.orders.json"
    async with (
        controlled(setup, "rule", orders=KeptOrders(file)) as (field, _),
        field.bus.subscribe(STATUS, agent="MG2") as statuses,
        field.bus.subscribe(LIMITS) as seen,
    ):
        await ask(field, "MG2", "stopped")
        await until_mode(statuses, "stopped")
        wish = LimitRequest(agent="MG1", p_export_max_mw=0.2, issuer="operator:test")
        await field.bus.publish(LIMITS, wish, agent="MG1")
        await anext(seen)
    async with (
        controlled(setup, "rule", orders=KeptOrders(file)) as (field, _),
        field.bus.subscribe(STATUS, agent="MG2") as statuses,
        field.bus.subscribe(SIGNAL, agent="MG1") as signals,
        field.bus.subscribe(COMMAND) as commands,
    ):
        assert (await anext(statuses))[1].mode == "stopped"
        await field.bus.publish(CLOCK, field.clock())
        assert (await anext(signals))[1].p_export_max_mw == 0.2
        await field.report()
        assert {(await anext(commands))[1].issuer for _ in range(5)} == {"MG1", "MG3"}


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_a_limit_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="p_export_max_mw"):
        LimitRequest(agent="MG1", p_export_max_mw=value, issuer="operator")
