"""Compilation of kernels where no cache can be written."""

from __future__ import annotations

from typing import Any

import numba
import pytest

from simulator.engines.jit import FAST, kernel


def test_nan_is_never_optimised_away() -> None:
    assert not FAST & {"nnan", "ninf", "fast"}


def test_kernels_compile_without_a_place_for_their_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    real = numba.njit

    def njit(*args: Any, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator")
        return real(*args, **options)

    monkeypatch.setattr(numba, "njit", njit)

    def double(x: float) -> float:
        return 2.0 * x

    assert kernel(double)(1.5) == 3.0
