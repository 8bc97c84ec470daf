"""A step solves the network once, tells about agents only, and draws from its own generator."""

from __future__ import annotations

import copy
import random
from typing import Any

import numpy as np
import pytest

from heron.errors import ConfigError
from heron.powergrid.agents import MicrogridView, PowerGridAgent
from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids


@pytest.fixture
def env() -> MultiAgentMicrogrids:
    config = load_setup("ieee34_ieee13")
    config["max_episode_steps"] = 2
    return MultiAgentMicrogrids(config)


def actions_of(env: MultiAgentMicrogrids) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {a: rng.uniform(-1, 1, env.action_space(a).shape).astype(np.float32) for a in env.agents}


def test_a_step_solves_the_network_once_whatever_the_number_of_agents(
    env: MultiAgentMicrogrids, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.reset(seed=0)
    solve, solved = env.net.engine.solve, []

    def counted(*args: Any, **kwargs: Any) -> Any:
        solved.append(args)
        return solve(*args, **kwargs)

    monkeypatch.setattr(env.net.engine, "solve", counted)
    before = env.measurements
    env.step(actions_of(env))
    assert len(env.agent_dict) == 3
    assert len(solved) == 1
    assert env.measurements.time_s == before.time_s + 900.0
    assert env.measurements.meters != before.meters


def test_what_reset_and_step_return_is_by_agent_and_nothing_else(
    env: MultiAgentMicrogrids,
) -> None:
    returned = [*env.reset(seed=0), *env.step(actions_of(env)), *env.step(actions_of(env))]
    assert [set(part) for part in returned] == [{"MG1", "MG2", "MG3"}] * len(returned)


def test_the_global_generators_are_neither_seeded_nor_drawn_from(
    env: MultiAgentMicrogrids,
) -> None:
    python_before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002
    env.reset(seed=3)
    env.step(actions_of(env))
    numpy_after = np.random.get_state()  # noqa: NPY002
    assert random.getstate() == python_before
    assert all(np.array_equal(a, b) for a, b in zip(numpy_before, numpy_after, strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused_by_name_before_anyone_is_told(
    env: MultiAgentMicrogrids, value: float
) -> None:
    env.reset(seed=0)
    actions = actions_of(env)
    actions["MG3"][0] = value
    before, told = env.measurements, {a: g.setpoints for a, g in env.agent_dict.items()}
    with pytest.raises(ValueError, match=r"MG3.*not finite"):
        env.step(actions)
    assert env.measurements == before
    assert {a: g.setpoints for a, g in env.agent_dict.items()} == told


def test_an_action_of_words_is_refused_by_name(env: MultiAgentMicrogrids) -> None:
    env.reset(seed=0)
    actions: dict[str, Any] = actions_of(env)
    actions["MG2"] = np.array(["up"] * len(actions["MG2"]))
    with pytest.raises(ConfigError, match=r"actions\[MG2\].*finite numbers"):
        env.step(actions)


@pytest.mark.parametrize("event_driven", [False, True])
def test_nothing_moves_after_the_end_of_an_episode(event_driven: bool) -> None:
    config = {**load_setup("single_microgrid"), "max_episode_steps": 1}
    env = MultiAgentMicrogrids(config, event_driven=event_driven)
    env.reset(seed=1)
    actions = {a: np.zeros(env.action_space(a).shape, np.float32) for a in env.agents}
    env.step(actions)
    ended_s = env.measurements.time_s
    for late in ({}, actions):
        with pytest.raises(ConfigError, match="the episode is over"):
            env.step(late)
    assert env.measurements.time_s == ended_s
    env.reset(seed=1)
    env.step(actions)


@pytest.mark.parametrize("options", [{}, {"centralized": False}, {"event_driven": True}])
def test_a_proxy_that_would_hide_what_is_observed_is_refused(options: dict[str, Any]) -> None:
    env = MultiAgentMicrogrids("single_microgrid", **options)
    with pytest.raises(ConfigError, match=r"visibility_rules\[MG1\] = 'without ess1'"):
        env.use_proxy(visibility_rules={"MG1": ["gen1", "pv1"]})
    assert env.proxy is None
    plain, _ = MultiAgentMicrogrids("single_microgrid").reset(seed=3)
    proxy = env.use_proxy(visibility_rules={"ess1": ["ess1"]})
    seen, _ = env.reset(seed=3)
    np.testing.assert_array_equal(seen["MG1"], plain["MG1"])
    assert not proxy.get_state("ess1", "gen1")
    assert proxy.get_state("MG1", "gen1")


@pytest.mark.parametrize("day", ["monday", 366, -1, 3.5])
def test_a_day_that_is_not_in_the_data_is_refused(env: MultiAgentMicrogrids, day: Any) -> None:
    with pytest.raises(ConfigError, match=r"options\.day = .*0 to 365"):
        env.reset(options={"day": day})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"visibility_level": "everyone"}, "visibility_level = 'everyone'.*upper_level, owner"),
        ({"protocol": "barter"}, "protocol = 'barter'.*setpoint, price"),
        ({"centralized": "no"}, "centralized = 'no'.*true or false"),
        ({"event_driven": 1}, "event_driven = 1.*true or false"),
    ],
)
def test_an_unknown_view_protocol_or_switch_is_refused_before_there_is_an_environment(
    options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        MultiAgentMicrogrids("single_microgrid", **options)


def test_lists_and_whole_numbers_are_actions_and_arrays_are_left_alone(
    env: MultiAgentMicrogrids,
) -> None:
    ones = {a: [1] * env.action_space(a).shape[0] for a in env.agents}
    given = actions_of(env)
    env.reset(options={"day": 3})
    from_lists = env.step(ones)  # type: ignore[arg-type]
    env.reset(options={"day": 3})
    as_arrays = {a: np.ones(len(x)) for a, x in ones.items()}
    from_arrays = env.step(as_arrays)
    assert from_lists[1] == from_arrays[1]
    env.step(given)
    kept = {a: env.agent_dict[a].action.c for a in env.agent_dict}
    assert {a: x.tolist() for a, x in kept.items()} == {a: x.tolist() for a, x in given.items()}
    for action in given.values():
        action[:] = 7.0
    assert all(np.abs(env.agent_dict[a].action.c).max() <= 1.0 for a in env.agent_dict)


def test_a_copy_of_an_environment_goes_its_own_way(env: MultiAgentMicrogrids) -> None:
    env.reset(options={"day": 3})
    given = actions_of(env)
    twin = copy.deepcopy(env)
    here, there = env.step(given), twin.step(given)
    assert here[1] == there[1]
    assert all(np.array_equal(here[0][a], there[0][a]) for a in here[0])
    held = env.agent_dict["MG1"].setpoints
    twin.step({a: -x for a, x in given.items()})
    assert twin.agent_dict["MG1"].setpoints != held
    assert env.agent_dict["MG1"].setpoints == held


def test_an_agent_that_a_subclass_puts_in_anothers_place_is_told_what_is_known() -> None:
    class Patient(PowerGridAgent):
        looked = 0

        def update_from(self, view: MicrogridView) -> None:
            self.looked += 1
            super().update_from(view)

    class Own(MultiAgentMicrogrids):
        def _build_agents(self) -> dict[str, PowerGridAgent]:
            built = super()._build_agents()
            built["MG2"] = Patient(grid_config=self.setup.config.microgrid_configs[1])
            return built

    env = Own(load_setup("ieee34_ieee13"))
    env.reset(options={"day": 3})
    env.step(actions_of(env))
    own = env.agent_dict["MG2"]
    assert isinstance(own, Patient)
    assert own.looked == 2
    assert own.setpoints == {n: env.measurements.setpoints[n] for n in own.devices}
