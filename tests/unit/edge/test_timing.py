import asyncio
from itertools import pairwise

import pytest

from edge.timing import PlantTime, stagger, ticks


def wall() -> float:
    return asyncio.get_running_loop().time()


async def test_ticks_come_at_absolute_deadlines() -> None:
    start, seen = wall(), []
    async for tick in ticks(1.0, phase_s=0.25, now=wall):
        seen.append(wall() - start)
        await asyncio.sleep(0.9)
        if tick.index == 3:
            break
    assert seen == pytest.approx([0.25, 1.25, 2.25, 3.25])


async def test_an_overrun_skips_to_the_next_slot_and_is_counted() -> None:
    start, seen, slow = wall(), [], [0.1, 2.5, 0.1]
    async for tick in ticks(1.0, now=wall):
        seen.append((tick.index, tick.missed, tick.late_s))
        if not slow:
            break
        await asyncio.sleep(slow.pop(0))
    # The slot at 2 s and the one at 3 s are gone; the turn begun at 1 s ended at 3.5 s.
    assert [(i, m) for i, m, _ in seen] == [(0, 0), (1, 0), (3, 1), (4, 0)]
    assert wall() - start == pytest.approx(4.0)
    assert seen[2][2] == pytest.approx(0.5)


async def test_plant_time_runs_at_its_rate() -> None:
    time = PlantTime(wall, rate=60.0, time_s=900.0)
    await asyncio.sleep(2.0)
    assert time.time_s() == pytest.approx(1020.0)
    time.follow(5000.0, rate=10.0)
    await asyncio.sleep(1.0)
    assert time.time_s() == pytest.approx(5010.0)
    assert time.elapsed_s() == pytest.approx(130.0)


async def test_in_lockstep_plant_time_moves_with_the_clock_only() -> None:
    time = PlantTime(wall, lockstep=True)
    time.follow(900.0)
    await asyncio.sleep(100.0)
    assert (time.time_s(), time.elapsed_s()) == (900.0, 900.0)


async def test_elapsed_time_never_goes_back_when_the_plant_is_restarted() -> None:
    time = PlantTime(wall, lockstep=True)
    time.follow(900.0)
    time.follow(0.0)
    assert time.elapsed_s() == 900.0


@pytest.mark.parametrize("count", [2, 10, 1000])
def test_phases_are_spread_over_the_period(count: int) -> None:
    phases = sorted(stagger(i, 2.0) for i in range(count))
    gaps = [b - a for a, b in pairwise([*phases, 2.0])]
    assert 0.0 <= phases[0] <= phases[-1] < 2.0
    assert max(gaps) < 2.5 * 2.0 / count


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="rate"):
        PlantTime(lambda: 0.0, rate=0.0)
