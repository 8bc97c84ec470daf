"""A search over options by Ray Tune: many short runs, the hopeless ones stopped early.

What is searched is a YAML file:

    samples: 12            # runs
    concurrent: 1          # at the same time
    space:
      lr: {log: [1.0e-4, 2.0e-3]}
      lambda_: {uniform: [0.5, 0.95]}
      epochs: {choice: [4, 6, 8]}
    options: {iterations: 60, evaluate_freq: 10}

``space`` and ``options`` hold the names of `training.options.TrainOptions`. A run is judged by the
objective on the validation days; test days play no part.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from heron.errors import ConfigError, ConfigProblem
from training.options import TrainOptions, make_options, read_experiment
from training.recorder import Update
from training.trainer import start_ray, train

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# Tune's own tables would stand between our lines.
METRIC = "validation_usd"
BEST_FILE = "best_options.json"
_DRAWS: Mapping[str, Callable[..., Any]] = {
    "uniform": tune.uniform,
    "log": tune.loguniform,
    "choice": lambda *values: tune.choice(list(values)),
    "grid": lambda *values: tune.grid_search(list(values)),
}


class SearchFile(BaseModel):
    """What a search does; see the module.

    Attributes:
        samples: Runs; with ``grid``, how often the grid is run through.
        concurrent: Runs at the same time, a CPU each.
        space: Per option: how its value is drawn.
        options: Of all runs.
        seed: Of the draws.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(8, ge=1)
    concurrent: int = Field(1, ge=1)
    space: dict[str, dict[str, list[Any]]] = Field(min_length=1)
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        options: Of the best run.
        validation_usd: Its mean objective on the validation days.
        directory: Of the best run.
        runs: How many runs were made.
    """

    options: TrainOptions
    validation_usd: float
    directory: Path
    runs: int


def read_search(path: Path) -> SearchFile:
    """Read a search file.

    Raises:
        ConfigError: With every problem found.
    """
    try:
        chosen = SearchFile.model_validate(read_experiment(path))
    except ValidationError as error:
        raise ConfigError(
            [
                ConfigProblem(".".join(str(p) for p in e["loc"]), e["input"], e["msg"], str(path))
                for e in error.errors()
            ]
        ) from error
    problems = []
    for name, how in chosen.space.items():
        if name not in TrainOptions.model_fields:
            problems.append(ConfigProblem(f"space.{name}", how, "an option's name", str(path)))
        elif len(how) != 1 or next(iter(how)) not in _DRAWS:
            expected = f"one of {', '.join(_DRAWS)} with a list"
            problems.append(ConfigProblem(f"space.{name}", how, expected, str(path)))
    if problems:
        raise ConfigError(problems)
    return chosen


def search(
    chosen: SearchFile, base: TrainOptions, on_update: Callable[[str], None] | None = None
) -> Found:
    """Run a search; the best options lie in ``best_options.json`` of the base's directory.

    Args:
        chosen: What to search.
        base: Options of all runs that the file does not change; its directory is the search's.
        on_update: Called with a line after each run.

    Raises:
        ConfigError: Options do not fit each other, or no run came to an evaluation.
    """
    directory = base.checkpoint_dir.absolute()
    common = {**base.chosen(), **chosen.options}
    common.setdefault("evaluate_freq", max(1, base.iterations // 6))
    iterations = make_options({**common, "checkpoint_dir": directory}).iterations
    start_ray(base)

    def run(drawn: dict[str, Any]) -> None:
        here = Path(tune.get_context().get_trial_dir())
        options = make_options({**common, **drawn, "checkpoint_dir": here / "run"})
        train(options, _report)

    space = {
        name: _DRAWS[how](*values) for name, d in chosen.space.items() for how, values in d.items()
    }
    tuner = tune.Tuner(
        tune.with_resources(run, {"cpu": 1 + base.num_workers}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=METRIC,
            mode="min",
            num_samples=chosen.samples,
            max_concurrent_trials=chosen.concurrent,
            scheduler=ASHAScheduler(
                time_attr="iteration", max_t=iterations, grace_period=max(1, iterations // 4)
            ),
        ),
        run_config=tune.RunConfig(name="search", storage_path=str(directory), verbose=0),
    )
    results = tuner.fit()
    for result in results:
        if on_update is not None:
            figure = (result.metrics or {}).get(METRIC, math.nan)
            on_update(f"{figure:9.1f} $ a day  {json.dumps(result.config)}")
    try:
        best = results.get_best_result(METRIC, "min", scope="all")
    except RuntimeError as error:
        causes = "; ".join(sorted({str(e).splitlines()[-1] for e in results.errors}))
        raise ConfigError(f"{directory}: no run came to an evaluation: {causes}") from error
    options = make_options({**common, **(best.config or {}), "checkpoint_dir": directory / "best"})
    (directory / BEST_FILE).write_text(
        options.model_dump_json(indent=1, exclude={"checkpoint_dir"})
    )
    figure = float(best.metrics_dataframe[METRIC].min())
    return Found(options, figure, Path(best.path), len(results))


def _report(update: Update) -> None:
    """Tell Ray Tune of an update that was evaluated."""
    if update.validation_usd is not None:
        tune.report({METRIC: update.validation_usd, "iteration": update.iteration})
