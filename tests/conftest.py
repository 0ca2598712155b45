"""Scenes and models that tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS

from geoseg.legend import Legend, LegendClass
from geoseg.model.card import Card, make_card
from geoseg.model.loading import Model
from geoseg.model.runtime import Array, Runtime

UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_000_000)
SIX = ("blue", "green", "red", "nir", "swir16", "swir22")

GRIDS = {
    "projected": (UTM, NORTH_UP),
    "rotated": (UTM, NORTH_UP @ Affine.rotation(30)),
    "geographic": (CRS.from_epsg(4326), Affine(1e-4, 0, 15, 0, -1e-4, 45)),
    "south-up": (UTM, Affine(10, 0, 500_000, 0, 10, 5_000_000)),
}  # fmt: skip


class OneHotRuntime(Runtime):
    """The identity network: the score of class k is 1 where the first band holds k."""

    label = "identity"

    def __init__(self, classes: int) -> None:
        self._codes = np.arange(classes, dtype=np.float32)[:, None, None]

    def scores(self, chips: Iterable[Array]) -> Iterator[Array]:
        for chip in chips:
            yield (np.rint(chip[:1]) == self._codes).astype(np.float32)


def grey_legend(classes: int) -> Legend:
    return Legend(tuple(LegendClass(i, f"c{i}", f"#{i:02x}{i:02x}{i:02x}") for i in range(classes)))


def stored_card(classes: int = 200, *, bands: tuple[str, ...] = ("red",), **more: object) -> Card:
    """A card for values as stored, with no scaling to speak of."""
    fields: dict[str, object] = {
        "units": "stored",
        "chip_px": 64,
        "halo_px": 16,
        "stride": 8,
        "exact": True,
    }
    return make_card(
        name="identity",
        architecture="none",
        hyperparameters={},
        bands=bands,
        mean=(0.0,) * len(bands),
        stddev=(1.0,) * len(bands),
        legend=grey_legend(classes),
        **(fields | more),  # type: ignore[arg-type]
    )


@pytest.fixture
def identity() -> Model:
    return Model(stored_card(), OneHotRuntime(200), "0" * 64)


@pytest.fixture
def write_scene(tmp_path: Path) -> Callable[..., Path]:
    """Write an array (C, H, W) as a GeoTIFF and return its path."""

    def write(
        pixels: np.ndarray,
        name: str = "scene.tif",
        *,
        crs: CRS | None = UTM,
        transform: Affine = NORTH_UP,
        descriptions: tuple[str, ...] | None = None,
        **profile: object,
    ) -> Path:
        path = tmp_path / name
        mask = profile.pop("mask", None)
        scale = profile.pop("scale", None)
        options = {"driver": "GTiff", "count": len(pixels), "height": pixels.shape[1],
                   "width": pixels.shape[2], "dtype": pixels.dtype, "crs": crs,
                   "transform": transform} | profile  # fmt: skip
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **options) as out:
            out.write(pixels)
            if mask is not None:
                out.write_mask(mask)
            if descriptions is not None:
                out.descriptions = descriptions
            if scale is not None:
                out.scales = (scale,) * len(pixels)
        return path

    return write


@pytest.fixture
def database() -> str:
    """The address of a real PostGIS."""
    url = os.environ.get("GEOSEG_TEST_POSTGIS")
    if not url:
        pytest.skip("no PostGIS: GEOSEG_TEST_POSTGIS is not set; .ci/postgis starts one")
    return url


def assert_ctrl_c_is_told_after(code: str) -> None:
    """In a process of its own, where Ctrl-C may be ignored, as in a background job."""
    program = f"""
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
{code}
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
