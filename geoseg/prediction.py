"""A scene in, a map out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from geoseg.cluster import Cluster
from geoseg.limits import MAX_PIXELS
from geoseg.map_making import MapMaker, MapOptions, Prediction, Progress, map_maker
from geoseg.model.bundle import DEFAULT_MODEL
from geoseg.model.loading import Model
from geoseg.model.runtime import Precision, RuntimeName
from geoseg.raster.level import Level
from geoseg.raster.opening import SceneFiles, SceneLike
from geoseg.raster.stitch import Join

if TYPE_CHECKING:
    import xarray

__all__ = ["PredictOptions", "predict", "predict_scenes"]

MOST_AT_ONCE = 64
"""Scenes that a cluster maps together; their files are all made here."""


class PredictOptions(MapOptions, total=False):
    """The keyword arguments of `predict`."""

    progress: Progress | None


@overload
def predict(scene: SceneFiles, **options: Unpack[PredictOptions]) -> Prediction: ...


@overload
def predict(scene: xarray.DataArray, **options: Unpack[PredictOptions]) -> xarray.DataArray: ...


def predict(
    scene: SceneLike,
    *,
    model: str | Path | Model = DEFAULT_MODEL,
    output: str | Path = ".",
    bands: str | Mapping[str, int] | None = None,
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    gsd: float | None = None,
    level: Level | None = None,
    keep_clouds: bool = False,
    min_confidence: float = 0.0,
    max_pixels: int = MAX_PIXELS,
    scores: bool = False,
    confidence: bool = False,
    polygons: bool = True,
    preview: bool = True,
    overwrite: bool = False,
    skip_existing: bool = False,
    join: Join | None = None,
    chip_px: int | None = None,
    halo_px: int | None = None,
    runtime: RuntimeName = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    memory: str | int | None = None,
    dask: str | None = None,
    progress: Progress | None = None,
) -> Prediction | xarray.DataArray:
    """Map a scene.

    A path gives files in `output`, named after the scene; an xarray.DataArray that follows
    rioxarray's conventions gives a DataArray of class codes and writes nothing.

    Args:
        scene: a raster file, a Sentinel-2 or Landsat folder, a STAC item, a list of files of a
            band each, or an array of (band, y, x).
        model: an installed model's name, a bundle's path, or a loaded model.
        output: the folder for the results.
        bands: 1-based band numbers by common name, or as text, "red=3,green=2".
        sensor: whose own band names or customary band order the scene uses.
        scale: value in the model's units = stored value * scale + offset.
        offset: see scale.
        nodata: the stored value that stands for no data.
        gsd: read the scene at this ground sample distance in metres; 0 reads it as it is. By
            default a scene outside the model's range is read at the range's nearest end.
        level: of the scene's reflectance, "toa" at the top of the atmosphere or "surface".
        keep_clouds: map what a product's quality bands call cloud, shadow or saturated, too.
        min_confidence: pixels whose class is less probable, 0 to 1, are called uncertain (254).
        max_pixels: scenes with more pixels are refused.
        scores: write every class's probability, in percent.
        confidence: write the winning class's probability, in percent.
        polygons: write polygons.
        preview: write a picture of scene and map.
        overwrite: replace results that exist.
        skip_existing: where the results exist, all of them and by the same model, return them.
        join: "crop" keeps chips' cores, "blend" weights what overlaps; by default the first for
            networks that are exact under tiling, the second for the others.
        chip_px: side of a chip in pixels, by default the card's.
        halo_px: rim of a chip that is read but not kept, by default the card's.
        runtime: "auto", "openvino" or "torch"; this and the next two as for `load_model`.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: "auto", "float32", "bf16" or "int8".
        memory: what the process may take, in bytes or as "2GB"; chips are made smaller to fit,
            where the map stays the same.
        dask: the address of a dask.distributed scheduler whose workers compute the map of a
            file; they read scene and model by the same paths.
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
    options = MapOptions(
        model=model,
        output=output,
        bands=bands,
        sensor=sensor,
        scale=scale,
        offset=offset,
        nodata=nodata,
        gsd=gsd,
        level=level,
        keep_clouds=keep_clouds,
        min_confidence=min_confidence,
        max_pixels=max_pixels,
        scores=scores,
        confidence=confidence,
        polygons=polygons,
        preview=preview,
        overwrite=overwrite,
        skip_existing=skip_existing,
        join=join,
        chip_px=chip_px,
        halo_px=halo_px,
        runtime=runtime,
        device=device,
        precision=precision,
        memory=memory,
        dask=dask,
    )
    with map_maker(options) as maker:
        if isinstance(scene, str | Path | list | tuple):
            finish = maker.map_files(scene, progress)
            maker.rest()
            return finish()
        return maker.map_array(scene)


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
    bar = progress or (lambda _: nullcontext(None))
    with map_maker(options) as maker:
        if maker.cluster is not None:
            yield from _predict_at_once(scenes, maker, maker.cluster)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="geoseg-finish") as pool:
            earlier: tuple[str, Future[Prediction]] | None = None
            for scene in map(str, scenes):
                try:
                    with bar(Path(scene)) as tell:
                        finish = maker.map_files(scene, tell)
                except Exception as error:
                    finish = partial(_fail, error)
                begun = scene, pool.submit(finish)
                if earlier is not None:
                    yield earlier[0], _outcome(earlier[1])
                earlier = begun
            maker.rest()
            if earlier is not None:
                yield earlier[0], _outcome(earlier[1])


def _predict_at_once(
    scenes: Iterable[str | Path], maker: MapMaker, cluster: Cluster
) -> Iterator[tuple[str, Prediction | Exception]]:
    """As many scenes at a time as the cluster has threads: each may be too small for all."""
    most = min(cluster.threads, MOST_AT_ONCE)
    with ThreadPoolExecutor(most, thread_name_prefix="geoseg-scene") as pool:
        begun = [
            (scene, pool.submit(lambda path: maker.map_files(path, None)(), scene))
            for scene in map(str, scenes)
        ]
        try:
            for scene, making in begun:
                yield scene, _outcome(making)
        except BaseException:
            cluster.close()  # or the scenes under way would be waited for
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fail(error: Exception) -> Prediction:
    raise error


def _outcome(finishing: Future[Prediction]) -> Prediction | Exception:
    try:
        return finishing.result()
    except Exception as error:
        return error
