"""Small quadratic programmes, solved from scratch so that equal questions get equal answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import osqp
from scipy import sparse

FloatArray = npt.NDArray[np.float64]

_SOLVED = (1, 2)  # OSQP: solved, solved with reduced accuracy


class QuadraticProgramme:
    """Minimise ``x' P x / 2 + q' x`` with ``lower <= A x <= upper``, for changing q and limits.

    A solver that keeps its last answer and its step size starts the next question from them, and
    the answer then depends on what was asked before. This one forgets.

    Args:
        diagonal: (n,) diagonal of P, not negative.
        matrix: (m, n) A.
        accuracy: Tolerance of the solver.
    """

    def __init__(self, diagonal: FloatArray, matrix: Any, accuracy: float) -> None:
        self._p = sparse.diags(diagonal, format="csc")
        self._a = sparse.csc_matrix(matrix)
        self._accuracy = accuracy

    def solve(self, q: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray | None:
        """Return x, (n,); None if the solver finds none."""
        solver = osqp.OSQP()
        solver.setup(
            P=self._p,
            q=q,
            A=self._a,
            l=lower,
            u=upper,
            eps_abs=self._accuracy,
            eps_rel=self._accuracy,
            adaptive_rho_interval=25,
            max_iter=20_000,
            polishing=True,
            verbose=False,
        )
        result = solver.solve(raise_error=False)
        if result.info.status_val not in _SOLVED or not np.isfinite(result.x).all():
            return None
        return np.asarray(result.x)
