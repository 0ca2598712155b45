"""Two scenes of one place in, what changed between them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import rasterio

from geoseg.bitemporal.dates import find_date
from geoseg.bitemporal.pair import ScenePair, open_pair, shared_bands
from geoseg.bitemporal.registration import Shift, measure_shift
from geoseg.bitemporal.settlement import settled
from geoseg.bitemporal.spectral import compare_values
from geoseg.change_files import ChangeFiles, file_names
from geoseg.errors import InputError, SceneError
from geoseg.outputs import staged
from geoseg.raster.scene import Reading
from geoseg.raster.source import MAX_PIXELS, RasterSource
from geoseg.stopwatch import Stopwatch
from geoseg.vector.sieve import MinArea

__all__ = ["Change", "Method", "change"]

Method: TypeAlias = Literal["model", "irmad", "cva"]
Progress: TypeAlias = Callable[[float], None]

METHODS = ("model", "irmad", "cva")

WARN_PX, REFUSE_PX = 0.5, 3.0
"""Scenes shifted by more are warned of, and refused."""

MOVE_FROM_PX = 0.1
"""Smaller shifts are left as they are: interpolation would blur more than it corrects."""

WHOLE_PX = 0.05
"""A shift this close to whole pixels is taken as that: nothing has to be interpolated."""

GDAL_CACHE_BYTES = 128 << 20

DRAFT = "draft.bin"


@dataclass(frozen=True, slots=True)
class Change:
    """A finished change map."""

    files: Mapping[str, Path]
    """What was written: change, class_names, polygons, matrix, preview, summary."""
    summary: Mapping[str, Any]
    """What the summary file holds."""


@dataclass(slots=True)
class _Remarks:
    """What has to be said of a run, a sentence each."""

    assumed: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def change(
    before: str | Path,
    after: str | Path,
    *,
    output: str | Path = ".",
    name: str | None = None,
    method: Method = "model",
    before_date: date | str | None = None,
    after_date: date | str | None = None,
    min_area: str | float | None = None,
    coregister: bool = False,
    force: bool = False,
    bands: str | Mapping[str, int] | None = None,
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Change:
    """Map what changed between two scenes."""
    if method not in METHODS:
        raise InputError(f"method {method!r} is none of {', '.join(METHODS)}")
    if method == "model":
        raise InputError("change by a model is on its way; choose --method irmad or cva")
    minimum = None if min_area is None else MinArea.parse(min_area)
    reading = Reading(bands, sensor, scale, offset, nodata, max_pixels)
    stem = name or f"{Path(after).stem}_change"
    names, remarks, watch = file_names(stem), _Remarks(), Stopwatch()
    dates = _dates((before, after), (before_date, after_date), remarks)
    wanted, assumed = shared_bands(before, after, reading)
    remarks.assumed += assumed
    with (
        rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES),
        open_pair(before, after, wanted, reading=reading) as opened,
        staged(Path(output), stem, list(names.values()), overwrite=overwrite) as staging,
    ):
        remarks.assumed += opened.assumed
        with watch.stage("align"):
            pair, shift = _aligned(opened, coregister, force, remarks)
        tags = {"GEOSEG_VERSION": version("geoseg"), "GEOSEG_METHOD": method}
        with ChangeFiles(staging, stem, pair.grid, pair.bands, None, dates, tags) as files:
            with watch.stage("compare"):
                findings = compare_values(pair, method, staging.path(DRAFT), files.see, progress)
            polygons = files.write(settled(findings, pair.grid, minimum), watch)
            counts = files.counts
            size = pair.grid.height * pair.grid.width
            summary = {
                "geoseg": version("geoseg"),
                "method": method,
                "before": Path(before).name,
                "after": Path(after).name,
                "before_date": dates[0],
                "after_date": dates[1],
                "valid_pixels": counts.valid_pixels,
                "valid_share": counts.valid_pixels / size,
                "shift_px": None
                if shift is None
                else {k: round(v, 3) for k, v in asdict(shift).items()},
                "coregistered": coregister,
                "changed_pixels": counts.changed_pixels,
                "changed_share": counts.changed_pixels / max(1, counts.valid_pixels),
                "changed_area_ha": counts.changed_hectares,
                "polygons": polygons,
                "transitions": [],
                "threshold": findings.facts(),
                "assumed": remarks.assumed,
                "warnings": remarks.warnings,
                "files": names,
                "seconds": watch.seconds,
            }
            files.finish(summary, f"{Path(before).name}  ->  {Path(after).name}   -   {method}")
        paths = staging.put_in_place(list(names.values()))
    return Change(dict(zip(names, paths, strict=True)), summary)


def _dates(
    scenes: Sequence[str | Path], told: Sequence[date | str | None], remarks: _Remarks
) -> list[str | None]:
    found = []
    for path, day in zip(scenes, told, strict=True):
        source = RasterSource(path)
        tags = source.tags()
        source.close()
        found.append(find_date(Path(path).name, tags, day))
        remarks.assumed += found[-1].assumed
    first, second = found
    if first.day is not None and second.day is not None and first.day > second.day:
        late = f"the earlier scene is of {first.day}, the later one of {second.day}"
        if first.told and second.told:
            raise InputError(f"{late}; give the earlier scene first")
        remarks.warnings.append(f"{late}: are they given the wrong way round?")
    return [each.day for each in found]


def _aligned(
    pair: ScenePair, coregister: bool, force: bool, remarks: _Remarks
) -> tuple[ScenePair, Shift | None]:
    """The pair, corrected if that is wanted, and the shift that was found."""
    shift = measure_shift(pair)
    if shift is None:
        remarks.warnings.append(
            "how far the scenes are shifted could not be measured: too little in them looks alike"
        )
        return pair, None
    told = f"{pair.after.name} is shifted by {shift.rows:.2f} rows and {shift.cols:.2f} columns"
    if shift.length_px > REFUSE_PX and not force:
        raise SceneError(
            f"{told} against {pair.before.name}; check where they lie, or go on with --force "
            "(with --coregister, too, it is corrected)"
        )
    if coregister and shift.length_px >= MOVE_FROM_PX:
        return pair.shifted(*(_whole(each) for each in (shift.rows, shift.cols))), shift
    if shift.length_px > WARN_PX:
        remarks.warnings.append(f"{told}: expect change along edges; correct it with --coregister")
    return pair, shift


def _whole(shift: float) -> float:
    return float(round(shift)) if abs(shift - round(shift)) <= WHOLE_PX else shift
