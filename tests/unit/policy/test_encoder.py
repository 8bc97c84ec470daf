"""One sweep over all agents' features gives what each codec gives by itself."""

from __future__ import annotations

import numpy as np
import pytest

from heron.errors import ManifestMismatch
from heron.policy import codec_of
from heron.policy.encoder import JointEncoder
from heron.powergrid.agents import PowerGridAgent, build_agents
from heron.powergrid.setups import read_setup


@pytest.fixture
def microgrids() -> dict[str, PowerGridAgent]:
    built = dict(build_agents(read_setup("ieee34_ieee13")).microgrids)
    rng = np.random.default_rng(0)
    for agent in built.values():
        for owner in (agent, *agent.subordinates.values()):
            for feature in owner.state.features:
                if type(feature).__name__ == "ElectricalBasePh":
                    feature.set_values(p_MW=rng.normal(), q_MVAr=rng.normal())
    return built


def test_a_joint_encoder_gives_what_each_feature_shows_rounded_and_scaled(
    microgrids: dict[str, PowerGridAgent],
) -> None:
    codecs = {name: codec_of(agent) for name, agent in microgrids.items()}
    joint = JointEncoder([(codecs[name], agent) for name, agent in microgrids.items()]).encode()
    assert list(joint) == list(microgrids)
    for name, agent in microgrids.items():
        codec, observation = codecs[name], joint[name]
        assert np.array_equal(observation, codec.encode(agent))
        assert np.array_equal(observation, codec.encode_observation(agent.observe()))
        observation[:] = 0.0  # whoever gets it may write into it, and nobody else sees that
        assert codec.encode(agent).any()


def test_a_number_beyond_single_precision_becomes_infinite(
    microgrids: dict[str, PowerGridAgent],
) -> None:
    agent = microgrids["MG1"]
    codec = codec_of(agent)
    agent.state.network_metrics.p_MW = 1e300
    with np.errstate(over="ignore"):
        observation = codec.encode(agent)
    assert np.isinf(observation[codec.index("MG1", "NetworkMetrics", "p_MW")])


def test_a_state_that_is_replaced_is_found_again(microgrids: dict[str, PowerGridAgent]) -> None:
    agent = microgrids["MG1"]
    codec = codec_of(agent)
    before = codec.encode(agent)
    agent.set_state()
    agent.state.network_metrics.p_MW = 7.0
    after = codec.encode(agent)
    at = codec.index("MG1", "NetworkMetrics", "p_MW")
    assert (before[at], after[at]) == (0.0, 7.0)


def test_a_feature_with_other_fields_is_named(microgrids: dict[str, PowerGridAgent]) -> None:
    agent = microgrids["MG1"]
    codec = codec_of(agent)
    codec.encode(agent)
    agent.state.market_signal.ahead = [0.0]
    with pytest.raises(ManifestMismatch, match=r"MG1\.MarketSignal has 5 fields, the codec 28"):
        codec.encode(agent)
