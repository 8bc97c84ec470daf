"""The numbers of a setup's baselines: what ``heron tune`` found, beside its ``config.yml``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.plans import fingerprint
from heron.powergrid.setups import Setup
from heron.powergrid.setups.loader import SETUPS_DIR

TUNED_FILE = "baselines.json"
"""File of a setup that holds the settings that ``heron tune`` found."""

_Settings = TypeVar("_Settings")


@dataclass(frozen=True, slots=True)
class Numbers:
    """Which numbers a baseline has on a setup.

    Attributes:
        settings: By name; those that are not there are the defaults.
        path: The file that they stand in; None: there are none, all are the defaults.
        fits: Whether they were tuned for the setup as it is now, with its keys and its data;
            None: the file does not say.
        days: Days that they were tuned on, in words.
        command: What found them.
    """

    settings: Mapping[str, float] = field(default_factory=dict)
    path: Path | None = None
    fits: bool | None = None
    days: str = ""
    command: str = ""

    @property
    def text(self) -> str:
        """Where they come from, for people."""
        if self.path is None:
            return "the defaults"
        known = {True: " for this setup", False: " for this setup with other keys or data"}
        words = "tuned" + (known[self.fits] if self.fits is not None else "")
        return ", ".join(part for part in (words, self.days, str(self.path)) if part)

    @property
    def facts(self) -> dict[str, Any]:
        """The same for programs, without the settings."""
        plain = asdict(self)
        del plain["settings"]
        path = None if self.path is None else str(self.path)
        return {"tuned": path is not None, **plain, "path": path, "text": self.text}


def setup_directory(setup: Setup) -> Path:
    """Return where a setup's own files lie; one made in code has those of its name."""
    return SETUPS_DIR / setup.config.name if setup.path is None else setup.path.parent


def read_tuned(path: Path) -> dict[str, Any]:
    """Return what a file of tuned numbers holds, by baseline; nothing where there is no file.

    Raises:
        ConfigError: It cannot be read, or holds something else.
    """
    try:
        kept = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not the settings of baselines: {error}") from error
    if not isinstance(kept, dict) or not all(isinstance(entry, dict) for entry in kept.values()):
        raise ConfigError(f"{path}: not the settings of baselines: a mapping by baseline expected")
    return kept


def write_tuned(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    """Keep what was found for a baseline; the others' entries stay.

    Raises:
        ConfigError: The file cannot be written, or holds something else.
    """
    text = json.dumps({**read_tuned(path), name: dict(entry)}, indent=1) + "\n"
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def numbers_of(setup: Setup, name: str) -> Numbers:
    """Return which numbers a baseline has on a setup.

    Raises:
        ConfigError: The setup's file is damaged.
    """
    path = setup_directory(setup) / TUNED_FILE
    entry = read_tuned(path).get(name)
    if entry is None:
        return Numbers()
    try:
        settings = {key: float(value) for key, value in entry.get("settings", {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: not the settings of baselines: {error}") from error
    if not all(isfinite(value) for value in settings.values()):
        raise ConfigError([ConfigProblem(name, settings, "finite numbers", str(path))])
    stated = entry.get("fingerprint")
    fits = None if stated is None else stated == fingerprint(setup)
    days, command = (str(entry.get(key, "")) for key in ("days", "command"))
    return Numbers(settings, path, fits, days, command)


def tuned(setup: Setup, name: str, kind: type[_Settings]) -> _Settings:
    """Return the settings that tuning found for a setup; the defaults where there are none.

    Raises:
        ConfigError: The file is damaged, or names settings that are not there.
    """
    numbers = numbers_of(setup, name)
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(numbers.settings) - known)
    if unknown:
        expected = f"settings among {', '.join(sorted(known))}"
        raise ConfigError([ConfigProblem(name, unknown, expected, str(numbers.path))])
    return kind(**numbers.settings)
