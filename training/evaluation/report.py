"""The evaluation as one HTML file: table, score profile, a day's dispatch and voltages.

Plots are SVG that is written here; the file needs nothing else and no network.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heron.powergrid.quantities import Measurements
from training.evaluation.comparison import NOTHING, Comparison
from training.evaluation.span import each, episodes, span

WIDTH, HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 150, 24, 30
_COLOURS = ("#1b6ca8", "#c7522a", "#4c956c", "#8a5a9e", "#b08900", "#555555", "#d1495b", "#00798c")

TABLE = (
    ("objective_usd", "cost and penalty, $ {each}", 1),
    ("cost_usd", "cost, $ {each}", 1),
    ("gain_usd", "saved against doing nothing, $ {each}", 1),
    ("gain_iqm_usd", "the same, interquartile mean", 1),
    ("safety", "violation and overload, pu node h {each}", 4),
    ("days_with_violation", "share of {span}s with a violation", 2),
    ("violation_node_hours", "nodes out of band, node h {each}", 2),
    ("losses_mwh", "losses, MWh {each}", 2),
    ("curtailed_mwh", "curtailed, MWh {each}", 2),
    ("generated_mwh", "generated, MWh {each}", 2),
    ("import_mwh", "imported, MWh {each}", 2),
    ("cycles", "storage cycles {each}", 2),
    ("tap_moves", "tap moves {each}", 0),
    ("v_min_pu", "lowest voltage, pu", 4),
    ("v_max_pu", "highest voltage, pu", 4),
)


@dataclass
class DayTrace:
    """What one policy did on one day, step by step."""

    hours: list[float] = field(default_factory=list)
    price: list[float] = field(default_factory=list)
    head_mw: list[float] = field(default_factory=list)
    v_min: list[float] = field(default_factory=list)
    v_max: list[float] = field(default_factory=list)
    p_mw: dict[str, list[float]] = field(default_factory=dict)
    soc: dict[str, list[float]] = field(default_factory=dict)

    def add(self, m: Measurements) -> None:
        """Take in one step."""
        self.hours.append((m.time_s - m.dt_s) % 86_400.0 / 3600.0)
        self.price.append(m.price_usd_per_mwh)
        self.head_mw.append(m.meters["head"].p_mw)
        self.v_min.append(min(a.v_min_pu for a in m.areas.values()))
        self.v_max.append(max(a.v_max_pu for a in m.areas.values()))
        for device, reading in m.devices.items():
            self.p_mw.setdefault(device, []).append(reading.p_mw)
            if reading.soc is not None:
                self.soc.setdefault(device, []).append(reading.soc)


def render(
    facts: Mapping[str, Any],
    comparison: Comparison,
    labels: Mapping[str, str],
    traces: Mapping[str, DayTrace],
) -> str:
    """Return the report as HTML.

    Args:
        facts: What was evaluated on: setup, engine, penalty, days, episode_days, split.
        comparison: What was done on which days.
        labels: How to call each policy.
        traces: One day's course, per policy.
    """
    days = facts["episode_days"]
    title = f"Evaluation on {facts['setup']}"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{facts['days']} {episodes(days)} ({html.escape(str(facts['split']))}), engine "
        f"{facts['engine']}, penalty {facts['penalty']:g} $ per pu node hour. Score profile: "
        f"the share of {span(days)}s on which a policy saves more than the amount on the axis.</p>",
        _table(comparison.summary(), labels, days),
        _profile(comparison, labels, days),
    ]
    for name, trace in traces.items():
        parts += [f"<h2>{html.escape(labels[name])}, day {comparison.days[0]}</h2>", *_day(trace)]
    style = (
        "body{font:14px sans-serif;max-width:900px;margin:2em auto;color:#222}"
        "td,th{padding:2px 10px;text-align:right}td:first-child{text-align:left}"
        "tr:nth-child(even){background:#f3f3f3}svg{display:block;margin:6px 0}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style><body>{''.join(parts)}</body></html>\n"
    )


def line_plot(
    title: str, x: Sequence[float], series: Mapping[str, Sequence[float]], unit: str = ""
) -> str:
    """Return an SVG of lines over ``x``; the x values rise."""
    values = np.array([v for line in series.values() for v in line], dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    pad = 0.05 * (high - low) or 0.5
    low, high = low - pad, high + pad
    span = max(x[-1] - x[0], 1e-12)

    def place(px: float, py: float) -> str:
        across = _LEFT + (px - x[0]) / span * (WIDTH - _LEFT - _RIGHT)
        down = HEIGHT - _BOTTOM - (py - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)
        return f"{across:.1f},{down:.1f}"

    out = [
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" font-size="11">'
        f'<text x="{_LEFT}" y="14" font-size="13">{html.escape(title)}</text>'
    ]
    for share in (0.0, 0.5, 1.0):
        level = low + share * (high - low)
        start = place(x[0], level)
        down = start.split(",")[1]
        out.append(
            f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{down}" y2="{down}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{down}" text-anchor="end">{level:.4g}</text>'
        )
        at = x[0] + share * span
        across = place(at, low).split(",")[0]
        y_text = HEIGHT - _BOTTOM + 16
        out.append(f'<text x="{across}" y="{y_text}" text-anchor="middle">{at:.4g} {unit}</text>')
    for i, (name, line) in enumerate(series.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        points = " ".join(place(px, py) for px, py in zip(x, line, strict=True))
        out.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            f'<text x="{WIDTH - _RIGHT + 8}" y="{_TOP + 14 * i + 8}" fill="{colour}">'
            f"{html.escape(name)}</text>"
        )
    return "".join([*out, "</svg>"])


def _table(summary: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str], days: float) -> str:
    words = {"each": each(days), "span": span(days)}
    head = "".join(f"<th>{html.escape(labels[name])}</th>" for name in summary)
    rows = [
        f"<tr><td>{title.format(**words)}</td>"
        + "".join(f"<td>{m[key]:.{digits}f}</td>" for m in summary.values())
        + "</tr>"
        for key, title, digits in TABLE
    ]
    sure = "".join(
        f"<td>{m['gain_low_usd']:.1f} to {m['gain_high_usd']:.1f}</td>" for m in summary.values()
    )
    rows.append(f"<tr><td>95 % interval of what is saved, over {span(days)}s</td>{sure}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _profile(comparison: Comparison, labels: Mapping[str, str], days: float) -> str:
    """Return the share of episodes on which each policy saves more than an amount."""
    objective = {
        name: np.array([d.objective_usd for d in rows]) for name, rows in comparison.figures.items()
    }
    gains = {n: objective[NOTHING] - o for n, o in objective.items() if n != NOTHING}
    if not gains:
        return ""
    everything = np.concatenate(list(gains.values()))
    low, high = np.quantile(everything, [0.02, 0.98]).tolist()
    amounts = np.linspace(low, high + 1e-9, 80)
    series = {labels[n]: [(g > a).mean() for a in amounts] for n, g in gains.items()}
    return line_plot(
        f"share of {span(days)}s on which more is saved than", amounts.tolist(), series, "$"
    )


def _day(trace: DayTrace) -> list[str]:
    voltages = {"lowest": trace.v_min, "highest": trace.v_max}
    plots = [
        line_plot("price, $/MWh", trace.hours, {"price": trace.price}, "h"),
        line_plot(
            "active power, MW (positive = injects)",
            trace.hours,
            {"head": trace.head_mw, **trace.p_mw},
            "h",
        ),
        line_plot("node voltages, pu", trace.hours, voltages, "h"),
    ]
    if trace.soc:
        plots.append(line_plot("state of charge", trace.hours, trace.soc, "h"))
    return plots
