"""Class rasters with a known truth, and people who label samples by it."""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning

from geoseg.legend import NODATA

UTM = CRS.from_epsg(32633)
NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_000_000)
NAMES = {1: "water", 2: "trees", 3: "crops"}


def write_classes(
    path: Path,
    codes: np.ndarray,
    *,
    crs: CRS | None = UTM,
    transform: Affine | None = NORTH_UP,
    names: dict[int, str] | None = None,
    nodata: int | None = NODATA,
) -> Path:
    """A class raster as geoseg writes them, less the overviews."""
    with _quietly(), rasterio.open(
        path, "w", driver="GTiff", count=1, height=codes.shape[0], width=codes.shape[1],
        dtype="uint8", crs=crs, transform=transform, nodata=nodata,
    ) as out:  # fmt: skip
        out.write(codes.astype(np.uint8), 1)
        out.update_tags(GEOSEG_LEGEND=json.dumps(NAMES if names is None else names))
        out.write_colormap(1, {1: (0, 0, 255), 2: (0, 90, 0), 3: (240, 200, 60)})
    return path


@contextmanager
def _quietly() -> Iterator[None]:
    """Rasters without a place are meant here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def made_codes(shape: tuple[int, int] = (120, 150)) -> np.ndarray:
    """Water at the left, trees in the middle, crops at the right, nodata along the top."""
    codes = np.full(shape, 2)
    codes[:, : shape[1] // 10] = 1
    codes[:, shape[1] // 2 :] = 3
    codes[: shape[0] // 20] = NODATA
    return codes


def made_truth(codes: np.ndarray, wrong: float = 0.2, seed: int = 0) -> np.ndarray:
    """What is really there: the map with a part of its pixels drawn anew."""
    rng = np.random.default_rng(seed)
    redrawn = rng.choice([1, 2, 3], codes.shape)
    return np.where((rng.random(codes.shape) < wrong) & (codes != NODATA), redrawn, codes)


def label(
    samples: Path, say: Callable[[int, int, int], str | None], *, sql: str | None = None
) -> Path:
    """Fill in `reference` by what `say(sample_id, row, col)` says, then run `sql` if any."""
    with closing(sqlite3.connect(samples)) as database, database:
        for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
            database.create_function(name, 1, lambda _: 0.0)
        rows = database.execute("SELECT sample_id, row, col FROM samples").fetchall()
        for number, row, col in rows:
            database.execute(
                "UPDATE samples SET reference = ? WHERE sample_id = ?",
                (say(number, row, col), number),
            )
        if sql is not None:
            database.execute(sql)
    return samples


def say_truth(truth: np.ndarray) -> Callable[[int, int, int], str]:
    return lambda _, row, col: NAMES[int(truth[row, col])]
