"""Libraries without what they import and a map does not use: that took longer than a small map.

For the start of a program that has no other thread yet: one that imported what is put off at this
moment would not get it. Afterwards everything can be imported as ever.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType

__all__ = ["import_nncf", "import_openvino", "import_pyogrio", "import_vector_libraries"]

PUT_OFF = ("pandas", "geopandas")
"""pyogrio imports them to see their versions, and again where it makes or takes a data frame."""

TELEMETRY = "openvino_telemetry"
"""NNCF would report with it, to a service on the internet, what it is used for."""

LINEAR_ALGEBRA = "scipy.linalg"
"""numba imports it to compile matrix products; we compile none."""

CONVERTER = "openvino.tools.ovc"
"""openvino imports it where it is installed, with a command line and telemetry of its own."""


def import_openvino() -> None:
    """Import openvino without the converter of models.

    `openvino.convert_model` is missing then; `openvino.tools.ovc.convert_model` is not.
    """
    if "openvino" in sys.modules or CONVERTER in sys.modules:
        return
    _import_without(CONVERTER, "openvino")


def import_nncf() -> ModuleType:
    """Import NNCF so that it reports to nobody.

    Raises:
        ImportError: if it is not installed.
    """
    return _import_without(TELEMETRY, "nncf")


def import_vector_libraries() -> None:
    """Import what polygons take: pyogrio, and numba without scipy's linear algebra."""
    import_pyogrio()
    if LINEAR_ALGEBRA not in sys.modules:
        _import_without(LINEAR_ALGEBRA, "numba.np.arraymath")


def _import_without(missing: str, name: str) -> ModuleType:
    """Import one module as if the other were not installed."""
    before = sys.modules.get(missing)
    sys.modules[missing] = None  # type: ignore[assignment]
    try:
        return import_module(name)
    finally:
        del sys.modules[missing]
        if before is not None:
            sys.modules[missing] = before


def import_pyogrio() -> None:
    """Import pyogrio and leave pandas and geopandas to be imported when they are used."""
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
