"""The market and the consensus in event-driven time: the same without delays, robust with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heron.envs import HeronEnvCore
from heron.powergrid.accounting import Accountant
from heron.powergrid.agents import TradingGridAgent, build_agents, views_of
from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups import Setup
from heron.protocols import ConsensusProtocol, PeerToPeerTradingProtocol, Protocol
from heron.scheduling import TickConfig
from simulator import Plant

STEP_S = 900.0
START_S = 110 * 86_400.0 + 15 * 3600.0
N_STEPS = 12

PROTOCOLS: dict[str, Callable[[], Protocol]] = {
    "market": PeerToPeerTradingProtocol,
    "consensus": lambda: ConsensusProtocol(value_field="LocalPrice.local_price"),
}
EACH_PROTOCOL = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


class Site(HeronEnvCore):
    """A feeder whose microgrids coordinate among themselves, in either clock."""

    def __init__(self, setup: Setup, protocol: Protocol, timing: TickConfig) -> None:
        super().__init__("site")
        self.setup = setup
        config = setup.config
        names = (config.dso_config.name, *config.microgrid_ids, *config.device_ids)
        self.dso = build_agents(
            setup,
            coordinator=TradingGridAgent,
            protocol=lambda: None,
            system_protocol=protocol,
            tick_configs=dict.fromkeys(names, timing),
        )
        self.register_agent(self.dso)
        self.plant, self.accountant = Plant(setup), Accountant(setup)
        self.plant.reset(start_s=START_S)
        self.in_force: dict[str, Setpoint] = {}
        self.cost_usd, self.history = 0.0, []
        self.look()

    def look(self) -> None:
        now = self.plant.measurements
        day_ahead = self.setup.profiles.day_ahead(now.time_s)
        for name, view in views_of(self.setup.config, now, day_ahead).items():
            self.dso.microgrids[name].update_from(view)

    def run_plant(self, time_from: float, time_to: float) -> None:
        before = self.plant.measurements
        after = self.plant.step(self.in_force, time_to - time_from)
        self.cost_usd += self.accountant.account(before, after).cost_usd
        self.history.append({name: r.p_mw for name, r in after.devices.items()})
        self.look()

    def take_effect(self, device_id: str, action: object) -> None:
        device = self.get_heron_agent(device_id)
        device.apply_action(action)  # type: ignore[union-attr]
        self.in_force[device_id] = device.setpoint  # type: ignore[union-attr]

    def run_in_steps(self) -> None:
        for k in range(N_STEPS):
            self.decide()
            self.in_force = self.dso.setpoints
            start = START_S + k * STEP_S
            self.run_plant(start, start + STEP_S)

    def run_in_events(self) -> None:
        self.setup_event_driven(start_time=START_S, seed=1)
        self.setup_default_handlers(on_action_effect=self.take_effect, on_env_update=self.run_plant)
        self.run_event_driven(START_S + N_STEPS * STEP_S)
        self.advance_plant(START_S + N_STEPS * STEP_S)


@EACH_PROTOCOL
def test_without_delays_both_clocks_move_the_same_power(
    setup: Setup, protocol: Callable[[], Protocol]
) -> None:
    timing = TickConfig.deterministic(tick_interval=STEP_S)
    steps, events = (Site(setup, protocol(), timing) for _ in range(2))
    steps.run_in_steps()
    events.run_in_events()
    assert len(events.history) == len(steps.history) == N_STEPS
    for here, there in zip(events.history, steps.history, strict=True):
        assert here == pytest.approx(there, abs=1e-9)
    assert events.cost_usd == pytest.approx(steps.cost_usd)


@EACH_PROTOCOL
def test_delays_cost_little(setup: Setup, protocol: Callable[[], Protocol]) -> None:
    prompt = Site(setup, protocol(), TickConfig.deterministic(tick_interval=STEP_S))
    late = Site(
        setup,
        protocol(),
        TickConfig.with_jitter(
            tick_interval=STEP_S, obs_delay=5.0, act_delay=20.0, msg_delay=10.0, jitter_ratio=0.1
        ),
    )
    prompt.run_in_events()
    late.run_in_events()
    assert late.history != prompt.history
    assert late.cost_usd == pytest.approx(prompt.cost_usd, rel=0.05)
    assert late.plant.measurements.time_s == prompt.plant.measurements.time_s
