"""``heron export``: write the policies of a training run as ``.onnx`` files."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heron.errors import ConfigError
from heron.powergrid.baselines import BASELINES


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heron export",
        description="Write the policies of a training run as .onnx files, one a microgrid.",
    )
    parser.add_argument("run", type=Path, help="directory of the run")
    parser.add_argument("--out", type=Path, help="directory for the files (RUN/policies)")
    parser.add_argument("--best", action="store_true", help="the best by validation, not the last")
    parser.add_argument("--evaluate", type=Path, help="JSON of `heron evaluate` to put in")
    parser.add_argument("--policy-version", default="1", help="version in the manifest")
    parser.add_argument("--command", default="", help="command to record, if not the options'")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the sub-command; return its exit code.

    Raises:
        HeronError: What is wrong; `heron.cli.main` says it in one line.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    args = _parser().parse_args(list(argv))
    result = _export(args)
    if args.json:
        print(json.dumps(result))
    else:
        for file in result["files"]:
            print(f"{file['path']}  parity {file['parity_error']:.2g}")
    return 0


def _export(args: argparse.Namespace) -> dict[str, Any]:
    from training.export.export import now_utc, software, write_policy
    from training.rllib.config import env_config, module_of
    from training.rllib.env import RllibMicrogrids
    from training.trainer import best_checkpoint, load_algorithm, newest_checkpoint

    checkpoint = best_checkpoint(args.run) if args.best else newest_checkpoint(args.run)
    algo, options = load_algorithm(args.run, checkpoint)
    out: Path = args.out or args.run / "policies"
    env = RllibMicrogrids(env_config(options))
    config = env.inner.setup.config
    facts = {
        "name": f"{config.name}-{options.algorithm}",
        "version": args.policy_version,
        "setup": config.name,
        "engine": config.engine,
        "algorithm": options.algorithm,
        "step_s": config.step_s,
        "seed": options.seed,
        "env_steps": int(
            algo.metrics.peek(("env_runners", "num_env_steps_sampled_lifetime"), default=0)
        ),
        "command": args.command or options.command_line(),
        "created": now_utc(),
        "training": json.loads(options.model_dump_json(exclude={"checkpoint_dir"})),
        "evaluation": _evaluation(args.evaluate),
        "software": software(),
    }
    files = []
    try:
        for agent in env.possible_agents:
            module = algo.get_module(module_of(agent, options))
            path = out / f"{agent}.onnx"
            error = write_policy(path, module, env.inner.codecs[agent], env.layout, facts)
            files.append({"agent": agent, "path": str(path), "parity_error": error})
    finally:
        algo.stop()
    return {"files": files, "checkpoint": str(checkpoint)}


_KEPT = (
    "objective_usd",
    "cost_usd",
    "safety",
    "days_with_violation",
    "gain_usd",
    "gain_low_usd",
    "gain_high_usd",
    "score",
)
"""Figures of an evaluation that a manifest holds."""


def _evaluation(path: Path | None) -> dict[str, Any]:
    """Return the figures of the one policy that was evaluated, and of the baselines."""
    if path is None:
        return {}
    try:
        data = json.loads(path.read_text())
        trained = [name for name in data["policies"] if name not in BASELINES]
        if len(trained) != 1:
            raise ConfigError(f"{path}: holds {len(trained)} policies, expected one")
        policies = {
            "policy" if name in trained else name: {k: figures[k] for k in _KEPT if k in figures}
            for name, figures in data["policies"].items()
        }
        facts = {k: data[k] for k in ("setup", "engine", "penalty", "days", "split")}
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not the JSON of `heron evaluate`: {error}") from error
    return {**facts, **policies}
