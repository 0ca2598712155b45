"""Loops over pixels and vertices, compiled to machine code when first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

__all__ = ["compiled"]

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile a function of numbers and arrays.

    The machine code is kept beside the module, or in the user's cache where that cannot be
    written, so that only the first run of an installation waits for it. It is made anew when the
    function's own file changes, and not when another one does: so compiled functions call none
    of other modules. Other Python threads run while such a function does.
    """
    try:
        return cast("F", numba.njit(cache=True, nogil=True)(function))
    except RuntimeError:  # nowhere to keep it: compiled again in each run
        return cast("F", numba.njit(nogil=True)(function))
