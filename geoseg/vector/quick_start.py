"""pyogrio without what it imports for data frames: that takes longer than mapping a small scene."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType

__all__ = ["import_pyogrio"]

PUT_OFF = ("pandas", "geopandas")
"""pyogrio imports them to see their versions, and again where it makes or takes a data frame."""


def import_pyogrio() -> None:
    """Import pyogrio and leave pandas and geopandas to be imported when they are used.

    For the start of a program that has no other thread yet: one that imported pandas at this
    moment would get an empty module.
    """
    if "pyogrio" in sys.modules or any(name in sys.modules for name in PUT_OFF):
        return
    for name in PUT_OFF:
        stand_in = ModuleType(name)
        stand_in.__dict__["__version__"] = version(name)
        sys.modules[name] = stand_in
    try:
        import_module("pyogrio")
    finally:
        for name in PUT_OFF:
            del sys.modules[name]
