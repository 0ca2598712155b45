"""The files of a map: class raster, polygons, preview, summary, and what else was asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

from geoseg.accuracy.area import AreaCount
from geoseg.errors import SceneError
from geoseg.legend import Legend, Meanings
from geoseg.model.loading import Model
from geoseg.outputs import Staging
from geoseg.raster.chips import PlannedChip
from geoseg.raster.classes import ClassRaster
from geoseg.raster.decision import PERCENT
from geoseg.raster.geotiff import MapWriter, write_category_names
from geoseg.raster.preview import Preview
from geoseg.raster.scaling import EIGHT_BIT
from geoseg.raster.scene import Chip, Scene
from geoseg.raster.stitch import Strip
from geoseg.scene_mapping import Tiling
from geoseg.stopwatch import Stopwatch

__all__ = ["MapFiles", "Products", "provenance"]


@dataclass(frozen=True, slots=True)
class Products:
    """Which files are wanted besides the class raster and the summary."""

    scores: bool = False
    confidence: bool = False
    polygons: bool = True
    preview: bool = True

    def file_names(self, stem: str) -> dict[str, str]:
        """Final file names by what they are; the summary last, it says that all is there."""
        names = {"classes": f"{stem}_classes.tif", "class_names": f"{stem}_classes.tif.aux.xml"}
        if self.confidence:
            names["confidence"] = f"{stem}_confidence.tif"
        if self.scores:
            names["scores"] = f"{stem}_scores.tif"
        if self.polygons:
            names["polygons"] = f"{stem}_polygons.gpkg"
        if self.preview:
            names["preview"] = f"{stem}_preview.png"
        return names | {"summary": f"{stem}_summary.json"}


class MapFiles:
    """Takes a map strip by strip and writes its files into a staging folder.

    Args:
        staging: where to write.
        stem: what the file names begin with.
        scene: what is mapped.
        model: what maps it.
        tiling: how it is cut into chips, with nothing left open.
        products: which files are wanted.
        least_percent: pixels with less confidence are called uncertain.
    """

    def __init__(
        self,
        staging: Staging,
        stem: str,
        scene: Scene,
        model: Model,
        tiling: Tiling,
        products: Products,
        least_percent: int = 0,
    ) -> None:
        self._least_percent = least_percent
        self._stem, self._scene, self._model, self._tiling = stem, scene, model, tiling
        self._names = products.file_names(stem)
        self._paths = {what: staging.path(name) for what, name in self._names.items()}
        self._legend = legend = model.card.legend
        self._areas = AreaCount(scene.grid)
        self._preview = Preview(scene.grid.shape, scene.bands, legend)
        self._usual = model.usual_values(scene.bands)
        tags = provenance(scene, model, tiling, least_percent)
        self._classes = MapWriter(
            self._paths["classes"], scene.grid, ("class",), tags=tags, legend=legend
        )
        self._percents = {
            what: MapWriter(self._paths[what], scene.grid, bands, tags=tags, scale=1 / PERCENT)
            for what, bands in (("confidence", ("confidence",)), ("scores", legend.names))
            if what in self._paths
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in (self._classes, *self._percents.values()):
            writer.discard()

    def see_chip(self, planned: PlannedChip, chip: Chip) -> None:
        """Take what the preview shows of the scene, and look whether its values are usual."""
        if "preview" in self._paths:
            self._preview.see_chip(planned, chip)
        self._usual.see_chip(planned, chip)

    def add(self, strip: Strip) -> None:
        """Write finished rows; strips come top to bottom."""
        strip = strip.where_sure(self._least_percent)
        self._classes.write(strip.window, strip.classes[None])
        if "confidence" in self._percents:
            self._percents["confidence"].write(strip.window, strip.confidence[None])
        if "scores" in self._percents and strip.scores is not None:
            self._percents["scores"].write(strip.window, strip.scores)
        self._areas.add(strip.window, strip.classes)
        self._preview.see_strip(strip)

    def finish(self, watch: Stopwatch) -> dict[str, Any]:
        """Complete every file and return what the summary says.

        Raises:
            SceneError: if not a pixel was valid.
            OutputError: if a file cannot be written in full.
        """
        if not self._areas.valid_pixels:
            raise SceneError(f"{self._scene.name} holds no valid pixel: nothing to map")
        with watch.stage("write"):
            for writer in (self._classes, *self._percents.values()):
                writer.close()
            write_category_names(self._paths["classes"], _names(self._legend, self._least_percent))
        if "polygons" in self._paths:
            with watch.stage("polygons"):
                self._write_polygons()
        summary = self._summary()
        if "preview" in self._paths:
            with watch.stage("preview"):
                shares = {c["name"]: c["share"] for c in summary["classes"] if c["pixels"]}
                title = f"{self._scene.name}   -   {self._model.card.name}"
                self._preview.save(self._paths["preview"], title, shares)
        summary["seconds"] = watch.seconds
        summary["elapsed_seconds"] = watch.elapsed
        text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
        self._paths["summary"].write_text(text + "\n", encoding="utf-8")
        return summary

    def _write_polygons(self) -> None:
        from geoseg.vectorization import MapPolygons  # its libraries cost over a second

        height, width = self._scene.grid.shape  # its size is known: no limit is to be told again
        with closing(ClassRaster(self._paths["classes"], max_pixels=height * width)) as raster:
            polygons = MapPolygons(
                raster, Meanings.of(self._legend), confidence=self._paths.get("confidence")
            )
            polygons.write_file(self._paths["polygons"], layer=f"{self._stem}_polygons")

    def _warnings(self) -> list[str]:
        scene, lost = self._scene, self._areas.off_the_earth
        warnings = []
        if scene.grid.crs is None:
            warnings.append(f"{scene.name} has no CRS: areas are in pixels")
        elif scene.grid.gsd_m is None:
            warnings.append(
                f"the CRS of {scene.name} has no place on the Earth: areas are in pixels"
            )
        elif lost:
            warnings.append(f"{lost} pixels lie off the Earth and have no area")
        warnings += [said for said in scene.assumed if EIGHT_BIT in said]
        unusual = self._usual.warning(self._model.card.name)
        return warnings if unusual is None else [*warnings, unusual]

    def _summary(self) -> dict[str, Any]:
        scene, model, grid = self._scene, self._model, self._scene.grid
        return {
            "scene": scene.name,
            "geoseg": version("geoseg"),
            "model": {
                "name": model.card.name,
                "sha256": model.sha256,
                "runtime": model.runtime.label,
            },
            "chips": asdict(self._tiling),
            "bands": list(scene.bands),
            "assumed": [said for said in scene.assumed if EIGHT_BIT not in said],
            "min_confidence": self._least_percent / PERCENT,
            "warnings": self._warnings(),
            "crs": None if grid.crs is None else grid.crs.to_string(),
            "shape": list(grid.shape),
            "gsd_m": None if grid.gsd_m is None else round(grid.gsd_m, 4),
            "valid_share": self._areas.valid_share,
            "classes": [asdict(each) for each in self._areas.by_class(self._legend)],
            "files": dict(self._names),
        }


def provenance(
    scene: Scene, model: Model, tiling: Tiling, least_percent: int = 0
) -> dict[str, str]:
    """What a map's metadata says of its making; no times, so that a rerun gives the same bytes."""
    doubt = {"GEOSEG_MIN_CONFIDENCE": f"{least_percent} %"} if least_percent else {}
    return doubt | {
        "GEOSEG_VERSION": version("geoseg"),
        "GEOSEG_MODEL": model.card.name,
        "GEOSEG_MODEL_SHA256": model.sha256,
        "GEOSEG_RUNTIME": model.runtime.label,
        "GEOSEG_CHIPS": str(tiling),
        "GEOSEG_SCENE": scene.name,
        "GEOSEG_BANDS": " ".join(scene.bands),
        "GEOSEG_ASSUMED": "; ".join(scene.assumed) or "nothing",
        "GEOSEG_LEGEND": json.dumps(_names(model.card.legend, least_percent)),
    }


def _names(legend: Legend, least_percent: int) -> Mapping[int, str]:
    """Of the codes that a map may hold."""
    if least_percent:
        return Meanings.of(legend).names
    return {each.code: each.name for each in legend}
