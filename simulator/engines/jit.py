"""Compilation of the numerical kernels.

Compiled code is cached beside the source, or in the user's cache directory when the package is
installed read-only. Where neither can be written, kernels are compiled anew in each process.

A kernel is compiled together with what it calls, in other files. numba compares the time of its own
file alone, so here the whole package's is compared: else an old kernel would run on new arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

_F = TypeVar("_F", bound=Callable[..., Any])

FAST = {"contract", "arcp", "nsz", "afn"}
"""Allowed rearrangements. Never ``nnan`` or ``ninf``: with them NaN passes for converged."""


def stamp(folder: Path) -> tuple[float, int]:
    """Return what tells one state of a folder's source from another."""
    files = [f.stat() for f in folder.glob("*.py")]
    return max(f.st_mtime for f in files), sum(f.st_size for f in files)


STAMP = stamp(Path(__file__).parent)
"""That of the engines, for numba to compare with what it has cached."""


def kernel(function: _F) -> _F:
    """Compile a function that Python calls to machine code, on its first call."""
    return _compiled(function, no_cfunc_wrapper=True)


def inner(function: _F) -> _F:
    """Compile a function that only kernels call: without the costly entrance from Python."""
    return _compiled(function, no_cfunc_wrapper=True, no_cpython_wrapper=True)


def _compiled(function: _F, **options: bool) -> _F:
    # Kernels create no arrays. Without counting references to those that they are given, a call
    # is free; with it, one with all arrays of a network costs as much as a row of the factors.
    options |= {"_nrt": False}
    try:
        compiled = numba.njit(cache=True, fastmath=FAST, error_model="numpy", **options)(function)
    except RuntimeError:  # numba found no directory that it may write its cache to
        compiled = numba.njit(fastmath=FAST, error_model="numpy", **options)(function)
    else:
        # numba has no public way to say what else a kernel is made of
        compiled._cache._cache_file._source_stamp = STAMP
    result: _F = compiled
    return result
