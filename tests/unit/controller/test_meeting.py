from __future__ import annotations

import asyncio

import pytest

from controller.meeting import Meeting

ALL = ("MG1", "MG2", "MG3")
LONG_S = 30.0
SHORT_S = 0.02


async def test_nobody_goes_on_before_all_have_come() -> None:
    meeting, done = Meeting(ALL), []

    async def come(agent: str) -> None:
        await meeting.attend(agent, 900.0, LONG_S)
        done.append(agent)

    async with asyncio.TaskGroup() as group:
        group.create_task(come("MG1"))
        group.create_task(come("MG2"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert done == []
        group.create_task(come("MG3"))
    assert sorted(done) == list(ALL)


async def test_one_that_cannot_decide_is_not_waited_for() -> None:
    meeting = Meeting(ALL)
    await meeting.excuse("MG2", 900.0)
    async with asyncio.timeout(LONG_S), asyncio.TaskGroup() as group:
        group.create_task(meeting.attend("MG1", 900.0, LONG_S))
        group.create_task(meeting.attend("MG3", 900.0, LONG_S))


async def test_one_that_does_not_come_is_waited_for_once() -> None:
    meeting, loop = Meeting(("MG1", "MG2")), asyncio.get_running_loop()
    await meeting.attend("MG1", 900.0, SHORT_S)
    start = loop.time()
    await meeting.attend("MG1", 1800.0, LONG_S)
    assert loop.time() - start < LONG_S / 2
    await meeting.attend("MG2", 1800.0, LONG_S)  # it is back, and counts again
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT_S):
            await meeting.attend("MG1", 2700.0, LONG_S)


async def test_a_new_step_ends_the_waiting_for_the_old_one() -> None:
    meeting = Meeting(("MG1", "MG2"))
    async with asyncio.timeout(LONG_S), asyncio.TaskGroup() as group:
        group.create_task(meeting.attend("MG1", 900.0, LONG_S))
        await asyncio.sleep(0)
        await meeting.excuse("MG2", 1800.0)
        await meeting.excuse("MG1", 1800.0)


async def test_a_site_without_such_policies_waits_for_nobody() -> None:
    await Meeting(()).attend("MG1", 0.0, LONG_S)
