"""In an environment a protocol's error comes to whoever steps it, before anybody is told."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from heron.powergrid.agents import MarketGridAgent, Scheme
from heron.powergrid.agents.schemes import SCHEMES
from heron.powergrid.setups import load_setup
from heron.protocols import Coordination, Protocol
from training.envs import MultiAgentMicrogrids

MODES: list[dict[str, Any]] = [{}, {"centralized": False}, {"event_driven": True}]


class FailsForTheSecond(Protocol):
    """Hands one number on to all devices, except to those of MG2."""

    def declare_action(self, action: Any, subordinates: Any) -> None:
        action.set_specs(dim_c=1, range=(-1.0, 1.0))

    def coordinate(self, action: Any, subordinates: Any) -> Any:
        value = np.nan if "gen2" in subordinates else float(action[0])
        return {name: [value] * agent.action_size for name, agent in subordinates.items()}


class Raises(Protocol):
    """The operator's, for a market that is closed."""

    needs_action = False
    error: Exception = ValueError("the market is closed")

    def coordinate(self, action: Any, subordinates: Any, *rest: Any) -> Any:
        raise self.error


class RaisesKeyError(Raises):
    error = KeyError("MG9")


class TellsAStranger(Raises):
    def coordinate(self, action: Any, subordinates: Any, *rest: Any) -> Any:
        return Coordination(signals={"MG9": {"local_price": 1.0}})


def among_peers(protocol: type[Protocol]) -> Scheme:
    market = partial(MarketGridAgent, negotiates=True)
    return Scheme("failing", market, lambda: None, protocol)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (Scheme("failing", protocol=FailsForTheSecond), "gen2: action .* not finite"),
        (among_peers(Raises), "the market is closed"),
        (among_peers(RaisesKeyError), "MG9"),
        (among_peers(TellsAStranger), "'MG9': one of the subordinates"),
    ],
    ids=["coordinator", "operator", "any error", "nobody's signal"],
)
def test_the_step_raises_and_no_device_was_told_anything(
    scheme: Scheme, expected: str, mode: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    schemes = {**SCHEMES, "failing": scheme}
    monkeypatch.setattr("heron.powergrid.agents.schemes.SCHEMES", schemes)
    monkeypatch.setattr("heron.powergrid.setups.coordination.PROTOCOLS", tuple(schemes))
    env = MultiAgentMicrogrids(load_setup("ieee34_ieee13"), protocol="failing", **mode)
    env.reset(seed=1, options={"day": 110})
    devices = [d for agent in env.agent_dict.values() for d in agent.devices.values()]
    before, time_s = [d.setpoint for d in devices], env.net.measurements.time_s
    with pytest.raises((ValueError, KeyError), match=expected):
        env.step({agent: np.full(1, 0.5) for agent in env.agents})
    assert [d.setpoint for d in devices] == before
    assert env.net.measurements.time_s == time_s
    assert len(env.reset(seed=1)[0]) == 3
