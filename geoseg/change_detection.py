"""Two scenes of one place in, what changed between them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import rasterio

from geoseg.bitemporal.alignment import align
from geoseg.bitemporal.change_legend import ChangeLegend
from geoseg.bitemporal.dates import scene_dates
from geoseg.bitemporal.draft import ConfinedFindings
from geoseg.bitemporal.pair import open_pair
from geoseg.bitemporal.semantic import WantedTransitions
from geoseg.bitemporal.settlement import settled
from geoseg.change_files import ChangeFiles, file_names
from geoseg.change_record import ChangeRecord
from geoseg.comparisons import ClassComparison, Comparison, PairComparison, ValueComparison
from geoseg.errors import InputError
from geoseg.grid import Grid, Window
from geoseg.limits import MAX_PIXELS
from geoseg.map_making import Progress
from geoseg.model.bundle import DEFAULT_MODEL
from geoseg.model.loading import Model, load_model
from geoseg.model.runtime import RuntimeName
from geoseg.outputs import Staging, staged
from geoseg.raster.level import Level
from geoseg.raster.scene import Reading
from geoseg.scene_opening import GDAL_CACHE_BYTES
from geoseg.stopwatch import Stopwatch
from geoseg.vector.area import Area
from geoseg.vector.sieve import MinArea

__all__ = ["Change", "Method", "change"]

Method: TypeAlias = Literal["model", "irmad", "cva"]
Pixels: TypeAlias = npt.NDArray[np.float32]
Classes: TypeAlias = str | Iterable[str | int]

DRAFT = "draft.bin"

SURROUNDINGS_PX = 256
"""Around an area, this much is compared too: a model sees further, and statistics need pixels."""

COMPARED = 0.8
"""Share of the time that passes until pixels are compared; the rest is connecting and writing."""


@dataclass(frozen=True, slots=True)
class Change:
    """A finished change map."""

    files: dict[str, Path]
    """What was written: change, class_names, style, polygons, matrix, preview and summary."""
    summary: dict[str, Any]
    """What the summary file holds."""


def change(
    before: str | Path,
    after: str | Path,
    *,
    output: str | Path = ".",
    name: str | None = None,
    method: Method = "model",
    model: str | Path | Model = DEFAULT_MODEL,
    before_date: date | str | None = None,
    after_date: date | str | None = None,
    from_classes: Classes | None = None,
    to_classes: Classes | None = None,
    min_area: str | float | None = None,
    coregister: bool = False,
    force: bool = False,
    area: str | Path | None = None,
    bands: str | Mapping[str, int] | None = None,
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    level: Level | None = None,
    gsd: float | None = None,
    runtime: RuntimeName = "auto",
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Change:
    """Map what changed between two scenes: where, from what to what, how much.

    The scenes may differ in extent, pixel size and CRS: they are compared where both have data,
    on the grid of the coarser one (of the earlier, where neither is).

    Args:
        before: the earlier scene, a raster file.
        after: the later one.
        output: the folder for the results.
        name: what their names begin with; by default AFTER_change.
        method: "model" compares the class probabilities that a model gives both, or takes the
            word of a model that was trained on pairs of scenes; "irmad" and
            "cva" compare the values themselves, whatever their gains and offsets, and do not
            know from what to what.
        model: an installed model's name, a bundle's path, or a loaded model.
        before_date: when the earlier scene was taken; by default what its metadata or its name
            say.
        after_date: likewise for the later one.
        from_classes: names or codes of classes, as a list or separated by commas; only change
            from them counts.
        to_classes: likewise, change to them.
        min_area: smaller patches go to the neighbour with the longest shared border: square
            metres, or text with a unit: "5000m2", "0.5ha", "9px".
        coregister: correct the shift that is measured between the scenes.
        force: go on where that is more than 3 pixels.
        area: a file of polygons; the comparison is confined to them.
        bands: 1-based band numbers by common name, or as text, "red=3,green=2", in both scenes.
        sensor: whose own band names or customary band order the scenes use.
        scale: value = stored value * scale + offset, in both scenes.
        offset: see scale.
        nodata: the stored value that stands for no data, in both scenes.
        level: of both scenes' reflectance, "toa" at the top of the atmosphere or "surface".
        gsd: compare at this ground sample distance in metres; 0: as the scenes are. By default
            within the model's range.
        runtime: what computes the model: "auto", "openvino" or "torch".
        max_pixels: scenes with more pixels are refused.
        overwrite: replace results that exist.
        progress: called with the share that is done, 0 to 1.

    Returns:
        Where the results are and what they sum up to.

    Raises:
        SceneError: if a scene cannot be read, they do not overlap or share no valid pixel, or are
            shifted by more than 3 pixels.
        BandError: if their bands are not, or not clearly, those to compare.
        ModelError: if the model cannot be loaded.
        OutputError: if the results cannot be written; nothing is left then.
        InputError: if results exist, or an option makes no sense.
    """
    scenes, watch = (before, after), Stopwatch()
    stem = _stem(name, after)
    names = file_names(stem)
    minimum = None if min_area is None else MinArea.parse(min_area)
    dates, warnings = scene_dates(scenes, (before_date, after_date))
    reading = Reading(bands, sensor, scale, offset, nodata, max_pixels, level)
    classes = _classes(from_classes), _classes(to_classes)
    if method == "model":
        loaded = model if isinstance(model, Model) else load_model(model, runtime=runtime)
        comparison: Comparison = _by_model(loaded, classes, reading, gsd)
    else:
        _refuse_classes(method, classes)
        comparison = ValueComparison(method, scenes, reading, gsd)
    with (
        rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES),
        open_pair(
            *scenes,
            comparison.bands,
            units=comparison.units,
            stored_type=comparison.stored_type,
            or_else=comparison.or_else,
            levels=comparison.levels,
            reading=reading,
            fit=lambda grid: _around(comparison.fit(grid), area),
        ) as pair,
        staged(Path(output), stem, list(names.values()), overwrite=overwrite) as staging,
    ):
        with watch.stage("align"):
            aligned = align(pair, coregister=coregister, force=force)
        settings = {
            "from": classes[0],
            "to": classes[1],
            "min_area": min_area,
            "area": None if area is None else Path(area).name,
        }
        confined = None if area is None else Area(area, pair.grid)
        place = pair.grid.window if confined is None else confined.window
        record = ChangeRecord(scenes, comparison, aligned, place, dates, warnings, settings)
        summary = _write(staging, stem, record, confined, minimum, watch, progress)
        paths = staging.put_in_place(list(names.values()))
    return Change(dict(zip(names, paths, strict=True)), summary)


def _write(
    staging: Staging,
    stem: str,
    record: ChangeRecord,
    area: Area | None,
    minimum: MinArea | None,
    watch: Stopwatch,
    progress: Progress | None,
) -> dict[str, Any]:
    """Compare, decide and write every file; return what the summary says."""
    comparison, place = record.comparison, record.place
    with ChangeFiles(
        staging, stem, record.grid, record.bands, comparison.legend, record.days, record.tags()
    ) as files:

        def see(scene: int, window: Window, pixels: Pixels) -> None:
            files.see(scene, window.shift(-place.row, -place.col), pixels)

        findings = comparison.compare(
            record.aligned.pair, staging.path(DRAFT), see, watch, _part(progress, 0.0, COMPARED)
        )
        if area is not None:
            findings = ConfinedFindings(findings, area)
        strips = settled(findings, record.grid, minimum)
        polygons = files.write(strips, watch, _part(progress, COMPARED, 1.0))
        summary = record.summary(files.counts, findings, polygons, file_names(stem), watch)
        files.finish(summary, record.title())
    return summary


def _stem(name: str | None, after: str | Path) -> str:
    stem = name or f"{Path(after).stem}_change"
    if Path(stem).name != stem:
        raise InputError(f"the name {stem!r} is no plain file name; give the folder with -o")
    return stem


def _around(grid: Grid, area: str | Path | None) -> Grid:
    """The part of a grid that holds an area and enough around it to tell what is usual."""
    if area is None:
        return grid
    window = Area(area, grid).window.pad(SURROUNDINGS_PX).intersect(grid.window)
    return grid if window is None else grid.crop(window)


def _by_model(
    model: Model,
    classes: tuple[list[str] | None, list[str] | None],
    reading: Reading,
    gsd: float | None,
) -> Comparison:
    """As many scenes at a time as the model was trained on."""
    card = model.card
    if card.dates == 2:
        kinds = ChangeLegend(card.legend, card.unchanged).wanted_kinds(*classes)
        return PairComparison(model, kinds, reading, gsd)
    wanted = WantedTransitions.of(card.legend, *classes)
    return ClassComparison(model, wanted, reading, gsd)


def _classes(wanted: Classes | None) -> list[str] | None:
    if wanted is None:
        return None
    listed = wanted.split(",") if isinstance(wanted, str) else wanted
    return [str(each).strip() for each in listed]


def _refuse_classes(method: str, classes: tuple[list[str] | None, list[str] | None]) -> None:
    if method not in ("irmad", "cva"):
        raise InputError(f"no method is called {method!r}; there are model, irmad and cva")
    if any(each is not None for each in classes):
        raise InputError(
            f"{method} compares values and knows no classes: leave --from and --to away, or "
            "choose --method model"
        )


def _part(progress: Progress | None, start: float, stop: float) -> Progress:
    """Tells a part's own progress as that of the whole."""

    def told(share: float) -> None:
        if progress is not None:
            progress(start + share * (stop - start))

    return told
