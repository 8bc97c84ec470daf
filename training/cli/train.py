"""``heron train``: train policies on a setup."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heron.powergrid.setups.coordination import SETPOINT
from training.envs.robustness import parse_robustness
from training.options import TrainOptions, make_options, read_experiment


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heron train",
        description="Train policies on a setup.",
        argument_default=argparse.SUPPRESS,
    )
    add = parser.add_argument
    add("--config", type=Path, help="YAML file of options; the command line wins over it")
    add("--search", type=Path, help="YAML file of a search over options by Ray Tune")
    add("--setup", help="name or path of the setup")
    add("--algorithm", choices=("ppo", "ippo", "mappo"))
    add("--test", action="store_true", help="three short updates, to see that it runs")
    add("--iterations", type=int, help="updates")
    add("--max-seconds", type=float, help="end after this many wall seconds")
    add("--num-workers", type=int, help="remote environment runners; 0 samples in-process")
    add("--num-envs-per-worker", type=int)
    add("--batched", action=argparse.BooleanOptionalAction, help="sample many scenarios at once")
    add("--train-batch-size", type=int, help="joint steps an update")
    add("--minibatch-size", type=int)
    add("--epochs", type=int)
    add("--lr", type=float)
    add("--lr-end", type=float)
    add("--gamma", type=float)
    add("--lambda", dest="lambda_", type=float)
    add("--hidden-dim", type=int, help="width of both layers")
    add("--std", type=float, help="standard deviation of the actions at the start")
    add("--std-end", type=float, help="and at the end; without it, it is learned")
    add("--storage-noise", type=float, help="factor on it for the active power of stores")
    add("--entropy", type=float)
    add("--reward-scale", type=float)
    for switch in ("idle-baseline", "local-credit", "counterfactual", "storage-shaping"):
        add(f"--{switch}", action=argparse.BooleanOptionalAction)
    add("--seed", type=int)
    add("--no-cuda", action="store_true", help="accepted; this project trains on the CPU")
    add("--penalty", type=float, help="$ per pu node hour of violation")
    add("--share-reward", action=argparse.BooleanOptionalAction)
    add("--forecast", choices=("day_ahead", "typical", "none"), help="prices that agents know")
    add(
        "--observe-timing",
        action="store_true",
        help="let the agents see how old their readings are, and what they told their devices last",
    )
    add("--visibility-level", choices=("system", "upper_level", "owner", "public"))
    add(
        "--protocol",
        help="how the agents coordinate, in place of what the setup says: setpoint, price, p2p, "
        "consensus, system, or module:NAME or FILE.py:NAME; all but setpoint sample one "
        "environment at a time",
    )
    add(
        "--shield",
        action="store_true",
        help="train with the network's voltage shield before the devices; samples one environment "
        "at a time",
    )
    add("--independent-policies", action="store_true", help="one policy a microgrid")
    add("--checkpoint-freq", type=int, help="updates between checkpoints")
    add("--checkpoint-dir", type=Path, help="directory of the run")
    add("--resume", action="store_true", help="go on from the newest checkpoint there")
    add("--evaluate-freq", type=int, help="updates between evaluations")
    add("--patience", type=int, help="stop after so many evaluations without a better one")
    add("--engine", help="power-flow engine")
    add(
        "--robust",
        nargs="+",
        metavar="WORD",
        help="draw delays, losses, sensors, loads and lines anew each episode: 'scada', 'field', "
        "or KEY=VALUE and KEY=LOW:HIGH, as dropout=0.2 obs_delay_s=0:900",
    )
    add("--address", help="Ray cluster")
    add("--wandb", action="store_true", help="log to Weights & Biases")
    add("--wandb-project")
    add("--experiment-name")
    add("--event-driven-test", action="store_true", help="test in event-driven time afterwards")
    add("--event-driven-episodes", type=int)
    add("--json", action="store_true", help="print one JSON object at the end")
    return parser


def options_from(argv: Sequence[str]) -> tuple[TrainOptions, bool]:
    """Return the options of a command line, and whether it wants JSON.

    Raises:
        ConfigError: With every problem found.
    """
    given: dict[str, Any] = vars(_parser().parse_args(list(argv)))
    as_json = bool(given.pop("json", False))
    given.pop("no_cuda", None)
    given.pop("search", None)
    config: Path | None = given.pop("config", None)
    values = {} if config is None else read_experiment(config)
    if given.pop("test", False):
        values |= {"iterations": 3, "train_batch_size": 192, "minibatch_size": 96, "epochs": 2}
    if "robust" in given:
        given["robust"] = parse_robustness(given["robust"])
    if "hidden_dim" in given:
        width = given.pop("hidden_dim")
        values["hidden"] = (width, width)
    return make_options({**values, **given}, "" if config is None else str(config)), as_json


def run(argv: Sequence[str]) -> int:
    """Run the sub-command; return its exit code.

    Raises:
        HeronError: What is wrong; `heron.cli.main` says it in one line.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    words = list(argv)
    found = _parser().parse_args(words)
    if hasattr(found, "search"):
        return _search(found.search, words)
    options, as_json = options_from(words)
    return _train(options, as_json)


def _search(path: Path, words: list[str]) -> int:
    from training.search import read_search, search

    chosen = read_search(path)
    base, as_json = options_from(words)
    lines = sys.stderr if as_json else sys.stdout
    found = search(chosen, base, lambda line: print(line, file=lines, flush=True))
    command = found.options.command_line()
    if as_json:
        facts = {"validation_usd": found.validation_usd, "runs": found.runs, "command": command}
        print(json.dumps({**facts, "directory": str(found.directory)}))
    else:
        print(f"best of {found.runs}: {found.validation_usd:.1f} $ an episode, {found.directory}")
        print(f"next: {command}")
    return 0


def _train(options: TrainOptions, as_json: bool) -> int:
    from training.recorder import Update
    from training.trainer import train

    def show(update: Update) -> None:
        evaluated = ""
        if update.validation_usd is not None:
            star = " *" if update.best else ""
            evaluated = f"  validation {update.validation_usd:8.1f} $/episode{star}"
        # A short run may not see the end of one.
        returned = "return: no episode has ended yet"
        if update.episode_return is not None:
            returned = f"return {update.episode_return:9.1f} $"
        print(
            f"{update.iteration:5d}/{options.iterations}  {update.env_steps:9d} steps  "
            f"{update.seconds:6.0f} s  {update.steps_per_s:6.0f} steps/s  "
            f"{returned}{evaluated}",
            file=sys.stderr if as_json else sys.stdout,
            flush=True,
        )

    if options.protocol != SETPOINT:
        print(
            f"protocol {options.protocol}: sampling one environment at a time (--no-batched)",
            file=sys.stderr,
        )
    outcome = train(options, show)
    last = outcome.updates[-1] if outcome.updates else None
    if as_json:
        result = {
            "directory": str(outcome.directory),
            "checkpoint": str(outcome.checkpoint),
            "stopped": outcome.stopped,
            "iterations": last.iteration if last else 0,
            "env_steps": last.env_steps if last else 0,
            "episode_return": last.episode_return if last else None,
            "timing_gaps": outcome.timing_gaps,
        }
        print(json.dumps(result))
    else:
        print(f"{outcome.stopped}: {outcome.checkpoint}")
        for preset, lost in outcome.timing_gaps.items():
            print(f"in event-driven time, preset {preset}: {lost:+.1%} of the return is lost")
        print(f"next: heron export {outcome.directory}")
    return 130 if outcome.stopped == "interrupted" else 0
