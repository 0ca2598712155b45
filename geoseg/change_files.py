"""The files of a change map: raster, polygons, table, preview and summary."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from geoseg.bitemporal.change_legend import ChangeLegend
from geoseg.bitemporal.settlement import ChangeStrip
from geoseg.bitemporal.transitions import (
    TransitionAttributes,
    TransitionCount,
    changed_codes,
    transition_codes,
    write_matrix,
)
from geoseg.errors import SceneError
from geoseg.grid import Grid, Window
from geoseg.legend import NODATA
from geoseg.outputs import Staging
from geoseg.raster.geotiff import MapWriter, write_category_names
from geoseg.raster.pictures import map_picture, picture, scene_picture, shown_bands
from geoseg.raster.preview import Sampled, draw_sheet
from geoseg.raster.stitch import PERCENT
from geoseg.raster.style import palette_style, ramp_style
from geoseg.stopwatch import Stopwatch
from geoseg.vector.layers import write_layer
from geoseg.vector.polygons import ClassStrip, trace_polygons
from geoseg.vector.tables import PolygonTable

__all__ = ["ChangeFiles", "file_names"]

CERTAINTY = ((0.5, "#fed976", "50 %"), (0.75, "#fd8d3c", "75 %"), (1.0, "#bd0026", "100 %"))
"""Colours of the probability of change, where there is no kind of it to show."""


def file_names(stem: str) -> dict[str, str]:
    """Final file names by what they are; the summary last, it says that all is there."""
    return {
        "change": f"{stem}.tif",
        "class_names": f"{stem}.tif.aux.xml",
        "style": f"{stem}.qml",
        "polygons": f"{stem}_polygons.gpkg",
        "matrix": f"{stem}_summary.csv",
        "preview": f"{stem}_preview.png",
        "summary": f"{stem}_summary.json",
    }


class ChangeFiles:
    """Takes a change map strip by strip and writes its files into a staging folder.

    Args:
        staging: where to write.
        stem: what the file names begin with.
        grid: where the pixels lie.
        bands: common names of the bands of the scenes.
        legend: the classes, or the kinds of change.
        dates: of the earlier and the later scene, ISO 8601; None where unknown.
        tags: written into the raster's metadata.
    """

    def __init__(
        self,
        staging: Staging,
        stem: str,
        grid: Grid,
        bands: Sequence[str],
        legend: ChangeLegend,
        dates: Sequence[str | None],
        tags: Mapping[str, str],
    ) -> None:
        self._stem = stem
        self._grid, self._legend, self._dates = grid, legend, dates
        self._paths = {what: staging.path(name) for what, name in file_names(stem).items()}
        self._shown = shown_bands(bands)
        planes = len(self._shown)
        self._scenes = [Sampled(grid.shape, planes, np.float32, 0) for _ in dates]
        self._classes = Sampled(grid.shape, 2, np.uint8, NODATA)
        names = ("change", "confidence") if legend.kinds else ("from", "to", "confidence")
        scales = (*(1.0 for _ in names[1:]), 1 / PERCENT)
        self.counts = TransitionCount(grid)
        """What was counted so far."""
        self._raster = MapWriter(
            self._paths["change"], grid, names, tags=tags, scale=scales, overviews="mode"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._raster.discard()

    def see(self, scene: int, window: Window, pixels: npt.NDArray[np.float32]) -> None:
        """Take what the preview shows of a scene, 0 for the earlier one.

        Args:
            scene: which.
            window: where the pixels lie on the map; it may reach beyond its edges.
            pixels: (C, H, W).
        """
        inside = window.intersect(self._grid.window)
        if inside is not None:
            self._scenes[scene].see(inside, pixels[self._shown][:, *inside.within(window)])

    def write(
        self, strips: Iterable[ChangeStrip], watch: Stopwatch, progress: Callable[[float], None]
    ) -> int:
        """Write raster, polygons and table; return how many polygons there are.

        Raises:
            SceneError: if not a pixel is valid.
            OutputError: if a file cannot be written in full.
        """
        with watch.stage("polygons"):
            polygons = self._write_polygons(self._written(strips, watch, progress))
        if not self.counts.valid_pixels:
            raise SceneError("the scenes share no valid pixel: nothing to compare")
        with watch.stage("write"):
            self._raster.close()
            with_names = (1,) if self._legend.kinds else (1, 2)
            names = {each.code: each.name for each in self._legend.legend}
            write_category_names(self._paths["change"], names, with_names)
            self._paths["style"].write_text(self._style(), encoding="utf-8")
            write_matrix(self._paths["matrix"], self.counts, self._legend)
        return polygons

    def finish(self, summary: Mapping[str, Any], title: str) -> None:
        """Draw the preview and write the summary."""
        self._draw(title)
        text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False)
        self._paths["summary"].write_text(text + "\n", encoding="utf-8")

    def _written(
        self, strips: Iterable[ChangeStrip], watch: Stopwatch, progress: Callable[[float], None]
    ) -> Iterator[ClassStrip]:
        """Strips for the polygons, each written into the raster as it passes."""
        for strip in watch.each("connect", strips):
            with watch.stage("write"):
                self._write_strip(strip)
            known = strip.probability != NODATA
            confidence = np.where(
                known, strip.probability / np.float32(PERCENT), np.float32(np.nan)
            )
            codes = transition_codes(strip.before, strip.after)
            progress(strip.window.row_stop / self._grid.height)
            last = strip.window.row_stop == self._grid.height
            yield ClassStrip(codes, confidence.astype(np.float32), last)

    def _write_strip(self, strip: ChangeStrip) -> None:
        classes = [strip.after] if self._legend.kinds else [strip.before, strip.after]
        self._raster.write(strip.window, np.stack((*classes, strip.probability)))
        self.counts.add(strip.window, strip.before, strip.after)
        self._classes.see(strip.window, np.stack((strip.before, strip.after)))

    def _write_polygons(self, strips: Iterable[ClassStrip]) -> int:
        table = PolygonTable(
            trace_polygons(strips, self._grid, classes=changed_codes(self._legend)),
            TransitionAttributes(self._legend, self._dates),
            in_metres=self._grid.gsd_m is not None,
            with_confidence=True,
        )
        layer = f"{self._stem}_polygons"
        return write_layer(self._paths["polygons"], table, self._grid.crs, layer=layer)

    def _style(self) -> str:
        """Kinds of change in their colours; of classes, how probable change is.

        No band of classes tells by itself where they changed.
        """
        if self._legend.kinds:
            return palette_style(1, self._legend.legend, clear=self._legend.unchanged)
        return ramp_style(3, CERTAINTY)

    def _draw(self, title: str) -> None:
        """Both scenes, and what changed over the later one in pale grey."""
        before, after = self._classes.planes
        known = before != NODATA
        scenes = [scene_picture(each.planes, known) for each in self._scenes]
        changed = np.asarray(map_picture(after, self._legend.legend))
        pale = 255 - (255 - np.asarray(scenes[1].convert("L"))[..., None].repeat(3, axis=2)) // 3
        drawn = np.where((before != after)[..., None], changed, pale)
        draw_sheet(
            self._paths["preview"], title, [*scenes, picture(np.moveaxis(drawn, -1, 0))],
            self._entries(),
        )  # fmt: skip

    def _entries(self) -> list[tuple[tuple[int, int, int], str]]:
        """What places have become, the most first."""
        legend = self._legend.legend
        total = max(1, self.counts.valid_pixels)
        shares = {
            each: sum(self.counts.pixels(c, each.code) for c in legend.codes if c != each.code)
            / total
            for each in legend
        }
        ordered = sorted(shares.items(), key=lambda item: -item[1])
        now = "" if self._legend.kinds else "now "
        return [(each.rgb, f"{now}{each.name}  {share:.2%}") for each, share in ordered if share]
