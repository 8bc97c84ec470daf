"""Many scenarios of one setup in one step: for training.

All scenarios start together at midnight, each on a day of its own, and are truncated together.
A scenario whose power flow fails is over; it is dead until the next reset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.policy.baselines import IdlePolicy
from simulator.batch_plant import BatchMeasurements, BatchPlant, rows_of
from training.envs.days import DAY_S, first_days
from training.envs.disturb import Disturber
from training.envs.multi_agent_microgrids import MultiAgentMicrogrids
from training.envs.other_worlds import OtherWorlds
from training.envs.robustness import Robustness
from training.envs.step_return import DIVERGED_PENALTY
from training.envs.vector_agents import (
    Observer,
    VectorAccountant,
    require_supported,
    told_columns,
)
from training.envs.vector_envelope import SetpointMapper

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Observations = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class VectorStep:
    """One step of N scenarios.

    Attributes:
        obs: (N, obs_dim) per agent.
        rewards: (N, n_agents).
        credit: (N, n_agents) what each agent's actions touch of the whole objective; see
            `training.envs.vector_agents.VectorAccounts`.
        terminated: (N,) whose power flow failed in this step.
        truncated: Whether the episodes of all others end with this step.
        alive: (N,) whose step counts: those that had not failed before.
        cost_usd: (N,) of the whole.
        safety: (N,) of the whole, pu node hours.
    """

    obs: Observations
    rewards: FloatArray
    credit: FloatArray
    terminated: BoolArray
    truncated: bool
    alive: BoolArray
    cost_usd: FloatArray
    safety: FloatArray


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What actions would lead to that nobody carried out.

    Attributes:
        after: Measurements after the step, (R, ...).
        objective_usd: (R,) cost and penalty of the whole in that step.
    """

    after: BatchMeasurements
    objective_usd: FloatArray


class VectorMicrogrids:
    """N scenarios of `MultiAgentMicrogrids`, to the same figures.

    Attributes:
        days: (N,) day of the data year on which each scenario started.

    Args:
        env: A single environment of the setup; tells agents, codecs and rules.
        n: Scenarios.
        seed: Of the days, and of what is drawn for robustness.
        robustness: What each episode draws anew; None for nothing.

    Raises:
        ConfigError: The setup holds what only single environments can do.
    """

    def __init__(
        self,
        env: MultiAgentMicrogrids,
        n: int,
        seed: int,
        robustness: Robustness | None = None,
    ) -> None:
        setup = env.setup
        require_supported(setup)
        config = setup.config
        self.n = n
        self.agents = tuple(env.possible_agents)
        self.max_episode_steps = config.max_episode_steps
        self._step_s = config.step_s
        self._penalty = config.penalty
        self._worlds: OtherWorlds | None = None
        self._disturb: Disturber | None = None
        if robustness is None:
            self._plant = BatchPlant(setup, n)
        else:
            self._worlds = OtherWorlds(setup, n, robustness, seed)
            self._plant = self._worlds.next()
            self._disturb = Disturber(robustness, env.codecs, n, config.step_s, seed)
        self._owner = np.array(
            [m for m, g in enumerate(config.microgrid_configs) for _ in g.devices], dtype=np.int64
        )
        self._map = SetpointMapper(setup, env.codecs, n)
        self._before = self._plant.measurements
        constant = env.reset(seed=seed)[0]
        self._observe = Observer(setup, env.codecs, constant, self._before)
        self._told = {agent: told_columns(codec) for agent, codec in env.codecs.items()}
        self._account = VectorAccountant(setup)
        profiles = setup.profiles
        self._days = first_days(profiles.train_days if config.train else profiles.test_days, config)
        self._rng = np.random.default_rng(seed)
        # Streams of their own: what cars bring must not change which days are drawn.
        self._plant_seeds = np.random.default_rng([seed, 1])
        self.days = np.zeros(n, dtype=np.int64)
        self._t = 0
        self._alive = np.ones(n, dtype=bool)
        self._obs: Observations = {}

    @property
    def measurements(self) -> BatchMeasurements:
        """The plants as they are now."""
        return self._before

    def reset(self, days: Sequence[int] | None = None) -> Observations:
        """Start all scenarios, on drawn days or on the given ones, (N,)."""
        chosen = self._rng.choice(self._days, self.n) if days is None else np.asarray(days)
        self.days = chosen.astype(np.int64)
        self._t = 0
        self._alive = np.ones(self.n, dtype=bool)
        if self._worlds is not None:
            self._plant = self._worlds.next()
        self._map.reset()
        seeds = self._plant_seeds.integers(2**31, size=self.n)
        self._before = self._plant.reset(chosen * DAY_S, seeds=seeds)
        self._obs = self._observe(self._before)
        return self._obs if self._disturb is None else self._disturb.reset(self._obs)

    def step(self, actions: Observations) -> VectorStep:
        """Advance all scenarios by one control step.

        Args:
            actions: (N, act_dim) per agent, in [-1, 1].
        """
        before, alive = self._before, self._alive
        admitted = self._map(actions, before)
        p_mw, q_mvar = admitted.p_mw, admitted.q_mvar
        if self._disturb is not None:
            p_mw, q_mvar = self._disturb.carry(p_mw, q_mvar, self._owner)
        after = self._plant.step(p_mw, q_mvar, self._step_s, admitted.tap)
        self._t += 1
        failed = alive & ~after.solved
        self._alive = alive & ~failed
        accounts = self._account(before, after)
        rewards, credit = accounts.rewards, accounts.credit
        rewards[failed] = credit[failed] = -DIVERGED_PENALTY
        obs = self._observe(after)
        for agent, values in obs.items():
            # Nothing was measured where nothing was solved: the last observation stands.
            values[~after.solved] = self._obs[agent][~after.solved]
        self._before, self._obs = after, obs
        shown = obs if self._disturb is None else self._disturb.show(obs)
        for agent, (at, said) in self._told.items():
            # What a coordinator said it knows by itself, however late or lost the rest is.
            shown[agent][:, at] = np.clip(actions[agent][:, said], -1.0, 1.0)
        return VectorStep(
            obs=shown,
            rewards=rewards,
            credit=credit,
            terminated=failed,
            truncated=self._t >= self.max_episode_steps,
            alive=alive,
            cost_usd=accounts.cost_usd.sum(axis=1),
            safety=accounts.safety.sum(axis=1),
        )

    def look_ahead(
        self, rows: IntArray, actions: Observations, more_mw: FloatArray | float = 0.0
    ) -> Glimpse:
        """Return what a step with other actions would lead to, and take none.

        Commands arrive at once: what robustness delays or loses is left out.

        Args:
            rows: (R,) scenarios from which to look; one may be there many times.
            actions: (R, act_dim) per agent, in [-1, 1].
            more_mw: (R, D) what is added to the devices' active powers, past the envelope.
        """
        before = rows_of(self._before, rows)
        told = self._map.proposed(actions, before, rows_of(self._map.held, rows))
        p_mw = told.p_mw + more_mw
        after = self._plant.look_ahead(rows, p_mw, told.q_mvar, self._step_s, told.tap)
        return Glimpse(after, self._objective_usd(before, after))

    def _objective_usd(self, before: BatchMeasurements, after: BatchMeasurements) -> FloatArray:
        accounts = self._account(before, after)
        objective = accounts.cost_usd.sum(axis=1) + self._penalty * accounts.safety.sum(axis=1)
        return np.where(after.solved, objective, DIVERGED_PENALTY)


def idle_rewards(env: MultiAgentMicrogrids, *, credit: bool = False) -> FloatArray:
    """Return what each agent earns by doing nothing, (n_days, max_episode_steps, n_agents).

    Subtracted from rewards it takes away what no policy can change: the weather, the price and
    the load of the day. Every day of the data year is run, and days that are not solved count
    as nought.

    Args:
        env: The environment.
        credit: Return credit in place of rewards.
    """
    n_days = env.setup.profiles.n_days
    vector = VectorMicrogrids(env, n_days, seed=0)
    vector.reset(range(n_days))
    idle = {
        a: np.repeat(IdlePolicy(c).act([])[None, :], n_days, axis=0) for a, c in env.codecs.items()
    }
    steps = [vector.step(idle) for _ in range(vector.max_episode_steps)]
    earned = [s.credit if credit else s.rewards for s in steps]
    alive = [s.alive[:, None] for s in steps]
    return np.stack([np.where(a, e, 0.0) for a, e in zip(alive, earned, strict=True)], axis=1)
