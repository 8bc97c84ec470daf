"""Read YAML files so that no mistake in them goes unseen."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from heron.errors import ConfigError, ConfigProblem

_VALUES_REFUSED = (ValueError, ArithmeticError, LookupError, AttributeError)
"""What PyYAML lets out of its constructors: no such date, an empty ``!!int``, ``!!bool x``."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice, where YAML would take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping that a file holds.

    Raises:
        ConfigError: It cannot be read, is no YAML, is no mapping, or a key stands twice.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
        problem = ConfigProblem(line, None, str(error.problem or error.context), str(path))
        raise ConfigError([problem]) from error
    except RecursionError as error:
        raise ConfigError(
            [ConfigProblem("(all)", None, "YAML nested less deeply", str(path))]
        ) from error
    except (OSError, yaml.YAMLError, *_VALUES_REFUSED) as error:
        reason = " ".join(str(error).split())
        raise ConfigError([ConfigProblem("(all)", None, reason, str(path))]) from error
    if not isinstance(raw, dict):
        kind = type(raw).__name__
        raise ConfigError([ConfigProblem("(all)", kind, "a mapping of keys", str(path))])
    return raw
