"""Whether what an environment was given are actions of its agents."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

import numpy as np

from heron.errors import ConfigProblem
from heron.policy.codec import FloatArray

_NUMBERS = "fiu"

_ndarray = np.ndarray
_FLOATS = "fd"
"""Single and double precision, as numpy's letters for kinds of number."""

Shapes = Mapping[str, tuple[int, ...]]


def plain_numbers(
    actions: Mapping[str, FloatArray], shapes: Shapes
) -> dict[str, list[float]] | None:
    """Return each agent's action as plain numbers; None unless it is an array of finite numbers.

    Nearly always it is. Where not, `action_problems` says why, if it cannot be made one.
    """
    if len(actions) != len(shapes):
        return None
    plain: dict[str, list[float]] = {}
    for agent, shape in shapes.items():
        action = actions.get(agent)
        if type(action) is not _ndarray or action.shape != shape:
            return None
        if action.dtype.char not in _FLOATS:
            return None
        plain[agent] = values = action.tolist()
        # a sum is finite only if all are; of few numbers, plain ones are added up sooner
        if not isfinite(sum(values)):
            return None
    return plain


def action_problems(actions: Mapping[str, FloatArray], shapes: Shapes) -> list[ConfigProblem]:
    """Return everything that is wrong with the actions of a step."""
    problems = [
        ConfigProblem("actions", agent, f"one action for each of {', '.join(shapes)}")
        for agent in sorted({*actions} ^ {*shapes})
    ]
    for agent, wanted in shapes.items():
        if agent not in actions:
            continue
        where, action = f"actions[{agent}]", np.asarray(actions[agent])
        if action.shape != wanted:
            problems.append(ConfigProblem(where, action.shape, f"an action of shape {wanted}"))
        elif action.dtype.kind not in _NUMBERS or not np.isfinite(action).all():
            expected = "finite numbers; this is not finite"
            problems.append(ConfigProblem(where, actions[agent], expected))
    return problems
