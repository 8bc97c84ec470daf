"""A toy plant: batteries under coordinators under an operator, integrated over elapsed time."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from heron.agents import CoordinatorAgent, FieldAgent, SystemAgent
from heron.core import FeatureProvider
from heron.envs import HeronEnvCore
from heron.protocols import SetpointProtocol, SystemProtocol
from heron.scheduling import TickConfig


@dataclass
class Charge(FeatureProvider):
    visibility = ("owner", "upper_level")
    soc: float = 0.5
    p_mw: float = 0.0


@dataclass
class Secret(FeatureProvider):
    visibility = ("owner",)
    fault_code: float = 7.0


@dataclass
class Demand(FeatureProvider):
    visibility = ("owner", "upper_level", "system")
    load_mw: float = 1.0


class Battery(FieldAgent):
    """Positive power discharges; capacity 10 MWh."""

    def __init__(self, agent_id, soc=0.5, **kwargs):
        super().__init__(agent_id, **kwargs)
        self.initial_soc = soc
        self.p_mw = 0.0

    def set_state(self):
        super().set_state()
        self.state.features.append(Charge(soc=self.initial_soc))
        self.state.features.append(Secret())

    def set_action(self):
        self.action.set_specs(dim_c=1, range=(-2.0, 2.0))

    def apply_action(self, action):
        self.p_mw = float(action[0])

    def reset_agent(self, **kwargs):
        self.p_mw = 0.0


class Site(CoordinatorAgent):
    def set_state(self):
        super().set_state()
        self.state.features.append(Demand())


class Balance:
    """Share what is missing to half charge among the batteries; answers the operator's signal."""

    def __init__(self):
        self.agent = None
        self.seen = []

    def forward(self, observation):
        socs = [s["Charge"][0] for s in observation.local["subordinates"].values()]
        self.seen.append((observation.timestamp, tuple(float(s) for s in socs)))
        price = self.agent.signal.get("price", 1.0) if self.agent else 1.0
        return np.array([4.0 * (soc - 0.5) + 0.1 * price for soc in socs])


class Rising:
    """An operator's price that follows what the sites report."""

    def forward(self, observation):
        loads = [s["Demand"][0] for s in observation.local["subordinates"].values()]
        return np.array([1.0 + 0.5 * sum(loads)])


class ToyEnv(HeronEnvCore):
    """Steps synchronously with `step`; in event-driven time with `run_event_driven`."""

    capacity_mwh = 10.0

    def __init__(self, root, broker=None):
        super().__init__("toy", broker)
        self.register_agent(root)
        self.updates = []

    @property
    def batteries(self):
        return [a for a in self.heron_agents.values() if isinstance(a, Battery)]

    @property
    def sites(self):
        return [a for a in self.heron_agents.values() if isinstance(a, Site)]

    def advance(self, start_s, end_s):
        hours = (end_s - start_s) / 3600.0
        self.updates.append((start_s, end_s))
        for battery in self.batteries:
            charge = battery.state.charge
            charge.soc -= battery.p_mw * hours / self.capacity_mwh
            charge.p_mw = battery.p_mw
        for i, site in enumerate(self.sites):
            site.state.demand.load_mw = 1.0 + 0.1 * i + np.sin(end_s / 10_000.0)

    def step(self, dt_s):
        self.decide()
        self.advance(self.time_s, self.time_s + dt_s)
        self.time_s += dt_s

    def start_event_driven(self, **kwargs):
        scheduler = self.setup_event_driven(**kwargs)
        self.setup_default_handlers(on_env_update=self.advance)
        return scheduler

    def socs(self):
        return [battery.state.charge.soc for battery in self.batteries]


def build(ticks=None, n_sites=3, n_batteries=2):
    """Build operator, sites and batteries, with one TickConfig for all or one a level."""
    if not isinstance(ticks, dict):
        ticks = dict.fromkeys((1, 2, 3), ticks)
    sites = []
    for i in range(1, n_sites + 1):
        policy = Balance()
        batteries = [
            Battery(f"b{i}{j}", soc=0.3 + 0.1 * j + 0.05 * i, tick_config=ticks[1])
            for j in range(n_batteries)
        ]
        site = Site(
            f"MG{i}",
            policy=policy,
            protocol=SetpointProtocol(),
            config={"agents": batteries},
            tick_config=ticks[2],
        )
        policy.agent = site
        sites.append(site)
    return SystemAgent(
        "DSO",
        policy=Rising(),
        protocol=SystemProtocol(fields=("price",)),
        config={"coordinators": sites},
        tick_config=ticks[3],
    )


@pytest.fixture
def toy():
    return SimpleNamespace(
        Battery=Battery,
        Site=Site,
        Charge=Charge,
        Secret=Secret,
        Demand=Demand,
        Balance=Balance,
        Env=ToyEnv,
        build=build,
        every=lambda s, **kw: TickConfig(tick_interval=s, **kw),
    )


@pytest.fixture(scope="session")
def build_toy():
    """Give a maker of environments of a given size; outlives the examples of a property."""
    return lambda n_sites, n_batteries: lambda ticks: ToyEnv(build(ticks, n_sites, n_batteries))
