"""The training run, told in one file: sample and learn, log, evaluate, keep the best, save.

Everything of a run lies in its directory: ``options.json``, ``progress.csv``, TensorBoard's
events, ``checkpoints/NNNNNN`` and, with evaluation, ``best`` and ``best.json``.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.rllib.algorithms.algorithm import Algorithm

from heron.errors import ConfigError, ConfigProblem
from heron.files import require_writable_folder
from training.envs.days import first_days
from training.envs.timing import PRESETS, Timing
from training.envs.vector_agents import require_supported
from training.errors import TrainingDiverged, TrainingError
from training.evaluation.episodes import mean_figures, run_days
from training.export.export import agent_network
from training.export.graph import FloatArray, Network
from training.gap.runs import gap, run_days_timed
from training.options import TrainOptions, make_options
from training.recorder import Recorder, Update
from training.rllib.config import build_config, env_config, module_of
from training.rllib.env import RllibMicrogrids

log = logging.getLogger(__name__)

VALIDATION_STRIDE = 21
"""Every so many-th training day serves to choose the best policy; test days never do."""

OPTIONS_FILE = "options.json"
BEST_FILE = "best.json"
BEST_FOLDER = "best"
_SAME_RUN = (
    "setup",
    "algorithm",
    "independent_policies",
    "hidden",
    "visibility_level",
    "gamma",
    "protocol",
)


@dataclass
class Outcome:
    """What a run led to.

    Attributes:
        directory: Of the run.
        checkpoint: The last one.
        updates: All updates of this run.
        stopped: Why it ended: ``iterations``, ``time``, ``patience`` or ``interrupted``.
        timing_gaps: Share of the return that is lost in event-driven time, per timing preset;
            empty unless it was asked for.
    """

    directory: Path
    checkpoint: Path
    updates: list[Update] = field(default_factory=list)
    stopped: str = "iterations"
    timing_gaps: dict[str, float] = field(default_factory=dict)


class NetworkPolicy:
    """The deterministic actor of a module, as a policy."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def act(self, obs: Any) -> FloatArray:
        """Return the action in [-1, 1]."""
        return self._network.forward(np.atleast_2d(np.asarray(obs, np.float32)))[0]


def train(options: TrainOptions, on_update: Callable[[Update], None]) -> Outcome:
    """Train, and leave checkpoints.

    Args:
        options: Of the run.
        on_update: Called after each update.

    Raises:
        ConfigError: The options do not fit the machine or the setup.
        TrainingDiverged: A value was not finite; the last good checkpoint stays.
        TrainingError: The checkpoint to resume from is of another run.
    """
    directory = options.checkpoint_dir.absolute()
    require_writable_folder("checkpoint_dir", directory)
    _check_same_run(options, directory)
    env = RllibMicrogrids(env_config(options))
    if options.batched:
        require_supported(env.inner.setup)
    start_ray(options)
    directory.mkdir(parents=True, exist_ok=True)
    algo = build_algorithm(options, env)
    try:
        if options.resume:
            algo.restore_from_path(str(newest_checkpoint(directory)))
        (directory / OPTIONS_FILE).write_text(options.model_dump_json(indent=1))
        return _Run(options, directory, env, algo, on_update).until_done()
    finally:
        algo.stop()


class _Run:
    """The state of one call of `train`."""

    def __init__(
        self,
        options: TrainOptions,
        directory: Path,
        env: RllibMicrogrids,
        algo: Algorithm,
        on_update: Callable[[Update], None],
    ) -> None:
        self._options = options
        self._directory = directory
        self._env = env
        self._algo = algo
        self._on_update = on_update
        self._started = time.monotonic()
        self._recorder = Recorder(directory, options)
        self._outcome = Outcome(directory, directory)
        self._best = _best_before(directory) if options.resume else math.inf
        self._since_best = 0
        setup = env.inner.setup
        days = first_days(setup.profiles.train_days, setup.config).tolist()
        self._validation_days: list[int] = days[::VALIDATION_STRIDE]

    def until_done(self) -> Outcome:
        """Update until the options say to stop; save whatever happens, except after a NaN."""
        try:
            while self._algo.iteration < self._options.iterations:
                update = self._update()
                self._outcome.updates.append(update)
                self._recorder.record(update)
                self._on_update(update)
                every = self._options.checkpoint_freq
                if every and update.iteration % every == 0:
                    self._save()
                if self._must_stop(update):
                    break
        except KeyboardInterrupt:
            self._outcome.stopped = "interrupted"
        finally:
            self._recorder.close()
        self._save()
        if self._options.event_driven_test and self._outcome.stopped != "interrupted":
            self._outcome.timing_gaps = self._timing_gaps()
        return self._outcome

    def _update(self) -> Update:
        began = time.monotonic()
        result = self._algo.train()
        now = time.monotonic()
        runners = result["env_runners"]
        episode_return = float(runners.get("episode_return_mean", math.nan))
        if math.isinf(episode_return):
            raise TrainingDiverged(f"the return of update {self._algo.iteration} is not finite")
        validation, best = self._evaluate()
        return Update(
            iteration=int(self._algo.iteration),
            env_steps=int(runners["num_env_steps_sampled_lifetime"]),
            seconds=now - self._started,
            episode_return=_known(episode_return * self._options.reward_scale),
            steps_per_s=float(runners["num_env_steps_sampled"]) / (now - began),
            validation_usd=validation,
            best=best,
        )

    def _evaluate(self) -> tuple[float | None, bool]:
        every = self._options.evaluate_freq
        if not every or self._algo.iteration % every:
            return None, False
        policies = trained_policies(self._algo, self._env, self._options)
        figures = run_days(self._env.inner, policies, self._validation_days)
        objective = mean_figures(figures)["objective_usd"]
        better = objective < self._best
        self._since_best = 0 if better else self._since_best + 1
        if better:
            self._best = objective
            _save_checkpoint(self._algo, self._directory / BEST_FOLDER)
            (self._directory / BEST_FILE).write_text(json.dumps({"validation_usd": objective}))
        return objective, better

    def _timing_gaps(self) -> dict[str, float]:
        """Run the trained policies in event-driven time under every preset."""
        setup = self._env.inner.setup
        policies = trained_policies(self._algo, self._env, self._options)
        days = self._validation_days[: self._options.event_driven_episodes]
        view = self._options.visibility_level

        def mean_return(timing: Timing | None) -> float:
            return run_days_timed(setup, policies, days, timing, view=view).mean_return

        synchronous = mean_return(None)
        return {name: gap(synchronous, mean_return(timing)) for name, timing in PRESETS.items()}

    def _must_stop(self, update: Update) -> bool:
        limit = self._options.max_seconds
        if limit and update.seconds >= limit:
            self._outcome.stopped = "time"
            return True
        patience = self._options.patience
        if patience and self._since_best >= patience:
            self._outcome.stopped = "patience"
            return True
        return False

    def _save(self) -> None:
        path = self._directory / "checkpoints" / f"{self._algo.iteration:06d}"
        _save_checkpoint(self._algo, path)
        self._outcome.checkpoint = path


def start_ray(options: TrainOptions) -> None:
    """Connect to Ray, or start it here, unless that was done before.

    Raises:
        ConfigError: The machine has fewer CPUs than the run asks for; RLlib would wait for
            them for ever.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not ray.is_initialized():
        if options.address:
            _join_cluster(options.address)
        else:
            cpus = len(os.sched_getaffinity(0))
            _require_cpus(options.num_workers, cpus)
            ray.init(
                address="local",  # not whatever cluster happens to run on this machine
                num_cpus=max(cpus, options.num_workers + 1),
                include_dashboard=False,
                logging_level="error",
                log_to_driver=False,
            )
    _require_cpus(options.num_workers, int(ray.cluster_resources().get("CPU", 1)))


def _join_cluster(address: str) -> None:
    try:
        ray.init(address=address, logging_level="error", log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        expected = f"a Ray cluster that answers: {str(error).splitlines()[0]}"
        raise ConfigError([ConfigProblem("address", address, expected)]) from error


def build_algorithm(options: TrainOptions, env: RllibMicrogrids) -> Algorithm:
    """Build RLlib's algorithm."""
    return build_config(options, env).build_algo()


def trained_policies(
    algo: Algorithm, env: RllibMicrogrids, options: TrainOptions
) -> dict[str, NetworkPolicy]:
    """Return the deterministic policy of each agent."""
    return {
        agent: NetworkPolicy(
            agent_network(algo.get_module(module_of(agent, options)), agent, env.layout)
        )
        for agent in env.possible_agents
    }


def newest_checkpoint(directory: Path) -> Path:
    """Return the newest checkpoint of a run.

    Raises:
        TrainingError: There is none.
    """
    found = sorted((directory / "checkpoints").glob("[0-9]*"))
    if not found:
        raise TrainingError(f"{directory}: no checkpoint to resume from")
    return found[-1]


def best_checkpoint(directory: Path) -> Path:
    """Return the checkpoint of a run's best policy.

    Raises:
        TrainingError: The run chose none.
    """
    path = directory / BEST_FOLDER
    if not path.is_dir():
        reason = "a run chooses one with --evaluate-freq; without --best its last is exported"
        raise TrainingError(f"{directory}: no best policy: {reason}")
    return path


def options_of(directory: Path) -> TrainOptions:
    """Return the options that a run was started with.

    Raises:
        TrainingError: This is no directory of a run.
    """
    path = directory / OPTIONS_FILE
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise TrainingError(f"{directory}: not the directory of a training run") from error
    return make_options(values, str(path))


def load_algorithm(directory: Path, checkpoint: Path) -> tuple[Algorithm, TrainOptions]:
    """Rebuild the algorithm of a run at one of its checkpoints."""
    options = options_of(directory).model_copy(update={"num_workers": 0})
    start_ray(options)
    algo = build_algorithm(options, RllibMicrogrids(env_config(options)))
    algo.restore_from_path(str(checkpoint.absolute()))
    return algo, options


def _require_cpus(num_workers: int, cpus: int) -> None:
    if num_workers and num_workers + 1 > cpus:
        problem = ConfigProblem(
            "num_workers", num_workers, f"at most {cpus - 1}: there are {cpus} CPUs, one learns"
        )
        raise ConfigError([problem])


def _check_same_run(options: TrainOptions, directory: Path) -> None:
    if not options.resume:
        return
    before: Mapping[str, Any] = options_of(directory).model_dump()
    now = options.model_dump()
    changed = [f"{k} ({before[k]!r} before)" for k in _SAME_RUN if before[k] != now[k]]
    if changed:
        raise TrainingError(f"{directory}: the checkpoint is of another run: {', '.join(changed)}")


def _known(episode_return: float) -> float | None:
    """Return a mean over episodes; None where there was none."""
    return None if math.isnan(episode_return) else episode_return


def _best_before(directory: Path) -> float:
    """Return the best objective of an interrupted run, so that only a better one replaces it."""
    try:
        return float(json.loads((directory / BEST_FILE).read_text())["validation_usd"])
    except FileNotFoundError:
        return math.inf


def _save_checkpoint(algo: Algorithm, path: Path) -> None:
    """Save beside, then swap, so that a cut-off save never replaces a good one."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    algo.save_to_path(str(part))
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)
