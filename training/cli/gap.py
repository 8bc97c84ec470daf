"""``heron gap``: what a policy loses when time is real."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heron.cli.numbers import whole
from heron.files import require_writable_folder, write_text

if TYPE_CHECKING:
    from heron.powergrid.setups import Setup


STRIDE = 8
"""Every so many-th day of a split is run, unless told otherwise."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heron gap",
        description="Evaluate a policy in the synchronous step and in event-driven time.",
    )
    parser.add_argument(
        "policy",
        nargs="?",
        help="a directory with one AGENT.onnx per microgrid, 'none', 'rule' or 'mpc'; 'shield:' "
        "before it puts it behind the voltage shield. Without one: the policies that ship",
    )
    parser.add_argument("--setup", default="ieee34_ieee13", help="name or path of the setup")
    parser.add_argument("--days", default="test", help="'test', 'train', or numbers: 14,15,20-25")
    parser.add_argument(
        "--every",
        type=int,
        help=f"every so many-th day only (default {STRIDE} of 'test' and 'train', 1 of numbers)",
    )
    parser.add_argument("--preset", action="append", help="only these presets, no sweep")
    parser.add_argument("--no-pairs", action="store_true", help="each factor by itself only")
    parser.add_argument("--protocol", help="how the agents coordinate, not as the setup says")
    parser.add_argument(
        "--observe-timing",
        action="store_true",
        help="agents see how old their readings are and what they said last, as in training",
    )
    parser.add_argument(
        "--seed", type=whole(0), default=0, help="seed of the jitter, or of what is off"
    )
    parser.add_argument(
        "--disturbed",
        action="store_true",
        help="no timing sweep: delays, losses, sensors, loads and lines that are off",
    )
    parser.add_argument(
        "--from-recording",
        type=Path,
        metavar="FILE",
        help="fit delays and jitter to a recording of `heron up --record` and predict its return",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write gap.json there, and the curves of a sweep"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the sub-command; return its exit code.

    Raises:
        HeronError: What is wrong; `heron.cli.main` says it in one line.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    args = _parser().parse_args(list(argv))
    require_writable_folder("--out", args.out)
    if args.disturbed:
        return _disturbed(args)
    return _predict(args) if args.from_recording else _study(args)


def _setup(args: argparse.Namespace) -> Setup:
    from heron.powergrid.setups import as_setup, load_setup, read_setup
    from heron.powergrid.setups.loader import find_config

    if not args.observe_timing:
        return read_setup(args.setup).under(args.protocol)
    config = {**load_setup(args.setup), "observe_timing": True}
    return as_setup(config, path=find_config(args.setup)).under(args.protocol)


def _days(args: argparse.Namespace, setup: Setup) -> list[int]:
    """Return the days to run; of those that are listed, all, unless told otherwise."""
    from training.cli.evaluate import days_of

    usual = STRIDE if args.days in ("test", "train") else 1
    return days_of(args.days, setup, usual if args.every is None else args.every)


def _keep(folder: Path | None, facts: dict[str, Any]) -> None:
    """Write ``gap.json`` where a folder was named."""
    if folder is not None:
        write_text(folder / "gap.json", json.dumps(facts, indent=1) + "\n")


def _study(args: argparse.Namespace) -> int:
    from training.envs.timing import PRESETS, timing_of
    from training.evaluation.sources import policies_of
    from training.evaluation.span import episode_days
    from training.gap.report import headline, line, write_report
    from training.gap.sweep import GapStudy, study

    setup = _setup(args)
    days = _days(args, setup)
    presets = [timing_of(name, None).name for name in args.preset or PRESETS]
    policies, name = policies_of(args.policy, setup)
    result = None
    for row in study(
        setup,
        policies,
        days,
        pairs=not args.no_pairs,
        presets=presets,
        sweep=args.preset is None,
        seed=args.seed,
    ):
        if isinstance(row, GapStudy):
            result = row
        elif not args.json:
            print(line(row, episode_days(setup.config)), flush=True)
    assert result is not None
    if args.out is not None:
        write_report(result, name, args.out)
    if args.json:
        print(json.dumps({"policy": name, **asdict(result)}))
    else:
        print(headline(result, name))
    return 0


def _disturbed(args: argparse.Namespace) -> int:
    from training.envs import MultiAgentMicrogrids
    from training.evaluation.sources import policies_named, policies_of
    from training.evaluation.span import each, episode_days
    from training.gap.disturbed import disturbed

    setup = _setup(args)
    days = _days(args, setup)
    policies, name = policies_of(args.policy, setup)
    env = MultiAgentMicrogrids(setup)
    rows, of = [], each(episode_days(setup.config))
    for row in disturbed(env, policies, policies_named("none", env), days, seed=args.seed):
        rows.append(row)
        if not args.json:
            saved = row.idle_usd - row.objective_usd
            print(
                f"{row.name:<20}{row.objective_usd:9.1f} $ {of} {row.safety:8.4f} pu node h"
                f"  saves {saved:7.1f} $",
                flush=True,
            )
    facts = {"policy": name, "days": len(days), "rows": [asdict(r) for r in rows]}
    _keep(args.out, facts)
    if args.json:
        print(json.dumps(facts))
    return 0


def _predict(args: argparse.Namespace) -> int:
    from training.gap.calibration import predict

    prediction = predict(args.from_recording, _setup(args), args.policy, args.seed)
    _keep(args.out, asdict(prediction))
    print(json.dumps(asdict(prediction)) if args.json else prediction.text())
    return 0
