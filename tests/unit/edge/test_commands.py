import asyncio

import pytest

from edge.commands import CommandFate, CommandInbox
from edge.timing import PlantTime
from heron.messaging.wire import Command


def command(sequence: int, *, step: int = -1, ttl_s: float = 10.0, issuer: str = "MG1") -> Command:
    return Command(agent="ess1", sequence=sequence, step=step, p_mw=0.1, ttl_s=ttl_s, issuer=issuer)


def wall() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
async def inbox() -> CommandInbox:
    return CommandInbox(PlantTime(wall))


async def test_a_command_holds_for_its_time_to_live(inbox: CommandInbox) -> None:
    inbox.offer(command(1))
    await asyncio.sleep(9.9)
    assert inbox.current() is not None
    await asyncio.sleep(0.2)
    assert inbox.current() is None


async def test_time_to_live_is_counted_in_plant_seconds() -> None:
    inbox = CommandInbox(PlantTime(wall, rate=100.0))
    inbox.offer(command(1, ttl_s=900.0))
    await asyncio.sleep(8.9)
    assert inbox.current() is not None
    await asyncio.sleep(0.2)
    assert inbox.current() is None


@pytest.mark.parametrize("sequence", [4, 5])
async def test_an_older_or_repeated_command_is_dropped(inbox: CommandInbox, sequence: int) -> None:
    inbox.offer(command(5))
    assert inbox.offer(command(sequence)) is CommandFate.OLDER


async def test_a_restarted_issuer_is_heard_when_its_last_command_has_expired(
    inbox: CommandInbox,
) -> None:
    inbox.offer(command(500))
    await asyncio.sleep(11.0)
    assert inbox.offer(command(1)) is CommandFate.TAKEN


async def test_a_later_step_is_newer_whatever_its_sequence(inbox: CommandInbox) -> None:
    inbox.offer(command(500, step=3), step=3)
    assert inbox.offer(command(1, step=4), step=4) is CommandFate.TAKEN
    assert inbox.has_for(4)


async def test_a_command_for_another_step_is_refused(inbox: CommandInbox) -> None:
    assert inbox.offer(command(1, step=3), step=4) is CommandFate.WRONG_STEP
    assert inbox.current() is None


async def test_two_issuers_do_not_disturb_each_others_sequence(inbox: CommandInbox) -> None:
    inbox.offer(command(500, issuer="MG1"))
    assert inbox.offer(command(1, issuer="operator")) is CommandFate.TAKEN
