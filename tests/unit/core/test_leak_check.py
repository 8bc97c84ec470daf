"""The suite's own leak check, and the virtual-time loop."""

import asyncio
from pathlib import Path

import pytest

from heron.scheduling import ManualClock, ScaledClock
from heron.testing.virtual_time import run_in_virtual_time

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[2] / "conftest.py"


def test_a_test_that_leaves_a_task_behind_fails(pytester):
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(
        """
        import asyncio

        async def test_leaves_a_task():
            asyncio.create_task(asyncio.sleep(3600), name="stray")

        async def test_ends_its_tasks():
            task = asyncio.create_task(asyncio.sleep(0))
            await task

        def test_is_not_async():
            pass
        """
    )
    result = pytester.runpytest_inprocess(
        "-p",
        "asyncio",
        "-p",
        "no:cacheprovider",
        "--asyncio-mode=auto",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
    )
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*tasks left behind*stray*"])


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
