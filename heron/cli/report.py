"""The report of a run: plain data, documented in ``docs/up.md``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from heron.messaging.tally import MarketTotal, Tally

SCHEMA = 1
"""Grows when a key changes its meaning or goes away."""


def build_report(
    tally: Tally,
    *,
    run: Mapping[str, Any],
    edges: Mapping[str, Any],
    memory_mb: Mapping[str, Mapping[str, float | None]],
    bus: Mapping[str, int],
) -> dict[str, Any]:
    """Return the report.

    Args:
        tally: What was counted from the bus.
        run: What was run, and how it ended.
        edges: The last report of each edge process: its own and its links' counters.
        memory_mb: Per process: ``first``, ``last`` and ``peak`` resident memory.
        bus: Counters of the observer's own bus.
    """
    return {
        "schema": SCHEMA,
        **run,
        "steps": tally.steps,
        "closed_loop_steps": tally.acted,
        "plant_time_s": {
            "first": tally.first_time_s,
            "last": None if tally.clock is None else tally.clock.time_s,
        },
        "policies": dict(tally.policies),
        "total": _finite(asdict(tally.total)),
        "agents": {name: _finite(asdict(part)) for name, part in tally.agents.items()},
        "cycle_ms": {
            "step": tally.step_ms.summary(),
            "coordinator": tally.decide_ms.summary(),
            "edge": tally.edge_ms.summary(),
        },
        "overruns": sum(int(e.get("overruns", 0)) for e in edges.values()),
        "commands": asdict(tally.commands),
        "clipped": {
            "envelope": _by_agent(tally.clipped_edge),
            "plant": _by_agent(tally.clipped_plant),
        },
        "modbus": {
            key: sum(int(e.get("modbus", {}).get(key, 0)) for e in edges.values())
            for key in ("reads", "writes", "errors")
        },
        "edges": dict(edges),
        "mqtt": {"messages": sum(tally.messages.values()), "topics": dict(tally.messages), **bus},
        "market": _market(tally.market),
        "alarms": [alarm.model_dump() for alarm in tally.alarms],
        "memory_mb": {name: dict(values) for name, values in memory_mb.items()},
        "memory_total_mb": {
            key: _sum(values.get(key) for values in memory_mb.values())
            for key in ("first", "last", "peak")
        },
    }


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write the report in one piece: a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """Round floats, and turn those that were never set into None: JSON has no infinity."""
    return {k: _number(v) for k, v in values.items()}


def _number(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _by_agent(counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Turn ``"ess1: ramp" -> n`` into ``{"ess1": {"ramp": n}}``."""
    nested: dict[str, dict[str, int]] = {}
    for key, count in sorted(counts.items()):
        agent, _, reason = key.partition(": ")
        nested.setdefault(agent, {})[reason or "clipped"] = count
    return nested


def _sum(values: Any) -> float | None:
    known = [v for v in values if v is not None]
    return round(sum(known), 1) if known else None


def _market(market: MarketTotal) -> dict[str, Any] | None:
    """Return what the operator's protocol did; None where there is none."""
    if not market.rounds:
        return None
    # not asdict(): in Python 3.11 it makes a Counter's keys into pairs, which are no JSON
    values = {f.name: getattr(market, f.name) for f in fields(market)}
    return {
        **values,
        "energy_mwh": round(market.energy_mwh, 6),
        "missing": dict(market.missing),
    }
