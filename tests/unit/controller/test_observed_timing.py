"""What a deployed coordinator knows of its own timing is what it was trained on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from controller.allocation import Decided
from controller.cycle import CoordinatorCycle
from controller.fleet import Fleet
from controller.minds import PolicyMind
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.wire import Point, SystemSignal, Telemetry
from heron.policy import PolicyCodec, codec_of
from heron.powergrid.agents import build_agents
from heron.powergrid.agents.view import views_of
from heron.powergrid.setups import Setup, as_setup, load_setup, price_outlook

DAY, STEP_S = 40, 900.0


@pytest.fixture(scope="module")
def timed_setup() -> Setup:
    return as_setup(load_setup("ieee34_ieee13") | {"observe_timing": True})


class Recording:
    """Acts on what it observes, timing included, and keeps it."""

    def __init__(self, codec: PolicyCodec) -> None:
        rng = np.random.default_rng(3)
        self.weights = rng.normal(0.0, 0.3, (codec.act_dim, codec.obs_dim))
        self.seen: list[npt.NDArray[np.float32]] = []

    def act(self, obs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        self.seen.append(np.array(obs, dtype=np.float32))
        return np.tanh(self.weights @ self.seen[-1]).astype(np.float32)


def minds_of(setup: Setup) -> dict[str, tuple[PolicyMind, Recording]]:
    minds = {}
    for agent_id, agent in build_agents(setup).microgrids.items():
        codec = codec_of(agent)
        policy = Recording(codec)
        minds[agent_id] = PolicyMind(agent, policy, codec, "recording"), policy
    return minds


def test_deployed_minds_see_what_the_environment_shows(timed_setup: Setup) -> None:
    from training.envs import MultiAgentMicrogrids

    env = MultiAgentMicrogrids(timed_setup)
    obs, _ = env.reset(seed=0, options={"day": DAY})
    trained = {agent: Recording(codec) for agent, codec in env.codecs.items()}
    deployed = minds_of(timed_setup)
    for _ in range(6):
        now, config, profiles = env.measurements, timed_setup.config, timed_setup.profiles
        day_ahead = price_outlook(config, profiles, now.time_s)
        price = profiles.mean(config.price_profile, now.time_s, STEP_S)
        for agent, view in views_of(config, now, day_ahead).items():
            deployed[agent][0].decide(view._replace(price_usd_per_mwh=price))
        obs, *_ = env.step({a: trained[a].act(o) for a, o in obs.items()})
    for agent, policy in trained.items():
        ours, theirs = np.array(policy.seen), np.array(deployed[agent][1].seen)
        assert np.array_equal(ours, theirs)
        told = [i for i, f in enumerate(env.codecs[agent].fields) if f.feature == "LastAction"]
        assert ours[1:, told].any()


@pytest.mark.parametrize(("step", "age"), [(-1, 120.0 / STEP_S), (7, 0.0)])
async def test_age_is_that_of_the_oldest_telemetry_and_none_in_lock_step(
    timed_setup: Setup, step: int, age: float
) -> None:
    mind, policy = minds_of(timed_setup)["MG1"]
    now_s, fleet = DAY * 86_400.0, Fleet()
    points = {name: Point(value=1.0) for name in ("p_mw", "q_mvar", "v_pu", "soc")}
    for k, agent in enumerate(("MG1", *mind.device_ids)):
        heard = Telemetry(
            agent=agent, sequence=1, step=step, time_s=now_s - 40.0 * k, points=points
        )
        await fleet.hear(agent, heard)
    signal = SystemSignal(agent="MG1", sequence=1, step=step, time_s=now_s, price_usd_per_mwh=40.0)
    async with InMemoryBus(MemoryHub()) as bus:
        cycle = CoordinatorCycle(mind, fleet, bus, interval_s=STEP_S)
        outcome = await cycle.run(signal)
    assert isinstance(outcome, Decided)
    place = codec_of(build_agents(timed_setup).microgrids["MG1"]).index("MG1", "Timeliness", "age")
    assert policy.seen[-1][place] == pytest.approx(age)
