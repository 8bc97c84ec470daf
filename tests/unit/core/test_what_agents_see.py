"""What agents see: directly, over a broker, through the proxy, in event-driven time."""

import numpy as np
import pytest

from heron.agents import CoordinatorAgent, FieldAgent, ProxyAgent
from heron.core import FeatureProvider
from heron.envs import HeronEnvCore
from heron.errors import ConfigError
from heron.messaging import InMemoryBroker
from heron.scheduling import TickConfig

# --- what agents see ------------------------------------------------------------------------


def test_observations_fit_their_spaces_in_every_mode_and_visibility(toy):
    for rules in ((), ("owner",), ("upper_level",), ("system",), ("public",)):
        for mode in ("direct", "distributed", "proxy", "event"):
            env = toy.Env(toy.build(toy.every(900.0)))
            env.register_agent(env.sites[0])
            for agent in env.heron_agents.values():
                for feature in agent.state.features:
                    feature.visibility = rules
            if mode == "distributed":
                env.configure_agents_for_distributed()
            elif mode == "proxy":
                env.use_proxy()
            elif mode == "event":
                env.start_event_driven()
            spaces = {name: env.observation_box(name) for name in ("DSO", "MG1")}
            for name, observation in env.get_observations().items():
                assert spaces[name].contains(observation.vector()), (rules, mode, name)


def test_spaces_fit_what_a_proxy_with_rules_of_its_own_leaves_to_see(toy):
    env = toy.Env(toy.build())
    env.register_agent(env.sites[0])
    env.use_proxy(visibility_rules={"MG1": ["b10"]})
    observation = env.get_observations()["MG1"]
    assert observation.vector().shape == env.observation_box("MG1").shape == (1 + 2,)


def test_all_paths_show_a_coordinator_the_same(toy):
    seen = []
    for mode in ("direct", "distributed", "proxy"):
        env = toy.Env(toy.build())
        if mode == "distributed":
            env.configure_agents_for_distributed()
        elif mode == "proxy":
            env.use_proxy()
        for site in env.sites:
            env.register_agent(site)
        seen.append({n: o.vector().tolist() for n, o in env.get_observations().items()})
        own = env.get_observations()["MG1"].local["subordinates"]["b10"]
        assert list(own) == ["Charge"], mode
    assert seen[0] == seen[1] == seen[2]


def test_a_report_over_the_broker_holds_only_what_its_reader_may_see(toy):
    broker = InMemoryBroker()
    env = toy.Env(toy.build(), broker)
    env.configure_agents_for_distributed()
    contents = []
    for site in env.sites:
        broker.subscribe(f"agent/{site.agent_id}", lambda m: contents.append(m.payload["content"]))
    env.share_states()
    assert len(contents) == 6
    assert all(set(content) == {"Charge"} for content in contents)


def test_distributed_agents_can_be_centralised_again(toy):
    env = toy.Env(toy.build())
    env.configure_agents_for_distributed()
    env.configure_agents_for_centralized()
    env.batteries[0].state.update_feature("Charge", soc=0.125)
    assert env.sites[0].observe().local["subordinates"]["b10"]["Charge"][0] == 0.125


# --- proxy ----------------------------------------------------------------------------------


def proxied(toy, **kwargs):
    env = toy.Env(toy.build())
    return env, ProxyAgent("proxy", "toy", env.heron_agents.values(), **kwargs)


def test_the_proxy_gives_each_asker_what_the_feature_declares(toy):
    env, proxy = proxied(toy)
    b10, mg1, mg2 = (env.get_heron_agent(n) for n in ("b10", "MG1", "MG2"))
    proxy.store(b10.state, 1.0)
    assert set(b10.request_state_from_proxy(proxy, "b10")) == {"Charge", "Secret"}
    assert set(mg1.request_state_from_proxy(proxy, "b10")) == {"Charge"}
    assert set(mg2.request_state_from_proxy(proxy, "b10")) == set()


@pytest.mark.parametrize("stranger", ["", "nobody", "MG", "MG10", "mg1", "proxy", None])
def test_an_unknown_requester_gets_nothing(toy, stranger):
    env, proxy = proxied(toy)
    b10 = env.get_heron_agent("b10")
    b10.state.charge.visibility = ("public", "owner", "upper_level", "system")
    proxy.store(b10.state)
    assert dict(proxy.get_state(stranger, "b10")) == {}
    assert dict(proxy.get_state("MG1", "nobody")) == {}


def test_an_id_without_an_agent_has_no_level_and_sees_nothing(toy):
    env, _ = proxied(toy)
    proxy = ProxyAgent(registered_agents=["MG1", "b10"])
    proxy.store(env.get_heron_agent("b10").state)
    assert dict(proxy.get_state("MG1", "b10")) == {}
    proxy.register(env.get_heron_agent("MG1"))
    assert set(proxy.get_state("MG1", "b10")) == {"Charge"}
    with pytest.raises(ConfigError, match="MG1"):
        proxy.register(FieldAgent("MG1"))


def test_history_is_kept_as_it_was_and_read_by_time(toy):
    env, proxy = proxied(toy, history_length=3)
    b10 = env.get_heron_agent("b10")
    for t in range(5):
        b10.state.update_feature("Charge", soc=t / 10)
        proxy.store(b10.state, float(t))
    b10.state.update_feature("Charge", soc=0.99)

    def soc(at):
        return {k: float(v[0]) for k, v in proxy.get_state("MG1", "b10", at).items()}

    assert soc(None) == {"Charge": pytest.approx(0.4)}
    assert soc(3.5) == {"Charge": pytest.approx(0.3)}
    assert soc(2.0) == {"Charge": pytest.approx(0.2)}
    assert soc(1.0) == {}
    assert [t for t, _ in proxy.history("MG1", "b10")] == [2.0, 3.0, 4.0]
    assert all(not seen for _, seen in proxy.history("MG2", "b10"))
    with pytest.raises(ValueError, match="older"):
        proxy.store(b10.state, 1.0)
    proxy.clear()
    assert soc(None) == {}


def test_rules_of_the_proxy_narrow_and_never_widen(toy):
    env, proxy = proxied(toy, visibility_rules={"MG1": ["b11"], "MG2": ["b10"]})
    for name in ("b10", "b11"):
        proxy.store(env.get_heron_agent(name).state)
    assert dict(proxy.get_state("MG1", "b10")) == {}
    assert set(proxy.get_state("MG1", "b11")) == {"Charge"}
    assert dict(proxy.get_state("MG2", "b10")) == {}


def test_the_proxy_stores_nobody_it_does_not_know():
    with pytest.raises(ConfigError, match="gen1"):
        ProxyAgent().store(FieldAgent("gen1").state)
    with pytest.raises(ConfigError, match="history_length"):
        ProxyAgent(history_length=0)


# --- whose numbers they are -------------------------------------------------------------------


class InPlace(FeatureProvider):
    """A feature that hands out its own array, and changes it in place."""

    visibility = ("owner", "upper_level")

    def __init__(self):
        self.numbers = np.zeros(1, dtype=np.float32)

    def names(self):
        return ("x",)

    def vector(self):
        return self.numbers


def test_what_was_observed_does_not_change_with_the_feature(toy):
    battery = toy.Battery("b1")
    feature = InPlace()
    battery.state.features.append(feature)
    site = CoordinatorAgent("MG1", config={"agents": [battery]})
    own, reported = battery.observe(), battery.shown_upstream()
    seen = site.observe()
    feature.numbers[0] = 7.0
    assert own.local["InPlace"][0] == reported["InPlace"][0] == 0.0
    assert seen.local["subordinates"]["b1"]["InPlace"][0] == 0.0


class SameArray:
    """A policy that fills one array over and over."""

    def __init__(self):
        self.action = np.zeros(1)

    def forward(self, observation):
        self.action[0] += 0.25
        return self.action


def test_an_action_under_way_does_not_change_with_the_array_it_came_in(toy):
    late = TickConfig(tick_interval=1.0, act_delay=2.5)
    battery = toy.Battery("b1", policy=SameArray(), tick_config=late)
    env = HeronEnvCore("site")
    env.register_agent(battery)
    env.setup_event_driven()
    env.run_event_driven(4.0)
    assert battery.p_mw == 0.5
    command = np.array([1.0])
    env.submit_actions({"b1": command})
    battery.policy = None
    command[0] = -2.0
    env.run_event_driven(8.0)
    assert battery.p_mw == 1.0
