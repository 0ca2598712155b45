"""A scene in, a map out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, Unpack, overload

import numpy as np
import rasterio

from geoseg.errors import InputError, SceneError
from geoseg.grid import Grid
from geoseg.map_files import MapFiles, Products, provenance
from geoseg.model.bundle import DEFAULT_MODEL
from geoseg.model.card import Card
from geoseg.model.runtime import Model, Precision, RuntimeName, load_model
from geoseg.outputs import staged
from geoseg.raster.align import onto_grid
from geoseg.raster.scene import Reading, Scene, open_scene
from geoseg.raster.source import MAX_PIXELS
from geoseg.raster.stitch import Join
from geoseg.scene_mapping import Tiling, predict_strips
from geoseg.stopwatch import Stopwatch

if TYPE_CHECKING:
    import xarray

__all__ = [
    "MapOptions",
    "PredictOptions",
    "Prediction",
    "Progress",
    "Tiling",
    "at_gsd",
    "fitting_grid",
    "predict",
    "predict_scenes",
    "predict_strips",
]

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


class MapOptions(TypedDict, total=False):
    """The keyword arguments of `predict_scenes`, and but for one of `predict`."""

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
    device: str
    precision: Precision
    memory: str | int | None


class PredictOptions(MapOptions, total=False):
    """The keyword arguments of `predict`."""

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
    device: str = "auto",
    precision: Precision = "auto",
    memory: str | int | None = None,
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
        chip_px: side of a chip in pixels, by default the card's, or for a network that is exact
            under tiling what fits the memory.
        halo_px: rim of a chip that is read but not kept, by default the card's.
        runtime: "auto", "openvino" or "torch"; this and the next two as for `load_model`.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: "auto", "float32" or "bf16".
        memory: what the process may take, in bytes or as "2GB"; by default about 1.2 GB.
        progress: called with the share that is done, 0 to 1.

    Returns:
        Where the results are and what they sum up to, or the class codes as a DataArray.

    Raises:
        SceneError: if the scene cannot be read or holds no valid pixel.
        BandError: if its bands are not, or not clearly, the model's.
        ModelError: if the model cannot be loaded.
        OutputError: if the results cannot be written; nothing is left then.
        InputError: if results exist, or an option makes no sense.
    """
    options = MapOptions(
        model=model,
        output=output,
        bands=bands,
        sensor=sensor,
        scale=scale,
        offset=offset,
        nodata=nodata,
        gsd=gsd,
        max_pixels=max_pixels,
        scores=scores,
        confidence=confidence,
        polygons=polygons,
        preview=preview,
        overwrite=overwrite,
        join=join,
        chip_px=chip_px,
        halo_px=halo_px,
        runtime=runtime,
        device=device,
        precision=precision,
        memory=memory,
    )
    how, products, folder, replace = _settle(options)
    if not isinstance(scene, str | Path):
        return _predict_array(scene, how)
    return _predict_file(scene, how, products, folder, replace, progress)()


def predict_scenes(
    scenes: Iterable[str | Path],
    *,
    progress: Callable[[Path], AbstractContextManager[Progress | None]] | None = None,
    **options: Unpack[MapOptions],
) -> Iterator[tuple[str, Prediction | Exception]]:
    """Map scenes one after another; while the files of one are finished, the next is mapped.

    Args:
        scenes: raster files.
        progress: makes what `predict` calls progress, for each scene.
        options: as for `predict`.

    Returns:
        Each scene with its map, or with what went wrong, in their order.
    """
    how, products, output, overwrite = _settle(options)
    bar = progress or (lambda _: nullcontext(None))
    with ThreadPoolExecutor(1, thread_name_prefix="geoseg-finish") as pool:
        earlier: tuple[str, Future[Prediction]] | None = None
        for scene in map(str, scenes):
            try:
                with bar(Path(scene)) as tell:
                    finish = _predict_file(scene, how, products, output, overwrite, tell)
            except Exception as error:
                finish = partial(_fail, error)
            begun = scene, pool.submit(finish)
            if earlier is not None:
                yield earlier[0], _outcome(earlier[1])
            earlier = begun
        if earlier is not None:
            yield earlier[0], _outcome(earlier[1])


@dataclass(frozen=True, slots=True)
class _How:
    """What a scene is mapped with."""

    model: Model
    reading: Reading
    gsd: float | None
    tiling: Tiling
    memory_bytes: int | None

    @contextmanager
    def fitted(self, scene: str | Path | xarray.DataArray) -> Iterator[tuple[Scene, Tiling]]:
        """The scene open, at a gsd that the model knows, and how it is cut into chips."""
        card, most = self.model.card, self.reading.max_pixels
        opening = open_scene(
            scene,
            card.bands,
            units=card.units,
            stored_type=card.stored_type,
            reading=self.reading,
        )
        with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES), opening as opened:
            fitted = onto_grid(opened, fitting_grid(opened.grid, opened.name, card, self.gsd, most))
            yield fitted, self.tiling.settled(fitted.grid.shape, self.model, self.memory_bytes)


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


def _settle(options: MapOptions) -> tuple[_How, Products, Path, bool]:
    """With what, which files, where, and whether to replace what is there."""
    model = options.get("model", DEFAULT_MODEL)
    if not isinstance(model, Model):
        model = load_model(
            model,
            runtime=options.get("runtime", "auto"),
            device=options.get("device", "auto"),
            precision=options.get("precision", "auto"),
        )
    reading = Reading(
        options.get("bands"),
        options.get("sensor"),
        options.get("scale"),
        options.get("offset"),
        options.get("nodata"),
        options.get("max_pixels", MAX_PIXELS),
    )
    tiling = Tiling(options.get("join"), options.get("chip_px"), options.get("halo_px"))
    how = _How(model, reading, options.get("gsd"), tiling, memory_bytes(options.get("memory")))
    products = Products(
        options.get("scores", False),
        options.get("confidence", False),
        options.get("polygons", True),
        options.get("preview", True),
    )
    return how, products, Path(options.get("output", ".")), options.get("overwrite", False)


def memory_bytes(memory: str | int | None) -> int | None:
    """A number of bytes, or text such as "2GB", "1.5 GiB" and "800MB".

    Raises:
        InputError: if it is neither.
    """
    if memory is None or isinstance(memory, int):
        return memory
    told = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", memory.strip(), re.IGNORECASE)
    if told is None:
        raise InputError(f"--memory {memory!r} is no amount such as 2GB or 800MB")
    power = " KMGT".index(told[2].upper() or " ")
    return int(float(told[1]) * (1024 if told[3] else 1000) ** power)


def _predict_file(
    path: str | Path,
    how: _How,
    products: Products,
    output: Path,
    overwrite: bool,
    progress: Progress | None,
) -> Callable[[], Prediction]:
    """Map a scene and return what is left to do: its files are finished and put in place."""
    watch, stem, model = Stopwatch(), Path(path).stem, how.model
    names = products.file_names(stem)
    with ExitStack() as open_files, how.fitted(path) as (scene, tiling):
        staging = open_files.enter_context(
            staged(output, stem, list(names.values()), overwrite=overwrite)
        )
        files = open_files.enter_context(MapFiles(staging, stem, scene, model, tiling, products))
        strips = predict_strips(
            scene, model, tiling=tiling, scores=products.scores, see_chip=files.see_chip,
            watch=watch,
        )  # fmt: skip
        with closing(strips):
            for strip in strips:
                with watch.stage("write"):
                    files.add(strip)
                if progress is not None:
                    progress(strip.window.row_stop / scene.grid.height)
        unfinished = open_files.pop_all()

    def finish() -> Prediction:
        with unfinished:
            summary = files.finish(watch)
            every = Products(True, True, True, True).file_names(stem).values()
            stale = [name for name in every if name not in names.values()] if overwrite else []
            paths = staging.put_in_place(list(names.values()), stale)
        return Prediction(dict(zip(names, paths, strict=True)), summary)

    return finish


def _predict_array(array: xarray.DataArray, how: _How) -> xarray.DataArray:
    from geoseg.raster.arrays import map_array

    with how.fitted(array) as (scene, tiling):
        strips = [strip.classes for strip in predict_strips(scene, how.model, tiling=tiling)]
        classes = np.concatenate(strips)
        if not np.isin(classes, how.model.card.legend.codes).any():
            raise SceneError(f"{scene.name} holds no valid pixel: nothing to map")
        notes = provenance(scene, how.model, tiling)
        attrs = {key.lower(): value for key, value in notes.items()}
        return map_array(classes, scene.grid, array, attrs)


def _fail(error: Exception) -> Prediction:
    raise error


def _outcome(finishing: Future[Prediction]) -> Prediction | Exception:
    try:
        return finishing.result()
    except Exception as error:
        return error
