"""Turn what pydantic and PyYAML say into our `ConfigProblem`s, every one at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from heron.errors import ConfigError, ConfigProblem

_EXPECTED = {
    "extra_forbidden": "no such key; is it spelt right?",
    "missing": "this key is needed",
    "model_type": "a mapping of keys",
}


def problems_of(error: ValidationError, source: str = "") -> list[ConfigProblem]:
    """Return one problem a mistake, with nested models unfolded.

    A `ConfigError` that a validator raised keeps its own problems, below the place where it
    was raised.
    """
    items = error.errors()
    return [
        problem
        for item in items
        if not _follows_from_others(item, items)
        for problem in _unfold(item, (), source)
    ]


def _follows_from_others(item: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether a list is only called too short because its items are wrong."""
    depth = len(item["loc"])
    return item["type"] == "too_short" and any(
        len(other["loc"]) > depth and other["loc"][:depth] == item["loc"] for other in items
    )


def _unfold(
    item: Mapping[str, Any], prefix: tuple[int | str, ...], source: str
) -> list[ConfigProblem]:
    where = (*prefix, *item["loc"])
    cause = item.get("ctx", {}).get("error")
    if isinstance(cause, ValidationError):
        return [problem for inner in cause.errors() for problem in _unfold(inner, where, source)]
    if isinstance(cause, ConfigError) and cause.problems:
        return [
            ConfigProblem(_path((*where, inner.where)), inner.value, inner.expected, source)
            for inner in cause.problems
        ]
    value = item["input"]
    if item["type"] == "missing":
        value = None
    elif isinstance(value, Mapping):
        value = "{...}"
    elif isinstance(value, list) and any(isinstance(part, Mapping | list) for part in value):
        value = f"[{len(value)} items]"
    expected = _EXPECTED.get(item["type"], str(item["msg"]).removeprefix("Value error, "))
    return [ConfigProblem(_path(where), value, expected, source)]


def _path(where: Sequence[int | str]) -> str:
    """Write ``("devices", 1, "bus")`` as ``devices[1].bus``."""
    path = ""
    for part in where:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or "(all)"
