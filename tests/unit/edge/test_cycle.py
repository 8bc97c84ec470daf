import asyncio
from dataclasses import replace

import pytest

from edge.commands import CommandInbox
from edge.cycle import DeviceCycle
from edge.decisions import LocalPolicy
from edge.fallback import BumplessReturn, SafeSetpoint
from edge.sensor import Sensor
from edge.timing import PlantTime
from heron.errors import PolicyError
from heron.messaging.wire import Command
from heron.powergrid.agents import ESS
from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.link import Quality, WriteStatus
from heron.powergrid.modes import Authority, Mode, ModeMachine
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.testing.links import InMemoryLink

STEP_S = 1.0
SAFE = Setpoint(0.05, 0.0)
CONFIG = StorageConfig(
    bus="b", p_min_mw=-0.5, p_max_mw=0.5, e_capacity_mwh=2.0, safe_p_mw=SAFE.p_mw
)
AT_HALF = DeviceReading(p_mw=0.0, q_mvar=0.0, v_pu=1.0, v_min_pu=1.0, v_max_pu=1.0, soc=0.5)


def wall() -> float:
    return asyncio.get_running_loop().time()


class Rig:
    """One battery with an in-memory link."""

    def __init__(
        self,
        mode: Mode = Mode.CLOSED_LOOP,
        policy: LocalPolicy | None = None,
        config: StorageConfig = CONFIG,
    ) -> None:
        self.time = PlantTime(wall)
        self.link = InMemoryLink("ess1", AT_HALF, now=wall)
        self.modes = ModeMachine(mode)
        self.inbox = CommandInbox(self.time)
        self.sensor = Sensor(self.link, self.time, stale_after_s=3.0)
        self.sequence = 0
        self.cycle = DeviceCycle(
            link=self.link,
            agent=ESS("ess", device_state_config=config),
            modes=self.modes,
            inbox=self.inbox,
            fallback=SafeSetpoint(config),
            time=self.time,
            sensor=self.sensor,
            bumpless=BumplessReturn(4.0),
            policy=policy,
            first_command_s=5.0,
        )

    def command(self, p_mw: float, ttl_s: float = 3.5) -> None:
        self.sequence += 1
        self.inbox.offer(
            Command(agent="ess1", sequence=self.sequence, p_mw=p_mw, ttl_s=ttl_s, issuer="MG1")
        )

    async def turn(self):
        await self.cycle.sense()
        report = await self.cycle.act(STEP_S)
        await asyncio.sleep(STEP_S)
        return report


async def test_a_command_is_admitted_written_and_read_back() -> None:
    rig = Rig()
    rig.command(0.3)
    report = await rig.turn()
    assert rig.link.held == Setpoint(0.3)
    assert report.write.status is WriteStatus.WRITTEN
    assert (report.proposal.sequence, report.applied, report.reasons) == (1, Setpoint(0.3), ())


async def test_the_envelope_has_the_last_word() -> None:
    rig = Rig()
    rig.command(2.0)
    report = await rig.turn()
    assert rig.link.held == Setpoint(0.5)
    assert report.reasons == ("power_limit",)


async def test_before_the_first_command_the_device_is_left_alone() -> None:
    rig = Rig()
    assert (await rig.turn()).proposal is None
    assert rig.link.written == []
    for _ in range(6):
        await rig.turn()
    assert rig.modes.mode is Mode.FALLBACK
    assert rig.link.held == SAFE


async def test_an_expired_command_returns_to_the_safe_setpoint() -> None:
    rig = Rig()
    rig.command(0.3, ttl_s=2.5)
    for _ in range(4):
        await rig.turn()
    assert rig.modes.mode is Mode.FALLBACK
    assert rig.modes.reason == "command expired"
    assert rig.link.held == SAFE


async def test_the_return_from_fallback_is_a_ramp() -> None:
    rig = Rig()
    rig.command(0.3, ttl_s=0.5)
    await rig.turn()
    await rig.turn()
    assert rig.link.held == SAFE
    seen = []
    for _ in range(5):
        rig.command(0.45)
        await rig.turn()
        seen.append(rig.link.held.p_mw)
    assert seen == pytest.approx([0.15, 0.25, 0.35, 0.45, 0.45])


async def test_one_failed_read_holds_the_last_setpoint() -> None:
    rig = Rig()
    rig.command(0.3, ttl_s=60.0)
    await rig.turn()
    rig.link.trouble.mute = True
    rig.command(-0.3, ttl_s=60.0)
    report = await rig.turn()
    assert rig.sensor.snapshot.quality is Quality.STALE
    assert report.proposal is None
    assert rig.link.held == Setpoint(0.3)


async def test_data_that_stays_away_leads_to_fallback() -> None:
    rig = Rig()
    rig.command(0.3, ttl_s=60.0)
    await rig.turn()
    rig.link.trouble.mute = True
    for _ in range(4):
        await rig.turn()
    assert rig.modes.mode is Mode.FALLBACK
    rig.link.trouble.mute = False
    await rig.turn()
    assert rig.modes.mode is Mode.CLOSED_LOOP


@pytest.mark.parametrize("field", ["p_mw", "v_pu", "soc"])
async def test_a_value_that_is_not_a_number_never_drives_the_device(field: str) -> None:
    rig = Rig()
    rig.link.reading = replace(AT_HALF, **{field: float("nan")})
    rig.command(0.3, ttl_s=60.0)
    report = await rig.turn()
    assert report.mode is Mode.FALLBACK
    assert rig.link.written == [SAFE]
    assert report.reasons == ("stale_data",)


@pytest.mark.parametrize("mode", [Mode.MONITOR, Mode.ADVISORY, Mode.STOPPED])
async def test_modes_that_only_watch_write_nothing(mode: Mode) -> None:
    rig = Rig(mode)
    rig.command(0.3, ttl_s=60.0)
    report = await rig.turn()
    assert rig.link.written == []
    assert report.write is None
    assert await rig.cycle.leave()
    assert rig.link.written == []


async def test_advisory_says_what_it_would_have_done() -> None:
    rig = Rig(Mode.ADVISORY)
    rig.command(2.0)
    report = await rig.turn()
    assert (report.applied, report.reasons) == (Setpoint(0.5), ("power_limit",))


async def test_an_operators_stop_wins_over_commands() -> None:
    rig = Rig()
    rig.command(0.3, ttl_s=60.0)
    await rig.turn()
    rig.modes.request(Mode.STOPPED, Authority.OPERATOR, "stop")
    for p_mw in (0.4, 0.2):
        rig.command(p_mw, ttl_s=60.0)
        await rig.turn()
        assert rig.link.held == SAFE


async def test_leaving_sends_the_safe_setpoint() -> None:
    rig = Rig()
    rig.command(0.3)
    await rig.turn()
    assert await rig.cycle.leave()
    assert rig.link.held == SAFE


async def test_leaving_does_not_wait_for_a_dead_device() -> None:
    rig = Rig()
    rig.link.trouble.mute = True
    rig.link.trouble.timeout_s = 60.0
    before = wall()
    assert not await rig.cycle.leave(timeout_s=1.0)
    assert wall() - before == pytest.approx(1.0)


async def test_a_device_that_ignores_a_write_is_reported() -> None:
    rig = Rig()
    rig.link.trouble.ignores_writes = True
    rig.command(0.3)
    report = await rig.turn()
    assert report.write.status is WriteStatus.READ_BACK_DIFFERS
    assert "reads back" in report.error


async def test_a_refused_write_is_reported_and_tried_again() -> None:
    rig = Rig()
    rig.command(0.3, ttl_s=60.0)
    await rig.cycle.sense()
    rig.link.trouble.rejects = 6
    report = await rig.cycle.act(STEP_S)
    assert "0x06" in report.error
    rig.link.trouble.rejects = None
    await rig.turn()
    assert rig.link.held == Setpoint(0.3)


async def test_a_local_policy_decides_without_commands() -> None:
    rig = Rig(policy=lambda reading: Setpoint(0.1 + reading.soc))
    report = await rig.turn()
    assert report.proposal.source == "policy"
    assert rig.link.held == Setpoint(0.5)


async def test_a_policy_that_fails_leads_to_fallback() -> None:
    def broken(reading: DeviceReading) -> Setpoint:
        raise PolicyError("not a number")

    rig = Rig(policy=broken)
    assert (await rig.turn()).mode is Mode.FALLBACK
    assert rig.link.held == SAFE


async def test_a_policy_that_failed_rests_before_it_is_asked_again() -> None:
    asked: list[float] = []

    def broken_at_first(reading: DeviceReading) -> Setpoint:
        asked.append(wall())
        if len(asked) < 3:
            raise PolicyError("not a number")
        return Setpoint(0.2)

    rig = Rig(policy=broken_at_first)
    for _ in range(130):
        await rig.turn()
    assert asked[1] - asked[0] == pytest.approx(60.0)
    assert asked[2] - asked[1] == pytest.approx(60.0)
    assert rig.modes.mode is Mode.CLOSED_LOOP
    assert rig.link.held == Setpoint(0.2)


async def test_falling_back_in_the_middle_of_a_return_is_not_ramped() -> None:
    rig = Rig()
    rig.command(0.3, ttl_s=0.5)
    await rig.turn()
    await rig.turn()
    rig.command(0.45, ttl_s=0.5)
    await rig.turn()
    assert rig.link.held != SAFE
    await rig.turn()
    assert rig.modes.mode is Mode.FALLBACK
    assert rig.link.held == SAFE


HELD_BACK = CONFIG.model_copy(update={"envelope_v_pu": (0.95, 1.05), "ramp_mw_per_min": 0.6})
"""A battery whose envelope keeps it charging while the voltage is high, and moves it slowly."""


async def charging_at_high_voltage() -> Rig:
    """Return a battery that charges where any other power would raise the voltage further."""
    rig = Rig(config=HELD_BACK)
    rig.link.reading = replace(AT_HALF, p_mw=-0.3, v_pu=1.1, v_min_pu=1.1, v_max_pu=1.1)
    for _ in range(40):
        rig.command(-0.3)
        await rig.turn()
    rig.command(0.3)
    report = await rig.turn()
    assert (rig.link.held.p_mw, report.reasons) == (-0.3, ("ramp", "voltage"))
    return rig


async def test_an_operators_stop_is_held_back_by_neither_voltage_nor_ramp() -> None:
    rig = await charging_at_high_voltage()
    rig.modes.request(Mode.STOPPED, Authority.OPERATOR, "fuse out")
    report = await rig.turn()
    assert rig.link.held == SAFE
    assert (report.applied, report.reasons) == (SAFE, ())


async def test_a_silent_coordinator_leaves_the_device_safe_whatever_the_voltage() -> None:
    rig = await charging_at_high_voltage()
    for _ in range(5):
        await rig.turn()
    assert (rig.modes.mode, rig.link.held) == (Mode.FALLBACK, SAFE)


@pytest.mark.parametrize("by", list(Authority)[1:])
async def test_a_return_from_an_ordered_fallback_is_a_ramp(by: Authority) -> None:
    rig = Rig()
    rig.modes.request(Mode.FALLBACK, by, "ordered")
    await rig.turn()
    rig.modes.request(Mode.CLOSED_LOOP, by, "go on")
    seen = []
    for _ in range(4):
        rig.command(0.45)
        await rig.turn()
        seen.append(rig.link.held.p_mw)
    assert seen == pytest.approx([0.15, 0.25, 0.35, 0.45])


@pytest.mark.parametrize("mode", [Mode.STOPPED, Mode.MONITOR, Mode.ADVISORY])
async def test_a_device_that_was_only_watched_is_led_from_what_it_shows(mode: Mode) -> None:
    rig = Rig(mode)
    rig.link.reading = replace(AT_HALF, p_mw=-0.1)
    await rig.turn()
    rig.modes.request(Mode.CLOSED_LOOP, Authority.OPERATOR, "go on")
    seen = []
    for _ in range(4):
        rig.command(0.3)
        await rig.turn()
        seen.append(rig.link.held.p_mw)
    assert seen == pytest.approx([0.0, 0.1, 0.2, 0.3])


async def test_a_stop_after_watching_still_takes_back_what_was_commanded() -> None:
    rig = Rig()
    rig.command(0.3)
    await rig.turn()
    rig.modes.request(Mode.MONITOR, Authority.OPERATOR, "look")
    await rig.turn()
    assert rig.link.held == Setpoint(0.3)
    rig.modes.request(Mode.STOPPED, Authority.OPERATOR, "stop")
    await rig.turn()
    assert rig.link.held == SAFE


async def test_the_log_says_when_a_device_begins_to_refuse_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("WARNING")
    rig = Rig()
    for rejects in (4, 4, 4, None, None):
        rig.command(0.3)
        await rig.cycle.sense()
        rig.link.trouble.rejects = rejects
        await rig.cycle.act(STEP_S)
        rig.link.trouble.rejects = None
    said = [record.getMessage().split(" ")[0] for record in caplog.records]
    assert said == ["not_written", "written_again"]


async def test_the_log_says_that_everything_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    rig = Rig()
    rig.link.reading = replace(AT_HALF, connected=False)
    for _ in range(3):
        rig.command(0.3)
        await rig.turn()
    (record,) = caplog.records
    assert record.getMessage() == "not_written device=ess1 why=refused: disconnected"
