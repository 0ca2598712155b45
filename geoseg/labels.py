"""Labels of a scene: what a person says each pixel is, on the scene's own pixels."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import shapely

from geoseg.errors import GridError, InputError, LegendError, SceneError
from geoseg.grid import Grid, Window
from geoseg.legend import NO_CLASS, NODATA, Legend
from geoseg.raster.classes import ClassRaster
from geoseg.vector.class_polygons import ClassPolygons
from geoseg.vector.opening import OPENERS
from geoseg.vector.samples import read_samples

__all__ = ["LabelledScene", "Labels", "Paths", "find_files", "open_labels", "pair_up"]

Codes: TypeAlias = npt.NDArray[np.uint8]
Paths: TypeAlias = "str | Path | Sequence[str | Path]"


class Labels(Protocol):
    """Class codes on the pixels of a scene."""

    @property
    def name(self) -> str:
        """File name."""
        ...

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was done to bring them onto the scene, a sentence each."""
        ...

    def read(self, window: Window) -> Codes:
        """Codes (H, W) of the legend, 255 where unlabelled; the window may reach beyond.

        Raises:
            LegendError: if there is a code that the legend does not have.
        """
        ...


@dataclass(frozen=True, slots=True)
class LabelledScene:
    """A scene's file and the file of its labels; or two scenes' and that of what changed."""

    scene: Path
    labels: Path
    kept_for: Literal["validation", "test"] | None = None
    """What it is kept apart for; None: it may be learnt from."""
    after: Path | None = None
    """The later scene of the same place, where labels tell what changed."""

    @property
    def name(self) -> str:
        """What the scene, or the two, are called once they are open."""
        return self.scene.name if self.after is None else f"{self.scene.name} -> {self.after.name}"


def find_files(given: Paths, what: str, folder: str | Path = ".") -> list[Path]:
    """Files named one by one or by patterns such as "scenes/*.tif", each once, sorted.

    Args:
        given: names and patterns, relative to `folder` unless absolute.
        what: what to call them.
        folder: where they are looked for.

    Raises:
        InputError: if a pattern fits no file.
    """
    found: set[Path] = set()
    for pattern in [given] if isinstance(given, str | Path) else given:
        whole = Path(folder) / pattern
        if whole.exists() or not glob.has_magic(str(whole)):
            found.add(whole)
            continue
        fits = glob.glob(str(whole), recursive=True)  # noqa: PTH207  (patterns may be absolute)
        if not fits:
            raise InputError(f"no {what} are called {whole}")
        found |= set(map(Path, fits))
    return sorted(found)


def pair_up(
    scenes: Sequence[Path], labels: Sequence[Path], later: Sequence[Path] | None = None
) -> tuple[LabelledScene, ...]:
    """Find the labels of each scene: the file of the same stem, or one vector file for all.

    Args:
        scenes: the scenes; the earlier ones, where labels tell of change.
        labels: the labels.
        later: the later scene of each, of the same stem in another folder, likewise.

    Raises:
        InputError: if a scene has no labels, or labels have no scene.
    """
    if not scenes:
        raise InputError("there are no scenes: nothing to pair up")
    afters = [None] * len(scenes) if later is None else _namesakes(scenes, later, "later scenes")
    if len(labels) == 1 and labels[0].suffix.lower() in OPENERS:
        found = list(labels) * len(scenes)
    else:
        found = _namesakes(scenes, labels, "labels")
    return tuple(
        LabelledScene(scene, its_labels, after=after)
        for scene, its_labels, after in zip(scenes, found, afters, strict=True)
    )


def _namesakes(scenes: Sequence[Path], others: Sequence[Path], what: str) -> list[Path]:
    """The file of the same stem as each scene has; or the only other of an only scene."""
    if not others:
        raise InputError(f"there are no {what}: nothing to pair up")
    by_stem: dict[str, Path] = {}
    for path in others:
        twin = by_stem.setdefault(path.stem, path)
        if twin != path:
            raise InputError(f"{twin} and {path} have one name; which are the {what} of a scene?")
    stems = [scene.stem for scene in scenes]
    twins = [scene for scene in scenes if stems.count(scene.stem) > 1]
    if twins:
        raise InputError(f"{twins[0]} and {twins[1]} have one name; whose are the {what} of it?")
    missing = [scene for scene in scenes if scene.stem not in by_stem]
    if missing and len(scenes) == len(others) == 1:
        return list(others)
    if missing:
        raise InputError(
            f"{len(missing)} of {len(scenes)} scenes have no {what} of the same name, first "
            f"{missing[0]}; {what} are called as their scene is"
        )
    left = set(by_stem) - set(stems)
    if left:
        raise InputError(f"the {what} {by_stem[min(left)]} have no scene of the same name")
    return [by_stem[stem] for stem in stems]


@contextmanager
def open_labels(
    path: str | Path,
    grid: Grid,
    legend: Legend,
    *,
    field: str = "class",
    unlabelled: Sequence[int] = (),
    scene: str = "the scene",
) -> Iterator[Labels]:
    """Open a raster of class codes, or polygons of classes, as the labels of a scene.

    Args:
        path: a raster of one band, or a GeoPackage, Shapefile, FlatGeobuf or GeoJSON file.
        grid: the scene's.
        legend: what codes and names may be.
        field: of polygons, the field that holds the class, by name or code.
        unlabelled: codes that say nothing about a pixel.
        scene: what to call the scene.

    Raises:
        SceneError: if they cannot be read or do not overlap the scene.
        InputError: if polygons are of no class, or overlap with different classes.
    """
    path = Path(path)
    if path.suffix.lower() in OPENERS:
        yield PolygonLabels(path, grid, legend, field, scene)
        return
    raster = ClassRaster(path)
    try:
        yield RasterLabels(raster, grid, legend, unlabelled, scene)
    finally:
        raster.close()


class RasterLabels:
    """A class raster, nearest pixels taken where it is not on the scene's grid."""

    def __init__(
        self,
        raster: ClassRaster,
        grid: Grid,
        legend: Legend,
        unlabelled: Sequence[int],
        scene: str,
    ) -> None:
        self.name = raster.path.name
        self._raster, self._grid = raster, grid
        self._known = np.array(sorted({*legend.codes, NO_CLASS}), np.int64)
        self._unlabelled = np.array(unlabelled, np.int64)
        try:
            self._place: Window | None = raster.grid.align(grid)
        except GridError as difference:
            self._place = None
            self.assumed: tuple[str, ...] = (f"labels {self.name}: {difference}; nearest taken",)
        else:
            self.assumed = ()
        if not _overlap(raster.grid, self._footprint()):
            raise SceneError(f"the labels {self.name} do not overlap {scene}")

    def read(self, window: Window) -> Codes:
        """See Labels."""
        codes = np.full(window.shape, NO_CLASS, np.int64)
        inside = window.intersect(self._grid.window)
        if inside is not None:
            codes[inside.within(window)] = self._codes(inside)
        codes[np.isin(codes, self._unlabelled)] = NO_CLASS
        unknown = np.unique(codes[~np.isin(codes, self._known)]).tolist()
        if unknown:
            legend = [int(code) for code in self._known[1:]]
            told = ", ".join(map(str, unknown[:9]))
            raise LegendError(
                f"{self.name} holds the code{'s' * (len(unknown) > 1)} {told}, the legend has "
                f"{legend}; add what is missing to the classes, or to the codes that are "
                "unlabelled (--unlabelled of geoseg evaluate)"
            )
        return np.where(codes == NO_CLASS, NODATA, codes).astype(np.uint8)

    def _codes(self, window: Window) -> npt.NDArray[np.int32]:
        if self._place is not None:
            source = window.shift(self._place.row, self._place.col)
            codes = np.full(window.shape, NO_CLASS, np.int32)
            inside = source.intersect(self._raster.grid.window)
            if inside is not None:
                codes[inside.within(source)] = self._raster.read(inside)
            return codes
        return self._nearest(window)

    def _nearest(self, window: Window) -> npt.NDArray[np.int32]:
        rows, cols = np.mgrid[window.row : window.row_stop, window.col : window.col_stop] + 0.5
        col, row = self._raster.grid.from_pixels_of(self._grid, cols, rows)
        raster = self._raster.grid.window
        inside = (row >= 0) & (row < raster.height) & (col >= 0) & (col < raster.width)
        codes = np.full(window.shape, NO_CLASS, np.int32)
        if inside.any():
            at = np.stack([row[inside], col[inside]]).astype(np.int64)
            part = Window.from_stops(*at.min(axis=1).tolist(), *(at.max(axis=1) + 1).tolist())
            codes[inside] = self._raster.read(part)[at[0] - part.row, at[1] - part.col]
        return codes

    def _footprint(self) -> shapely.Polygon:
        """The scene's outline in pixels of the labels."""
        height, width = self._grid.shape
        t = np.linspace(0, 1, 16)
        cols = np.concatenate([t, t * 0 + 1, 1 - t, t * 0]) * width
        rows = np.concatenate([t * 0, t, t * 0 + 1, 1 - t]) * height
        col, row = self._raster.grid.from_pixels_of(self._grid, cols, rows)
        known = np.isfinite(col) & np.isfinite(row)
        if known.sum() < 3:
            return shapely.Polygon()
        return shapely.Polygon(np.column_stack([col[known], row[known]]))


class PolygonLabels:
    """Polygons of classes; where polygons of two classes lie, nothing is said."""

    def __init__(self, path: Path, grid: Grid, legend: Legend, field: str, scene: str) -> None:
        self.name = path.name
        found = read_samples(path, reference_field=field, option="the label field")
        kinds = shapely.get_type_id(found.shapes)
        lines = np.flatnonzero(~np.isin(kinds, (3, 6)))
        if len(lines):
            raise InputError(
                f"row {lines[0] + 1} of {self.name} is no polygon; labels cover ground"
            )
        broken = ~shapely.is_valid(found.shapes)
        shapes = np.where(broken, shapely.make_valid(found.shapes), found.shapes)
        codes = _codes_of(found.labels, legend, self.name)
        labelled = codes != NODATA
        self._polygons = ClassPolygons(
            shapes[labelled], codes[labelled], found.crs, grid, self.name, scene
        )
        if not self._polygons.reach(grid.window):
            raise SceneError(f"the labels {self.name} do not overlap {scene}")
        self.assumed: tuple[str, ...] = (
            "where polygons of different classes overlap, pixels are left unlabelled",
        )
        if broken.any():
            told = f"{int(broken.sum())} polygons of {self.name} cross themselves: repaired"
            self.assumed = (told, *self.assumed)

    def read(self, window: Window) -> Codes:
        """See Labels."""
        codes, disputed = self._polygons.read(window)
        return np.where(disputed, NODATA, codes).astype(np.uint8)


def _codes_of(labels: Sequence[str | None], legend: Legend, source: str) -> npt.NDArray[np.int64]:
    known = {str(each.code): each.code for each in legend}
    known |= {each.name.casefold(): each.code for each in legend}
    for number, label in enumerate(labels, 1):
        if label is not None and label.casefold() not in known:
            raise LegendError(
                f"polygon {number} in {source} is labelled {label!r}; the legend has "
                f"{', '.join(legend.names)} and their codes"
            )
    return np.array([NODATA if label is None else known[label.casefold()] for label in labels])


def _overlap(grid: Grid, footprint: shapely.Polygon) -> bool:
    return bool(shapely.box(0, 0, grid.width, grid.height).intersects(footprint))
