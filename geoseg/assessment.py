"""A map and a reference in; how accurate the map is and how much there is of each class, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from geoseg.accuracy.estimate import CONFIDENCE
from geoseg.accuracy.judgement import Judgement
from geoseg.accuracy.page import to_html
from geoseg.accuracy.report import to_csv, to_json
from geoseg.census import judge_by_polygons, judge_by_raster
from geoseg.errors import InputError
from geoseg.limits import MAX_PIXELS
from geoseg.map_survey import survey
from geoseg.outputs import staged
from geoseg.raster.class_map import ClassMap
from geoseg.raster.thumbnail import Thumbnail
from geoseg.sample_judging import DeclaredDesign, Judging, judge_samples

__all__ = ["Assessment", "assess_accuracy"]

RASTERS = (".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Assessment:
    """A judged map."""

    files: Mapping[str, Path]
    """What was written: page, table and figures."""
    judgement: Judgement
    """What they hold."""


def assess_accuracy(
    classes: str | Path,
    reference: str | Path,
    *,
    output: str | Path = ".",
    reference_field: str = "reference",
    design: DeclaredDesign | None = None,
    merge: Sequence[Sequence[str]] = (),
    confidence: float = CONFIDENCE,
    force: bool = False,
    nodata: float | None = None,
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
) -> Assessment:
    """Judge a map by a reference: labelled samples, polygons, or a raster.

    Samples that `geoseg.sample` drew, or whose design is declared here, give accuracies and areas
    with standard errors and confidence intervals. Points without a design give plain agreement,
    called that. Polygons and rasters are a census of the ground that they cover.

    Args:
        classes: the map, a class raster or a raster of changes.
        reference: samples or polygons in a vector file, or a class raster on the map's grid.
        output: the folder for the report.
        reference_field: the field of a vector file that holds class names or codes.
        design: how points that carry no design were drawn: "stratified" by the map's classes, or
            "simple". The interval is as true as this statement.
        merge: names of strata to put together, where one has too few samples.
        confidence: level of the intervals.
        force: judge another map than the one the samples were drawn from.
        nodata: the map's code that stands for no data, the file's own when None.
        max_pixels: rasters with more pixels are refused.
        overwrite: replace results that exist.

    Raises:
        SceneError: if a raster cannot be read, or the map holds no valid pixel.
        GridError: if a reference raster is not on the map's grid.
        InputError: if the reference does not fit the map or its own design, a stratum has fewer
            than two labelled samples, or results exist.
        OutputError: if the results cannot be written; nothing is left then.
    """
    if not 0 < confidence < 1:
        raise InputError(f"a confidence level of {confidence:g} makes no sense; give 0.95, say")
    judging = Judging(design, tuple(tuple(each) for each in merge), confidence, force)
    stem = f"{Path(classes).stem}_accuracy"
    names = {"page": f"{stem}.html", "table": f"{stem}.csv", "figures": f"{stem}.json"}
    with staged(Path(output), stem, list(names.values()), overwrite=overwrite) as staging:
        with ClassMap(classes, nodata=nodata, max_pixels=max_pixels) as mapped:
            judgement = _judge(mapped, Path(reference), reference_field, judging)
        for what, text in (
            ("page", to_html(judgement)),
            ("table", to_csv(judgement)),
            ("figures", to_json(judgement)),
        ):
            staging.path(names[what]).write_text(text, encoding="utf-8")
        paths = staging.put_in_place(list(names.values()))
    return Assessment(dict(zip(names, paths, strict=True)), judgement)


def _judge(mapped: ClassMap, reference: Path, reference_field: str, judging: Judging) -> Judgement:
    thumbnail = Thumbnail(mapped.grid.shape)
    seen = survey(mapped, see=thumbnail.see)
    picture = thumbnail.png(seen.legend)
    if reference.suffix.lower() in RASTERS:
        _refuse_options(judging, "a reference raster")
        return judge_by_raster(mapped, seen, picture, reference, judging.confidence)
    from geoseg.vector.samples import read_samples  # geopandas costs half a second

    samples = read_samples(reference, reference_field=reference_field)
    if not len(samples.labels):
        raise InputError(f"{reference} holds no sample and no polygon")
    covers = np.asarray(shapely.get_dimensions(samples.shapes)) == 2
    if samples.design is None and covers.all():
        _refuse_options(judging, "reference polygons")
        return judge_by_polygons(mapped, seen, picture, samples, reference.name, judging.confidence)
    return judge_samples(mapped, seen, picture, samples, reference.name, judging)


def _refuse_options(judging: Judging, what: str) -> None:
    if judging.declared or judging.merge:
        raise InputError(f"--design and --merge are about samples; {what} is a census")
