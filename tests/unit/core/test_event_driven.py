"""Event-driven mode: the same agents in virtual time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heron.errors import PowerFlowDiverged
from heron.messaging import InMemoryBroker, MessageType
from heron.protocols import PriceSignalProtocol
from heron.scheduling import Event, EventType, JitterType, TickConfig

STEP_S = 900.0


def trajectory_sync(env, n_steps):
    states = []
    for _ in range(n_steps):
        env.step(STEP_S)
        states.append(env.socs())
    return np.array(states)


def trajectory_events(env, n_steps, **kwargs):
    env.start_event_driven(**kwargs)
    states = []
    for k in range(n_steps):
        env.run_event_driven(STEP_S * (k + 1))
        states.append(env.socs())
    return np.array(states)


def test_without_delays_event_driven_time_equals_the_synchronous_step_exactly(toy):
    sync = trajectory_sync(toy.Env(toy.build()), 96)
    events = trajectory_events(toy.Env(toy.build(toy.every(STEP_S))), 96)
    assert np.ptp(sync, axis=0).min() > 0.01
    np.testing.assert_array_equal(events, sync)


@settings(max_examples=15, deadline=None)
@given(n_sites=st.integers(1, 4), n_batteries=st.integers(1, 3), step_s=st.floats(0.5, 5000.0))
def test_both_clocks_agree_for_any_tree_and_interval(build_toy, n_sites, n_batteries, step_s):
    make = build_toy(n_sites, n_batteries)
    sync = make(None)
    env = make(TickConfig(tick_interval=step_s))
    env.start_event_driven()
    for k in range(5):
        env.run_event_driven(step_s * (k + 1))
        # the same instants: a sum of steps would differ from the grid in the last bit
        sync.decide()
        sync.advance(step_s * k, step_s * (k + 1))
        sync.time_s = step_s * (k + 1)
        assert env.socs() == sync.socs()


def test_a_price_moves_devices_the_same_in_both_clocks_and_late_if_it_travels(toy):
    class Thrifty(toy.Battery):
        def respond_to_price(self, price):
            return [2.0 if price > 60.0 else -2.0]

    class Peak:
        def forward(self, observation):
            return [100.0 if observation.timestamp >= 1800.0 else 20.0]

    def build(msg_delay=0.0):
        ticks = TickConfig(tick_interval=STEP_S, msg_delay=msg_delay)
        devices = [Thrifty(f"b{i}", tick_config=ticks) for i in range(2)]
        site = toy.Site(
            "MG1",
            policy=Peak(),
            protocol=PriceSignalProtocol(),
            config={"agents": devices},
            tick_config=ticks,
        )
        return toy.Env(site)

    sync = trajectory_sync(build(), 6)
    np.testing.assert_array_equal(trajectory_events(build(), 6), sync)
    assert sync[1, 0] > sync[0, 0] > 0.5 > sync[5, 0]
    late = trajectory_events(build(90.0), 6)
    # each of the two changes comes 90 s late: 2 MW for 90 s, then 4 MW for 90 s, of 10 MWh
    assert late[0] - sync[0] == pytest.approx([-2 * 90 / 3600 / 10] * 2)
    assert late[5] - sync[5] == pytest.approx([(4 - 2) * 90 / 3600 / 10] * 2)


def test_the_message_path_over_a_broker_equals_the_direct_one_exactly(toy):
    direct = trajectory_sync(toy.Env(toy.build()), 20)
    broker = InMemoryBroker()
    env = toy.Env(toy.build(), broker)
    env.configure_agents_for_distributed()
    np.testing.assert_array_equal(trajectory_sync(env, 20), direct)
    assert broker.published > 20 * 9


def test_event_driven_time_over_a_broker_equals_the_direct_one_exactly(toy):
    def late():
        return toy.build(toy.every(STEP_S, obs_delay=3.0, act_delay=2.0, msg_delay=5.0))

    direct = trajectory_events(toy.Env(late()), 10)
    broker = InMemoryBroker()
    env = toy.Env(late(), broker)
    env.configure_agents_for_distributed()
    np.testing.assert_array_equal(trajectory_events(env, 10), direct)
    assert broker.published > 10 * 9


def test_a_proxy_in_event_driven_time_knows_what_was_measured_at_each_tick(toy):
    env = toy.Env(toy.build(toy.every(STEP_S)))
    proxy = env.use_proxy()
    for _ in range(2):  # a second episode starts with an empty history
        env.reset_agents(seed=0)
        env.start_event_driven()
        socs = [env.socs()[0]]
        for k in range(4):
            env.run_event_driven(STEP_S * (k + 1))
            socs.append(env.socs()[0])
    known = proxy.history("MG1", "b10")
    assert [t for t, _ in known] == [0.0, STEP_S, 2 * STEP_S, 3 * STEP_S]
    assert [float(seen["Charge"][0]) for _, seen in known] == pytest.approx(socs[:4])


def test_an_agent_registered_late_ticks_from_then_on(toy):
    env = toy.Env(toy.Battery("early", tick_config=toy.every(10.0)))
    env.start_event_driven()
    env.run_event_driven(25.0)
    env.register_agent(toy.Battery("late", tick_config=toy.every(10.0)))
    env.submit_actions({"late": [1.0]})
    env.run_event_driven(26.0)
    assert [b.p_mw for b in env.batteries] == [0.0, 1.0]


def test_an_environment_can_go_back_to_synchronous_steps(toy):
    sync = trajectory_sync(toy.Env(toy.build()), 6)
    env = toy.Env(toy.build(toy.every(STEP_S)))
    trajectory_events(env, 3)
    env.stop_event_driven()
    assert env.time_s == 3 * STEP_S
    np.testing.assert_array_equal(trajectory_sync(env, 3), sync[3:])


def test_any_delay_or_jitter_changes_the_trajectory(toy):
    exact = trajectory_events(toy.Env(toy.build(toy.every(STEP_S))), 8)
    for change in (
        {"obs_delay": 60.0},
        {"act_delay": 60.0},
        {"msg_delay": 60.0},
        {"jitter_type": JitterType.UNIFORM, "jitter_ratio": 0.2, "seed": 1},
    ):
        delayed = trajectory_events(toy.Env(toy.build(toy.every(STEP_S, **change))), 8)
        assert np.abs(delayed - exact).max() > 1e-6, change


def test_stored_energy_depends_on_elapsed_time_and_not_on_how_often_anyone_acts(toy):
    def final(tick_s):
        env = toy.Env(toy.build(n_sites=1, n_batteries=1))
        battery = env.batteries[0]
        env = toy.Env(toy.Battery("b", tick_config=toy.every(tick_s)))
        battery = env.batteries[0]
        env.start_event_driven()
        env.submit_actions({"b": [2.0]})
        env.run_event_driven(3600.0)
        return battery.state.charge.soc

    # 2 MW for an hour out of 10 MWh, whether asked for once or 3600 times
    assert final(3600.0) == pytest.approx(0.3, abs=1e-12)
    assert final(1.0) == pytest.approx(0.3, abs=1e-9)


def test_an_action_without_delay_is_applied_in_its_own_instant(toy):
    env = toy.Env(toy.Battery("b", tick_config=toy.every(10.0)))
    env.start_event_driven()
    env.submit_actions({"b": [1.0]})
    env.run_event_driven(0.0, include_end=True)
    assert env.batteries[0].p_mw == 1.0


def test_every_level_ticks_at_its_own_rate(toy):
    ticks = {1: toy.every(1.0), 2: toy.every(60.0), 3: toy.every(300.0)}
    env = toy.Env(toy.build(ticks))
    scheduler = env.start_event_driven()
    counts = {}

    def count(event):
        if event.event_type is EventType.AGENT_TICK:
            level = env.get_heron_agent(event.agent_id).level
            counts[level] = counts.get(level, 0) + 1

    scheduler.before_event = count
    env.run_event_driven(600.0)
    assert counts == {1: 6 * 600, 2: 3 * 10, 3: 2}


def test_a_system_agents_signal_reaches_its_coordinators(toy):
    env = toy.Env(toy.build(toy.every(STEP_S)))
    env.start_event_driven()
    env.run_event_driven(STEP_S)
    assert [site.signal["price"] for site in env.sites] == [pytest.approx(2.5, rel=0.1)] * 3


def test_a_coordinator_sees_its_devices_only_as_reported_and_delivered(toy):
    ticks = {1: toy.every(60.0, msg_delay=50.0), 2: toy.every(60.0), 3: toy.every(1e6)}
    env = toy.Env(toy.build(ticks, n_sites=1, n_batteries=1))
    env.start_event_driven()
    policy = env.sites[0].policy
    env.run_event_driven(300.0)
    battery_soc = dict(policy.seen)
    # at 120 s it knows what was measured at 60 s, because the report of 120 s is under way
    env_again = toy.Env(toy.build(ticks, n_sites=1, n_batteries=1))
    env_again.start_event_driven()
    measured = {}
    for t in (60.0, 120.0, 180.0):
        env_again.run_event_driven(t)
        measured[t] = env_again.socs()[0]
    assert battery_soc[120.0][0] == pytest.approx(np.float32(measured[60.0]), abs=0)
    assert battery_soc[180.0][0] == pytest.approx(np.float32(measured[120.0]), abs=0)


def test_an_observation_is_of_when_it_was_measured_and_not_of_when_it_is_ready(toy):
    ticks = {1: toy.every(10.0), 2: toy.every(100.0, obs_delay=30.0), 3: toy.every(1e6)}
    env = toy.Env(toy.build(ticks, n_sites=1, n_batteries=1))
    env.start_event_driven()
    env.run_event_driven(101.0)
    soc_at_100 = env.batteries[0].state.charge.soc
    env.run_event_driven(140.0)
    assert [t for t, _ in env.sites[0].policy.seen] == [0.0, 100.0]
    assert env.sites[0].policy.seen[1][1][0] == pytest.approx(soc_at_100, abs=1e-4)
    assert env.batteries[0].state.charge.soc != pytest.approx(soc_at_100, abs=1e-5)


def test_delays_add_up_from_measurement_to_effect(toy):
    ticks = {
        1: toy.every(1e5, act_delay=0.1),
        2: toy.every(1e5, obs_delay=0.2, act_delay=0.5, msg_delay=0.1),
        3: toy.every(1e6),
    }
    env = toy.Env(toy.build(ticks, n_sites=1, n_batteries=1))
    effects = []
    env.setup_event_driven()
    env.setup_default_handlers(
        on_action_effect=lambda agent_id, action: effects.append(
            (env.scheduler.current_time, agent_id)
        )
    )
    env.run_event_driven(10.0)
    assert effects == [(pytest.approx(0.9), "b10")]


def test_submitted_actions_of_a_fast_environment_reach_a_slow_agent_at_its_tick(toy):
    env = toy.Env(toy.Battery("b", tick_config=toy.every(5.0)))
    env.start_event_driven()
    powers = []
    for k in range(10):
        env.submit_actions({"b": [0.1 * k]})
        env.run_event_driven(k + 1.0)
        powers.append(round(env.batteries[0].p_mw, 6))
    assert powers == [0.0] * 5 + [0.5] * 5


def test_the_synchronous_step_applies_every_action_whatever_the_tick_interval(toy):
    env = toy.Env(toy.Battery("b", tick_config=toy.every(5.0)))
    powers = []
    for k in range(5):
        env.apply_actions({"b": [0.1 * k]})
        powers.append(env.batteries[0].p_mw)
    assert powers == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_a_physics_period_of_30_s_is_30_s(toy):
    env = toy.Env(toy.build(toy.every(1e6)))
    env.start_event_driven(env_update_interval=30.0)
    env.run_event_driven(3600.0)
    assert [end for _, end in env.updates] == [30.0 * k for k in range(1, 121)]


def test_max_events_stops_in_between_without_advancing_the_plant_to_the_end(toy):
    env = toy.Env(toy.build(toy.every(10.0)))
    env.start_event_driven()
    assert env.run_event_driven(1000.0, max_events=50) == 50
    assert env.time_s < 1000.0
    assert env.updates[-1][1] == env.time_s


def test_a_plant_that_fails_stays_where_it_was_and_can_go_on(toy):
    env = toy.Env(toy.build(toy.every(STEP_S)))
    env.setup_event_driven()

    def fail(start_s, end_s):
        raise PowerFlowDiverged("no solution")

    env.setup_default_handlers(on_env_update=fail)
    with pytest.raises(PowerFlowDiverged):
        env.run_event_driven(STEP_S)
    env.setup_default_handlers(on_env_update=env.advance)
    env.advance_plant(env.time_s)
    assert env.updates == [(0.0, STEP_S)]


def test_two_agents_with_one_seed_scatter_differently_and_repeatably(toy):
    def ticks(seed):
        shared = TickConfig.with_jitter(tick_interval=10.0, jitter_ratio=0.2, seed=seed)
        env = toy.Env(toy.build(shared))
        times = {}
        env.start_event_driven().before_event = lambda e: (
            times.setdefault(e.agent_id, []).append(e.timestamp)
            if e.event_type is EventType.AGENT_TICK
            else None
        )
        env.run_event_driven(200.0)
        return times

    first = ticks(3)
    assert len({tuple(t[:5]) for t in first.values()}) == len(first)
    assert ticks(3) == first
    assert ticks(4) != first


@pytest.mark.parametrize("kind", [JitterType.UNIFORM, JitterType.GAUSSIAN])
def test_nothing_overtakes_what_was_sent_before_however_much_delays_scatter(toy, kind):
    # every sixth Gaussian delay comes out below zero, and so as no delay at all
    wild = {"jitter_type": kind, "jitter_ratio": 1.0, "seed": 2}
    ticks = {
        1: toy.every(1.0, msg_delay=20.0, act_delay=20.0, **wild),
        2: toy.every(1.0, obs_delay=20.0, msg_delay=20.0, **wild),
        3: toy.every(1e6),
    }
    env = toy.Env(toy.build(ticks, n_sites=1, n_batteries=1))
    arrived, sent, measured = [], [], []
    battery, site = env.batteries[0], env.sites[0]
    site.policy.forward = lambda observation: (
        measured.append(observation.timestamp) or [0.001 * len(measured)]
    )
    env.setup_event_driven()
    env.setup_default_handlers(
        on_action_effect=lambda _, action: sent.append(float(action[0])),
        on_env_update=lambda _, end: battery.state.charge.set_values(soc=end),
    )

    def report(event):
        if event.event_type is EventType.MESSAGE_DELIVERY and event.payload[1] == "b10":
            arrived.append(float(event.payload[2]["Charge"][0]))

    env.scheduler.before_event = report
    env.run_event_driven(300.0)
    for series in (arrived, sent, measured):
        assert len(series) > 100
        assert series == sorted(series)


def test_a_delay_of_zero_among_others_waits_for_what_is_under_way(toy):
    """Measured delays may be zero, too: what a coordinator sends then goes behind the rest."""
    delays = (50.0, 0.0, 0.0, 50.0, 0.0)
    measured = dict.fromkeys(("obs_delay", "act_delay", "msg_delay"), delays)
    ticks = {
        1: toy.every(10.0, measured={"act_delay": delays, "msg_delay": delays}),
        2: toy.every(10.0, measured=measured),
        3: toy.every(1e6),
    }
    env = toy.Env(toy.build(ticks, n_sites=1, n_batteries=1))
    told, measured_at = [], []
    env.sites[0].policy.forward = lambda observation: (
        measured_at.append(observation.timestamp) or [0.001 * len(measured_at)]
    )
    env.setup_event_driven()
    env.setup_default_handlers(on_action_effect=lambda _, action: told.append(float(action[0])))
    env.run_event_driven(1000.0)
    for series in (told, measured_at):
        assert len(series) > 80
        assert series == sorted(series)


def test_an_effect_without_delay_goes_behind_one_that_is_due_in_the_same_instant(toy):
    """An operator's command is obeyed at once, but not before the last one, due just then."""
    delays = (0.0, 10.0, 0.0)  # the first is drawn at its own tick
    ticks = {
        1: toy.every(1e6),
        2: toy.every(1e6, measured={"act_delay": delays}),
        3: toy.every(1e6),
    }
    env = toy.Env(toy.build(ticks, n_sites=1, n_batteries=1))
    site, told = env.sites[0], []
    env.setup_event_driven()
    env.setup_default_handlers(on_action_effect=lambda _, action: told.append(float(action[0])))
    for when, power in ((100.0, 1.0), (110.0, 2.0)):
        command = (MessageType.ACTION, "DSO", [power])
        env.scheduler.schedule_message_delivery(site.agent_id, command, when)
    env.run_event_driven(200.0)
    assert told[-2:] == [1.0, 2.0]


def test_the_proxy_keeps_every_picture_in_its_order_however_much_delays_scatter(toy):
    ticks = toy.every(
        10.0, msg_delay=20.0, jitter_type=JitterType.GAUSSIAN, jitter_ratio=1.0, seed=1
    )
    env = toy.Env(toy.build({1: ticks, 2: toy.every(1e6), 3: toy.every(1e6)}, 1, 1))
    proxy = env.use_proxy(history_length=1000)
    measured = []
    env.start_event_driven().before_event = lambda e: (
        measured.append(e.timestamp)
        if (e.event_type, e.agent_id) == (EventType.AGENT_TICK, "b10")
        else None
    )
    env.run_event_driven(2000.0)
    known = [time_s for time_s, _ in proxy.history("MG1", "b10")]
    assert 100 < len(known) <= len(measured)
    assert known == measured[: len(known)]


def test_jitter_that_is_switched_off_or_on_in_a_run_counts_from_the_next_tick(toy):
    env = toy.Env(toy.Battery("b", tick_config=toy.every(10.0)))
    battery = env.batteries[0]
    ticked = []
    env.start_event_driven().before_event = lambda e: (
        ticked.append(e.timestamp) if e.event_type is EventType.AGENT_TICK else None
    )
    env.run_event_driven(50.0)
    battery.enable_jitter(JitterType.UNIFORM, 0.2, seed=1)
    env.run_event_driven(150.0)
    battery.disable_jitter()
    env.run_event_driven(300.0)
    gaps = np.diff(ticked)
    assert set(gaps[:5]) == {10.0}
    assert len(set(gaps[5:12])) == 7
    assert gaps[-8:] == pytest.approx([10.0] * 8)


def test_a_proxy_in_event_driven_time_knows_a_state_only_when_it_has_arrived(toy):
    env = toy.Env(toy.build(toy.every(60.0, msg_delay=45.0)))
    proxy = env.use_proxy()
    env.start_event_driven()
    for until, newest in ((104.0, 0.0), (106.0, 60.0), (164.0, 60.0), (166.0, 120.0)):
        env.run_event_driven(until)
        env.get_observations()
        assert proxy.history("MG1", "b10")[-1][0] == newest


def test_a_scheduled_command_that_is_not_finite_stops_before_the_device(toy):
    env = toy.Env(toy.Battery("b", tick_config=toy.every(60.0)))
    scheduler = env.start_event_driven()
    command = (MessageType.ACTION, "somebody", np.array([np.nan]))
    scheduler.schedule_message_delivery("b", command, 5.0)
    with pytest.raises(ValueError, match=r"b: .*finite"):
        env.run_event_driven(10.0)
    assert env.batteries[0].p_mw == 0.0


def test_effects_are_clipped_to_the_bounds_of_the_action(toy):
    env = toy.Env(toy.Battery("b", tick_config=toy.every(60.0)))
    env.setup_event_driven()
    effects = []
    env.setup_default_handlers(on_action_effect=lambda _, action: effects.append(action.tolist()))
    env.submit_actions({"b": [50.0]})
    env.run_event_driven(1.0)
    assert effects == [[2.0]]


def test_a_custom_event_runs_at_its_time_on_an_advanced_plant(toy):
    env = toy.Env(toy.build(toy.every(STEP_S)))
    scheduler = env.start_event_driven()
    seen = []
    scheduler.schedule(
        Event(1234.0, EventType.CUSTOM, payload=lambda: seen.append((env.time_s, env.updates[-1])))
    )
    env.run_event_driven(2000.0)
    assert seen == [(1234.0, (900.0, 1234.0))]


def test_setup_is_required_before_running(toy):
    env = toy.Env(toy.Battery("b"))
    with pytest.raises(ValueError, match="setup_event_driven"):
        env.run_event_driven(1.0)
    with pytest.raises(ValueError, match="env_update_interval"):
        env.setup_event_driven(env_update_interval=0.0)
