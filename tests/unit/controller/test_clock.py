"""What makes coordinators decide where no emulated plant has a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from configparser import ConfigParser
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from controller.cli import _parser
from controller.clock import calendar_beats
from controller.runtime import CLOCK_MISSED_S, ControllerRuntime
from heron.messaging.topics import CLOCK, COMMAND
from heron.powergrid.setups import Setup
from heron.testing.virtual_time import run_in_virtual_time

Controlled = Callable[..., AbstractAsyncContextManager[tuple[Any, ControllerRuntime]]]
START_S = 40 * 86_400.0 + 130.0


def calendar() -> Callable[[], float]:
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    return lambda: START_S + loop.time() - began_s


async def beats_of(interval_s: float, number: int) -> list[float]:
    times = []
    async for _, beat in calendar_beats(interval_s, calendar()):
        times.append(beat.time_s - START_S)
        if len(times) == number:
            break
    return times


def test_the_first_beat_is_at_once_and_the_others_at_whole_intervals() -> None:
    times = run_in_virtual_time(beats_of(60.0, 4))
    assert times == pytest.approx([0.0, 50.0, 110.0, 170.0], abs=1e-3)


def test_a_beat_that_would_follow_too_closely_is_left_out() -> None:
    # the next whole 133 s is only 8 s away
    times = run_in_virtual_time(beats_of(133.0, 3))
    assert times == pytest.approx([0.0, 8.0 + 133.0, 8.0 + 2 * 133.0], abs=1e-3)


def test_beside_real_devices_the_calendar_makes_coordinators_decide(
    setup: Setup, controlled: Controlled
) -> None:
    async def main() -> None:
        beats = calendar_beats(900.0, calendar())
        async with (
            controlled(setup, "rule", "real", beats=beats) as (field, runtime),
            field.bus.subscribe(COMMAND) as messages,
        ):
            await field.report()
            commands = dict([await anext(messages) for _ in setup.config.device_ids])
            assert {c.step for c in commands.values()} == {-1}
            # A plant that somebody emulates on the same broker is not listened to.
            await field.bus.publish(CLOCK, field.clock(finished=True))
            await asyncio.sleep(1.0)
            assert runtime.held() == {}

    run_in_virtual_time(main())


def test_a_controller_without_a_clock_says_that_it_decides_nothing(
    setup: Setup, controlled: Controlled, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with controlled(setup, "rule", "real") as (field, runtime):
            await field.report()
            assert "--clock wall" in runtime.held()["DSO"]
            await asyncio.sleep(CLOCK_MISSED_S + 1.0)
            await field.bus.publish(CLOCK, field.clock())
            await asyncio.sleep(0.1)
            assert "DSO" not in runtime.held()

    run_in_virtual_time(main())
    assert [r.getMessage().split(" ")[0] for r in caplog.records].count("no_clock") == 1


def test_the_unit_file_decides_by_the_calendar() -> None:
    unit = ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(Path(__file__).parents[3] / "deploy/systemd/heron-controller.service")
    program, command, *options = unit["Service"]["ExecStart"].split()
    assert (program, command, options.pop()) == (
        "/opt/heron/bin/heron",
        "controller",
        "$HERON_OPTIONS",
    )
    args = _parser().parse_args(options)
    assert (args.setup, args.clock) == ("/etc/heron/setup/config.yml", "wall")
