import asyncio

from edge.links.turns import Turns


async def queue_behind_a_taken_turn(n: int) -> tuple[Turns, list[int], list[asyncio.Task[None]]]:
    """Return turns that are taken, the order in which others get one, and those who wait."""
    turns, order = Turns(), list[int]()
    assert turns.take()

    async def work(name: int) -> None:
        await turns.wait()
        order.append(name)
        turns.pass_on()

    tasks = [asyncio.create_task(work(i)) for i in range(n)]
    await asyncio.sleep(0)
    return turns, order, tasks


async def test_turns_go_round_in_the_order_in_which_they_were_asked_for() -> None:
    turns, order = Turns(), []

    async def work(name: int) -> None:
        if not turns.take():
            await turns.wait()
        order.append(name)
        await asyncio.sleep(1.0)
        turns.pass_on()

    await asyncio.gather(*(work(i) for i in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert turns.take()


async def test_whoever_gives_up_waiting_is_passed_over() -> None:
    turns, order, tasks = await queue_behind_a_taken_turn(3)
    tasks[1].cancel()
    await asyncio.sleep(0)
    turns.pass_on()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 2]


async def test_a_turn_given_to_somebody_who_is_cancelled_in_that_instant_goes_on() -> None:
    turns, order, tasks = await queue_behind_a_taken_turn(2)
    turns.pass_on()
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [1]
    assert turns.take()
