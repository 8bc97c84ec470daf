"""The same policy, setup, day and seed: once through `env.step`, once through the deployed loop.

The deployed loop is the real one: `heron up` with its processes, Modbus over sockets, MQTT over a
broker. State of charge, power and voltage of every device and meter agree at each of 96 steps
within the resolution of the registers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heron.policy.baselines import IdlePolicy
from heron.policy.together import decide
from heron.powergrid import setups
from heron.powergrid.quantities import Measurements
from heron.powergrid.registers import site_plan
from heron.powergrid.setups import load_setup, read_setup
from training.envs import MultiAgentMicrogrids
from training.evaluation.episodes import baseline, load_policies

SETUP = "ieee34_ieee13"
SHIPPED = str(Path(setups.__file__).parent / SETUP / "policies")
STEPS = 96
SEED = 7
MARKET_DAY = 110
STEPS_OF_RESOLUTION = 1.0
"""The measurements of the environment are exact and those of the deployed loop rounded, by half a
step at most; the agents of both see the rounded ones."""

POINTS = ("p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu", "soc")
FLOAT32_STEP = 1e-6


MADE_BY_HAND = """
from heron.protocols import Protocol


class FollowTheDay(Protocol):
    \"\"\"Stores follow the rank of the price in the day, generators its level.\"\"\"

    needs_action = False
    needs_observation = True

    def coordinate(self, action, subordinates, observation=None, context=None):
        price, _, _, rank = observation.local["MarketSignal"][:4]
        wanted = {
            "Generator": 1.0 if price > 55.0 else -1.0,
            "ESS": float(rank > 0.75) - float(rank < 0.25),
            "PV": 1.0,
        }
        return {
            name: [wanted[type(agent).__name__]] + [0.0] * (agent.action_size - 1)
            for name, agent in subordinates.items()
        }
"""
"""A protocol as `docs/custom-protocol.md` tells to write one, in a file of its own."""


Deployed = Callable[..., dict[int, dict[str, dict[str, float]]]]


@pytest.fixture
def run_deployed(run_headless: Callable[..., Any]) -> Deployed:
    """Run the loop; give step -> device or meter -> point -> value."""

    def run(policy: str, day: int, protocol: str = "setpoint") -> Any:
        report, recording = run_headless(
            setup=SETUP,
            steps=STEPS,
            seed=SEED,
            start=f"day:{day}",
            policy=policy,
            protocol=protocol,
        )
        assert report["steps"] == STEPS
        assert report["modbus"]["errors"] == 0
        readings: dict[int, dict[str, dict[str, float]]] = defaultdict(dict)
        for entry in recording:
            if entry["topic"] == "telemetry":
                points = entry["message"]["points"]
                assert all(p["quality"] == "good" for p in points.values())
                values = {name: p["value"] for name, p in points.items()}
                readings[entry["message"]["step"]][entry["agent"]] = values
        return readings

    return run


def run_environment(policy: str, day: int, protocol: str = "setpoint") -> list[Measurements]:
    """Run the synchronous step; return the measurements at the start and after each step."""
    setup = read_setup(SETUP)
    env = MultiAgentMicrogrids(
        {**load_setup(SETUP), "through_registers": True, "protocol": protocol}
    )
    policies = (
        load_policies(Path(policy), env.codecs)
        if Path(policy).is_dir()
        else baseline(policy, setup, env.codecs)
        if protocol == "setpoint"
        else {agent: IdlePolicy(codec) for agent, codec in env.codecs.items()}
    )
    observations, _ = env.reset(seed=SEED, options={"day": day})
    trajectory = [env.measurements]
    while env.agents:
        observations, *_ = env.step(decide(policies, observations))
        trajectory.append(env.measurements)
    return trajectory


@pytest.mark.slow
@pytest.mark.parametrize(
    ("policy", "day"),
    [
        ("rule", 16),
        (SHIPPED, 100),
        ("optimum", 17),
        ("shield:droop", 100),
        ("shield-network:droop", 100),
    ],
    ids=["rule", "shipped", "optimum", "shielded", "network-shielded"],
)
def test_deployed_loop_follows_the_environment_step_by_step(
    policy: str, day: int, run_deployed: Deployed
) -> None:
    assert_same_trajectory(run_deployed(policy, day), run_environment(policy, day))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["price", "p2p", "consensus", "system"])
def test_every_protocol_moves_the_same_power_deployed(
    protocol: str, run_deployed: Deployed
) -> None:
    assert_same_trajectory(
        run_deployed("rule", MARKET_DAY, protocol),
        run_environment("rule", MARKET_DAY, protocol),
    )


@pytest.mark.slow
def test_a_protocol_of_ones_own_moves_the_same_power_deployed(
    tmp_path: Path, run_deployed: Deployed
) -> None:
    (tmp_path / "by_hand.py").write_text(MADE_BY_HAND, encoding="utf-8")
    protocol = f"{tmp_path / 'by_hand.py'}:FollowTheDay"
    expected = run_environment("none", MARKET_DAY, protocol)
    assert max(abs(m.devices["ess1"].p_mw) for m in expected) > 0.1
    assert_same_trajectory(run_deployed("none", MARKET_DAY, protocol), expected)


def assert_same_trajectory(
    deployed: dict[int, dict[str, dict[str, float]]], synchronous: list[Measurements]
) -> None:
    """Compare every value of every step."""
    plan = site_plan(read_setup(SETUP).config)
    compared = 0
    largest: dict[str, float] = defaultdict(float)
    for step in range(STEPS):
        expected = synchronous[step]
        for name, reading in {**expected.devices, **expected.meters}.items():
            for point in POINTS:
                value = getattr(reading, point, None)
                if value is None:
                    continue
                resolution = max(plan.resolution(name, point), FLOAT32_STEP)
                away = abs(deployed[step][name][point] - value) / resolution
                largest[f"{name}.{point}"] = max(largest[f"{name}.{point}"], away)
                compared += 1
    worst = max(largest, key=lambda key: largest[key])
    print(f"{compared} values, the largest distance is {largest[worst]:.2f} steps, at {worst}")
    print({k: round(v, 2) for k, v in sorted(largest.items(), key=lambda kv: -kv[1])[:20]})
    assert compared == STEPS * (7 * 5 + 2 + 4 * 5)
    assert largest[worst] <= STEPS_OF_RESOLUTION
