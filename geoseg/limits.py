"""How large things may be before they are refused."""

from __future__ import annotations

__all__ = ["MAX_PIXELS"]

MAX_PIXELS = 10_000_000_000
"""Of a raster: a hundred Sentinel-2 tiles, or a header that lies."""
