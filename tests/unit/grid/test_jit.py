"""Compilation of kernels where no cache can be written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numba
import pytest

from simulator.engines import lanes
from simulator.engines.jit import FAST, STAMP, kernel, stamp


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


def test_a_change_in_any_file_makes_cached_kernels_void(tmp_path: Path) -> None:
    """A kernel carries the code of what it calls, wherever that is written."""
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1\n")
        os.utime(tmp_path / name, (1.0, 1.0))
    first = stamp(tmp_path)
    os.utime(tmp_path / "b.py", (2.0, 2.0))
    touched = stamp(tmp_path)
    (tmp_path / "b.py").write_text("x = 10\n")
    os.utime(tmp_path / "b.py", (2.0, 2.0))
    assert len({first, touched, stamp(tmp_path)}) == 3
    compiled: Any = lanes.solve_batch
    assert compiled._cache._cache_file._source_stamp == STAMP
