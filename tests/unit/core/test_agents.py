"""Agents: construction in two phases, hierarchy, acting, and what they may see."""

import inspect
from dataclasses import dataclass

import numpy as np
import pytest

from heron.agents import (
    Agent,
    CoordinatorAgent,
    FieldAgent,
    SystemAgent,
)
from heron.core import FeatureProvider, FieldAgentState
from heron.envs import HeronEnvCore
from heron.errors import ConfigError
from heron.messaging import InMemoryBroker, MessageType
from heron.protocols import NoProtocol, PriceSignalProtocol, SetpointProtocol
from heron.scheduling import JitterType, TickConfig


@dataclass
class Limits(FeatureProvider):
    visibility = ("owner", "upper_level")
    p_max_mw: float = 0.0


class GuideGenerator(FieldAgent):
    """Sets its config after super().__init__(), as the guide does."""

    def __init__(self, agent_id, device_state_config, **kwargs):
        super().__init__(agent_id=agent_id, **kwargs)
        self.config = dict(device_state_config)

    def set_state(self):
        self.state = FieldAgentState(owner_id=self.agent_id, owner_level=1)
        self.state.features.append(Limits(p_max_mw=self.config["p_max_mw"]))

    def set_action(self):
        self.action.set_specs(dim_c=2, range=(np.array([-1.0, -1.0]), np.array([1.0, 1.0])))

    def apply_action(self, action):
        self.p_mw = self.config["p_max_mw"] * action[0]


class GuideGrid(CoordinatorAgent):
    """Builds its subordinates from configs, as the guide does."""

    def __init__(self, grid_config, protocol, **kwargs):
        self.kinds = {"Generator": GuideGenerator}
        super().__init__(
            agent_id=grid_config["name"],
            protocol=protocol,
            config={"agents": grid_config["devices"]},
            **kwargs,
        )

    def _build_subordinates(self, configs, env_id, upstream_id):
        return {
            c["name"]: self.kinds[c["type"]](
                agent_id=c["name"],
                device_state_config=c["device_state_config"],
                env_id=env_id,
                upstream_id=upstream_id or self.agent_id,
            )
            for c in configs
        }


GRID = {
    "name": "MG1",
    "devices": [
        {"type": "Generator", "name": f"gen{i}", "device_state_config": {"p_max_mw": float(i)}}
        for i in (1, 2)
    ],
}


# --- construction ---------------------------------------------------------------------------


def test_a_config_set_after_the_base_constructor_is_there_when_the_state_is_built():
    generator = GuideGenerator("gen1", {"p_max_mw": 2.0})
    assert generator.state.limits.p_max_mw == 2.0
    assert generator.action.size == 2


def test_a_state_that_is_used_too_early_says_what_is_missing():
    class Early(GuideGenerator):
        def __init__(self, agent_id):
            FieldAgent.__init__(self, agent_id)
            self.state.reset()
            self.rating = 1.0

        def set_state(self):
            self.state = FieldAgentState(self.agent_id)
            self.state.features.append(Limits(self.rating))

    with pytest.raises(ConfigError, match=r"Early 'gen1'.*set_state\(\) needs self\.rating"):
        Early("gen1")


def test_a_mistake_inside_set_state_itself_is_not_blamed_on_the_order():
    class Typo(FieldAgent):
        def set_state(self):
            super().set_state()
            self.state.features.append(Limits().nothing_such)

    with pytest.raises(AttributeError, match="nothing_such"):
        Typo("gen1")


def test_a_state_must_be_set():
    class Forgetful(FieldAgent):
        def set_state(self):
            pass

    with pytest.raises(ConfigError, match=r"set_state\(\) did not set"):
        Forgetful("gen1")


def test_an_agent_is_whole_and_checked_when_its_constructor_returns():
    class Twice(FieldAgent):
        def set_state(self):
            super().set_state()
            self.state.features += [Limits(), Limits()]

    with pytest.raises(ConfigError, match="Limits"):
        Twice("gen1")
    with pytest.raises(ConfigError, match="agent_id"):
        FieldAgent("")


@pytest.mark.parametrize("kind", [FieldAgent, CoordinatorAgent, SystemAgent])
def test_constructors_have_the_guides_parameters_in_its_order(kind):
    names = list(inspect.signature(kind).parameters)
    assert names[:7] == [
        "agent_id", "policy", "protocol", "upstream_id", "env_id", "config", "tick_config",
    ]  # fmt: skip


def test_default_ticks_are_1_60_and_300_s():
    kinds = (FieldAgent, CoordinatorAgent, SystemAgent)
    assert [k("a").tick_config.tick_interval for k in kinds] == [1.0, 60.0, 300.0]


# --- hierarchy ------------------------------------------------------------------------------


def test_a_coordinator_builds_its_subordinates_as_in_the_guide():
    grid = GuideGrid(GRID, SetpointProtocol())
    assert list(grid.subordinates) == ["gen1", "gen2"]
    assert grid.action.size == 4
    assert {d.upstream_id for d in grid.subordinates.values()} == {"MG1"}
    grid.coordinate_subordinates(observation=None, action=np.array([0.5, 0.0, -0.5, 0.0]))
    assert [d.p_mw for d in grid.subordinates.values()] == [0.5, -1.0]


def test_configs_without_a_builder_are_refused():
    with pytest.raises(ConfigError, match="_build_subordinates"):
        CoordinatorAgent("MG1", config={"agents": [{"name": "gen1"}]})


def test_two_agents_with_one_id_are_refused():
    with pytest.raises(ConfigError, match="'gen1'"):
        CoordinatorAgent("MG1", config={"agents": [FieldAgent("gen1"), FieldAgent("gen1")]})
    with pytest.raises(ConfigError, match="'MG1'"):
        CoordinatorAgent("MG1", config={"agents": [FieldAgent("MG1")]})
    sites = [
        CoordinatorAgent(name, config={"agents": [FieldAgent("gen1")]}) for name in ("MG1", "MG2")
    ]
    with pytest.raises(ConfigError, match="'gen1'"):
        SystemAgent("DSO", config={"coordinators": sites})
    env = HeronEnvCore("env")
    env.register_agent(sites[0])
    with pytest.raises(ConfigError, match="'gen1'"):
        env.register_agent(sites[1])
    assert env.get_heron_agent("MG2") is None


def test_a_subordinate_with_two_parents_is_refused():
    device = FieldAgent("gen1")
    CoordinatorAgent("MG1", config={"agents": [device]})
    with pytest.raises(ConfigError, match="one parent only; it reports to 'MG1'"):
        CoordinatorAgent("MG2", config={"agents": [device]})


def test_a_cycle_or_a_level_upside_down_is_refused():
    site = CoordinatorAgent("MG1", config={"agents": [FieldAgent("gen1")]})
    dso = SystemAgent("DSO", config={"coordinators": [site]})
    with pytest.raises(ConfigError, match="not above itself"):
        site.add_subordinate(dso)
    with pytest.raises(ConfigError, match="not above itself"):
        site.add_subordinate(site)
    with pytest.raises(ConfigError, match="level below 2"):
        site.add_subordinate(SystemAgent("TSO"))


def test_a_subordinate_under_another_name_than_its_own_is_refused():
    class Wrong(CoordinatorAgent):
        def _build_subordinates(self, configs, env_id, upstream_id):
            return {"other": FieldAgent("gen1")}

    with pytest.raises(ConfigError, match="'gen1'"):
        Wrong("MG1")


def test_subordinates_belong_to_the_environment_of_their_parent():
    site = CoordinatorAgent("MG1", env_id="east", config={"agents": [FieldAgent("gen1")]})
    assert [a.env_id for a in site.family()] == ["east", "east"]


def test_a_whole_branch_moves_to_the_environment_of_its_new_parent():
    site = CoordinatorAgent("MG1", config={"agents": [FieldAgent("gen1")]})
    dso = SystemAgent("DSO", env_id="west", config={"coordinators": [site]})
    assert {a.env_id for a in dso.family()} == {"west"}


def test_a_subordinate_added_to_a_listening_coordinator_is_seen(toy):
    site = toy.Site("MG1", config={"agents": [toy.Battery("b1")]})
    site.listen()
    site.add_subordinate(toy.Battery("b2", soc=0.75))
    assert site.observe().local["subordinates"]["b2"]["Charge"][0] == 0.75


def test_an_agent_that_only_names_its_upstream_is_reset_as_well(toy):
    env = HeronEnvCore("env")
    env.register_agent(toy.Site("MG1"))
    lone = toy.Battery("b1", upstream_id="MG1")
    env.register_agent(lone)
    lone.state.charge.soc = 0.125
    env.reset_agents(seed=0)
    assert lone.state.charge.soc == 0.5


# --- acting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [[0.0], [0.0] * 5, [0.0, 0.0, 0.0, np.nan], "up"])
def test_a_wrong_action_is_refused_before_anyone_acts(action):
    env = HeronEnvCore("env")
    grids = [GuideGrid({**GRID, "name": "MG1"}, SetpointProtocol())]
    other = {"name": "MG2", "devices": [{**GRID["devices"][0], "name": "gen3"}]}
    grids.append(GuideGrid(other, SetpointProtocol()))
    for grid in grids:
        env.register_agent(grid)
    with pytest.raises(ValueError):
        env.apply_actions({"MG2": [0.5, 0.5], "MG1": action})
    assert not hasattr(env.get_heron_agent("gen3"), "p_mw")


def test_an_action_for_a_stranger_is_refused():
    env = HeronEnvCore("env")
    env.register_agent(GuideGrid(GRID, SetpointProtocol()))
    with pytest.raises(ConfigError, match=r"'MG10'.*MG1"):
        env.apply_actions({"MG10": np.zeros(4)})


def test_a_command_from_upstream_wins_over_the_own_policy():
    class Own:
        def forward(self, observation):
            return [0.25, 0.0]

    generator = GuideGenerator("gen1", {"p_max_mw": 2.0}, policy=Own())
    observation = generator.observe()
    assert generator.act(observation)[0] == 0.25
    assert generator.act(observation, [0.75, 0.0])[0] == 0.75
    assert FieldAgent("sensor").act(observation) is None


def test_a_policy_that_answers_nan_is_refused_by_name():
    class Broken:
        def forward(self, observation):
            return [np.nan, 0.0]

    with pytest.raises(ValueError, match=r"gen1.*finite"):
        GuideGenerator("gen1", {"p_max_mw": 2.0}, policy=Broken()).act(None)


def test_a_masked_category_is_refused_and_masks_are_joined():
    class Tap(FieldAgent):
        def set_action(self):
            self.action.set_specs(dim_d=1, ncats=3)

        def action_mask(self):
            return np.array([True, True, False])

    site = CoordinatorAgent(
        "MG1", protocol=SetpointProtocol(),
        config={"agents": [GuideGenerator("gen1", {"p_max_mw": 1.0}), Tap("tap1")]},
    )  # fmt: skip
    env = HeronEnvCore("env")
    env.register_agent(site)
    assert env.action_masks()["MG1"].tolist() == [True, True, False]
    env.apply_actions({"MG1": [0.0, 0.0, 1.0]})
    with pytest.raises(ValueError, match="category 2 is masked"):
        env.apply_actions({"MG1": [0.0, 0.0, 2.0]})


def test_reset_clears_commands_signals_and_the_policys_memory():
    class Remembers:
        resets = 0

        def forward(self, observation):
            return [0.0, 0.0]

        def reset(self):
            self.resets += 1

    policy = Remembers()
    generator = GuideGenerator("gen1", {"p_max_mw": 2.0}, policy=policy)
    generator.on_message(MessageType.ACTION, "MG1", np.array([0.5, 0.5]))
    generator.on_message(MessageType.SIGNAL, "MG1", {"price": 3.0})
    generator.state.update_feature("Limits", p_max_mw=9.0)
    generator.reset(seed=1)
    assert (generator.upstream_action, generator.signal, policy.resets) == (None, {}, 1)
    assert generator.state.limits.p_max_mw == 2.0


def test_costs_add_up_over_the_hierarchy():
    class Costs(FieldAgent):
        def update_cost_safety(self):
            self.cost, self.safety = 2.0, 0.5

    site = CoordinatorAgent("MG1", config={"agents": [Costs("a"), Costs("b")]})
    dso = SystemAgent("DSO", config={"coordinators": [site]})
    dso.update_cost_safety()
    assert (dso.cost, dso.safety) == (4.0, 1.0)


def test_jitter_can_be_switched_on_and_off():
    agent = FieldAgent("gen1", tick_config=TickConfig(tick_interval=10.0, seed=5))
    agent.enable_jitter(JitterType.UNIFORM, 0.2)
    drawn = [agent.tick_config.next_tick_interval() for _ in range(500)]
    assert 8.0 <= min(drawn) < 8.2 < 11.8 < max(drawn) <= 12.0
    agent.disable_jitter()
    assert {agent.tick_config.next_tick_interval() for _ in range(5)} == {10.0}


# --- messages -------------------------------------------------------------------------------


def test_agents_send_each_other_messages_through_the_broker():
    with InMemoryBroker() as broker:
        a = FieldAgent("a", message_broker=broker)
        b = FieldAgent("b", message_broker=broker)
        a.send_message("b", {"soc": np.float32(0.5), "list": np.arange(2)})
        (message,) = b.receive_messages()
        assert (message.sender_id, dict(message.payload)) == ("a", {"soc": 0.5, "list": (0, 1)})
        assert b.receive_messages() == []
        assert a.receive_messages() == []


def test_an_agent_without_a_broker_says_how_to_get_one():
    with pytest.raises(ConfigError, match="configure_agents_for_distributed"):
        FieldAgent("a").send_message("b", {})


# --- no protocol ----------------------------------------------------------------------------


def test_a_coordinator_without_a_protocol_refuses_an_action_that_would_be_lost():
    site = CoordinatorAgent("MG1", config={"agents": [GuideGenerator("g", {"p_max_mw": 1.0})]})
    assert isinstance(site.protocol, NoProtocol)
    assert site.action.size == 0
    with pytest.raises(ValueError, match="no protocol"):
        site.coordinate_subordinates(None, [0.5, 0.5])


def test_a_price_reaches_a_device_and_it_answers():
    class Responsive(GuideGenerator):
        def respond_to_price(self, price):
            return [1.0 if price > 60.0 else -1.0, 0.0]

    site = CoordinatorAgent(
        "MG1",
        protocol=PriceSignalProtocol(),
        config={
            "agents": [Responsive("g", {"p_max_mw": 2.0}), GuideGenerator("h", {"p_max_mw": 1})]
        },
    )
    assert site.action.space.high == [200.0]
    site.apply_action([80.0])
    assert site.subordinates["g"].p_mw == 2.0
    assert site.subordinates["h"].signal == {"price": 80.0}
    assert not hasattr(site.subordinates["h"], "p_mw")
    assert isinstance(site, Agent)
