"""A scene whose bands come as files of their own, on grids of their own, with a mask of cloud."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rasterio.enums import Resampling

from geoseg.errors import SceneError
from geoseg.grid import Grid, Window
from geoseg.raster.align import onto_grid
from geoseg.raster.cloud_rule import CloudRule
from geoseg.raster.level import Level, between_levels
from geoseg.raster.scene import Chip, Scene, SourceScene
from geoseg.raster.source import RasterSource

__all__ = ["Layer", "LayeredScene", "Product", "Quality", "open_layers"]


@dataclass(frozen=True, slots=True)
class Layer:
    """Where a band lies, and what its numbers mean."""

    band: str
    """Common name."""
    path: Path
    """The raster."""
    scale: float
    """Reflectance = stored value * scale + offset."""
    offset: float
    number: int = 1
    """1-based number in the raster."""
    nodata: float | None = None
    """The stored value that stands for no data, if the raster does not say it."""
    saturated: float | None = None
    """The stored value that stands for more light than the sensor can count."""


@dataclass(frozen=True, slots=True)
class Quality:
    """A raster that says which pixels are not to be trusted."""

    path: Path
    rule: CloudRule
    numbers: tuple[int, ...] = (1,)
    """1-based numbers of the bands that it holds for; one that speaks is enough."""


@dataclass(frozen=True, slots=True)
class Product:
    """A scene as it is delivered: a folder, or an item, with a file a band."""

    name: str
    layers: tuple[Layer, ...]
    """No band twice."""
    level: Level | None
    quality: tuple[Quality, ...] = ()
    """What hides cloud, its shadow and what else is not ground."""
    assumed: tuple[str, ...] = ()
    """What it does not say itself, a sentence each."""
    says: tuple[str, ...] = ("bands", "sensor", "scale", "offset", "nodata")
    """What nobody has to say of it: those parts of a Reading are refused."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names, in the product's order."""
        return tuple(layer.band for layer in self.layers)


class LayeredScene:
    """Bands brought onto one grid, bilinearly; valid where every band is, and no mask objects.

    Args:
        name: what to call it.
        grid: where to.
        bands: a scene of one band each.
        masks: scenes of one band, 1 where a pixel is not to be trusted; pixels that a mask does
            not reach are trusted.
        assumed: what was taken for granted.
    """

    def __init__(
        self,
        name: str,
        grid: Grid,
        bands: Sequence[Scene],
        masks: Sequence[Scene],
        assumed: Sequence[str],
    ) -> None:
        self.name, self.grid = name, grid
        self.bands: tuple[str, ...] = tuple(name for scene in bands for name in scene.bands)
        self._layers = [onto_grid(scene, grid) for scene in bands]
        self._masks = [onto_grid(scene, grid, Resampling.nearest) for scene in masks]
        resampled = {note for layer in self._layers for note in layer.assumed}
        self.assumed: tuple[str, ...] = (*assumed, *sorted(resampled))

    def read(self, window: Window) -> Chip:
        """See Scene."""
        pixels = np.empty((len(self._layers), *window.shape), np.float32)
        valid = np.ones(window.shape, np.bool_)
        for plane, layer in zip(pixels, self._layers, strict=True):
            chip = layer.read(window)
            plane[:] = chip.pixels[0]
            valid &= chip.valid
        for mask in self._masks:
            valid &= mask.read(window).pixels[0] < 0.5
        pixels[:, ~valid] = 0
        return Chip(pixels, valid, window)


class _Mask:
    """A quality raster as a scene: 1 where it objects, 0 elsewhere."""

    bands = ("objections",)
    assumed = ()

    def __init__(self, source: RasterSource, quality: Quality) -> None:
        self._source, self._quality = source, quality
        self.name, self.grid = source.header.name, source.header.grid

    def read(self, window: Window) -> Chip:
        """See Scene."""
        objections = np.zeros((1, *window.shape), np.float32)
        inside = window.intersect(self.grid.window)
        if inside is not None:
            stored = self._source.read(self._quality.numbers, inside)
            clear = self._quality.rule.clear(stored).all(axis=0)
            objections[0, *inside.within(window)] = ~clear
        return Chip(objections, np.ones(window.shape, np.bool_), window)


@contextmanager
def open_layers(
    product: Product,
    bands: Sequence[str],
    *,
    keep_clouds: bool = False,
    max_pixels: int,
    levels: Sequence[Level] = (),
) -> Iterator[LayeredScene]:
    """Open some bands of a product, on the finest of their grids.

    Args:
        product: what to open.
        bands: common names that it has, in the order wanted.
        keep_clouds: take what its quality rasters object to as valid.
        max_pixels: larger rasters are refused.
        levels: levels of reflectance that will do, the best first; empty: any.

    Raises:
        SceneError: if a file is missing or damaged, the files do not lie on the same ground, or
            no way is known to a level that will do.
    """
    layers, assumed = _at_level(product, bands, levels)
    with ExitStack() as opened:

        def open_raster(path: Path) -> RasterSource:
            return opened.enter_context(closing(RasterSource(path, max_pixels=max_pixels)))

        scenes = [_scene(open_raster(layer.path), layer) for layer in layers]
        finest = min((scene.grid for scene in scenes), key=_cell_area)
        quality = () if keep_clouds else product.quality
        masks = [_Mask(open_raster(each.path), each) for each in quality]
        yield LayeredScene(product.name, finest, scenes, masks, (*product.assumed, *assumed))


def _at_level(
    product: Product, bands: Sequence[str], levels: Sequence[Level]
) -> tuple[list[Layer], tuple[str, ...]]:
    """Some bands of a product, their numbers at a level that will do."""
    by_band = {layer.band: layer for layer in product.layers}
    layers = [by_band[band] for band in bands]
    change, assumed = between_levels(product.level, levels, bands)
    if change is not None:
        layers = [
            replace(layer, scale=layer.scale * float(f), offset=layer.offset * float(f) + float(t))
            for layer, f, t in zip(layers, *change, strict=True)
        ]
    return layers, assumed


def _scene(source: RasterSource, layer: Layer) -> SourceScene:
    header = source.header
    if layer.number > header.count:
        raise SceneError(f"{header.name} has no band {layer.number}, which should be {layer.band}")
    nodata = header.nodata[layer.number - 1]
    return SourceScene(
        source,
        [layer.band],
        [layer.number],
        (np.array([layer.scale], np.float32), np.array([layer.offset], np.float32)),
        [nodata if layer.nodata is None else layer.nodata],
        never=() if layer.saturated is None else (layer.saturated,),
    )


def _cell_area(grid: Grid) -> float:
    t = grid.transform
    return abs(t.a * t.e - t.b * t.d)
