"""An environment runner that samples N scenarios a call from the vector environment.

RLlib's own runner handles one Python dictionary per agent, scenario and step. This one keeps
whole fragments as arrays and hands the unchanged learner episodes that are views on them.
Evaluation and random actions take the stock path, on one environment.

It rests on parts of RLlib 2.60 that are not public (episodes with numpy buffers, metric keys):
the version is pinned, and a test compares what both runners deliver.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ray.rllib.core.columns import Columns
from ray.rllib.env.multi_agent_episode import MultiAgentEpisode
from ray.rllib.env.single_agent_episode import SingleAgentEpisode
from ray.rllib.env.utils.infinite_lookback_buffer import InfiniteLookbackBuffer
from ray.rllib.utils import metrics as keys

from simulator.batch_plant import BatchMeasurements
from training.envs import MultiAgentMicrogrids
from training.envs.nodal import deliveries
from training.envs.robustness import robustness_of
from training.envs.vector_env import Observations, VectorMicrogrids, VectorStep, idle_rewards
from training.envs.vector_worth import StoragePotential
from training.rllib.counterfactual import ACTION_GAINS, Trials
from training.rllib.env import RllibMicrogrids
from training.rllib.runner import EnvRunner

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

WORKER_SEED_STRIDE = 1000
MEASURED_AT = frozenset({1, 10, 20, 40, 80, 160})
"""Episodes before which it is measured what stored energy is worth in the network: that depends on
what the policy makes of the rest, which changes ever less."""


@dataclass
class _Fragment:
    """Consecutive steps of all scenarios between two resets or sample calls.

    Every list has one entry a step; arrays are (n_agents,) lists of (N, ...) arrays.

    Attributes:
        start: Step of the episode at which it begins.
        number: Of the episode, counted from the first reset.
    """

    start: int
    number: int
    obs: list[list[FloatArray]]
    actions: list[list[FloatArray]] = field(default_factory=list)
    logp: list[list[FloatArray]] = field(default_factory=list)
    dist_inputs: list[list[FloatArray]] = field(default_factory=list)
    rewards: list[npt.NDArray[np.float64]] = field(default_factory=list)
    gains: list[list[FloatArray]] = field(default_factory=list)
    alive: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    terminated: list[npt.NDArray[np.bool_]] = field(default_factory=list)
    truncated: bool = False


class BatchedEnvRunner(EnvRunner):
    """Samples from `VectorMicrogrids` with ``num_envs_per_env_runner`` scenarios."""

    _vector: VectorMicrogrids | None = None

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[MultiAgentEpisode]:
        """Sample at least ``num_timesteps`` joint steps; see RLlib's runner."""
        if num_episodes is not None or random_actions:
            return super().sample(
                num_timesteps=num_timesteps,
                num_episodes=num_episodes,
                explore=explore,
                random_actions=random_actions,
                force_reset=force_reset,
            )
        began = time.perf_counter()
        vector = self._started()
        runners = max(1, self.config.num_env_runners)
        wanted = num_timesteps or self.config.total_train_batch_size / runners
        steps = max(1, math.ceil(wanted / vector.n))
        fragments = [self._open_fragment()]
        with torch.inference_mode():
            for _ in range(steps):
                if self._t == 0 and fragments[-1].actions:
                    fragments.append(self._open_fragment())
                self._step(
                    vector, fragments[-1], self.config.explore if explore is None else explore
                )
        episodes = [e for f in fragments for e in self._episodes(f)]
        sampled = sum(len(e) for e in episodes)
        self._log_sampled(sampled, time.perf_counter() - began)
        return episodes

    def _started(self) -> VectorMicrogrids:
        if self._vector is None:
            wrapper: RllibMicrogrids = self.env.envs[0].unwrapped
            config = self.config
            self.num_scenarios = int(config.env_config["n_scenarios"])
            seed = (config.seed or 0) + WORKER_SEED_STRIDE * int(self.worker_index or 0)
            robust = robustness_of(config.env_config.get("robust"))
            self._vector = VectorMicrogrids(wrapper.inner, self.num_scenarios, seed, robust)
            self._layout = wrapper.layout
            self._reward_scale = wrapper.reward_scale
            chosen = config.env_config
            self._local_credit = bool(chosen.get("local_credit"))
            self._shares_reward = wrapper.inner.share_reward
            microgrids = wrapper.inner.setup.config.microgrid_configs
            self._owner = np.repeat(
                np.eye(len(microgrids)), [len(m.devices) for m in microgrids], axis=0
            )
            self._baseline = (
                idle_rewards(wrapper.inner, credit=self._local_credit)
                if chosen.get("idle_baseline")
                else None
            )
            self._shapes = bool(chosen.get("storage_shaping"))
            self._potential: StoragePotential | None = None
            self._agents = list(wrapper.possible_agents)
            self._trials = (
                Trials(wrapper.inner, self._layout) if chosen.get("counterfactual") else None
            )
            self._modules = [config.policy_mapping_fn(a, None) for a in self._agents]
            self._returns = np.zeros((self.num_scenarios, len(self._agents)))
            self._episode_number = -1
            self._restart(self._vector)
        return self._vector

    def _restart(self, vector: VectorMicrogrids) -> None:
        self._obs = self._padded(vector.reset())
        self._t = 0
        self._returns[:] = 0.0
        self._episode_number += 1
        if self._shapes and self._episode_number in MEASURED_AT:
            env: MultiAgentMicrogrids = self.env.envs[0].unwrapped.inner
            with torch.inference_mode():
                self._potential = StoragePotential(env.setup, deliveries(env, self._mean_actions))

    def _mean_actions(self, obs: Observations) -> dict[str, FloatArray]:
        """Return the actors' mean actions for observations of any number of scenarios."""
        _, _, inputs = self._decide(self._padded(obs), explore=False)
        return self._own(
            {a: np.split(x, 2, axis=1)[0] for a, x in zip(self._agents, inputs, strict=True)}
        )

    def _own(self, actions: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Return the agents' own parts of the network's actions, clipped."""
        clipped = {a: np.clip(u, -1.0, 1.0) for a, u in actions.items()}
        if self._layout is None:
            return clipped
        return {a: self._layout.unpad(a, u) for a, u in clipped.items()}

    def _padded(self, obs: Any) -> list[FloatArray]:
        if self._layout is None:
            return [obs[a] for a in self._agents]
        return [self._layout.pad(a, obs[a]) for a in self._agents]

    def _open_fragment(self) -> _Fragment:
        return _Fragment(start=self._t, number=self._episode_number, obs=[self._obs])

    def _step(self, vector: VectorMicrogrids, fragment: _Fragment, explore: bool) -> None:
        """Let every agent of every scenario act once."""
        actions, logp, dist_inputs = self._decide(self._obs, explore)
        own = self._own(dict(zip(self._agents, actions, strict=True)))
        if self._trials is not None:
            means = [np.split(x, 2, axis=1)[0] for x in dist_inputs]
            over = self._t + 1 >= vector.max_episode_steps
            trials = self._trials(vector, means, actions, self._potential, day_is_over=over)
            fragment.gains.append(trials)
        before = vector.measurements
        done = vector.step(own)
        self._t += 1
        self._obs = self._padded(done.obs)
        self._returns += done.rewards / self._reward_scale * done.alive[:, None]
        rewards = self._learned_from(vector, before, done) / self._reward_scale
        fragment.obs.append(self._obs)
        fragment.actions.append(actions)
        fragment.logp.append(logp)
        fragment.dist_inputs.append(dist_inputs)
        fragment.rewards.append(rewards)
        fragment.alive.append(done.alive)
        fragment.terminated.append(done.terminated)
        if done.truncated:
            fragment.truncated = True
            self._log_episodes()
            self._restart(vector)

    def _learned_from(
        self, vector: VectorMicrogrids, before: BatchMeasurements, done: VectorStep
    ) -> npt.NDArray[np.float64]:
        """Return what the agents learn from in place of their rewards, in $, (N, n_agents)."""
        earned = done.credit if self._local_credit else done.rewards
        if self._baseline is not None:
            earned = earned - self._baseline[vector.days, self._t - 1]
        if self._potential is not None:
            later = self._potential(vector.measurements, day_is_over=done.truncated)
            change = (later - self._potential(before)) @ self._owner
            if not self._local_credit and self._shares_reward:
                change = np.repeat(change.mean(axis=1, keepdims=True), change.shape[1], axis=1)
            earned = earned + np.where(done.terminated[:, None], 0.0, change)
        return earned

    def _decide(
        self, obs: list[FloatArray], explore: bool
    ) -> tuple[list[FloatArray], list[FloatArray], list[FloatArray]]:
        """Run each module once on the observations of all its agents."""
        n = len(obs[0])
        groups: dict[str, list[int]] = defaultdict(list)
        for i, module_id in enumerate(self._modules):
            groups[module_id].append(i)
        parts: dict[int, tuple[FloatArray, FloatArray, FloatArray]] = {}
        for module_id, members in groups.items():
            module = self.module[module_id]
            batch = {Columns.OBS: torch.from_numpy(np.concatenate([obs[i] for i in members]))}
            forward = module.forward_exploration if explore else module.forward_inference
            inputs = forward(batch)[Columns.ACTION_DIST_INPUTS]
            dist = module.get_exploration_action_dist_cls().from_logits(inputs)
            if not explore:
                dist = dist.to_deterministic()
            drawn = dist.sample()
            logp = dist.logp(drawn) if explore else torch.zeros(len(drawn))
            arrays = drawn.numpy(), logp.numpy(), inputs.numpy()
            for k, i in enumerate(members):
                rows = slice(k * n, (k + 1) * n)
                parts[i] = (arrays[0][rows], arrays[1][rows], arrays[2][rows])
        ordered = [parts[i] for i in range(len(self._agents))]
        return [p[0] for p in ordered], [p[1] for p in ordered], [p[2] for p in ordered]

    def _episodes(self, fragment: _Fragment) -> Iterator[MultiAgentEpisode]:
        """Yield one episode a scenario, cut where its power flow failed."""
        count = len(self._agents)
        obs = [np.stack([o[i] for o in fragment.obs], axis=1) for i in range(count)]
        actions, logp, inputs = (
            [np.stack([step[i] for step in steps], axis=1) for i in range(count)]
            for steps in (fragment.actions, fragment.logp, fragment.dist_inputs)
        )
        gains = [
            np.stack([step[i] for step in fragment.gains], axis=1)
            for i in range(count)
            if fragment.gains
        ]
        rewards = np.stack(fragment.rewards, axis=1).astype(np.float32)
        alive = np.stack(fragment.alive, axis=1)
        failed = np.stack(fragment.terminated, axis=1)
        for n in range(self.num_scenarios):
            length = int(alive[n].sum())
            if length == 0:
                continue
            terminated = bool(failed[n].any())
            truncated = fragment.truncated and not terminated
            episode = MultiAgentEpisode(
                id_=f"{self.worker_index}_{n}_{fragment.number}",
                agent_to_module_mapping_fn=self.config.policy_mapping_fn,
                env_t_started=fragment.start,
            )
            episode.env_t = fragment.start + length
            episode.is_terminated, episode.is_truncated = terminated, truncated
            for i, agent in enumerate(self._agents):
                extra = {Columns.ACTION_LOGP: logp[i], Columns.ACTION_DIST_INPUTS: inputs[i]}
                if gains:
                    extra[ACTION_GAINS] = gains[i]
                episode.agent_episodes[agent] = SingleAgentEpisode(
                    id_=f"{episode.id_}_{agent}",
                    agent_id=agent,
                    module_id=self._modules[i],
                    multi_agent_episode_id=episode.id_,
                    observations=InfiniteLookbackBuffer(obs[i][n, : length + 1]),
                    infos=InfiniteLookbackBuffer([{}] * (length + 1)),
                    actions=InfiniteLookbackBuffer(actions[i][n, :length]),
                    rewards=InfiniteLookbackBuffer(rewards[n, :length, i]),
                    extra_model_outputs={
                        k: InfiniteLookbackBuffer(v[n, :length]) for k, v in extra.items()
                    },
                    terminated=terminated,
                    truncated=truncated,
                    t_started=fragment.start,
                    len_lookback_buffer=0,
                )
                episode._agent_to_module_mapping[agent] = self._modules[i]
            yield episode

    def _log_episodes(self) -> None:
        for returns in self._returns:
            per_module: dict[str, float] = defaultdict(float)
            for module_id, value in zip(self._modules, returns, strict=True):
                per_module[module_id] += float(value)
            per_agent = dict(zip(self._agents, returns.tolist(), strict=True))
            steps = dict.fromkeys(self._agents, self._t)
            total = float(returns.sum())
            self._log_episode_metrics(self._t, total, 0.0, per_agent, dict(per_module), steps)
        self.metrics.log_value(keys.NUM_EPISODES, self.num_scenarios, reduce="sum")
        self.metrics.log_value(
            keys.NUM_EPISODES_LIFETIME, self.num_scenarios, reduce="lifetime_sum"
        )

    def _log_sampled(self, steps: int, seconds: float) -> None:
        log = self.metrics.log_value
        log(keys.NUM_ENV_STEPS_SAMPLED, steps, reduce="sum")
        log(
            keys.NUM_ENV_STEPS_SAMPLED_LIFETIME,
            steps,
            reduce="lifetime_sum",
            with_throughput=True,
        )
        for agent, module_id in zip(self._agents, self._modules, strict=True):
            log((keys.NUM_AGENT_STEPS_SAMPLED, agent), steps, reduce="sum")
            log((keys.NUM_AGENT_STEPS_SAMPLED_LIFETIME, agent), steps, reduce="lifetime_sum")
            log((keys.NUM_MODULE_STEPS_SAMPLED, module_id), steps, reduce="sum")
            log((keys.NUM_MODULE_STEPS_SAMPLED_LIFETIME, module_id), steps, reduce="lifetime_sum")
        log(keys.SAMPLE_TIMER, seconds)
