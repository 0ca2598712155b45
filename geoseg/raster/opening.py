"""Opening a scene, however it comes: a file, a product, files of a band each, an array."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np

from geoseg.bands import BandMatch, match_bands
from geoseg.errors import InputError, SceneError
from geoseg.grid import Window
from geoseg.raster.layered import LayeredScene, Product, open_layers
from geoseg.raster.level import Level, between_levels, level_named
from geoseg.raster.products.opening import find_product, product_of_files
from geoseg.raster.products.sentinel2 import level_told
from geoseg.raster.scaling import Scaling, reflectance_scaling, told_scaling
from geoseg.raster.scene import Reading, Scene, SourceScene, Units
from geoseg.raster.source import Header, RasterSource, Source

if TYPE_CHECKING:
    import xarray

__all__ = ["SceneFiles", "SceneLike", "open_scene"]

SceneFiles: TypeAlias = str | Path | list[str | Path] | tuple[str | Path, ...]
"""A raster, a product's folder or item, or files of a band each."""

SceneLike: TypeAlias = "SceneFiles | xarray.DataArray"

PLAUSIBLE_REFLECTANCE = 2.0
"""The median of no real scene's reflectance is above this; of unscaled integers it is."""

LOWEST_REFLECTANCE = -1.0
"""Corrections of the atmosphere leave values a little below 0, never these."""


@contextmanager
def open_scene(
    scene: SceneLike,
    bands: Sequence[str] | None,
    *,
    units: Units = "reflectance",
    stored_type: str | None = None,
    reading: Reading | None = None,
    or_else: Sequence[Sequence[str]] = (),
    levels: Sequence[Level] = (),
) -> Iterator[Scene]:
    """Open a scene as the bands that a model reads.

    Args:
        scene: a raster file; a Sentinel-2 .SAFE folder, a Landsat Collection 2 folder or a STAC
            item; several files of a band each; or an array that follows rioxarray's conventions.
        bands: common names, in the order wanted; None: every band but alpha, in the scene's
            order; those of a file or an array are called "band 1" and so on.
        units: what the numbers are to mean.
        stored_type: with units "stored", the data type that the model was trained on.
        reading: what a person says about the scene.
        or_else: sets of bands to take, the largest first, where one of `bands` is missing.
        levels: levels of reflectance that will do, the best first; empty: any.

    Raises:
        SceneError: if it cannot be read, or its numbers cannot be brought to `units`.
        BandError: if its bands are not, or not clearly, the wanted ones.
    """
    reading = reading or Reading()
    if reading.nodata is not None and not math.isfinite(reading.nodata):
        raise InputError(
            f"--nodata {reading.nodata} is not needed: NaN and infinity are never data"
        )
    product = _product(scene, reading)
    if product is not None:
        with _open_product(product, bands, or_else, units, levels, reading) as layered:
            yield layered
        return
    source = _source(scene, reading)
    try:
        opened = _source_scene(source, bands, or_else, units, stored_type, levels, reading)
        if units == "reflectance":
            _refuse_unscaled(opened)
        yield opened
    finally:
        source.close()


def _product(scene: SceneLike, reading: Reading) -> Product | None:
    level = level_named(reading.level)
    if isinstance(scene, str | Path):
        product = find_product(Path(scene), reading)
    elif isinstance(scene, list | tuple):
        product = product_of_files([Path(each) for each in scene], reading)
    else:
        return None
    if product is None:
        return None
    told = [name for name in product.says if getattr(reading, name) is not None]
    if level is not None and product.level not in (None, level):
        told.append("level")
    if told:
        raise InputError(f"--{told[0]} is for plain files: {product.name} says that itself")
    return product if level is None else replace(product, level=level)


@contextmanager
def _open_product(
    product: Product,
    bands: Sequence[str] | None,
    or_else: Sequence[Sequence[str]],
    units: Units,
    levels: Sequence[Level],
    reading: Reading,
) -> Iterator[LayeredScene]:
    if units == "stored":
        raise SceneError(
            f"{product.name} tells reflectance; the model reads values as they are stored in files "
            "of its own kind"
        )
    have = product.bands
    wanted = have if bands is None else bands
    match = match_bands(wanted, count=len(have), descriptions=have, or_else=or_else)
    with open_layers(
        product,
        [have[index - 1] for index in match.indexes],
        keep_clouds=reading.keep_clouds,
        max_pixels=reading.max_pixels,
        levels=levels,
    ) as layered:
        layered.bands = match.names
        layered.assumed = (*match.assumed, *layered.assumed)
        _refuse_unscaled(layered)
        yield layered


def _source(scene: SceneLike, reading: Reading) -> Source:
    if isinstance(scene, str | Path):
        return RasterSource(scene, max_pixels=reading.max_pixels)
    if not hasattr(scene, "dims"):
        kind = type(scene).__name__
        raise SceneError(f"a scene is a path or an xarray.DataArray, not a {kind}")
    from geoseg.raster.arrays import source_of_array

    return source_of_array(cast("xarray.DataArray", scene))


def _source_scene(
    source: Source,
    bands: Sequence[str] | None,
    or_else: Sequence[Sequence[str]],
    units: Units,
    stored_type: str | None,
    levels: Sequence[Level],
    reading: Reading,
) -> SourceScene:
    header = source.header
    if "palette" in header.colours:
        raise SceneError(
            f"{header.name} holds palette colours, not measurements; give the scene itself"
        )
    match = _match(header, bands, or_else, reading)
    scale, offset, assumed = _scaling(header, match.indexes, units, stored_type, reading)
    if units == "reflectance":
        level = level_named(reading.level) or level_told(header.name, header.tags)
        change, said = between_levels(level, levels, match.names)
        if change is not None:
            scale, offset = scale * change[0], offset * change[0] + change[1]
        assumed += said
    nodata = [
        header.nodata[n - 1] if reading.nodata is None else reading.nodata for n in match.indexes
    ]
    return SourceScene(
        source,
        match.names,
        match.indexes,
        (scale, offset),
        nodata,
        header.alpha(match.known),
        (*match.assumed, *assumed),
    )


def _match(
    header: Header,
    bands: Sequence[str] | None,
    or_else: Sequence[Sequence[str]],
    reading: Reading,
) -> BandMatch:
    if bands is None:
        alpha = header.alpha(())
        numbers = tuple(n for n in range(1, header.count + 1) if n != alpha)
        return BandMatch(numbers, tuple(f"band {n}" for n in numbers), ())
    return match_bands(bands, **reading.of_bands(header), or_else=or_else)


def _scaling(
    header: Header,
    numbers: Sequence[int],
    units: Units,
    stored_type: str | None,
    reading: Reading,
) -> Scaling:
    """Scale and offset of each band, and what was assumed to choose them."""
    if (told := told_scaling(header, numbers, reading)) is not None:
        return told
    if units == "reflectance":
        return reflectance_scaling(header, numbers)
    if stored_type is not None and header.dtype != np.dtype(stored_type):
        raise SceneError(
            f"{header.name} holds {header.dtype} values, the model was trained on "
            f"{stored_type} values as stored; say how they compare with --scale and --offset"
        )
    return np.ones(len(numbers), np.float32), np.zeros(len(numbers), np.float32), ()


def _refuse_unscaled(scene: Scene) -> None:
    """Look at the middle of the scene: reflectance of 300 is a forgotten scale, -9999 a nodata."""
    rows, cols = scene.grid.shape
    size = min(256, rows), min(256, cols)
    chip = scene.read(Window((rows - size[0]) // 2, (cols - size[1]) // 2, *size))
    if not chip.valid.any():
        return
    values = chip.pixels[:, chip.valid]
    median, lowest = float(np.median(values)), float(values.min())
    if median > PLAUSIBLE_REFLECTANCE:
        raise SceneError(
            f"{scene.name}: the middle of the scene has a median of {median:.4g}, which is no "
            "reflectance 0-1; give the scale, for example --scale 0.0001"
        )
    if lowest < LOWEST_REFLECTANCE:
        raise SceneError(
            f"{scene.name}: the middle of the scene holds {lowest:.4g}, which is no reflectance; "
            "if it stands for no data, give the stored value with --nodata"
        )
