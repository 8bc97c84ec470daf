"""Find, read and check setups.

A setup is a directory with a ``config.yml`` and a data set; the ones that ship lie beside
this file. Every function takes a shipped setup's name, or the path of such a directory or of
its ``config.yml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.networks import compose
from heron.powergrid.setups.checks import (
    names_in,
    profile_problems,
    safe_setpoint_problems,
)
from heron.powergrid.setups.coordination import SETPOINT, beside, require_named
from heron.powergrid.setups.dataset import load_dataset, profiles_from
from heron.powergrid.setups.files import read_yaml
from heron.powergrid.setups.models import SetupConfig, name_problems
from heron.powergrid.setups.own_modules import file_beside, import_problems
from heron.powergrid.setups.problems import problems_of
from heron.powergrid.setups.profiles import Profiles

SETUPS_DIR = Path(__file__).parent
DEFAULT_DATASET = SETUPS_DIR / "ieee34_ieee13" / "data.csv.gz"
"""What a setup without ``dataset_path`` uses."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A checked setup.

    Attributes:
        config: What its ``config.yml`` says.
        profiles: Its data set.
        path: The ``config.yml``; None when it was made in code.
    """

    config: SetupConfig
    profiles: Profiles
    path: Path | None = None

    def under(self, protocol: str | None) -> Self:
        """Return this setup under a protocol in place of its own; as it is, where none is named.

        Args:
            protocol: As the setup's key, but a file is found from the working directory.
        """
        if protocol is None:
            return self
        return replace(self, config=self.config.model_copy(update={"protocol": protocol}))


def get_available_setups() -> list[str]:
    """Return the names of the setups that ship."""
    return sorted(path.parent.name for path in SETUPS_DIR.glob("*/config.yml"))


def read_setup(name_or_path: str | Path) -> Setup:
    """Read and check a setup.

    Raises:
        ConfigError: With every mistake found.
    """
    path = find_config(name_or_path)
    return as_setup(read_yaml(path), path=path)


def load_setup(name_or_path: str | Path) -> dict[str, Any]:
    """Return a checked setup as the plain dictionary that its ``config.yml`` is.

    Keys stand as they were written; ``name`` and ``dataset`` (the `Profiles`) are added and
    ``dataset_path`` is absolute. Change it with ``update`` and hand it to an environment, or
    to `as_setup`, which check it again.

    Raises:
        ConfigError: With every mistake found.
    """
    path = find_config(name_or_path)
    raw = read_yaml(path)
    setup = as_setup(raw, path=path)
    plain = {**raw, "name": setup.config.name, "dataset": setup.profiles}
    if setup.config.dataset_path is not None:
        plain["dataset_path"] = setup.config.dataset_path
    if "protocol" in raw:
        plain["protocol"] = setup.config.protocol
    if "imports" in raw:
        plain["imports"] = list(setup.config.imports)
    return plain


def stated_protocol(name_or_path: str | Path) -> str:
    """Return how the site of a setup coordinates, without reading its data.

    Raises:
        ConfigError: There is no such setup, or it names no protocol.
    """
    path = find_config(name_or_path)
    stated = read_yaml(path).get("protocol", SETPOINT)
    try:
        return beside(path.parent, require_named(str(stated)))
    except ValueError as error:
        raise ConfigError([ConfigProblem("protocol", stated, str(error), str(path))]) from error


def as_setup(
    source: Mapping[str, Any] | Setup | SetupConfig | str | Path, *, path: Path | None = None
) -> Setup:
    """Turn anything that describes a setup into a checked one.

    Args:
        source: A setup, its name or path, or its plain dictionary. A dictionary may hold its
            data set under ``dataset``: `Profiles`, or a mapping of columns.
        path: The ``config.yml`` that the dictionary came from: relative paths start there.

    Raises:
        ConfigError: With every mistake found.
    """
    if isinstance(source, Setup):
        return source
    if isinstance(source, str | Path):
        return read_setup(source)
    if not isinstance(source, SetupConfig | Mapping):
        expected = "a setup, its name, its path or its plain dictionary"
        raise ConfigError([ConfigProblem("setup", source, expected)])
    raw = source.model_dump() if isinstance(source, SetupConfig) else dict(source)
    where = "" if path is None else str(path)
    problems: list[ConfigProblem] = []
    dataset = raw.pop("dataset", None)
    config = _check_config(raw, path, problems)
    if config is not None:
        problems += safe_setpoint_problems(config, where)
    profiles: Profiles | None = None
    try:
        profiles = _dataset_of(raw, dataset)
    except ConfigError as error:
        problems += error.problems
    if config is not None and profiles is not None:
        problems += profile_problems(config, profiles, where)
        if not problems:
            return Setup(config, profiles, path)
    raise ConfigError(problems)


def check_setup(name_or_path: str | Path) -> list[ConfigProblem]:
    """Return everything that is wrong with a setup: its file, its data and its network."""
    problems: list[ConfigProblem] = []
    try:
        path = find_config(name_or_path)
        raw = read_yaml(path)
    except ConfigError as error:
        return list(error.problems)
    try:
        as_setup(raw, path=path)
    except ConfigError as error:
        problems += error.problems
    config = _check_config(dict(raw), path, [])
    if config is not None:
        try:
            compose(config)
        except ConfigError as error:
            problems += [
                ConfigProblem(p.where, p.value, p.expected, p.source or str(path))
                for p in error.problems
            ]
    return problems


def find_config(name_or_path: str | Path) -> Path:
    """Return the ``config.yml`` of a setup.

    Raises:
        ConfigError: There is none.
    """
    given = Path(name_or_path)
    candidates = [given, given / "config.yml"]
    # "./name" is a path, though `Path` forgets that it was written so.
    if given.parts == (str(name_or_path),):
        candidates.insert(0, SETUPS_DIR / given / "config.yml")
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    expected = f"expected one of {', '.join(get_available_setups())}, or a path to a config.yml"
    raise ConfigError([ConfigProblem("setup", str(name_or_path), expected)])


def _check_config(
    raw: dict[str, Any], path: Path | None, problems: list[ConfigProblem]
) -> SetupConfig | None:
    where = "" if path is None else str(path)
    if path is not None:
        raw.setdefault("name", path.parent.name)
        if isinstance(raw.get("dataset_path"), str):
            raw["dataset_path"] = str((path.parent / raw["dataset_path"]).resolve())
        if isinstance(raw.get("protocol"), str):
            raw["protocol"] = beside(path.parent, raw["protocol"])
    missing = _import_modules(raw, path, where)
    problems += missing
    try:
        config = SetupConfig.model_validate(raw)
        return None if missing else config
    except ValidationError as error:
        found = problems_of(error, where)
        if missing:  # then it is no wonder that a type is unknown
            found = [p for p in found if not p.where.endswith(".type")]
        seen = {problem.where for problem in found}
        # A model's own cross checks run only once all its fields are right.
        found += [p for p in name_problems(names_in(raw), where) if p.where not in seen]
        problems += found
        return None


def _import_modules(raw: dict[str, Any], path: Path | None, where: str) -> list[ConfigProblem]:
    """Import what a setup names, so that its device types are known; files by their full path."""
    stated = raw.get("imports")
    if not isinstance(stated, list | tuple) or not all(isinstance(m, str) for m in stated):
        return []  # the model says what is wrong with it
    if path is not None:
        stated = raw["imports"] = [file_beside(path.parent, module) for module in stated]
    return import_problems(stated, where)


def _dataset_of(raw: Mapping[str, Any], dataset: object) -> Profiles:
    if isinstance(dataset, Profiles):
        return dataset
    if dataset is None:
        stated = raw.get("dataset_path")
        return load_dataset(stated if isinstance(stated, str) else DEFAULT_DATASET)
    flat = isinstance(dataset, Mapping) and all(
        isinstance(column, np.ndarray | Sequence) for column in dataset.values()
    )
    if not isinstance(dataset, Mapping) or not flat:
        expected = "Profiles, or a mapping of column name to one value a row"
        raise ConfigError([ConfigProblem("dataset", type(dataset).__name__, expected)])
    return profiles_from(dataset, "dataset")
