"""``heron tune``: find the numbers of a baseline on training days."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heron.cli.numbers import whole
from heron.errors import ConfigError, ConfigProblem


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heron tune",
        description="Find the numbers of a baseline on training days; test days play no part.",
    )
    parser.add_argument("baseline", help="droop, qp or qp-network")
    parser.add_argument("--setup", default="ieee34_ieee13", help="name or path of the setup")
    parser.add_argument("--every", type=int, default=7, help="every so many-th training day")
    parser.add_argument("--rounds", type=int, default=8, help="rounds of the search")
    parser.add_argument("--population", type=int, default=24, help="settings tried a round")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--penalty", type=float, help="$ per pu node hour of violation")
    parser.add_argument("--out", type=Path, help="file of settings (default: the setup's own)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the sub-command; return its exit code.

    Raises:
        HeronError: What is wrong; `heron.cli.main` says it in one line.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    args = _parser().parse_args(list(argv))
    result = _tune(args)
    print(json.dumps(result) if args.json else f"wrote {result['path']}")
    return 0


def _tune(args: argparse.Namespace) -> dict[str, Any]:
    from heron.powergrid.plans import fingerprint
    from heron.powergrid.tuned import TUNED_FILE, read_tuned, setup_directory, write_tuned
    from training.envs import make_env
    from training.envs.days import first_days
    from training.evaluation.span import each, episode_days
    from training.tuning import tune

    small = {"--every": args.every, "--rounds": args.rounds, "--population": args.population}
    problems = [ConfigProblem(k, v, "at least 1") for k, v in small.items() if v < 1]
    if problems:
        raise ConfigError(problems)
    overrides = {} if args.penalty is None else {"penalty": args.penalty}
    env = make_env(args.setup, overrides)
    path = args.out or setup_directory(env.setup) / TUNED_FILE
    _require_writable(path)
    read_tuned(path)
    days = first_days(env.setup.profiles.train_days, env.setup.config)[:: args.every].tolist()
    found, of = None, each(episode_days(env.setup.config))
    for found in tune(
        args.baseline,
        env,
        days,
        rounds=args.rounds,
        population=args.population,
        seed=args.seed,
    ):
        numbers = " ".join(f"{k}={v:g}" for k, v in found.settings.items())
        text = f"{found.number:3d}/{args.rounds}  {found.objective_usd:8.1f} $ {of}  {numbers}"
        print(text, file=sys.stderr if args.json else sys.stdout, flush=True)
    assert found is not None
    penalty = "" if args.penalty is None else f" --penalty {args.penalty:g}"
    entry = {
        "settings": found.settings,
        "objective_usd": round(found.objective_usd, 2),
        "days": f"every {args.every}th training day, {len(days)} in all",
        "command": f"heron tune {args.baseline} --setup {args.setup} --every {args.every} "
        f"--rounds {args.rounds} --population {args.population} --seed {args.seed}{penalty}",
        "fingerprint": fingerprint(env.setup),
    }
    write_tuned(path, args.baseline, entry)
    return {"path": str(path), "baseline": args.baseline, **entry}


def _require_writable(path: Path) -> None:
    """Refuse a file that cannot be written, before the search and not after it.

    Raises:
        ConfigError: Its directory is not there, or closed.
    """
    if not os.access(path.parent, os.W_OK):
        expected = "a file in a directory that is there and can be written; --out names another"
        raise ConfigError([ConfigProblem("--out", str(path), expected)])
