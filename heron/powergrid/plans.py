"""Plans of whole days, kept in a directory and carried out as a policy.

A book of plans holds the optima of a setup's test days. They are set-points, not figures, so what
they come to is found by running them: in the environment, in event-driven time, in the deployed
loop.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError, PolicyError
from heron.policy import PolicyCodec
from heron.powergrid.observed_time import DAY_S, ObservedTime
from heron.powergrid.setups import Setup

FloatArray = npt.NDArray[np.float64]

FOLDER = "optimum"
"""Folder of a setup that holds the optima of its test days."""
BOOK_FILE, PLANS_FILE = "optimum.json", "plans.csv.gz"
_DECISIVE = {
    "step_s",
    "max_episode_steps",
    "penalty",
    "engine",
    "v_limits_pu",
    "price_profile",
    "dso_config",
    "microgrid_configs",
}
"""Keys of a setup on which it depends what is optimal."""
_DIGITS = 5


def fingerprint(setup: Setup) -> str:
    """Return a hash of all that decides what is optimal: configuration and profiles."""
    config = setup.config.model_dump(mode="json", exclude_defaults=True, include=_DECISIVE)
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    digest.update(json.dumps(setup.profiles.names).encode())
    digest.update(np.ascontiguousarray(setup.profiles.values).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class DayPlan:
    """Set-points from the start of a day on.

    Attributes:
        day: Day of the data year on which it starts.
        p_mw: (T, n_devices) active power, positive = injects.
        q_mvar: (T, n_devices) reactive power.
        objective_usd: Cost and penalty that its search found in the plant.
        bound_usd: Lower bound while regulators hold their bands.
        free_bound_usd: Lower bound with regulators at any ratio.
    """

    day: int
    p_mw: FloatArray
    q_mvar: FloatArray
    objective_usd: float
    bound_usd: float
    free_bound_usd: float


@dataclass(frozen=True)
class PlanBook:
    """Plans of one setup, by the day on which they start.

    Attributes:
        fingerprint: Of the setup that they were made for.
        step_s: Length of a step.
        device_ids: Order of the columns.
        plans: By day.
    """

    fingerprint: str
    step_s: float
    device_ids: tuple[str, ...]
    plans: dict[int, DayPlan] = field(default_factory=dict)

    @classmethod
    def empty(cls, setup: Setup) -> Self:
        """Return a book without plans."""
        config = setup.config
        return cls(fingerprint(setup), config.step_s, config.device_ids)

    @classmethod
    def load(cls, directory: Path, setup: Setup) -> Self:
        """Read a book.

        Raises:
            ConfigError: It is not there, damaged, or of another setup.
        """
        try:
            facts: dict[str, Any] = json.loads((directory / BOOK_FILE).read_text("utf-8"))
            rows = gzip.decompress((directory / PLANS_FILE).read_bytes()).decode()
            table = np.array(list(csv.reader(io.StringIO(rows)))[1:], dtype=np.float64)
            book = cls(facts["fingerprint"], facts["step_s"], tuple(facts["devices"]))
            n = len(book.device_ids)
            for text, values in facts["days"].items():
                own = table[table[:, 0] == float(text)]
                book.plans[int(text)] = DayPlan(
                    int(text), own[:, 2 : 2 + n], own[:, 2 + n :], **values
                )
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, IndexError, EOFError) as error:
            raise ConfigError(f"{directory}: not a book of plans: {error}") from error
        if book.fingerprint != fingerprint(setup):
            raise ConfigError(f"{directory}: the plans were made for another setup or penalty")
        return book

    def save(self, directory: Path) -> None:
        """Write the book; an older one is replaced."""
        directory.mkdir(parents=True, exist_ok=True)
        names = ("objective_usd", "bound_usd", "free_bound_usd")
        facts = {
            "fingerprint": self.fingerprint,
            "step_s": self.step_s,
            "devices": list(self.device_ids),
            "days": {
                str(day): {name: round(getattr(plan, name), 3) for name in names}
                for day, plan in sorted(self.plans.items())
            },
        }
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        head = [f"{d}.{quantity}" for quantity in ("p_mw", "q_mvar") for d in self.device_ids]
        writer.writerow(["day", "step", *head])
        for day, plan in sorted(self.plans.items()):
            values = np.round(np.hstack([plan.p_mw, plan.q_mvar]), _DIGITS) + 0.0
            writer.writerows([day, k, *row] for k, row in enumerate(values.tolist()))
        packed = gzip.compress(buffer.getvalue().encode(), mtime=0)
        for name, data in ((PLANS_FILE, packed), (BOOK_FILE, json.dumps(facts, indent=1).encode())):
            part = directory / f"{name}.part"
            part.write_bytes(data)
            part.rename(directory / name)

    def missing(self, days: Iterable[int]) -> list[int]:
        """Return the days for which there is no plan."""
        return [int(day) for day in days if int(day) not in self.plans]

    def find(self, time_s: float, active: DayPlan | None = None) -> tuple[DayPlan, int]:
        """Return the plan at a time, and the step that is nearest to it.

        Args:
            time_s: Plant time.
            active: The plan that is being carried out, which goes on if it still holds.

        Raises:
            PolicyError: There is no plan for that time.
        """
        day = int(time_s // DAY_S)
        begun = sorted((d for d in self.plans if d <= day), reverse=True)
        candidates = [self.plans[d] for d in begun]
        for plan in candidates if active is None else [active, *candidates]:
            elapsed = (time_s - plan.day * DAY_S) / self.step_s
            if 0.0 <= elapsed < len(plan.p_mw):
                return plan, min(round(elapsed), len(plan.p_mw) - 1)
        raise PolicyError(f"no plan for day {day} of the data year")


class PlanPolicy:
    """One coordinator's part of the plans, as normalised actions.

    Args:
        codec: Of the coordinator.
        book: The plans.
        setup: Their setup, to tell the time by.
    """

    def __init__(self, codec: PolicyCodec, book: PlanBook, setup: Setup) -> None:
        self._codec = codec
        self._book = book
        self._time = ObservedTime(codec, setup)
        self._active: DayPlan | None = None
        self._before_s = float("inf")
        self._column: Mapping[str, int] = {d: k for k, d in enumerate(book.device_ids)}

    @property
    def codec(self) -> PolicyCodec:
        """Its observation and action."""
        return self._codec

    def act(self, obs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the plan's action at the observed time.

        Raises:
            PolicyError: There is no plan for that time.
        """
        time_s = self._time.read(obs)
        if not 0.0 <= time_s - self._before_s <= 2.0 * self._book.step_s:
            self._active = None
        plan, step = self._book.find(time_s, self._active)
        self._active, self._before_s = plan, time_s
        values = {"p_mw": plan.p_mw[step], "q_mvar": plan.q_mvar[step]}
        return np.array(
            [
                s.encode(float(values[s.quantity][self._column[s.agent]]))
                for s in self._codec.setpoints
            ],
            dtype=np.float32,
        )
