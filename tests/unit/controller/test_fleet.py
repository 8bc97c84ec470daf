from __future__ import annotations

import asyncio

import pytest

from controller.fleet import Fleet, Missing, Readings
from heron.messaging.wire import Point, QualityName, Status, Telemetry


def telemetry(
    agent: str,
    *,
    sequence: int = 1,
    step: int = -1,
    time_s: float = 0.0,
    quality: QualityName = "good",
    age_s: float = 0.0,
    historical: bool = False,
    **values: float | None,
) -> Telemetry:
    points = {"p_mw": 0.5, "q_mvar": 0.1, "v_pu": 1.01, **values}
    return Telemetry(
        agent=agent,
        sequence=sequence,
        step=step,
        time_s=time_s,
        points={
            name: Point(value=value, quality=quality, age_s=age_s) for name, value in points.items()
        },
        historical=historical,
    )


def status(agent: str, *, online: bool) -> Status:
    return Status(agent=agent, online=online, role="device")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def reasons(fleet: Fleet, step: int = -1) -> dict[str, str]:
    outcome = fleet.readings("MG1", ["ess1"], step)
    return dict(outcome.reasons) if isinstance(outcome, Missing) else {}


async def full_fleet(step: int = -1, clock: Clock | None = None) -> Fleet:
    fleet = Fleet(now=clock or Clock(), max_age_s=10.0)
    await fleet.hear("MG1", telemetry("MG1", step=step, v_min_pu=0.99, v_max_pu=1.03))
    await fleet.hear("ess1", telemetry("ess1", step=step, soc=0.5, connected=0.0))
    return fleet


async def test_good_and_fresh_telemetry_becomes_readings() -> None:
    outcome = (await full_fleet()).readings("MG1", ["ess1"])
    assert isinstance(outcome, Readings)
    assert (outcome.meter.p_mw, outcome.meter.v_min_pu, outcome.meter.v_max_pu) == (0.5, 0.99, 1.03)
    ess = outcome.devices["ess1"]
    assert (ess.soc, ess.connected, ess.v_min_pu, ess.available_mw) == (0.5, False, 1.01, None)


async def test_who_was_never_heard_is_missing() -> None:
    assert reasons(Fleet()) == {"MG1": "was not heard yet", "ess1": "was not heard yet"}


async def test_telemetry_grows_stale_with_the_receivers_clock() -> None:
    clock = Clock()
    fleet = await full_fleet(clock=clock)
    clock.now_s += 10.5
    assert reasons(fleet) == {"MG1": "is older than 10 s", "ess1": "is older than 10 s"}


async def test_the_senders_own_age_counts() -> None:
    fleet = await full_fleet()
    await fleet.hear("ess1", telemetry("ess1", sequence=2, age_s=11.0))
    assert reasons(fleet) == {"ess1": "is older than 10 s"}


async def test_in_lockstep_the_step_counts_and_not_the_age() -> None:
    clock = Clock()
    fleet = await full_fleet(step=4, clock=clock)
    clock.now_s += 1000.0
    assert reasons(fleet, step=4) == {}
    assert reasons(fleet, step=5) == {"MG1": "spoke of step 4", "ess1": "spoke of step 4"}


async def test_a_value_that_is_not_good_is_missing() -> None:
    fleet = await full_fleet()
    await fleet.hear("ess1", telemetry("ess1", sequence=2, quality="stale"))
    await fleet.hear("MG1", telemetry("MG1", sequence=2, p_mw=None))
    assert reasons(fleet) == {"MG1": "lacks p_mw", "ess1": "has stale p_mw"}


async def test_who_says_offline_is_missing_until_heard_again() -> None:
    fleet = await full_fleet()
    await fleet.note("ess1", status("ess1", online=True))
    await fleet.note("ess1", status("ess1", online=False))
    assert fleet.alive("ess1") is False
    assert reasons(fleet) == {"ess1": "is offline"}
    await fleet.note("ess1", status("ess1", online=True))
    assert reasons(fleet) == {"ess1": "was not heard yet"}
    await fleet.hear("ess1", telemetry("ess1"))
    assert reasons(fleet) == {}


async def test_historical_and_overtaken_telemetry_is_dropped() -> None:
    fleet = await full_fleet()
    await fleet.hear("ess1", telemetry("ess1", sequence=9, time_s=900.0, soc=0.6))
    await fleet.hear("ess1", telemetry("ess1", sequence=8, time_s=899.0, soc=0.1))
    await fleet.hear("ess1", telemetry("ess1", sequence=10, time_s=901.0, soc=0.2, historical=True))
    outcome = fleet.readings("MG1", ["ess1"])
    assert isinstance(outcome, Readings)
    assert outcome.devices["ess1"].soc == 0.6


async def test_an_edge_that_restarts_counts_from_one_and_is_heard() -> None:
    fleet = await full_fleet()
    await fleet.hear("ess1", telemetry("ess1", sequence=900, time_s=900.0))
    await fleet.hear("ess1", telemetry("ess1", sequence=1, time_s=901.0, soc=0.7))
    heard = fleet.heard("ess1")
    assert heard is not None
    assert heard.telemetry.sequence == 1


@pytest.mark.parametrize(("step", "repeats"), [(3, True), (4, False)])
async def test_telemetry_of_a_step_already_spoken_of_is_a_repetition(
    step: int, repeats: bool
) -> None:
    fleet = await full_fleet(step=3)
    assert await fleet.hear("ess1", telemetry("ess1", sequence=2, step=step)) is repeats


async def test_waiting_for_a_step_ends_when_the_last_has_spoken() -> None:
    fleet = await full_fleet(step=3)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waiting = group.create_task(fleet.wait_for_step("MG1", ["ess1"], 4))
        await fleet.hear("MG1", telemetry("MG1", sequence=2, step=4))
        await asyncio.sleep(0)
        assert not waiting.done()
        await fleet.hear("ess1", telemetry("ess1", sequence=2, step=4))


async def test_a_new_plant_empties_the_fleet() -> None:
    fleet = await full_fleet(step=90)
    await fleet.forget()
    await fleet.hear("ess1", telemetry("ess1", sequence=2, step=0))
    assert reasons(fleet, step=0) == {"MG1": "was not heard yet"}


async def test_devices_whose_edge_died_are_away_at_once() -> None:
    fleet = Fleet()
    await fleet.note("edge-1", Status(agent="edge-1", online=True, role="edge"))
    await fleet.note("ess1", Status(agent="ess1", online=True, role="device", process="edge-1"))
    assert fleet.alive("ess1")
    await fleet.note("edge-1", Status(agent="edge-1", online=False, role="edge"))
    assert fleet.alive("ess1") is False
