"""``heron evaluate``: compare policies on days that they were not trained on."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heron.errors import ConfigError, ConfigProblem
from heron.files import require_writable_file, write_text
from training.options import FORECASTS

ALWAYS = ("none", "rule", "voltvar", "droop")
"""What every policy is compared with, asked for or not."""
WITH_SOLVERS = ("qp",)
"""The same, where the extra ``optimization`` is installed."""

COLUMNS = (
    ("objective_usd", "$/{}+pen", 10, 1),
    ("cost_usd", "$/{}", 8, 1),
    ("safety", "pu node h", 10, 4),
    ("days_with_violation", "viol {}s", 10, 2),
    ("violation_node_hours", "node h", 8, 2),
    ("losses_mwh", "loss MWh", 9, 2),
    ("curtailed_mwh", "curt MWh", 9, 2),
    ("cycles", "cycles", 7, 2),
    ("tap_moves", "taps", 6, 0),
    ("v_min_pu", "v min", 7, 4),
    ("v_max_pu", "v max", 7, 4),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heron evaluate",
        description="Compare policies, doing nothing and rules on held-out days.",
    )
    parser.add_argument(
        "policy",
        nargs="*",
        help="a directory with one AGENT.onnx per microgrid, or a baseline: qp, qp-network, mpc, "
        "mpc-network, mpc-perfect; 'shield:' before a policy puts it behind its microgrid's "
        "voltage shield, 'shield-network:' all behind the network's; "
        "'optimum' plans the days whose optimum is not known (some 20 s a day). Without any: the "
        "policies that ship with the setup",
    )
    parser.add_argument("--setup", default="ieee34_ieee13", help="name or path of the setup")
    parser.add_argument("--days", default="test", help="'test', 'train', or numbers: 14,15,20-25")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th day only")
    parser.add_argument("--plans", type=Path, help="keep the optima here, and take them from here")
    parser.add_argument("--only", action="store_true", help="no baselines but none")
    parser.add_argument("--engine", help="power-flow engine")
    parser.add_argument(
        "--protocol",
        help="how the agents coordinate, in place of what the setup says; under another than "
        "setpoint, 'none' and 'rule' offer at their own cost, and only trained policies compare "
        "with them",
    )
    parser.add_argument(
        "--forecast",
        choices=tuple(FORECASTS),
        help="prices that agents know, in place of what the setup says",
    )
    parser.add_argument(
        "--late",
        type=int,
        default=0,
        metavar="N",
        help="all that the policies see is N control steps old",
    )
    parser.add_argument(
        "--observe-timing",
        action="store_true",
        help="agents see how old their readings are and what they said last, as in training",
    )
    parser.add_argument("--penalty", type=float, help="$ per pu node hour of violation")
    parser.add_argument("--report", type=Path, help="also write an HTML report here")
    parser.add_argument("--out", type=Path, help="also write the JSON, day by day, here")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the sub-command; return its exit code.

    Raises:
        HeronError: What is wrong; `heron.cli.main` says it in one line.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    args = _parser().parse_args(list(argv))
    require_writable_file("--report", args.report)
    require_writable_file("--out", args.out)
    result, per_day = _evaluate(args)
    if args.out is not None:
        write_text(args.out, json.dumps({**result, "per_day": per_day}, indent=1))
    print(json.dumps(result) if args.json else _table(result))
    return 0


def _evaluate(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    from dataclasses import asdict

    from heron.powergrid.shipped import shipped_policies
    from training.envs import make_env
    from training.evaluation.comparison import Comparison
    from training.evaluation.episodes import run_day, run_days
    from training.evaluation.references import (
        OPTIMUM,
        known_optima,
        measure,
        plan_day,
        plan_policies,
    )
    from training.evaluation.report import DayTrace, render
    from training.evaluation.sources import label, numbers_used, policies_named
    from training.evaluation.span import episode_days

    if args.late < 0:
        raise ConfigError([ConfigProblem("--late", args.late, "0 control steps or more")])
    overrides = {
        "engine": args.engine,
        "penalty": args.penalty,
        "protocol": args.protocol,
        "forecast": FORECASTS[args.forecast] if args.forecast else None,
        "observe_timing": args.observe_timing or None,
    }
    env = make_env(args.setup, {k: v for k, v in overrides.items() if v is not None})
    days = days_of(args.days, env.setup, args.every)
    folder = None if args.policy else shipped_policies(env.setup)
    wanted = args.policy if folder is None else [str(folder)]
    commands = env.scheme.commands_devices
    always = ("none",) if args.only or not commands else (*ALWAYS, *_with_solvers())
    names = list(dict.fromkeys([*always, *wanted]))
    book = known_optima(env.setup, args.plans)
    if OPTIMUM in names:
        missing = book.missing(days)
        for k, day in enumerate(missing):
            print(f"planning day {day} ({k + 1} of {len(missing)})", file=sys.stderr, flush=True)
            book.plans[day] = plan_day(env, day)
            if args.plans is not None:
                book.save(args.plans)
    chosen = {name: policies_named(name, env) for name in names if name != OPTIMUM}
    figures = {
        name: run_days(env, policies, days, late=args.late) for name, policies in chosen.items()
    }
    yardstick = measure(env, book, figures, days if commands else [])
    if len(yardstick.figures) == len(days):
        chosen[OPTIMUM] = plan_policies(env, book)
        figures[OPTIMUM] = list(yardstick.figures)
    comparison = Comparison(tuple(days), figures)
    summary = comparison.summary()
    for name, score in yardstick.scores.items():
        if name in summary:
            summary[name]["score"] = score.value
            summary[name]["score_low"], summary[name]["score_high"] = score.low, score.high
    config = env.setup.config
    numbers = numbers_used(figures, env.setup)
    result = {
        "setup": config.name,
        "engine": config.engine,
        "penalty": config.penalty,
        "days": len(days),
        "episode_days": episode_days(config),
        "split": args.days,
        "forecast": config.forecast,
        "late": args.late,
        "optimum": dict(yardstick.facts),
        "numbers": {name: found.facts for name, found in numbers.items()},
        "policies": summary,
    }
    if args.report is not None:
        traces = {}
        for name in figures:
            policies = chosen[name]
            traces[name] = DayTrace()
            late = 0 if name == OPTIMUM else args.late
            run_day(env, policies, days[0], traces[name].add, late=late)
        labels = {name: label(name) for name in figures}
        write_text(args.report, render(result, comparison, labels, traces))
    return result, {name: [asdict(day) for day in rows] for name, rows in figures.items()}


def _with_solvers() -> tuple[str, ...]:
    """Return the baselines that can run here beside those that need nothing."""
    from importlib.util import find_spec

    return WITH_SOLVERS if find_spec("osqp") and find_spec("cvxpy") else ()


def days_of(text: str, setup: Any, every: int = 1) -> list[int]:
    """Return the days that a command line names: those on which episodes of a setup start.

    Args:
        text: ``test``, ``train``, or numbers.
        setup: Which setup.
        every: Take every so many-th of them only.

    Raises:
        ConfigError: It names none, or days beyond the data.
    """
    from training.envs.days import first_days

    if every < 1:
        raise ConfigError([ConfigProblem("--every", every, "expected 1 or more")])
    profiles = setup.profiles
    if text in ("test", "train"):
        split = profiles.test_days if text == "test" else profiles.train_days
        return [int(d) for d in first_days(split, setup.config)][::every]
    days: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition("-")
            days += range(int(first), int(last or first) + 1)
    except ValueError:
        days = []
    if not days or min(days) < 0 or max(days) >= profiles.n_days:
        expected = f"'test', 'train', or days from 0 to {profiles.n_days - 1}: 14,15,20-25"
        raise ConfigError([ConfigProblem("--days", text, expected)])
    return days[::every]


def _seen(forecast: bool | str, late: int) -> str:
    """Say what policies know of prices, and how late they see, where that is not as usual."""
    words = [] if forecast is True else [f"prices ahead: {forecast or 'none'}"]
    if late:
        words.append(f"all seen {late} control step{'s' if late > 1 else ''} late")
    return "".join(f", {word}" for word in words)


def _table(result: dict[str, Any]) -> str:
    from training.evaluation.sources import label
    from training.evaluation.span import each, episodes, is_a_day, span

    length = result["episode_days"]
    short = "day" if is_a_day(length) else "ep"
    width = max(len(label(name)) for name in result["policies"])
    lines = [
        f"{result['setup']}, {result['days']} {episodes(length)} ({result['split']}), engine "
        f"{result['engine']}, penalty {result['penalty']:g} $ per pu node hour"
        + _seen(result["forecast"], result["late"]),
        " " * width + "".join(f"{title.format(short):>{w}}" for _, title, w, _ in COLUMNS),
    ]
    for name, m in result["policies"].items():
        cells = "".join(f"{m[key]:{w}.{digits}f}" for key, _, w, digits in COLUMNS)
        lines.append(f"{label(name):<{width}}{cells}")
    lines.append(
        f"saved {each(length)} against doing nothing, with its 95 % interval over {span(length)}s:"
    )
    for name, m in result["policies"].items():
        low, high = m["gain_low_usd"], m["gain_high_usd"]
        if name == "none":
            continue
        share = m["better_than"].get("rule")
        rule = "" if share is None else f", better than the rule on {share:.0%} of {span(length)}s"
        score = ""
        if "score" in m:
            score = f", score {m['score']:.3f} ({m['score_low']:.3f} to {m['score_high']:.3f})"
        gain = f"{m['gain_usd']:8.1f} $ ({low:.1f} to {high:.1f})"
        lines.append(f"{label(name):<{width}}{gain}{rule}{score}")
    for name, numbers in result["numbers"].items():
        hint = "" if numbers["tuned"] else f"; `heron tune {name}` finds others"
        lines.append(f"numbers of {name}: {numbers['text']}{hint}")
    best = result["optimum"]
    if not best["days"]:
        lines.append("the optimum of these days is not known: name 'optimum' to plan them")
    else:
        some = best["days"] < result["days"]
        of = f"scores of the {best['days']} days whose optimum is known: " if some else ""
        lines.append(
            f"{of}optimum {best['objective_usd']:.1f} $, lower bound {best['bound_usd']:.1f} $ "
            f"(gap {best['gap']:.1%}; {best['free_bound_usd']:.1f} $ with regulators at any ratio)"
        )
    return "\n".join(lines)
