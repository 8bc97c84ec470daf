"""The event scheduler and agents' timing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.errors import ConfigError
from heron.scheduling import Event, EventScheduler, EventType, JitterType, TickConfig


def recorder(scheduler):
    ran = []
    for kind in EventType:
        scheduler.set_handler(kind, lambda event, _: ran.append(event))
    return ran


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 1.5, 2.0]), st.integers(0, 3)), max_size=30))
def test_events_run_by_time_then_priority_then_order_of_scheduling(entries):
    scheduler = EventScheduler()
    ran = recorder(scheduler)
    for time_s, priority in entries:
        scheduler.schedule(Event(time_s, EventType.CUSTOM, priority=priority))
    assert scheduler.run_until(10.0) == len(entries)
    keys = [(e.timestamp, e.priority, e.sequence) for e in ran]
    assert keys == sorted(keys)
    assert scheduler.current_time == 10.0


def test_an_instant_reads_as_a_control_cycle():
    scheduler = EventScheduler()
    ran = recorder(scheduler)
    for kind in EventType:
        scheduler.schedule(Event(1.0, kind))
    scheduler.run_until(1.0)
    assert [e.event_type.name for e in ran] == [
        "ENV_UPDATE",
        "CUSTOM",
        "MESSAGE_DELIVERY",
        "AGENT_TICK",
        "OBSERVATION_READY",
        "ACTION_EFFECT",
    ]


def test_events_of_an_instant_may_schedule_more_of_that_instant():
    scheduler = EventScheduler()
    ran = []
    scheduler.set_handler(EventType.ACTION_EFFECT, lambda e, _: ran.append(e.payload))
    scheduler.set_handler(
        EventType.AGENT_TICK, lambda e, s: s.schedule_action_effect("a", "now", 0.0)
    )
    scheduler.register_agent("a", TickConfig(tick_interval=5.0))
    scheduler.run_until(0.0)
    assert ran == ["now"]


def test_the_end_may_be_left_to_the_next_run():
    scheduler = EventScheduler()
    ran = recorder(scheduler)
    scheduler.schedule(Event(1.0, EventType.CUSTOM))
    assert scheduler.run_until(1.0, include_end=False) == 0
    assert scheduler.run_until(1.0) == len(ran) == 1


def test_max_events_leaves_time_at_the_last_event():
    scheduler = EventScheduler()
    for t in (1.0, 2.0, 3.0):
        scheduler.schedule(Event(t, EventType.CUSTOM))
    assert scheduler.run_until(10.0, max_events=2) == 2
    assert scheduler.current_time == 2.0
    assert scheduler.processed == 2
    assert scheduler.run_until(10.0, max_events=2) == 1
    assert scheduler.current_time == 10.0


def test_a_cancelled_event_does_not_run():
    scheduler = EventScheduler()
    ran = recorder(scheduler)
    scheduler.schedule(Event(1.0, EventType.CUSTOM)).cancelled = True
    assert len(scheduler) == 1
    assert scheduler.run_until(2.0) == 0
    assert ran == []


@pytest.mark.parametrize("when", [-1.0, 4.999, float("nan")])
def test_the_past_cannot_be_scheduled(when):
    scheduler = EventScheduler(start_time=5.0)
    with pytest.raises(ValueError, match="current time"):
        scheduler.schedule(Event(when, EventType.CUSTOM))
    with pytest.raises(ValueError, match="current time"):
        scheduler.run_until(when)


def test_ticks_without_jitter_stay_on_their_grid():
    scheduler = EventScheduler()
    times = []

    def tick(event, scheduler):
        times.append(event.timestamp)
        scheduler.schedule_agent_tick(event.agent_id)

    scheduler.set_handler(EventType.AGENT_TICK, tick)
    scheduler.register_agent("a", TickConfig(tick_interval=0.1), first_tick=0.05)
    scheduler.run_until(1000.0)
    assert times[-1] == 0.05 + 9999 * 0.1
    with pytest.raises(ConfigError, match="'a'"):
        scheduler.register_agent("a")
    with pytest.raises(ConfigError, match="'b'"):
        scheduler.schedule_agent_tick("b")


# --- TickConfig -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tick_interval", 0.0),
        ("tick_interval", -1.0),
        ("tick_interval", float("inf")),
        ("tick_interval", "60"),
        ("obs_delay", None),
        ("jitter_ratio", "0.1"),
        ("obs_delay", -0.1),
        ("act_delay", float("nan")),
        ("msg_delay", float("inf")),
        ("min_delay", -1.0),
        ("jitter_ratio", 1.1),
        ("jitter_type", "poisson"),
    ],
)
def test_a_wrong_timing_is_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=f"TickConfig.{field}"):
        TickConfig(**{field: value})


def test_all_wrong_timings_are_reported_at_once():
    with pytest.raises(ConfigError) as raised:
        TickConfig(tick_interval=0.0, obs_delay=-1.0, jitter_ratio=2.0)
    assert len(raised.value.problems) == 3


def test_deterministic_timing_gives_its_nominal_values():
    timing = TickConfig.deterministic(60.0, 0.1, 0.2, 0.3)
    for _ in range(3):
        assert timing.next_tick_interval() == 60.0
        assert timing.next_obs_delay() == 0.1
        assert timing.next_act_delay() == 0.2
        assert timing.next_msg_delay() == 0.3


@pytest.mark.parametrize(
    ("kind", "spread"),
    [(JitterType.UNIFORM, 0.2 / np.sqrt(3)), (JitterType.GAUSSIAN, 0.2)],
)
def test_jitter_scatters_as_its_distribution_says(kind, spread):
    timing = TickConfig.with_jitter(10.0, 1.0, 2.0, 3.0, kind, 0.2, seed=42)
    for draw, nominal in (
        (timing.next_tick_interval, 10.0),
        (timing.next_obs_delay, 1.0),
        (timing.next_act_delay, 2.0),
        (timing.next_msg_delay, 3.0),
    ):
        drawn = np.array([draw() for _ in range(4000)]) / nominal
        assert drawn.mean() == pytest.approx(1.0, abs=0.02)
        assert drawn.std() == pytest.approx(spread, rel=0.05)
        if kind is JitterType.UNIFORM:
            assert np.ptp(drawn) <= 0.4


def test_jitter_never_makes_a_delay_negative_an_interval_zero_or_a_zero_delay_positive():
    timing = TickConfig.with_jitter(1.0, 1.0, 0.0, 1.0, jitter_ratio=1.0, min_delay=0.0, seed=1)
    assert min(timing.next_obs_delay() for _ in range(1000)) == 0.0
    assert min(timing.next_tick_interval() for _ in range(1000)) == 0.01
    assert {timing.next_act_delay() for _ in range(10)} == {0.0}
    floored = TickConfig.with_jitter(1.0, 1.0, jitter_ratio=1.0, min_delay=0.5, seed=1)
    assert min(floored.next_obs_delay() for _ in range(1000)) == 0.5


def test_agents_with_one_configuration_have_streams_of_their_own():
    shared = TickConfig.with_jitter(seed=7)
    one, two = (shared.for_agent(a).next_tick_interval() for a in ("gen1", "gen2"))
    assert one != two
    assert shared.for_agent("gen1").next_tick_interval() == one
    assert shared.for_agent("gen1", seed=8).next_tick_interval() != one


def test_agents_that_share_a_generator_still_scatter_differently():
    rng = np.random.default_rng(0)
    shared = TickConfig(jitter_type=JitterType.UNIFORM, jitter_ratio=0.5, rng=rng)
    drawn = {shared.for_agent(a).next_tick_interval() for a in ("a", "b", "c")}
    assert len(drawn) == 3


def test_measured_delays_come_in_their_order_and_from_the_start_again():
    timing = TickConfig(
        5.0, obs_delay=1.0, measured={"act_delay": (0.0, 3.0), "tick_interval": (4.0, 6.0, 5.0)}
    ).for_agent("ess1", seed=1)
    assert [timing.next_act_delay() for _ in range(3)] == [0.0, 3.0, 0.0]
    assert [timing.next_tick_interval() for _ in range(4)] == [4.0, 6.0, 5.0, 4.0]
    assert timing.next_obs_delay() == 1.0
    again = timing.for_agent("ess1", seed=1)
    assert again.next_act_delay() == 0.0  # a copy begins with the first


def test_measured_intervals_make_the_ticks_of_an_agent():
    scheduler, seen = EventScheduler(), []
    timing = TickConfig(5.0, measured={"tick_interval": (4.0, 6.0)})
    scheduler.register_agent("a", timing)

    def tick(event, scheduler):
        seen.append(event.timestamp)
        scheduler.schedule_agent_tick("a")

    scheduler.set_handler(EventType.AGENT_TICK, tick)
    scheduler.run_until(21.0)
    assert seen == [0.0, 4.0, 10.0, 14.0, 20.0]


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ({"delay": (1.0,)}, "measured.delay"),
        ({"act_delay": ()}, "measured.act_delay"),
        ({"act_delay": (-1.0,)}, "measured.act_delay"),
        ({"msg_delay": (float("nan"),)}, "measured.msg_delay"),
        ({"tick_interval": (1.0, 0.0)}, "measured.tick_interval"),
    ],
)
def test_measured_values_that_cannot_be_are_refused_by_name(measured, said):
    with pytest.raises(ConfigError, match=said):
        TickConfig(measured=measured)
