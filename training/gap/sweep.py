"""Sweeps the timing: each factor by itself, then two at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from heron.powergrid.setups import Setup
from training.envs.event_mode import ActingPolicy
from training.envs.timing import PRESETS, Timing
from training.evaluation.span import episode_days
from training.gap.runs import TimedFigures, gap, run_days_timed

FACTORS: Mapping[str, tuple[float, ...]] = {
    "act_delay_s": (1.5, 60.0, 300.0),
    "msg_delay_s": (0.5, 60.0, 300.0),
    "obs_delay_s": (2.0, 60.0, 300.0),
    "jitter_ratio": (0.1, 0.2, 0.4),
    "tick_ratio": (0.5, 2.0, 4.0),
}
"""What is swept, and its values; the first delays are those of SCADA, the others far worse."""

BASE = Timing("base", device_tick_s=300.0)
"""What the sweep starts from: nothing late, devices report every five minutes."""

_JITTER_NEEDS = {"obs_delay_s": 2.0, "act_delay_s": 1.5, "msg_delay_s": 0.5}


@dataclass(frozen=True, slots=True)
class GapRow:
    """One timing and what it cost.

    Attributes:
        label: The timing in words.
        factors: What was changed from the base, by factor; empty for presets.
        mean_return: $ an episode.
        gap: Share of the synchronous return that is lost.
        cost_gap_usd: Part of the loss that is cost, $ an episode.
        safety_gap_usd: Part that is violation, priced, $ an episode.
        events_per_episode: Events in the simulation.
    """

    label: str
    factors: Mapping[str, float]
    mean_return: float
    gap: float
    cost_gap_usd: float
    safety_gap_usd: float
    events_per_episode: float


@dataclass(frozen=True, slots=True)
class GapStudy:
    """A sweep's result.

    Attributes:
        days: Days of the data year on which the episodes start.
        synchronous_return: $ an episode in the synchronous step.
        rows: One per timing.
        episode_days: Length of an episode.
    """

    days: tuple[int, ...]
    synchronous_return: float
    rows: tuple[GapRow, ...]
    episode_days: float = 1.0


def timings(pairs: bool, presets: Sequence[str]) -> Iterator[tuple[str, dict[str, float], Timing]]:
    """Yield label, changed factors and timing of every run."""
    for name in presets:
        yield name, {}, PRESETS[name]
    for factor, values in FACTORS.items():
        for value in values:
            yield f"{factor}={value:g}", {factor: value}, changed({factor: value})
    if not pairs:
        return
    for one, two in combinations(FACTORS, 2):
        both = {one: FACTORS[one][-1], two: FACTORS[two][-1]}
        yield " ".join(f"{k}={v:g}" for k, v in both.items()), both, changed(both)


def changed(factors: Mapping[str, float]) -> Timing:
    """Return the base with factors changed; jitter alone scatters the delays of SCADA."""
    delays = _JITTER_NEEDS if set(factors) == {"jitter_ratio"} else {}
    values: dict[str, Any] = {**delays, **factors}
    return replace(BASE, **values)


def study(
    setup: Setup,
    policies: Mapping[str, ActingPolicy],
    days: Sequence[int],
    *,
    pairs: bool = True,
    presets: Sequence[str] = tuple(PRESETS),
    sweep: bool = True,
    seed: int = 0,
) -> Iterator[GapRow | GapStudy]:
    """Run the sweep; yield each row as it is there, and last the whole.

    Raises:
        ConfigError: No days were given.
    """
    reference = run_days_timed(setup, policies, days, None, seed)
    rows: list[GapRow] = []
    for label, factors, timing in timings(pairs, presets):
        if not sweep and label not in presets:
            continue
        timed = run_days_timed(setup, policies, days, timing, seed)
        rows.append(_row(label, factors, reference, timed))
        yield rows[-1]
    length = episode_days(setup.config)
    yield GapStudy(tuple(days), reference.mean_return, tuple(rows), length)


def _row(
    label: str, factors: Mapping[str, float], reference: TimedFigures, timed: TimedFigures
) -> GapRow:
    n = len(reference.cost_usd)
    return GapRow(
        label,
        factors,
        timed.mean_return,
        gap(reference.mean_return, timed.mean_return),
        (sum(timed.cost_usd) - sum(reference.cost_usd)) / n,
        reference.penalty * (sum(timed.safety) - sum(reference.safety)) / n,
        timed.events / n,
    )
