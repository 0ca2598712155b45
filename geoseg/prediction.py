"""A scene in, a map out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack, overload

import numpy as np
import rasterio

from geoseg.errors import InputError, SceneError
from geoseg.grid import Grid
from geoseg.map_files import MapFiles, Products, provenance
from geoseg.model.bundle import DEFAULT_MODEL
from geoseg.model.card import Card
from geoseg.model.runtime import Array, Model, RuntimeName, load_model
from geoseg.outputs import staged
from geoseg.raster.align import onto_grid
from geoseg.raster.chips import ChipPlan, PlannedChip, read_ahead
from geoseg.raster.opening import open_scene
from geoseg.raster.scene import Chip, Reading, Scene
from geoseg.raster.source import MAX_PIXELS
from geoseg.raster.stitch import Join, ScoredChip, Strip, stitch
from geoseg.stopwatch import Stopwatch

if TYPE_CHECKING:
    import xarray

__all__ = [
    "PredictOptions",
    "Prediction",
    "Progress",
    "Tiling",
    "at_gsd",
    "fitting_grid",
    "predict",
    "predict_strips",
    "refuse_two_dates",
]

MOST_CHIP_PX = 1 << 14

GSD_TOLERANCE = 1.25
"""A scene this much finer or coarser than a model's range is still read as it is."""

GDAL_CACHE_BYTES = 128 << 20
"""For blocks that the next row of chips reads again; GDAL alone takes 5 % of the machine."""

Progress: TypeAlias = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A finished map."""

    files: Mapping[str, Path]
    """What was written: classes, polygons, preview, summary, and what else was asked for."""
    summary: Mapping[str, Any]
    """What the summary file holds."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How chips are cut and joined; None where the model's card says it."""

    join: Join | None = None
    """Keep chips' cores, or blend what overlaps; the card knows which is right."""
    chip_px: int | None = None
    """Side of a chip."""
    halo_px: int | None = None
    """The rim of a chip that is read but not kept; when blending, half of what overlaps."""

    def plan(self, shape: tuple[int, int], card: Card) -> tuple[ChipPlan, Join]:
        """The chips of a scene and how to join them."""
        join = self.join or ("crop" if card.exact else "blend")
        chip_px = card.chip_px if self.chip_px is None else self.chip_px
        if chip_px > MOST_CHIP_PX:
            raise InputError(f"a chip of {chip_px} px is too large; {MOST_CHIP_PX} is the most")
        quarter = chip_px // 4 // card.stride * card.stride
        halo_px = card.halo_px if join == "crop" else quarter
        if self.halo_px is not None:
            halo_px = self.halo_px
        return ChipPlan(shape, chip_px, halo_px, card.stride), join


class PredictOptions(TypedDict, total=False):
    """The keyword arguments of `predict`."""

    model: str | Path | Model
    output: str | Path
    bands: str | Mapping[str, int] | None
    sensor: str | None
    scale: float | None
    offset: float | None
    nodata: float | None
    gsd: float | None
    max_pixels: int
    scores: bool
    confidence: bool
    polygons: bool
    preview: bool
    overwrite: bool
    join: Join | None
    chip_px: int | None
    halo_px: int | None
    runtime: RuntimeName
    progress: Progress | None


@overload
def predict(scene: str | Path, **options: Unpack[PredictOptions]) -> Prediction: ...


@overload
def predict(scene: xarray.DataArray, **options: Unpack[PredictOptions]) -> xarray.DataArray: ...


def predict(
    scene: str | Path | xarray.DataArray,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    output: str | Path = ".",
    bands: str | Mapping[str, int] | None = None,
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    gsd: float | None = None,
    max_pixels: int = MAX_PIXELS,
    scores: bool = False,
    confidence: bool = False,
    polygons: bool = True,
    preview: bool = True,
    overwrite: bool = False,
    join: Join | None = None,
    chip_px: int | None = None,
    halo_px: int | None = None,
    runtime: RuntimeName = "auto",
    progress: Progress | None = None,
) -> Prediction | xarray.DataArray:
    """Map a scene.

    A path gives files in `output`, named after the scene; an xarray.DataArray that follows
    rioxarray's conventions gives a DataArray of class codes and writes nothing.

    Args:
        scene: a raster file, or an array of (band, y, x).
        model: an installed model's name, a bundle's path, or a loaded model.
        output: the folder for the results.
        bands: 1-based band numbers by common name, or as text, "red=3,green=2".
        sensor: whose own band names or customary band order the scene uses.
        scale: value in the model's units = stored value * scale + offset.
        offset: see scale.
        nodata: the stored value that stands for no data.
        gsd: read the scene at this ground sample distance in metres; 0 reads it as it is. By
            default a scene outside the model's range is read at the range's nearest end.
        max_pixels: scenes with more pixels are refused.
        scores: write every class's probability, in percent.
        confidence: write the winning class's probability, in percent.
        polygons: write polygons.
        preview: write a picture of scene and map.
        overwrite: replace results that exist.
        join: "crop" keeps chips' cores, "blend" weights what overlaps; by default the first for
            networks that are exact under tiling, the second for the others.
        chip_px: side of a chip in pixels, by default the card's.
        halo_px: rim of a chip that is read but not kept, by default the card's.
        runtime: "auto", "openvino" or "torch".
        progress: called with the share that is done, 0 to 1.

    Returns:
        Where the results are and what they sum up to, or the class codes as a DataArray.

    Raises:
        SceneError: if the scene cannot be read or holds no valid pixel.
        BandError: if its bands are not, or not clearly, the model's.
        ModelError: if the model cannot be loaded.
        OutputError: if the results cannot be written; nothing is left then.
        InputError: if results exist, an option makes no sense, or the model compares two scenes.
    """
    loaded = model if isinstance(model, Model) else load_model(model, runtime=runtime)
    refuse_two_dates(loaded.card)
    tiling = Tiling(join, chip_px, halo_px)
    opening = open_scene(
        scene,
        loaded.card.bands,
        units=loaded.card.units,
        stored_type=loaded.card.stored_type,
        reading=Reading(bands, sensor, scale, offset, nodata, max_pixels),
    )
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES), opening as opened:
        fitting = fitting_grid(opened.grid, opened.name, loaded.card, gsd, max_pixels)
        fitted = onto_grid(opened, fitting)
        if not isinstance(scene, str | Path):
            return _predict_array(fitted, loaded, tiling, scene)
        products = Products(scores, confidence, polygons, preview)
        return _predict_files(
            fitted, loaded, tiling, products, Path(scene).stem, Path(output), overwrite, progress
        )


def predict_strips(
    scene: Scene,
    model: Model,
    *,
    tiling: Tiling | None = None,
    scores: bool = False,
    see_chip: Callable[[PlannedChip, Chip], None] | None = None,
    watch: Stopwatch | None = None,
) -> Iterator[Strip]:
    """Map a scene strip by strip, top to bottom, in memory that does not grow with its height.

    Args:
        scene: read in the bands and units of the model's card.
        model: what maps it.
        tiling: how chips are cut and joined.
        scores: whether strips carry every class's probability.
        see_chip: shown each chip as it is read.
        watch: counts the seconds of reading, network and stitching.

    Raises:
        SceneError: if the scene is damaged, or smaller than the network's coarsest cell.
    """
    card, watch = model.card, watch or Stopwatch()
    if min(scene.grid.shape) < card.stride:
        raise SceneError(
            f"{scene.name} has {scene.grid.height} x {scene.grid.width} pixels; {card.name} needs "
            f"at least {card.stride} x {card.stride} to see anything"
        )
    plan, join = (tiling or Tiling()).plan(scene.grid.shape, card)
    chips = watch.each("read", read_ahead(scene, plan))
    scored = watch.each("network", _score(chips, model, see_chip))
    strips = stitch(plan, scored, card.legend.codes, join=join, scores=scores)
    yield from watch.each("stitch", strips)


def _score(
    chips: Iterable[tuple[PlannedChip, Chip]],
    model: Model,
    see_chip: Callable[[PlannedChip, Chip], None] | None,
) -> Iterator[ScoredChip]:
    """Compute the chips that hold data; the others pass by, in their place."""
    waiting: deque[tuple[PlannedChip, Chip]] = deque()

    def with_data() -> Iterator[Array]:
        for planned, chip in chips:
            if see_chip is not None:
                see_chip(planned, chip)
            waiting.append((planned, chip))
            if chip.valid.any():
                yield model.filled(chip)

    for scores in model.runtime.scores(with_data()):
        while not waiting[0][1].valid.any():
            planned, chip = waiting.popleft()
            yield ScoredChip(planned, None, chip.valid)
        planned, chip = waiting.popleft()
        yield ScoredChip(planned, scores, chip.valid)
    for planned, chip in waiting:
        yield ScoredChip(planned, None, chip.valid)


def refuse_two_dates(card: Card) -> None:
    """Refuse a model that compares two scenes where there is one.

    Raises:
        InputError: if it does.
    """
    if card.dates == 2:
        raise InputError(
            f"{card.name} compares two scenes: use geoseg change BEFORE AFTER --model MODEL"
        )


def fitting_grid(grid: Grid, name: str, card: Card, gsd: float | None, max_pixels: int) -> Grid:
    """The grid at the ground sample distance asked for, or at one that the model knows.

    Args:
        grid: the scene's.
        name: what to call the scene.
        card: the model's.
        gsd: metres, 0 for the grid as it is; None: the nearest end of the model's range.
        max_pixels: grids with more pixels are refused.

    Raises:
        InputError: if that makes no sense, or needs a gsd that is not known.
    """
    if gsd is None and card.gsd_m is not None and grid.gsd_m is not None:
        finest, coarsest = card.gsd_m
        if finest / GSD_TOLERANCE <= grid.gsd_m <= coarsest * GSD_TOLERANCE:
            return grid
        gsd = finest if grid.gsd_m < finest else coarsest
    return at_gsd(grid, name, gsd, max_pixels)


def at_gsd(grid: Grid, name: str, gsd: float | None, max_pixels: int) -> Grid:
    """The grid at a ground sample distance in metres; as it is for 0 and None.

    Raises:
        InputError: if that makes no sense, or the grid's own gsd is not known.
    """
    if gsd is None or gsd == 0:
        return grid
    if not 0 < gsd < math.inf:
        raise InputError(f"--gsd {gsd:g} makes no sense; give metres, or 0 for the scene's own")
    if grid.gsd_m is None:
        raise SceneError(f"the gsd of {name} is not known: it cannot be read at {gsd:g} m")
    factor = gsd / grid.gsd_m
    height, width = (size / factor for size in grid.shape)
    if height * width > max_pixels or max(height, width) < 1:
        raise InputError(
            f"{name} at {gsd:g} m would have {height:.3g} x {width:.3g} pixels; "
            "choose another --gsd"
        )
    return grid.rescale(factor)


def _predict_files(
    scene: Scene,
    model: Model,
    tiling: Tiling,
    products: Products,
    stem: str,
    output: Path,
    overwrite: bool,
    progress: Progress | None,
) -> Prediction:
    watch, names = Stopwatch(), products.file_names(stem)
    with (
        staged(output, stem, list(names.values()), overwrite=overwrite) as staging,
        MapFiles(staging, stem, scene, model, products) as files,
    ):
        for strip in predict_strips(
            scene, model, tiling=tiling, scores=products.scores, see_chip=files.see_chip,
            watch=watch,
        ):  # fmt: skip
            with watch.stage("write"):
                files.add(strip)
            if progress is not None:
                progress(strip.window.row_stop / scene.grid.height)
        summary = files.finish(watch)
        every = Products(True, True, True, True).file_names(stem).values()
        stale = [name for name in every if name not in names.values()] if overwrite else []
        paths = staging.put_in_place(list(names.values()), stale)
    return Prediction(dict(zip(names, paths, strict=True)), summary)


def _predict_array(
    scene: Scene, model: Model, tiling: Tiling, like: xarray.DataArray
) -> xarray.DataArray:
    from geoseg.raster.arrays import map_array

    strips = [strip.classes for strip in predict_strips(scene, model, tiling=tiling)]
    classes = np.concatenate(strips)
    if not np.isin(classes, model.card.legend.codes).any():
        raise SceneError(f"{scene.name} holds no valid pixel: nothing to map")
    attrs = {key.lower(): value for key, value in provenance(scene, model).items()}
    return map_array(classes, scene.grid, like, attrs)
