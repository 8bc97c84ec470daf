"""Clocks, in virtual time."""

import asyncio
import math

import pytest

from heron.scheduling import ManualClock, RealClock, ScaledClock
from heron.testing.virtual_time import VirtualTimePolicy, run_in_virtual_time


def test_an_hour_passes_at_once_in_virtual_time():
    async def main():
        clock = ScaledClock(60.0, start_s=100.0)
        await clock.sleep(3600.0)
        return clock.now(), asyncio.get_running_loop().time()

    now, wall = run_in_virtual_time(main())
    assert now == pytest.approx(3700.0)
    assert wall == pytest.approx(60.0)


def test_manual_clock_wakes_sleepers_in_order_and_never_goes_back():
    async def main():
        clock = ManualClock()
        woken = []

        async def sleeper(until):
            await clock.sleep_until(until)
            woken.append((until, clock.now()))

        async with asyncio.TaskGroup() as group:
            for until in (30.0, 10.0, 20.0):
                group.create_task(sleeper(until))
            await asyncio.sleep(0)
            clock.advance(20.0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            clock.advance(10.0)
        with pytest.raises(ValueError, match="before"):
            clock.set_time(1.0)
        return woken

    assert run_in_virtual_time(main()) == [(10.0, 20.0), (20.0, 20.0), (30.0, 30.0)]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_clock_refuses_a_rate_that_is_no_pace(rate):
    with pytest.raises(ValueError, match="rate"):
        ScaledClock(rate)


def test_a_clock_follows_the_time_that_it_is_set_to():
    async def main():
        clock = RealClock(start_s=50.0)
        clock.set_time(1000.0)
        await clock.sleep_until(900.0)  # has passed: returns at once
        before = clock.now()
        await clock.sleep_until(1010.0)
        return before, clock.now(), clock.rate, clock.monotonic()

    assert run_in_virtual_time(main()) == (1000.0, 1010.0, 1.0, 10.0)


def test_without_a_loop_a_clock_follows_the_wall():
    clock = RealClock(start_s=5.0)
    first = clock.now()
    assert 5.0 <= first <= clock.now() < first + 60.0


def test_a_manual_clock_waits_for_nobody_and_forgets_who_gave_up():
    async def main():
        clock = ManualClock(start_s=10.0)
        await clock.sleep_until(5.0)
        async with asyncio.TaskGroup() as group:
            gone = group.create_task(clock.sleep(10.0))
            stays = group.create_task(clock.sleep(10.0))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.sleep(0)
            clock.set_time(20.0)
            await stays
        return clock.now(), clock.rate, clock.monotonic()

    assert run_in_virtual_time(main()) == (20.0, math.inf, 0.0)


def test_pytest_can_be_given_virtual_loops():
    loop = VirtualTimePolicy().new_event_loop()
    loop.run_until_complete(asyncio.sleep(3600.0))
    assert loop.time() == pytest.approx(3600.0)
    loop.close()
