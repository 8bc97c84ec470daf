"""The age of readings and the last commands are the same, whichever clock the agents run in."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from heron.policy import PolicyCodec
from training.cli import gap
from training.cli.train import options_from
from training.envs import MultiAgentMicrogrids, make_env
from training.envs.robustness import Robustness
from training.envs.timing import Timing
from training.envs.vector_env import VectorMicrogrids
from training.gap.runs import run_days_timed

DAYS = [10, 100]
STEPS = 12
STEP_S = 900.0


class Recording:
    """Acts on what it observes, timing included, and keeps it."""

    def __init__(self, codec: PolicyCodec, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.weights = rng.normal(0.0, 0.3, (codec.act_dim, codec.obs_dim))
        self.seen: list[npt.NDArray[np.float32]] = []
        self.said: list[npt.NDArray[np.float32]] = []

    def act(self, obs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        self.seen.append(np.array(obs, dtype=np.float32))
        self.said.append(np.tanh(self.weights @ self.seen[-1]).astype(np.float32))
        return self.said[-1]


@pytest.fixture(scope="module")
def env() -> MultiAgentMicrogrids:
    return make_env("ieee34_ieee13", {"max_episode_steps": STEPS, "observe_timing": True})


def recordings(env: MultiAgentMicrogrids) -> dict[str, Recording]:
    return {a: Recording(c, k) for k, (a, c) in enumerate(env.codecs.items())}


def columns(codec: PolicyCodec) -> tuple[int, list[int]]:
    """Return where the age stands, and where the last command, in the action's order."""
    age = codec.index(codec.agent_id, "Timeliness", "age")
    told = [codec.index(s.agent, "LastAction", s.quantity[0]) for s in codec.setpoints]
    return age, told


def test_without_the_option_observations_are_what_they_were(env: MultiAgentMicrogrids) -> None:
    plain = make_env("ieee34_ieee13", {})
    for agent, codec in plain.codecs.items():
        features = {"Timeliness", "LastAction"}
        assert not features & {f.feature for f in codec.fields}
        more = [f for f in env.codecs[agent].fields if f.feature not in features]
        assert tuple(more) == codec.fields


def test_last_command_is_seen_clipped_and_forgotten_at_reset(env: MultiAgentMicrogrids) -> None:
    age, told = columns(env.codecs["MG1"])
    obs, _ = env.reset(options={"day": 10})
    assert not obs["MG1"][told].any()
    rng = np.random.default_rng(0)
    for _ in range(3):
        actions = {
            a: rng.uniform(-1.4, 1.4, c.act_dim).astype(np.float32) for a, c in env.codecs.items()
        }
        obs, *_ = env.step(actions)
        assert obs["MG1"][told] == pytest.approx(np.clip(actions["MG1"], -1.0, 1.0))
        assert obs["MG1"][age] == 0.0
    assert not env.reset(options={"day": 10})[0]["MG1"][told].any()


def test_vector_environment_shows_the_same_as_single_ones(env: MultiAgentMicrogrids) -> None:
    vector = VectorMicrogrids(env, len(DAYS), seed=0)
    obs = vector.reset(DAYS)
    overrides = {"max_episode_steps": STEPS, "observe_timing": True}
    singles = [make_env("ieee34_ieee13", overrides) for _ in DAYS]
    own = [e.reset(options={"day": d})[0] for e, d in zip(singles, DAYS, strict=True)]
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        actions = {
            a: rng.uniform(-1.2, 1.2, (len(DAYS), c.act_dim)).astype(np.float32)
            for a, c in env.codecs.items()
        }
        obs = vector.step(actions).obs
        for i, single in enumerate(singles):
            own[i], *_ = single.step({a: u[i] for a, u in actions.items()})
            for agent in vector.agents:
                assert obs[agent][i] == pytest.approx(own[i][agent], abs=2e-6)


def test_event_driven_time_without_delays_shows_the_same_as_the_step(
    env: MultiAgentMicrogrids,
) -> None:
    stepped, evented = recordings(env), recordings(env)
    synchronous = run_days_timed(env.setup, stepped, [100], None)
    timed = run_days_timed(env.setup, evented, [100], Timing())
    assert timed.mean_return == synchronous.mean_return
    for agent in env.codecs:
        assert np.array_equal(stepped[agent].seen, evented[agent].seen)


def test_in_event_driven_time_the_age_is_that_of_the_decision_and_own_words_are_never_late(
    env: MultiAgentMicrogrids,
) -> None:
    late = recordings(env)
    # Devices report every minute, so that the plant is known every minute.
    timing = Timing(obs_delay_s=90.0, msg_delay_s=180.0, device_tick_s=60.0)
    run_days_timed(env.setup, late, [100], timing)
    for agent, codec in env.codecs.items():
        age, told = columns(codec)
        seen, said = np.array(late[agent].seen), np.array(late[agent].said)
        assert seen[0, age] == pytest.approx(90.0 / STEP_S)
        assert seen[1:, age] == pytest.approx((90.0 + 180.0) / STEP_S)
        assert seen[1:, told] == pytest.approx(said[:-1])


def test_disturbance_that_makes_readings_late_says_so_but_not_of_the_last_command(
    env: MultiAgentMicrogrids,
) -> None:
    late: dict[str, Any] = {"obs_delay_s": (1350.0, 1350.0)}
    vector = VectorMicrogrids(env, len(DAYS), 0, Robustness(**late))
    vector.reset(DAYS)
    rng = np.random.default_rng(2)
    for _ in range(3):
        actions = {
            a: rng.uniform(-1.0, 1.0, (len(DAYS), c.act_dim)).astype(np.float32)
            for a, c in env.codecs.items()
        }
        obs = vector.step(actions).obs
        for agent, codec in env.codecs.items():
            age, told = columns(codec)
            assert obs[agent][:, age] == pytest.approx(1.5)
            assert obs[agent][:, told] == pytest.approx(actions[agent])


def test_command_line_of_a_run_keeps_the_option() -> None:
    options, _ = options_from(["--observe-timing", "--robust", "field"])
    assert options.command_line() == "heron train --observe-timing --robust field"
    assert options.setup_overrides()["observe_timing"] is True
    assert "observe_timing" not in options_from([])[0].setup_overrides()


def test_gap_command_takes_policies_that_observe_their_timing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["rule", "--preset", "training", "--days", "14", "--observe-timing", "--json"]
    assert gap.run(argv) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["gap"] == 0.0
