"""From the options of a run to RLlib's configuration."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModule, MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from heron.powergrid.device_configs import StorageConfig
from training.options import TrainOptions
from training.rllib.batched_runner import BatchedEnvRunner
from training.rllib.env import RllibMicrogrids
from training.rllib.learner import GlobalState, NormalisingPPOLearner
from training.rllib.modules import ActorCritic
from training.rllib.runner import EnvRunner

GRADIENT_CLIP = 1.0
"""Largest norm of the actor's gradient, and of the critic's."""
COUNTERFACTUAL_CLIP = 3.0
"""The same where actions are tried by themselves: there a large gradient is no noise."""

SHARED = "shared"
"""Name of the module that all agents use where there is one actor."""


def env_config(options: TrainOptions) -> dict[str, Any]:
    """Return what `RllibMicrogrids` is built from."""
    return {
        "setup": options.setup,
        "overrides": options.setup_overrides(),
        # A central critic needs a state of fixed layout, which padding gives it, too.
        "padded": options.shared_actor or options.algorithm == "mappo",
        "reward_scale": options.reward_scale,
        "n_scenarios": options.num_envs_per_worker,
        "idle_baseline": options.idle_baseline,
        "local_credit": options.local_credit,
        "storage_shaping": options.storage_shaping,
        "counterfactual": options.tries_actions,
        "robust": None if options.robust is None else options.robust.model_dump(),
    }


def module_of(agent: str, options: TrainOptions) -> str:
    """Return the module that decides for an agent."""
    return SHARED if options.shared_actor else agent


def build_config(options: TrainOptions, env: RllibMicrogrids) -> PPOConfig:
    """Return RLlib's configuration.

    Args:
        options: Of the run.
        env: One environment, for its spaces and layout.
    """
    agents = list(env.possible_agents)
    shared = options.shared_actor
    modules = [SHARED] if shared else agents
    spec = MultiRLModuleSpec(
        multi_rl_module_class=MultiRLModule,
        rl_module_specs={m: _module_spec(m, options, env) for m in modules},
    )
    central = options.algorithm == "mappo"
    learner: dict[str, Any] = {"num_learners": 0, "learner_class": NormalisingPPOLearner}
    if central:
        learner["learner_connector"] = lambda obs_space, act_space: GlobalState(agents=agents)
    total_steps = options.iterations * options.train_batch_size
    return (
        PPOConfig()
        .environment(RllibMicrogrids, env_config=env_config(options), disable_env_checking=True)
        .env_runners(
            num_env_runners=options.num_workers,
            num_envs_per_env_runner=1 if options.batched else options.num_envs_per_worker,
            env_runner_cls=BatchedEnvRunner if options.batched else EnvRunner,
            rollout_fragment_length="auto",
            batch_mode="truncate_episodes",
        )
        .multi_agent(
            policies=modules,
            policy_mapping_fn=_mapping(shared),
        )
        .rl_module(rl_module_spec=spec)
        .training(
            train_batch_size_per_learner=options.train_batch_size,
            minibatch_size=min(options.minibatch_size, options.train_batch_size),
            num_epochs=options.epochs,
            lr=[[0, options.lr], [total_steps, options.lr_end]],
            gamma=options.discount,
            lambda_=options.lambda_,
            clip_param=options.clip,
            vf_clip_param=float("inf"),
            vf_loss_coeff=0.5,
            entropy_coeff=options.entropy,
            use_kl_loss=False,
            grad_clip=COUNTERFACTUAL_CLIP if options.tries_actions else GRADIENT_CLIP,
        )
        .learners(**learner)
        .debugging(seed=options.seed, log_level="ERROR")
        .reporting(
            min_sample_timesteps_per_iteration=0,
            min_time_s_per_iteration=0,
            metrics_num_episodes_for_smoothing=50,
        )
    )


def _std_shares(module: str, options: TrainOptions, env: RllibMicrogrids) -> list[float]:
    """Return by what the noise of each action is multiplied: a store's active power has more.

    A step's gain by a store is small beside that of a generator; with more noise it is heard.
    """
    inner = env.inner
    devices = inner.setup.config.device_ids
    agents = inner.possible_agents if module == SHARED else [module]
    shares = [1.0] * int(env.action_spaces[agents[0]].shape[0])
    for agent in agents:
        specs = inner.codecs[agent].setpoints
        places = range(len(specs)) if env.layout is None else env.layout.act_index[agent]
        for place, spec in zip(places, specs, strict=True):
            if spec.agent not in devices:
                continue
            config = inner.setup.config.device(spec.agent).device_state_config
            if isinstance(config, StorageConfig) and spec.quantity == "p_mw":
                shares[int(place)] = options.storage_noise
    return shares


def _mapping(shared: bool) -> Any:
    def to_shared(agent_id: str, episode: Any = None, **kwargs: Any) -> str:
        return SHARED

    def to_own(agent_id: str, episode: Any = None, **kwargs: Any) -> str:
        return agent_id

    return to_shared if shared else to_own


def _module_spec(module: str, options: TrainOptions, env: RllibMicrogrids) -> RLModuleSpec:
    agent = env.possible_agents[0] if module == SHARED else module
    state_dim = 0
    if options.algorithm == "mappo":
        state_dim = sum(int(s.shape[0]) for s in env.observation_spaces.values())
    layout = env.layout
    return RLModuleSpec(
        module_class=ActorCritic,
        observation_space=env.observation_spaces[agent],
        action_space=env.action_spaces[agent],
        model_config={
            "hiddens": list(options.hidden),
            "std": options.std,
            "std_end": options.std_end,
            "total_steps": options.iterations * options.train_batch_size,
            "std_shares": _std_shares(module, options, env),
            "action_masks": None if layout is None else layout.action_masks.tolist(),
            "state_dim": state_dim,
        },
    )
