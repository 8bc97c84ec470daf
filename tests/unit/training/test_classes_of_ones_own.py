"""What a class of one's own overrides counts in every clock alike, and only what it may see."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from heron.core import FeatureProvider, Observation
from heron.errors import ConfigError
from heron.powergrid.agents import (
    ESS,
    Generator,
    PowerGridAgent,
    build_agents,
    register_device,
)
from heron.powergrid.features import (
    BusVoltages,
    ElectricalBasePh,
    FeatureField,
    StorageBlock,
)
from heron.powergrid.quantities import DeviceReading
from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids

CLOCKS: list[dict[str, Any]] = [
    {},
    {"event_driven": True, "timing": "training"},
    {"centralized": False},
    {"centralized": False, "event_driven": True, "timing": "training"},
]
IN_EVERY_CLOCK = pytest.mark.parametrize(
    "clock", CLOCKS, ids=["steps", "events", "broker", "events over a broker"]
)
STEPS = 3
DAY = {"day": 100}


pytestmark = pytest.mark.usefixtures("device_types_as_they_were")


def site(coordinator: type[PowerGridAgent]) -> type[MultiAgentMicrogrids]:
    class Site(MultiAgentMicrogrids):
        def _build_agents(self) -> dict[str, PowerGridAgent]:
            self.limits = {m.name: m.limits for m in self.setup.config.microgrid_configs}
            self.dso = build_agents(self.setup, coordinator=coordinator, env_id=self.env_id)
            return dict(self.dso.microgrids)

    return Site


def setup_with(kind: type[Generator] | type[ESS], position: int = 0) -> dict[str, Any]:
    register_device(kind.__name__)(kind)
    setup = load_setup("single_microgrid")
    setup["microgrid_configs"][0]["devices"][position]["type"] = kind.__name__
    return setup


def run(
    env: MultiAgentMicrogrids, level: float = 0.8
) -> tuple[list[float], list[np.ndarray[Any, Any]]]:
    seen, _ = env.reset(seed=1, options=DAY)
    rewards, views = [], [seen["MG1"]]
    for _ in range(STEPS):
        actions = {a: np.full(env.action_space(a).shape, level, np.float32) for a in env.agents}
        observations, earned, *_ = env.step(actions)
        rewards.append(earned["MG1"])
        views.append(observations["MG1"])
    return rewards, views


class ByCoordinating(PowerGridAgent):
    def coordinate_subordinates(self, observation, action, scheduler=None):  # type: ignore[no-untyped-def]
        half = None if action is None else 0.5 * np.asarray(action)
        return super().coordinate_subordinates(observation, half, scheduler)


class ByTaking(PowerGridAgent):
    def take_action(self, action, observation=None, scheduler=None):  # type: ignore[no-untyped-def]
        half = None if action is None else 0.5 * action
        super().take_action(half, observation, scheduler)


class ByApplying(PowerGridAgent):
    def apply_action(self, action):  # type: ignore[no-untyped-def]
        super().apply_action(0.5 * np.asarray(action))


class ByChecking(PowerGridAgent):
    def checked_action(self, action: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        return 0.5 * super().checked_action(action)


@IN_EVERY_CLOCK
@pytest.mark.parametrize("kind", [ByCoordinating, ByTaking, ByApplying])
def test_a_coordinator_may_change_what_it_was_told(
    kind: type[PowerGridAgent], clock: Mapping[str, Any]
) -> None:
    setup = load_setup("single_microgrid")
    halved, _ = run(MultiAgentMicrogrids(setup, **clock), 0.4)
    whole, _ = run(MultiAgentMicrogrids(setup, **clock), 0.8)
    assert run(site(kind)(setup, **clock), 0.8)[0] == halved != whole


def test_a_check_of_its_own_is_asked_without_messages_too() -> None:
    setup = load_setup("single_microgrid")
    told, _ = run(site(ByChecking)(setup), 0.8)
    assert told == run(site(ByChecking)(setup, centralized=False), 0.8)[0]
    assert told != run(MultiAgentMicrogrids(setup), 0.8)[0]


class Careful(Generator):
    def take_action(self, action, observation=None, scheduler=None):  # type: ignore[no-untyped-def]
        super().take_action(0.5 * action, observation, scheduler)


class Doubtful(Generator):
    def checked_action(self, action: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
        return 0.5 * super().checked_action(action)


@pytest.mark.parametrize("kind", [Careful, Doubtful])
def test_a_device_may_change_what_it_was_told(kind: type[Generator]) -> None:
    setup = setup_with(kind)
    results = [run(MultiAgentMicrogrids(setup, **clock))[0] for clock in CLOCKS]
    assert results == [results[0]] * len(CLOCKS)
    assert results[0] != run(MultiAgentMicrogrids(load_setup("single_microgrid")))[0]


class Blinkered(PowerGridAgent):
    def observe(self, global_state=None, proxy=None) -> Observation:  # type: ignore[no-untyped-def]
        seen = super().observe(global_state, proxy)
        dark = np.full(2, 0.5, np.float32)
        return Observation({**seen.local, "BusVoltages": dark}, seen.global_info, seen.timestamp)


@IN_EVERY_CLOCK
def test_a_coordinator_may_see_less(clock: Mapping[str, Any]) -> None:
    env = site(Blinkered)(load_setup("single_microgrid"), **clock)
    _, views = run(env)
    assert all(view[:2].tolist() == [0.5, 0.5] for view in views)


@dataclass
class Temperature(FeatureProvider):
    visibility = ("owner", "upper_level")
    rise_k: float = 0.0


class Warming(Generator):
    def set_state(self) -> None:
        super().set_state()
        self.state.features.append(Temperature())

    def update_state(self, reading: DeviceReading | None = None, **kwargs: Any) -> None:
        super().update_state(reading=reading, **kwargs)
        if reading is not None:
            self.state.feature("Temperature").set_values(rise_k=10.0 * reading.p_mw)

    def update_cost_safety(self) -> None:
        super().update_cost_safety()
        self.safety = 0.25


@IN_EVERY_CLOCK
def test_a_reading_comes_by_update_state(clock: Mapping[str, Any]) -> None:
    env = MultiAgentMicrogrids(setup_with(Warming), **clock)
    _, views = run(env)
    place = [f.feature for f in env.codecs["MG1"].fields].index("Temperature")
    warm = env.measurements.devices["gen1"].p_mw * 10.0
    assert views[-1][place] == pytest.approx(warm, rel=1e-6)
    assert warm > 1.0


@IN_EVERY_CLOCK
def test_shaped_rewards_find_cost_and_safety_of_the_step(clock: Mapping[str, Any]) -> None:
    class Shaped(MultiAgentMicrogrids):
        def _reward_and_safety(self) -> tuple[dict[str, float], dict[str, float]]:
            agents = self.agent_dict
            return {n: -a.cost for n, a in agents.items()}, {n: a.safety for n, a in agents.items()}

    env = Shaped({**setup_with(Warming), "penalty": 100.0}, **clock)
    rewards, _ = run(env)
    assert env.accounts is not None
    account = env.accounts.agents["MG1"]
    assert rewards[-1] == pytest.approx(-account.cost_usd - 100.0 * (account.safety + 0.25))
    grid = env.agent_dict["MG1"]
    assert grid.devices["ess1"].cost == account.device_cost_usd["ess1"]
    assert grid.devices["gen1"].cost == pytest.approx(account.device_cost_usd["gen1"])


@dataclass
class Secret(FeatureProvider):
    visibility = ("system",)
    x: float = 7.0


class Guarded(Generator):
    def set_state(self) -> None:
        super().set_state()
        self.state.features.append(Secret())


def test_what_only_the_operator_may_see_is_delivered_to_nobody_else() -> None:
    setup = setup_with(Guarded)
    env = MultiAgentMicrogrids(setup, visibility_level="system")
    _, views = run(env)
    place = [f.feature for f in env.codecs["MG1"].fields].index("Secret")
    assert views[-1][place] == 7.0
    for clock in CLOCKS[1:]:
        with pytest.raises(ConfigError, match=r"visibility_level = system.*MG1.*gen1\.Secret"):
            MultiAgentMicrogrids(setup, visibility_level="system", **clock)
    with pytest.raises(ConfigError, match=r"gen1\.Secret"):
        env.use_proxy()


@IN_EVERY_CLOCK
def test_what_is_hidden_later_is_not_shown_any_longer(clock: Mapping[str, Any]) -> None:
    env = MultiAgentMicrogrids(load_setup("single_microgrid"), **clock)
    env.agent_dict["MG1"].devices["ess1"].state.feature("StorageBlock").visibility = ("owner",)
    with pytest.raises(ConfigError, match=r"observation of MG1.*ess1\.StorageBlock"):
        env.reset(seed=1)


class Kilowatts(ElectricalBasePh):
    def names(self) -> list[str]:
        return ["p_kW", "q_kvar", "v_pu", "va_deg"]

    def vector(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        p, q, v, angle = self.values()
        return np.array([1e3 * p, 1e3 * q, v, angle], dtype=np.float32)


class InKilowatts(Generator):
    def electrical_feature(self) -> ElectricalBasePh:
        return Kilowatts()


class WarmStore(StorageBlock):
    fields = (*StorageBlock.fields, FeatureField("temp_c", "C", 40.0))

    def __init__(self, temp_c: float = 20.0, **kwargs: float) -> None:
        super().__init__(**kwargs)
        self.row = (*self.row, temp_c)


class WarmESS(ESS):
    def storage_feature(self) -> StorageBlock:
        plain = super().storage_feature().to_dict()
        return WarmStore(20.0, **plain)


@IN_EVERY_CLOCK
def test_features_that_say_or_hold_more_than_those_that_ship(clock: Mapping[str, Any]) -> None:
    env = MultiAgentMicrogrids(setup_with(InKilowatts), **clock)
    _, views = run(env)
    place = [f.field for f in env.codecs["MG1"].fields].index("p_kW")
    p_mw = env.measurements.devices["gen1"].p_mw
    assert views[-1][place] == pytest.approx(1e3 * p_mw, rel=1e-6)
    env = MultiAgentMicrogrids(setup_with(WarmESS, 1), **clock)
    _, views = run(env)
    place = [f.feature for f in env.codecs["MG1"].fields].index("WarmStore")
    stored = env.measurements.devices["ess1"].soc
    assert views[-1][place : place + 4].tolist() == pytest.approx(
        [stored, 3.2, 3.2 * (stored or 0.0), 0.5], rel=1e-6
    )


@IN_EVERY_CLOCK
def test_features_put_in_others_places_are_filled_from_the_next_episode(
    clock: Mapping[str, Any],
) -> None:
    env = MultiAgentMicrogrids(load_setup("single_microgrid"), **clock)
    _, before = run(env)
    grid = env.agent_dict["MG1"]
    generator = grid.devices["gen1"]
    base = generator.electrical_feature().base_MVA
    generator.state.features[0] = ElectricalBasePh(base_MVA=base)
    grid.state.features[0] = BusVoltages()
    _, after = run(env)
    assert [view.tolist() for view in after] == [view.tolist() for view in before]


@pytest.mark.parametrize("options", [*CLOCKS, {"through_registers": True}, {"protocol": "p2p"}])
def test_a_copied_environment_goes_on_as_the_original_would(options: Mapping[str, Any]) -> None:
    env = MultiAgentMicrogrids(load_setup("single_microgrid"), **options)
    run(env)
    again = copy.deepcopy(env)
    results = [device.result for device in env.agent_dict["MG1"].devices.values()]
    assert [d.result for d in again.agent_dict["MG1"].devices.values()] == results
    assert run(again)[0] == run(env)[0]
