"""Compilation of the numerical kernels.

Compiled code is cached beside the source, or in the user's cache directory when the package is
installed read-only. Where neither can be written, kernels are compiled anew in each process.

A kernel is compiled together with what it calls, in other files. numba compares the time of its own
file alone, so here those of all files are compared that kernels call into, too: else an old kernel
would run on new arrays.

The power flow iterates to a tolerance and may rearrange its sums. Everything else is `exact_kernel`
and `exact_inner`: what it computes is what numpy would, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

_F = TypeVar("_F", bound=Callable[..., Any])

FAST = {"contract", "arcp", "nsz", "afn"}
"""Allowed rearrangements. Never ``nnan`` or ``ninf``: with them NaN passes for converged."""


def stamp(*places: Path) -> tuple[float, int]:
    """Return what tells one state of source from another; places are files or folders of them."""
    files = [
        f.stat() for place in places for f in (place.glob("*.py") if place.is_dir() else [place])
    ]
    return max(f.st_mtime for f in files), sum(f.st_size for f in files)


SHARED = (Path(__file__).parent, Path(__file__).parents[1] / "physics")
"""Where the functions are that kernels call: the engines and the physics."""
STAMP = stamp(*SHARED)
"""That of both, for numba to compare with what it has cached."""


def kernel(function: _F) -> _F:
    """Compile a function that Python calls to machine code, on its first call."""
    return _compiled(function, fastmath=FAST)


def inner(function: _F) -> _F:
    """Compile a function that only kernels call: without the costly entrance from Python."""
    return _compiled(function, fastmath=FAST, no_cpython_wrapper=True)


def exact_kernel(function: _F) -> _F:
    """Compile a function that Python calls, in which nothing is rearranged."""
    return _compiled(function)


def exact_inner(function: _F) -> _F:
    """Compile a function that only kernels call, in which nothing is rearranged."""
    return _compiled(function, no_cpython_wrapper=True)


def _compiled(function: _F, **options: Any) -> _F:
    # Kernels create no arrays. Without counting references to those that they are given, a call
    # is free; with it, one with all arrays of a network costs as much as a row of the factors.
    options |= {"no_cfunc_wrapper": True, "_nrt": False}
    try:
        compiled = numba.njit(cache=True, error_model="numpy", **options)(function)
    except RuntimeError:  # numba found no directory that it may write its cache to
        compiled = numba.njit(error_model="numpy", **options)(function)
    else:
        # numba has no public way to say what else a kernel is made of
        compiled._cache._cache_file._source_stamp = _stamp_of(function)
    result: _F = compiled
    return result


def _stamp_of(function: Callable[..., Any]) -> tuple[float, int]:
    file = Path(function.__code__.co_filename)
    return STAMP if file.parent in SHARED else stamp(*SHARED, file)
