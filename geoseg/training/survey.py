"""One pass over ground: how often each class is there and where, and what the bands' values are.

Counted once per data set: results are cached in the user's cache folder, keyed by the files, their
times, and all that decides what is read from them.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.labels import LabelledScene
from geoseg.legend import NODATA
from geoseg.recipe import Recipe
from geoseg.training.ground import Ground

__all__ = ["CELL_PX", "GroundSurvey", "band_statistics", "survey_grounds", "usual_values"]

Floats: TypeAlias = npt.NDArray[np.float64]

CELL_PX = 32
"""Classes are counted in square cells of this side, so that samplers know where they are."""

DECIDING = (
    "classes", "unlabelled", "label_field", "bands", "band_numbers", "sensor", "units", "scale",
    "offset", "nodata", "gsd_m", "labels_are", "levels", "logarithm", "keep_clouds",
)  # fmt: skip
"""Keys of a recipe that decide what is read."""

STRIP_CELLS = 16

USUAL = 0.5, 99.5
"""Percentiles between which a scene's values are usual."""

LOOKED_AT = 1 << 15
"""Pixels of a strip, at most, that percentiles are taken of."""


@dataclass(frozen=True, slots=True, eq=False)
class GroundSurvey:
    """What a pass over one piece of ground tells."""

    cells: npt.NDArray[np.int32]
    """(rows, columns, K), labelled pixels of each class in each cell."""
    valid_px: int
    """Valid pixels, labelled or not."""
    mean: Floats
    """(C,), of the valid pixels; (2 C,) of two dates, and so the variance."""
    variance: Floats
    """(C,), of the valid pixels."""
    usual: Floats
    """(C, 2), lowest and highest value of nearly all valid pixels; NaN without any."""

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """(K,), labelled pixels of each class."""
        return np.asarray(self.cells.sum(axis=(0, 1), dtype=np.int64))

    def labelled_in(self, window: Window) -> bool:
        """Whether any cell that a window touches holds labels."""
        rows = slice(window.row // CELL_PX, -(-window.row_stop // CELL_PX))
        cols = slice(window.col // CELL_PX, -(-window.col_stop // CELL_PX))
        return bool(self.cells[rows, cols].any())


def survey_grounds(
    recipe: Recipe, pairs: Sequence[LabelledScene], grounds: Sequence[Ground]
) -> list[GroundSurvey]:
    """Survey every ground, or take what an earlier run found.

    Raises:
        InputError: if not one pixel is labelled, or labels hold what they should not.
    """
    surveys = []
    for pair, ground in zip(pairs, grounds, strict=True):
        cached = _cache_folder() / f"{_key(recipe, pair)}.npz"
        found = _load(cached, ground, len(recipe.legend))
        if found is None:
            found = survey(ground, len(recipe.legend), recipe.dates * len(recipe.bands))
            _save(cached, found)
        surveys.append(found)
    if not sum(int(each.counts.sum()) for each in surveys):
        raise InputError(
            "not one valid pixel is labelled in any of the scenes; are codes missing from the "
            "classes, or taken for unlabelled?"
        )
    return surveys


def survey(ground: Ground, classes: int, bands: int) -> GroundSurvey:
    """One pass over ground, strip by strip."""
    rows, cols = (-(-size // CELL_PX) for size in ground.grid.shape)
    cells = np.zeros((rows, cols, classes), np.int32)
    count, mean, squares = 0, np.zeros(bands), np.zeros(bands)
    looked_at: list[npt.NDArray[np.float32]] = [np.zeros((bands, 0), np.float32)]
    for first in range(0, rows, STRIP_CELLS):
        window = ground.grid.window
        last = min(window.height, (first + STRIP_CELLS) * CELL_PX)
        chip = ground.read(window.from_stops(first * CELL_PX, 0, last, window.width))
        cells[first : first + STRIP_CELLS] = _cells(chip.labels, classes)
        values = chip.pixels[:, chip.valid].astype(np.float64)
        if values.size:
            count, mean, squares = _merge(count, mean, squares, values)
            step = -(-values.shape[1] // LOOKED_AT)
            looked_at.append(values[:, ::step].astype(np.float32))
    usual = np.full((bands, 2), np.nan)
    if count:
        usual = np.percentile(np.concatenate(looked_at, axis=1), USUAL, axis=1).T
    return GroundSurvey(cells, count, mean, squares / max(count, 1), usual)


def band_statistics(surveys: Sequence[GroundSurvey], bands: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each band over all valid pixels, (C,) both.

    Those of two dates are taken together: what looks the same on both is to stay the same.
    """
    means = np.concatenate([each.mean.reshape(-1, bands) for each in surveys])
    variances = np.concatenate([each.variance.reshape(-1, bands) for each in surveys])
    pixels = np.repeat(np.array([each.valid_px for each in surveys], np.float64),
                       len(means) // len(surveys))  # fmt: skip
    share = (pixels / pixels.sum())[:, None]
    mean = (share * means).sum(axis=0)
    spread = share * (variances + (means - mean) ** 2)
    return mean, np.sqrt(spread.sum(axis=0))


def usual_values(surveys: Sequence[GroundSurvey], bands: int) -> Floats:
    """(C, 2), lowest and highest value of each band that is usual in one of the scenes."""
    usual = np.concatenate([each.usual.reshape(-1, bands, 2) for each in surveys])
    return np.stack([np.nanmin(usual[..., 0], axis=0), np.nanmax(usual[..., 1], axis=0)], axis=1)


def _cells(labels: npt.NDArray[np.uint8], classes: int) -> npt.NDArray[np.int32]:
    rows, cols = (-(-size // CELL_PX) for size in labels.shape)
    row, col = np.nonzero(labels != NODATA)
    place = ((row // CELL_PX) * cols + col // CELL_PX) * classes + labels[row, col]
    counted = np.bincount(place, minlength=rows * cols * classes)
    return counted.reshape(rows, cols, classes).astype(np.int32)


def _merge(count: int, mean: Floats, squares: Floats, values: Floats) -> tuple[int, Floats, Floats]:
    """Add (C, N) values to count, mean and sum of squared deviations (Chan et al. 1979)."""
    more = values.shape[1]
    other = values.mean(axis=1)
    total = count + more
    gap = other - mean
    squares = squares + ((values - other[:, None]) ** 2).sum(axis=1)
    squares += gap**2 * (count * more / total)
    return total, mean + gap * (more / total), squares


SHAPEFILE_PARTS = (".dbf", ".shx")
"""What a .shp says lies in these, too."""


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "geoseg" / "surveys"


def _key(recipe: Recipe, pair: LabelledScene) -> str:
    files = [
        (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
        for given in (pair.scene, pair.labels, pair.after)
        if given is not None
        for path in (given, *(given.with_suffix(part) for part in SHAPEFILE_PARTS))
        if path == given or path.is_file()
    ]
    told = recipe.model_dump(mode="json", include=set(DECIDING))
    return hashlib.sha256(json.dumps([2, CELL_PX, files, told]).encode()).hexdigest()


def _load(path: Path, ground: Ground, classes: int) -> GroundSurvey | None:
    try:
        with np.load(path, allow_pickle=False) as held:
            found = GroundSurvey(
                held["cells"],
                int(held["valid_px"]),
                held["mean"],
                held["variance"],
                held["usual"],
            )
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    shape = (*(-(-size // CELL_PX) for size in ground.grid.shape), classes)
    return found if found.cells.shape == shape else None


def _save(path: Path, found: GroundSurvey) -> None:
    """A cache that cannot be written costs time, nothing else."""
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.npz")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            partial,
            cells=found.cells,
            valid_px=found.valid_px,
            mean=found.mean,
            variance=found.variance,
            usual=found.usual,
        )
        partial.replace(path)
