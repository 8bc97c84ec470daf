"""All options of a training run, from the command line or a YAML experiment file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.agents import scheme_of
from heron.powergrid.setups import stated_protocol
from heron.powergrid.setups.coordination import SETPOINT
from heron.powergrid.setups.files import read_yaml
from heron.powergrid.setups.problems import problems_of
from training.envs.robustness import Robustness, robustness_of, words_of

Algorithm = Literal["ppo", "ippo", "mappo"]
FORECASTS: dict[str, bool | str] = {"day_ahead": True, "typical": "typical", "none": False}
"""What a command line calls the ways to know prices, and what a setup does."""
SINGLE_ENVS = 4
"""Environments of a runner where they are stepped one by one."""
SAMPLED_DEFAULTS: dict[str, Any] = {
    "num_envs_per_worker": 32,
    "train_batch_size": 3072,
    "minibatch_size": 1024,
    "lr": 2e-3,
    "std": 0.3,
    "std_end": 0.12,
    "storage_noise": 2.0,
    "clip": 0.2,
}
"""Options of a run that learns from samples alone: more of them, and more noise."""


class TrainOptions(BaseModel):
    """What a training run does.

    Attributes:
        setup: Name or path of the setup.
        algorithm: ``ppo`` (one actor for all, local critic), ``ippo`` (an actor and a critic
            each) or ``mappo`` (central critic).
        independent_policies: An actor each; ``mappo`` then keeps the central critic.
        iterations: Updates; the run also ends at ``max_seconds``.
        max_seconds: Wall seconds after which the run ends with its present update.
        num_workers: Remote environment runners; 0 samples in the learner's process.
        num_envs_per_worker: Environments (or scenarios of the batched one) per runner.
        batched: Sample from the vector environment instead of one environment at a time.
        train_batch_size: Joint steps an update.
        minibatch_size: Agent steps a gradient step.
        epochs: Passes over each batch.
        lr: Learning rate at the start; falls linearly to ``lr_end``.
        gamma: Discount a control step; None: 0 with ``storage_shaping``, by which the reward of a
            step holds what it will earn later, else 0.99.
        lambda_: Of the generalised advantage.
        hidden: Widths of the layers.
        std: Standard deviation of the actions at the start.
        std_end: At the end, to which it falls linearly; None: it is learned.
        storage_noise: By what the standard deviation is multiplied for the active power of stores.
        clip: PPO's clip.
        entropy: Weight of the entropy.
        reward_scale: Rewards are divided by it for learning.
        idle_baseline: Subtract what doing nothing would earn at that instant of the year; only
            with batched sampling.
        local_credit: Let each agent learn from its own cost, the feeder's and all violations,
            without the noise of what the others pay; only with batched sampling.
        counterfactual: Try each action by itself in the plant, and let it learn from what it alone
            changes; only with batched sampling and a discount of 0. See
            `training.rllib.counterfactual`.
        storage_shaping: Pay for a charge when it is made, by what the day's prices will make of
            it, in place of when it is sold; only with batched sampling.
        seed: Seed of everything.
        penalty: Overrides the setup's penalty.
        share_reward: Overrides the setup's sharing.
        forecast: Overrides what the setup says of the prices that agents know: ``day_ahead``,
            ``typical`` or ``none``.
        observe_timing: Let the agents see how old their readings are, and what they told their
            devices last.
        visibility_level: Whose view the observation is built for.
        protocol: How the agents coordinate, as `heron.powergrid.agents.scheme_of` takes it;
            `make_options` takes what the setup says. Another than ``setpoint``, which is all that
            the batched environment knows, samples one environment at a time.
        shield: Train with the network's shield before the devices; samples one environment at a
            time.
        checkpoint_freq: Updates between checkpoints.
        checkpoint_dir: Where the run writes everything.
        resume: Go on from the newest checkpoint in ``checkpoint_dir``.
        evaluate_freq: Updates between evaluations; the best policy so far is kept.
        patience: Evaluations without a better one after which the run stops; 0: never.
        engine: Overrides the setup's power-flow engine.
        robust: What each episode draws anew: delays, losses, sensors, loads, lines; a preset's
            name or `training.envs.robustness.Robustness`; only with batched sampling.
        address: Address of a Ray cluster; empty starts one here.
        wandb: Log to Weights & Biases (offline where there is no network).
        experiment_name: Name of the run.
        event_driven_test: Test the trained policy in event-driven time afterwards.
        event_driven_episodes: Episodes of that test.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    setup: str = "ieee34_ieee13"
    algorithm: Algorithm = "mappo"
    independent_policies: bool = False
    iterations: int = Field(200, ge=1)
    max_seconds: float = Field(0.0, ge=0)
    num_workers: int = Field(0, ge=0)
    num_envs_per_worker: int = Field(16, ge=1)
    batched: bool = True
    train_batch_size: int = Field(1536, ge=8)
    minibatch_size: int = Field(1536, ge=8)
    epochs: int = Field(6, ge=1)
    lr: float = Field(1e-3, gt=0)
    lr_end: float = Field(1e-5, ge=0)
    gamma: float | None = Field(None, ge=0, le=1)
    lambda_: float = Field(0.6, ge=0, le=1)
    hidden: tuple[int, ...] = (128, 128)
    std: float = Field(0.15, gt=0)
    std_end: float | None = Field(0.05, gt=0)
    storage_noise: float = Field(1.0, gt=0)
    clip: float = Field(0.3, gt=0)
    entropy: float = Field(0.0, ge=0)
    reward_scale: float = Field(20.0, gt=0)
    idle_baseline: bool = True
    local_credit: bool = True
    counterfactual: bool = True
    storage_shaping: bool = True
    seed: int = Field(0, ge=0)
    penalty: float | None = Field(None, ge=0)
    share_reward: bool | None = None
    forecast: Literal["day_ahead", "typical", "none"] | None = None
    observe_timing: bool = False
    visibility_level: Literal["system", "upper_level", "owner", "public"] = "upper_level"
    protocol: str = SETPOINT
    shield: bool = False
    checkpoint_freq: int = Field(10, ge=0)
    checkpoint_dir: Path = Path("runs/train")
    resume: bool = False
    evaluate_freq: int = Field(0, ge=0)
    patience: int = Field(0, ge=0)
    engine: str | None = None
    robust: Robustness | None = None
    address: str = ""
    wandb: bool = False
    wandb_project: str = "heron"
    experiment_name: str = "heron-train"
    event_driven_test: bool = False
    event_driven_episodes: int = Field(1, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _by_samples(cls, values: Any) -> Any:
        """Where actions are not tried by themselves, other defaults are good."""
        if not isinstance(values, dict):
            return values
        tries = (
            values.get("counterfactual", True)
            and values.get("batched", values.get("protocol", SETPOINT) == SETPOINT)
            and values.get("storage_shaping", True)
            and values.get("gamma") in (None, 0)
        )
        return values if tries else {**SAMPLED_DEFAULTS, **values}

    @model_validator(mode="before")
    @classmethod
    def _one_at_a_time(cls, values: Any) -> Any:
        """Sample other protocols, and a shield, from single environments, unless told otherwise."""
        if not isinstance(values, dict):
            return values
        if values.get("protocol", SETPOINT) != SETPOINT or values.get("shield"):
            return {"batched": False, "num_envs_per_worker": SINGLE_ENVS, **values}
        return values

    @field_validator("protocol")
    @classmethod
    def _protocol_is_known(cls, name: str, info: ValidationInfo) -> str:
        try:
            scheme_of(name)
        except ConfigError as error:
            raise ValueError(f"expected {error.problems[0].expected}") from error
        if name != SETPOINT and info.data.get("batched"):
            raise ValueError("the batched environment knows set-points only; leave out --batched")
        return name

    @field_validator("hidden")
    @classmethod
    def _layers_have_units(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if not widths or min(widths) < 1:
            raise ValueError("at least one layer (--hidden-dim) of at least one unit")
        return widths

    @field_validator("shield")
    @classmethod
    def _shield_moves_setpoints(cls, shield: bool, info: ValidationInfo) -> bool:
        if shield and (info.data.get("batched") or info.data.get("protocol", SETPOINT) != SETPOINT):
            raise ValueError(
                "moves set-points, of one environment at a time; leave out --batched and --protocol"
            )
        return shield

    @field_validator("robust")
    @classmethod
    def _robust_is_drawn_in_batches(
        cls, robust: Robustness | None, info: ValidationInfo
    ) -> Robustness | None:
        if robust is not None and not info.data.get("batched", True):
            raise ValueError("drawn by batched sampling only; leave out --no-batched")
        return robust

    @field_validator("robust", mode="before")
    @classmethod
    def _robust_by_name(cls, value: Any) -> Any:
        return robustness_of(value) if isinstance(value, str) else value

    @property
    def discount(self) -> float:
        """Discount a control step."""
        if self.gamma is not None:
            return self.gamma
        return 0.0 if self.storage_shaping and self.batched else 0.99

    @property
    def tries_actions(self) -> bool:
        """Whether each action is tried by itself."""
        return self.counterfactual and self.batched and self.discount == 0.0

    @property
    def shared_actor(self) -> bool:
        """Whether all agents use one network."""
        return self.algorithm != "ippo" and not self.independent_policies

    def chosen(self) -> dict[str, Any]:
        """Return the options that are not what they are without being said."""
        usual = {name: field.default for name, field in type(self).model_fields.items()}
        usual["protocol"] = stated_protocol(self.setup)
        return {name: v for name, v in self.model_dump().items() if v != usual[name]}

    def command_line(self) -> str:
        """Return the ``heron train`` command of this run, without defaults and directories."""
        words = ["heron train"]
        for name, value in self.chosen().items():
            if name in ("checkpoint_dir", "resume"):
                continue
            flag = "--" + name.rstrip("_").replace("_", "-")
            if name == "hidden":
                words.append(f"--hidden-dim {value[0]}")
            elif name == "robust":
                words.append(f"--robust {' '.join(words_of(self.robust))}")
            elif isinstance(value, bool):
                words.append(flag if value else flag.replace("--", "--no-", 1))
            else:
                words.append(f"{flag} {value}")
        return " ".join(words)

    def setup_overrides(self) -> dict[str, Any]:
        """Return the keys of the setup that this run changes."""
        chosen = {
            "penalty": self.penalty,
            "share_reward": self.share_reward,
            "engine": self.engine,
            "forecast": None if self.forecast is None else FORECASTS[self.forecast],
            # Only ever switched on: where the setup says so, it stays.
            "observe_timing": self.observe_timing or None,
            "visibility_level": self.visibility_level,
            "protocol": self.protocol,
            "shield": self.shield or None,
        }
        return {"train": True, **{k: v for k, v in chosen.items() if v is not None}}


def make_options(values: dict[str, Any], source: str = "") -> TrainOptions:
    """Check the options, all at once; the protocol is the setup's where none is given.

    Raises:
        ConfigError: With every problem found.
    """
    problems: list[ConfigProblem] = []
    setup = values.get("setup", TrainOptions.model_fields["setup"].default)
    if "protocol" not in values and isinstance(setup, str):
        try:
            values = {**values, "protocol": stated_protocol(setup)}
        except ConfigError as error:
            problems += error.problems
    try:
        options = TrainOptions.model_validate(values)
    except ValidationError as error:
        raise ConfigError([*problems, *problems_of(error, source)]) from error
    if problems:
        raise ConfigError(problems)
    return options


def read_experiment(path: Path) -> dict[str, Any]:
    """Return the options in a YAML experiment file.

    Raises:
        ConfigError: It cannot be read, or is not a mapping.
    """
    return read_yaml(path)
