"""What an agent sees is in its space: in every view, by every protocol, in every clock."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids


@pytest.mark.parametrize("level", ["owner", "upper_level", "system", "public"])
@pytest.mark.parametrize("protocol", ["setpoint", "price", "p2p", "consensus"])
@pytest.mark.parametrize(
    "mode",
    [
        {},
        {"centralized": False},
        {"event_driven": True, "timing": "scada"},
        {"event_driven": True, "centralized": False},
        {"through_registers": True},
        {"forecast": False},
        {"observe_timing": True},
    ],
    ids=["direct", "distributed", "scada", "event_distributed", "registers", "blind", "timed"],
)
def test_observations_are_in_their_spaces(level: str, protocol: str, mode: dict[str, Any]) -> None:
    options = {"visibility_level": level, "protocol": protocol, **mode}
    env = MultiAgentMicrogrids({**load_setup("ieee34_ieee13"), **options})
    seen, _ = env.reset(seed=0)
    actions = {a: np.full(env.action_space(a).shape, 0.3, dtype=np.float32) for a in env.agents}
    for _ in range(2):
        assert list(seen) == env.possible_agents
        for agent, observation in seen.items():
            assert env.observation_space(agent).contains(observation), agent
            assert len(observation) == env.codecs[agent].obs_dim
        seen, *_ = env.step(actions)
