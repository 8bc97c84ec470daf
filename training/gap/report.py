"""Writes a timing study as a table, as JSON and as curves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heron.errors import ConfigError
from training.evaluation.span import each, episodes, span
from training.gap.sweep import FACTORS, GapRow, GapStudy


def line(row: GapRow, days: float) -> str:
    """Return one row of the table; an episode has so many days."""
    of = span(days)
    return (
        f"{row.label:<36}{row.mean_return:>12.2f} $/{of}   gap {100 * row.gap:>7.2f} %   "
        f"cost {row.cost_gap_usd:>+8.2f}   safety {row.safety_gap_usd:>+8.2f}   "
        f"{row.events_per_episode:>8.0f} events/{of}"
    )


def headline(study: GapStudy, policy: str) -> str:
    """Return what the study says in two lines."""
    worst = max(study.rows, key=lambda row: row.gap)
    return (
        f"{policy}: {study.synchronous_return:.2f} $/{span(study.episode_days)} in the synchronous "
        f"step, {len(study.days)} {episodes(study.episode_days)}\n"
        f"the most costly timing: {worst.label}, gap {100 * worst.gap:.2f} %"
    )


def write_report(study: GapStudy, policy: str, folder: Path) -> None:
    """Write ``gap.json``, ``gap.md`` and, with matplotlib, ``curves.png``.

    Raises:
        ConfigError: matplotlib is not installed; the table and the JSON are written all the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"policy": policy, **asdict(study)}, indent=1)
    (folder / "gap.json").write_text(text + "\n")
    of = each(study.episode_days)
    head = f"| timing | $ {of} | gap % | cost $ | safety $ |\n|---|---|---|---|---|\n"
    rows = "".join(
        f"| {r.label} | {r.mean_return:.2f} | {100 * r.gap:.2f} | {r.cost_gap_usd:+.2f} "
        f"| {r.safety_gap_usd:+.2f} |\n"
        for r in study.rows
    )
    (folder / "gap.md").write_text(f"{headline(study, policy)}\n\n{head}{rows}")
    _plot(study, folder / "curves.png")


def _plot(study: GapStudy, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("curves need the package 'matplotlib'") from error
    figure = Figure(figsize=(3.2 * len(FACTORS), 3.2), layout="constrained")
    axes: Any = figure.subplots(1, len(FACTORS), sharey=True)
    for axis, factor in zip(axes, FACTORS, strict=True):
        points = sorted(
            (next(iter(r.factors.values())), 100 * r.gap)
            for r in study.rows
            if set(r.factors) == {factor}
        )
        axis.plot(*zip(*points, strict=True), marker="o") if points else None
        axis.axhline(0.0, color="grey", linewidth=0.5)
        axis.set_xlabel(factor)
    axes[0].set_ylabel("gap, % of the synchronous return")
    figure.savefig(path, dpi=120)
