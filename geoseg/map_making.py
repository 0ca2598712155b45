"""What a scene is mapped with, and how its files come about."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

import numpy as np

from geoseg.cluster import Cluster, ModelSource, Order
from geoseg.errors import InputError, SceneError
from geoseg.legend import UNCERTAIN
from geoseg.limits import MAX_PIXELS
from geoseg.map_files import MapFiles, Products, provenance
from geoseg.model.bundle import DEFAULT_MODEL
from geoseg.model.loading import Model, load_model
from geoseg.model.runtime import Precision, RuntimeName
from geoseg.outputs import is_whole, staged
from geoseg.raster.decision import PERCENT
from geoseg.raster.level import Level
from geoseg.raster.opening import SceneFiles, SceneLike
from geoseg.raster.products.opening import scene_stem
from geoseg.raster.scene import Reading, Scene
from geoseg.raster.stitch import Join, Strip
from geoseg.scene_mapping import SeeChip, Tiling, predict_strips
from geoseg.scene_opening import Opening, refuse_two_dates
from geoseg.stopwatch import Stopwatch

if TYPE_CHECKING:
    import xarray

__all__ = ["MapMaker", "MapOptions", "Prediction", "Progress", "map_maker", "memory_bytes"]

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
    level: Level | None
    keep_clouds: bool
    min_confidence: float
    max_pixels: int
    scores: bool
    confidence: bool
    polygons: bool
    preview: bool
    overwrite: bool
    skip_existing: bool
    join: Join | None
    chip_px: int | None
    halo_px: int | None
    runtime: RuntimeName
    device: str
    precision: Precision
    memory: str | int | None
    dask: str | None


@dataclass(frozen=True, slots=True)
class MapMaker:
    """What a scene is mapped with."""

    model: Model
    opening: Opening
    tiling: Tiling
    memory_bytes: int | None
    cluster: Cluster | None
    source: ModelSource | None
    """What the cluster's workers load the model from."""
    products: Products
    least_percent: int
    """Of confidence; pixels with less are called uncertain."""
    output: Path
    overwrite: bool
    skip_existing: bool
    model_is_lent: bool
    """Whether somebody goes on with the model when the maps are made."""

    def rest(self) -> None:
        """After the last scene: its files are finished without what the network takes in memory."""
        if not self.model_is_lent:
            self.model.runtime.rest()

    def map_files(self, path: SceneFiles, progress: Progress | None) -> Callable[[], Prediction]:
        """Map a scene and return what is left to do: its files are finished and put in place."""
        watch, stem, products = Stopwatch(), scene_stem(path), self.products
        names = products.file_names(stem)
        if self.skip_existing and (found := self._finished(stem, names)) is not None:
            return partial(_same, found)
        with ExitStack() as open_files, self._opened(path) as (scene, tiling):
            staging = open_files.enter_context(
                staged(self.output, stem, list(names.values()), overwrite=self.overwrite)
            )
            files = open_files.enter_context(
                MapFiles(staging, stem, scene, self.model, tiling, products, self.least_percent)
            )
            strips = self._strips(path, scene, tiling, products.scores, files.see_chip, watch)
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
                stale = (
                    [name for name in every if name not in names.values()] if self.overwrite else []
                )
                paths = staging.put_in_place(list(names.values()), stale)
            return Prediction(dict(zip(names, paths, strict=True)), summary)

        return finish

    def _finished(self, stem: str, names: Mapping[str, str]) -> Prediction | None:
        """What an earlier run wrote for a scene, where it is all there and of the same model."""
        paths = {what: self.output / name for what, name in names.items()}
        if not is_whole(self.output, stem, list(names.values())):
            return None
        try:
            summary = json.loads(paths["summary"].read_text(encoding="utf-8"))
            runtime = summary["model"]["runtime"]
            by = summary["model"]["sha256"], runtime.endswith("int8"), summary["min_confidence"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        int8 = self.model.runtime.label.endswith("int8")  # its maps are others
        wanted = self.model.sha256, int8, self.least_percent / PERCENT
        return Prediction(paths, summary) if by == wanted else None

    def map_array(self, array: xarray.DataArray) -> xarray.DataArray:
        """The class codes of an array, nothing written."""
        from geoseg.raster.arrays import map_array

        with self._opened(array) as (scene, tiling):
            strips = predict_strips(scene, self.model, tiling=tiling)
            classes = np.concatenate([s.where_sure(self.least_percent).classes for s in strips])
            if not np.isin(classes, (*self.model.card.legend.codes, UNCERTAIN)).any():
                raise SceneError(f"{scene.name} holds no valid pixel: nothing to map")
            notes = provenance(scene, self.model, tiling, self.least_percent)
            attrs = {key.lower(): value for key, value in notes.items()}
            return map_array(classes, scene.grid, array, attrs)

    @contextmanager
    def _opened(self, scene: SceneLike) -> Iterator[tuple[Scene, Tiling]]:
        """The scene at a gsd that the model knows, and how it is cut into chips."""
        with self.opening.open(scene, self.model.card) as opened:
            yield opened, self.tiling.settled(opened.grid.shape, self.model, self.memory_bytes)

    def _strips(
        self,
        path: SceneFiles,
        scene: Scene,
        tiling: Tiling,
        scores: bool,
        see: SeeChip,
        watch: Stopwatch,
    ) -> Generator[Strip, None, None]:
        """The map of a scene, made here or by the cluster."""
        if self.cluster is None or self.source is None:
            return predict_strips(
                scene, self.model, tiling=tiling, scores=scores, see_chip=see, watch=watch
            )
        order = Order(path, self.opening, self.source, tiling, scores)
        shown = see if self.products.preview else None  # a scene is not read here for less
        return self.cluster.strips(order, scene, self.model.card, shown)


@contextmanager
def map_maker(options: MapOptions) -> Iterator[MapMaker]:
    """Load the model, and connect to the cluster if there is one."""
    given, model = options.get("model", DEFAULT_MODEL), options.get("model", DEFAULT_MODEL)
    runtime, device = options.get("runtime", "auto"), options.get("device", "auto")
    precision = options.get("precision", "auto")
    if not isinstance(model, Model):
        model = load_model(model, runtime=runtime, device=device, precision=precision)
    refuse_two_dates(model.card)
    reading = Reading(
        options.get("bands"),
        options.get("sensor"),
        options.get("scale"),
        options.get("offset"),
        options.get("nodata"),
        options.get("max_pixels", MAX_PIXELS),
        options.get("level"),
        options.get("keep_clouds", False),
    )
    products = Products(
        options.get("scores", False),
        options.get("confidence", False),
        options.get("polygons", True),
        options.get("preview", True),
    )
    address, source, cluster = options.get("dask"), None, None
    if address is not None:
        if isinstance(given, Model):
            raise InputError("with dask, give the model's name or path: workers load it themselves")
        label = model.runtime.label
        source = ModelSource(str(given), model.sha256, label, runtime, device, precision)
        cluster = Cluster(address)
    try:
        yield MapMaker(
            model,
            Opening(reading, options.get("gsd")),
            Tiling(options.get("join"), options.get("chip_px"), options.get("halo_px")),
            memory_bytes(options.get("memory")),
            cluster,
            source,
            products,
            _percent(options.get("min_confidence", 0.0)),
            Path(options.get("output", ".")),
            options.get("overwrite", False),
            options.get("skip_existing", False),
            isinstance(given, Model),
        )
    finally:
        if cluster is not None:
            cluster.close()


def _same(made: Prediction) -> Prediction:
    return made


def _percent(min_confidence: float) -> int:
    """A share in whole percent, which is what confidences are told in."""
    if not 0 <= min_confidence <= 1:
        raise InputError(f"--min-confidence {min_confidence:g} is no share between 0 and 1")
    return math.ceil(round(min_confidence * PERCENT, 6))


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
