"""The network's shield on the plant that ships: what it moves and leaves, and when it fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from heron.errors import ConfigError, PolicyError, PowerFlowDiverged
from heron.policy import PolicyCodec, codec_of
from heron.policy.baselines import IdlePolicy
from heron.policy.together import begin, decide
from heron.powergrid.agents import build_agents, views_of
from heron.powergrid.network_model import NetworkModel, network_model
from heron.powergrid.networks import Grid, compose
from heron.powergrid.optimization import NetworkShield, NetworkShieldedPolicy
from heron.powergrid.optimization.next_step import StepOutlook
from heron.powergrid.setups import Setup
from simulator import Plant

DAY = 28
NOON = 50
"""Step of that day from which actions at random leave the band."""


class Chosen:
    """Says what it is told to say."""

    def __init__(self, action: npt.NDArray[np.float32]) -> None:
        self.action = action

    def act(self, obs: Any) -> npt.NDArray[np.float32]:
        return self.action


class World:
    """The plant with its agents, stepped by hand."""

    def __init__(self, setup: Setup, day: int, steps: int = 0) -> None:
        self.setup = setup
        self.dso = build_agents(setup)
        self.codecs = {name: codec_of(agent) for name, agent in self.dso.microgrids.items()}
        self.plant = Plant(setup)
        self.plant.reset(start_s=day * 86_400.0 + steps * 900.0)

    def observe(self) -> dict[str, npt.NDArray[np.float32]]:
        now = self.plant.measurements
        day_ahead = self.setup.profiles.day_ahead(now.time_s)
        for name, view in views_of(self.setup.config, now, day_ahead).items():
            self.dso.microgrids[name].update_from(view)
        return {a: codec.encode(self.dso.microgrids[a]) for a, codec in self.codecs.items()}

    def step(self, actions: Mapping[str, npt.NDArray[np.float32]]) -> float:
        """Let agents act on what they observed; return the violation of the step, pu nodes."""
        for name, action in actions.items():
            self.dso.microgrids[name].apply_action(action)
        areas = self.plant.step(self.dso.setpoints, 900.0).areas.values()
        return sum(area.violation_pu for area in areas)


@pytest.fixture(scope="module")
def grid(setup: Setup) -> Grid:
    return compose(setup.config)


@pytest.fixture(scope="module")
def model(setup: Setup, grid: Grid) -> NetworkModel:
    return network_model(setup.config, grid)


def shield_of(setup: Setup, grid: Grid, model: NetworkModel, world: World) -> NetworkShield:
    return NetworkShield(setup, grid, model, world.codecs)


def behind(
    shield: NetworkShield, world: World, actions: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, NetworkShieldedPolicy]:
    return {
        a: NetworkShieldedPolicy(Chosen(actions[a]), codec, shield)
        for a, codec in world.codecs.items()
    }


def drawn(codecs: Mapping[str, PolicyCodec], seed: int) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return {a: rng.uniform(-1, 1, c.act_dim).astype(np.float32) for a, c in codecs.items()}


def pushing(codecs: Mapping[str, PolicyCodec]) -> dict[str, npt.NDArray[np.float32]]:
    """All that can inject injects, active and reactive: the feeder goes far above its band."""
    return {a: np.ones(c.act_dim, dtype=np.float32) for a, c in codecs.items()}


def test_actions_that_keep_the_band_pass_bit_by_bit(
    setup: Setup, grid: Grid, model: NetworkModel
) -> None:
    world = World(setup, DAY)
    shield = shield_of(setup, grid, model, world)
    resting = {a: IdlePolicy(c).act([]) for a, c in world.codecs.items()}
    policies = behind(shield, world, resting)
    assert world.step(decide(policies, world.observe())) == 0.0
    answered = decide(policies, world.observe())
    assert all(np.array_equal(answered[a], resting[a]) for a in resting)
    assert (shield.record.moved, shield.record.steps) == (0, 2)
    assert all(policy.note == "" for policy in policies.values())


def test_it_takes_nearly_all_violation_from_actions_at_random(
    setup: Setup, grid: Grid, model: NetworkModel
) -> None:
    violation = {}
    for shielded in (False, True):
        world = World(setup, DAY, NOON)
        shield = shield_of(setup, grid, model, world)
        violation[shielded] = 0.0
        for k in range(8):
            actions, observations = drawn(world.codecs, k), world.observe()
            if shielded:
                for a, obs in observations.items():
                    shield.propose(a, obs, actions[a])
                actions = {a: shield.answer(a)[0] for a in observations}
            violation[shielded] += world.step(actions)
    assert violation[False] > 0.1
    assert violation[True] < 0.15 * violation[False]
    assert shield.record.moved > 0
    assert max(shield.record.meter_pu) < 1e-6  # its model is the plant's


def test_what_it_moves_is_said_and_counted(setup: Setup, grid: Grid, model: NetworkModel) -> None:
    world = World(setup, DAY)
    shield = shield_of(setup, grid, model, world)
    policies = behind(shield, world, pushing(world.codecs))
    assert world.step(decide(policies, world.observe())) == 0.0
    assert policies["MG1"].note.startswith("shield: gen1.")
    assert policies["MG1"].interventions == 1
    assert shield.record.linear_pu[0] < 0.05


def test_it_does_not_matter_who_proposes_or_asks_first(
    setup: Setup, grid: Grid, model: NetworkModel
) -> None:
    world = World(setup, DAY)
    observations, actions = world.observe(), pushing(world.codecs)
    answers = []
    for order in (list(world.codecs), list(reversed(world.codecs))):
        shield = shield_of(setup, grid, model, world)
        for a in order:
            shield.propose(a, observations[a], actions[a])
        answers.append({a: shield.answer(a)[0] for a in reversed(order)})
    assert all(np.array_equal(answers[0][a], answers[1][a]) for a in actions)


def test_one_that_acts_by_itself_is_answered_on_what_is_known_then(
    setup: Setup, grid: Grid, model: NetworkModel
) -> None:
    """The last to come finds the others' answers fixed; it helps, but not as much."""
    world = World(setup, DAY)
    world.observe()
    unshielded = world.step(pushing(world.codecs))
    world = World(setup, DAY)
    policies = behind(shield_of(setup, grid, model, world), world, pushing(world.codecs))
    observations = world.observe()
    alone = {a: policy.act(observations[a]) for a, policy in policies.items()}
    assert policies["MG1"].note.endswith("without MG2, MG3")
    again = {a: policy.act(observations[a]) for a, policy in policies.items()}
    assert all(np.array_equal(alone[a], again[a]) for a in alone)
    assert world.step(alone) < unshielded


def test_a_coordinator_that_falls_silent_is_taken_to_hold_what_it_was_told(
    setup: Setup, grid: Grid, model: NetworkModel
) -> None:
    world = World(setup, DAY)
    shield = shield_of(setup, grid, model, world)
    actions = pushing(world.codecs)
    for _ in range(3):
        observations = world.observe()
        speaking = [a for a in observations if a != "MG2" or shield.record.steps == 0]
        for a in speaking:
            shield.propose(a, observations[a], actions[a])
        answers = {a: shield.answer(a) for a in speaking}
        assert world.step({a: action for a, (action, _) in answers.items()}) < 0.05
    assert answers["MG1"][1].endswith("without MG2")


def test_what_is_not_finite_is_refused(setup: Setup, grid: Grid, model: NetworkModel) -> None:
    world = World(setup, DAY)
    shield = shield_of(setup, grid, model, world)
    observations, actions = world.observe(), drawn(world.codecs, 0)
    bad = observations["MG1"].copy()
    bad[0] = np.nan
    with pytest.raises(PolicyError, match="MG1: the shield is told what is not finite"):
        shield.propose("MG1", bad, actions["MG1"])
    with pytest.raises(PolicyError, match="not finite"):
        shield.propose("MG1", observations["MG1"], actions["MG1"] * np.inf)
    with pytest.raises(KeyError, match="MG1 has proposed nothing"):
        shield.answer("MG1")


class Broken:
    """A model that was right, and is no longer."""

    def __init__(self, model: NetworkModel, *, off_pu: float = 0.0, solves: bool = True) -> None:
        self._model, self._off_pu, self._solves = model, off_pu, solves
        self.nodes, self.watched = model.nodes, model.watched

    def settle(self, *args: Any) -> Any:
        if not self._solves:
            raise PowerFlowDiverged("no solution")
        flow = self._model.settle(*args)
        return type(flow)(
            flow.v_pu,
            flow.device_v_pu + self._off_pu,
            flow.loading_pu,
            flow.head_mw,
            flow.state,
        )

    def solve(self, *args: Any, **kwargs: Any) -> Any:
        return self._model.solve(*args, **kwargs)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [({"off_pu": 0.05}, "0.050 pu off what the devices measure"), ({"solves": False}, "solution")],
    ids=["of-another-network", "diverged"],
)
def test_blind_it_moves_nothing_and_says_so(
    setup: Setup, grid: Grid, model: NetworkModel, fault: dict[str, Any], reason: str
) -> None:
    world = World(setup, DAY)
    shield = NetworkShield(setup, grid, Broken(model, **fault), world.codecs)
    actions = pushing(world.codecs)
    policies = behind(shield, world, actions)
    answered = decide(policies, world.observe())
    assert all(np.array_equal(answered[a], actions[a]) for a in actions)
    assert "shield: blind" in policies["MG1"].note
    assert reason in policies["MG1"].note
    assert shield.record.blind == 1


def test_an_episode_begins_anew(setup: Setup, grid: Grid, model: NetworkModel) -> None:
    """Two days on end: what is known of the first does not go into the second."""
    first, second = World(setup, DAY, 95), World(setup, DAY + 1)
    shield = shield_of(setup, grid, model, first)
    policies = behind(shield, first, pushing(first.codecs))
    begin(policies)
    first.step(decide(policies, first.observe()))
    begin(policies)
    decide(policies, second.observe())
    assert max(shield.record.meter_pu) < 1e-6


def test_the_outlook_knows_nothing_of_the_step_or_of_test_days(setup: Setup, grid: Grid) -> None:
    now_s = DAY * 86_400.0 + NOON * 900.0
    changed = setup.profiles.values.copy()
    days = np.arange(len(changed)) // 96
    changed[np.isin(days, setup.profiles.test_days)] *= 0.5
    courses = StepOutlook(setup, grid).courses(now_s)
    twin = setup.__class__(
        **{name: getattr(setup, name) for name in setup.__dataclass_fields__ if name != "profiles"},
        profiles=type(setup.profiles)(setup.profiles.names, changed, 900.0),
    )
    others = StepOutlook(twin, grid).courses(now_s)
    assert DAY not in setup.profiles.test_days
    for course, other in zip(courses, others, strict=True):
        assert course.load_scale == pytest.approx(other.load_scale, abs=1e-9)
        assert course.available_mw == pytest.approx(other.available_mw, abs=1e-9)


def test_large_changes_lie_on_both_sides_of_what_is_expected(setup: Setup, grid: Grid) -> None:
    nominal = np.array([load.kw / 1e3 for load in grid.loads])

    def net_mw(course: Any) -> float:
        sun = course.available_mw[np.isfinite(course.available_mw)].sum()
        return float(sun - course.load_scale @ nominal)

    outlook = StepOutlook(setup, grid)
    expected, low, high = (net_mw(c) for c in outlook.courses(DAY * 86_400.0 + NOON * 900.0))
    assert low < expected - 0.05
    assert high > expected + 0.05
    assert len(StepOutlook(setup, grid, tail=0.0).courses(0.0)) == 1


def test_an_engine_without_a_model_is_a_mistake_of_the_setup(setup: Setup, grid: Grid) -> None:
    config = setup.config.model_copy(update={"engine": "lightsim2grid"})
    with pytest.raises(ConfigError, match="simulator"):
        network_model(config, grid)
