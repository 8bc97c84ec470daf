"""Data sets: a CSV file, plain or gzipped, one row a profile step.

The first line names the columns. ``time_s`` (seconds since the start of the year, equally
spaced) is optional; without it rows are 15 minutes apart. Every other column is a profile:
finite, and not negative unless its name contains ``price``.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.setups.profiles import DAY_S, FloatArray, IntArray, Profiles

DEFAULT_STEP_S = 900.0
YEAR_DAYS = (365, 366)
SHOWN_PROBLEMS_PER_COLUMN = 3


def load_dataset(path: str | Path) -> Profiles:
    """Read a data set.

    Raises:
        ConfigError: The file is not there, is no such file, or holds gaps, text, negative
            shares or another length than a year: everything at once.
    """
    path = Path(path)
    source = str(path)
    header, body = _read(path)
    if not _holds_rows(body):
        expected = "a line of column names, then one row a profile step"
        raise ConfigError([ConfigProblem("data", "no rows", expected, source)])
    names = [name.strip() for name in next(csv.reader([header], skipinitialspace=True), [""])]
    try:
        table = np.loadtxt(io.BytesIO(body), delimiter=",", ndmin=2, quotechar='"')
        problems: list[ConfigProblem] = []
    except ValueError:
        table, problems = _read_with_gaps(body, len(names), source)
    if len(set(names)) != len(names) or "" in names:
        problems.append(ConfigProblem("line 1", header, "distinct column names", source))
    elif table.shape[1] != len(names):
        expected = f"as many values a line as column names ({len(names)})"
        problems.append(ConfigProblem("line 2", table.shape[1], expected, source))
    else:
        columns = dict(zip(names, table.T, strict=True))
        if problems:
            raise ConfigError([*problems, *check_columns(columns, source, gaps=False)[0]])
        return profiles_from(columns, source)
    raise ConfigError(problems)


def profiles_from(
    columns: Mapping[str, Sequence[float] | FloatArray], source: str = ""
) -> Profiles:
    """Build profiles from arrays of one value a row; ``time_s`` is optional among them.

    Raises:
        ConfigError: With every gap, negative share and wrong length.
    """
    arrays: dict[str, FloatArray] = {}
    problems: list[ConfigProblem] = []
    for name, column in columns.items():
        try:
            arrays[name] = np.asarray(column, dtype=np.float64)
        except (TypeError, ValueError):
            kind = type(column).__name__
            problems.append(ConfigProblem(name, kind, "one number a row", source))
    found, step_s = check_columns(arrays, source)
    problems += found
    if problems:
        raise ConfigError(problems)
    names = tuple(name for name in arrays if name != "time_s")
    return Profiles(names, np.stack([arrays[name] for name in names], axis=1), step_s, source)


def _read(path: Path) -> tuple[str, bytes]:
    expected = "a CSV data set, plain or gzipped (.csv, .csv.gz)"
    if not path.name.endswith((".csv", ".csv.gz")):
        if path.suffix in {".pkl", ".pickle"}:
            expected += "; pickled data are never read, because reading them runs their code"
        raise ConfigError([ConfigProblem("dataset_path", str(path), expected)])
    try:
        raw = path.read_bytes()
        header, _, body = (gzip.decompress(raw) if path.suffix == ".gz" else raw).partition(b"\n")
        # Excel marks its "CSV UTF-8" by a byte order mark, which is no part of the first name.
        return header.decode("utf-8-sig").strip(), body
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        problem = ConfigProblem("dataset_path", str(path), f"{expected}: {reason}")
        raise ConfigError([problem]) from error


def _holds_rows(body: bytes) -> bool:
    """Say whether a line is left when those that numpy skips are: blank lines and comments."""
    return any(line.split(b"#", 1)[0].strip() for line in body.splitlines())


def _read_with_gaps(
    body: bytes, n_columns: int, source: str
) -> tuple[FloatArray, list[ConfigProblem]]:
    """Parse line by line what numpy refused, with NaN for every cell that is no number."""
    problems: list[ConfigProblem] = []
    rows: list[list[float]] = []
    for number, line in enumerate(body.decode(errors="replace").splitlines(), start=2):
        cells = line.split(",")
        row = [float("nan")] * n_columns
        if len(cells) != n_columns:
            expected = f"{n_columns} values"
            problems.append(ConfigProblem(f"line {number}", len(cells), expected, source))
        for k, cell in enumerate(cells[:n_columns]):
            try:
                row[k] = float(cell)
            except ValueError:
                problem = ConfigProblem(f"line {number}", cell, "a number, no gap", source)
                problems.append(problem)
        rows.append(row)
    shown = problems[: 4 * SHOWN_PROBLEMS_PER_COLUMN]
    if len(problems) > len(shown):
        more = f"and {len(problems) - len(shown)} more lines like these"
        shown.append(ConfigProblem("data", "...", more, source))
    return np.array(rows, dtype=np.float64).reshape(-1, n_columns), shown


def check_columns(
    columns: Mapping[str, FloatArray], source: str, *, gaps: bool = True
) -> tuple[list[ConfigProblem], float]:
    """Return everything that is wrong with a data set, and its step.

    Args:
        columns: (n_rows,) arrays by name.
        source: Named in the problems.
        gaps: Report values that are not finite; False when the caller did already.

    Returns:
        The problems, and the seconds from row to row.
    """
    step_s, problems = _step_of(columns.get("time_s"), source)
    lengths = [int(days * DAY_S / step_s) for days in YEAR_DAYS]
    profiles = {name: column for name, column in columns.items() if name != "time_s"}
    if not profiles:
        problems.append(ConfigProblem("data", list(columns), "at least one profile", source))
    for name, values in profiles.items():
        if values.ndim != 1:
            problems.append(ConfigProblem(name, values.shape, "one number a row", source))
            continue
        if values.size not in lengths:
            expected = f"a year at {step_s:g} s: {lengths[0]} or {lengths[1]} rows"
            problems.append(ConfigProblem(name, f"{values.size} rows", expected, source))
        if gaps:
            bad = np.flatnonzero(~np.isfinite(values))
            problems += _some(name, values, bad, "a finite number, no gap", source)
        if "price" not in name:
            negative = np.flatnonzero(values < 0.0)
            problems += _some(name, values, negative, "at least 0", source)
    sizes = {name: column.size for name, column in columns.items()}
    if not problems and len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
        problems.append(ConfigProblem("data", shown, "columns as long as the others", source))
    return problems, step_s


def _step_of(time_s: FloatArray | None, source: str) -> tuple[float, list[ConfigProblem]]:
    """Return the seconds from row to row, and what is wrong with the column ``time_s``."""
    if time_s is None or time_s.size < 2:
        return DEFAULT_STEP_S, []
    problems = []
    steps = np.diff(time_s)
    step_s = float(steps[0])
    if not 1.0 <= step_s <= DAY_S or DAY_S % step_s:
        expected = "rows apart by a whole part of a day"
        return DEFAULT_STEP_S, [ConfigProblem("time_s", step_s, expected, source)]
    if time_s[0] != 0.0:
        expected = "seconds since the start of the year: 0 in the first row"
        problems.append(ConfigProblem("time_s[0]", float(time_s[0]), expected, source))
    uneven = np.flatnonzero(~(np.abs(steps - step_s) <= 1e-6))
    if uneven.size:
        row = int(uneven[0])
        expected = f"rows {step_s:g} s apart; {uneven.size} are not, the first after row {row}"
        value = float(time_s[row + 1])
        problems.append(ConfigProblem(f"time_s[{row + 1}]", value, expected, source))
    return step_s, problems


def _some(
    name: str, values: FloatArray, rows: IntArray, expected: str, source: str
) -> list[ConfigProblem]:
    problems = [
        ConfigProblem(f"{name}[{row}]", float(values[row]), expected, source)
        for row in rows[:SHOWN_PROBLEMS_PER_COLUMN].tolist()
    ]
    if rows.size > SHOWN_PROBLEMS_PER_COLUMN:
        more = f"{expected}; {rows.size - SHOWN_PROBLEMS_PER_COLUMN} more rows like these"
        problems[-1] = ConfigProblem(problems[-1].where, problems[-1].value, more, source)
    return problems
