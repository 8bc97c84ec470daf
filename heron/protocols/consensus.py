"""Average consensus on a graph: pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.errors import ConfigError, ConfigProblem

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Outcome of a consensus.

    Attributes:
        values: Each agent's value at the end, shape (n_agents,).
        iterations: Exchanges that were made.
        converged: Whether the values lie within the tolerance of each other.
    """

    values: Floats
    iterations: int
    converged: bool


def metropolis_weights(neighbours: Mapping[str, Sequence[str]]) -> Floats:
    """Return the weights with which agents average, shape (n_agents, n_agents).

    They are symmetric and each row sums to 1, so the mean never changes whatever the graph;
    equal weights per neighbour would drift on a star.

    Args:
        neighbours: Per agent id, in order, those it exchanges values with. A link named from
            one side counts for both.

    Raises:
        ConfigError: A neighbour that does not exist, or a graph in several pieces.

    Source: Xiao and Boyd, "Fast linear iterations for distributed averaging", 2004, eq. (18)
        with the diagonal of "Distributed average consensus with least-mean-square deviation".
    """
    ids = list(neighbours)
    index = {name: i for i, name in enumerate(ids)}
    linked = np.zeros((len(ids), len(ids)), dtype=bool)
    problems = []
    for name, others in neighbours.items():
        for other in others:
            if other not in index or other == name:
                problems.append(ConfigProblem(f"neighbours.{name}", other, "another agent's id"))
            else:
                linked[index[name], index[other]] = linked[index[other], index[name]] = True
    if problems:
        raise ConfigError(problems)
    alone = _unreachable(linked)
    if alone:
        raise ConfigError(
            [ConfigProblem("neighbours", [ids[i] for i in alone], f"a path to {ids[0]!r}")]
        )
    degree = linked.sum(axis=1)
    weights = np.where(linked, 1.0 / (1.0 + np.maximum.outer(degree, degree)), 0.0)
    np.fill_diagonal(weights, 1.0 - weights.sum(axis=1))
    return weights


def _unreachable(linked: NDArray[np.bool_]) -> list[int]:
    if not len(linked):
        return []
    reached = np.zeros(len(linked), dtype=bool)
    reached[0] = True
    while True:
        more = reached | linked[reached].any(axis=0)
        if (more == reached).all():
            return np.flatnonzero(~reached).tolist()
        reached = more


def agree(
    values: ArrayLike, weights: Floats, max_iterations: int = 10, tolerance: float = 0.01
) -> Agreement:
    """Average with neighbours until all agree.

    Args:
        values: Each agent's own value, shape (n_agents,).
        weights: From `metropolis_weights`.
        max_iterations: Exchanges at most.
        tolerance: Largest difference between any two agents at which they count as agreed.
    """
    x = np.array(values, dtype=float)
    iterations = 0
    while not (converged := bool(np.ptp(x) <= tolerance if x.size else True)):
        if iterations >= max_iterations:
            break
        x = weights @ x
        iterations += 1
    return Agreement(x, iterations, converged)
