"""A map in, a probability sample out: places to look at, so that the map can be judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import shapely

from geoseg.accuracy.design import Design, DesignKind, Stratum
from geoseg.accuracy.drawing import Drawn, draw_stratified, draw_systematic, systematic_spacing
from geoseg.accuracy.size import Allocation, allocate, required_size, required_size_simple
from geoseg.errors import InputError
from geoseg.grid import Grid, Window
from geoseg.legend import NODATA, UNCERTAIN, UNCERTAIN_NAME
from geoseg.limits import MAX_PIXELS
from geoseg.map_survey import MapSurvey, mapped_classes, survey
from geoseg.outputs import staged
from geoseg.raster.class_map import ClassMap
from geoseg.raster.scene_chips import write_scene_chips

__all__ = ["ReferenceSample", "sample"]

STANDARD_ERROR = 0.02
"""Wanted for overall accuracy when neither that nor a size is given."""

GUESSED_ACCURACY = 0.8
"""Expected of a stratum of which nothing is said."""

CHIP_PX = 65
WHOLE_MAP = "map"

Codes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ReferenceSample:
    """A sample that is ready to be labelled."""

    files: Mapping[str, Path]
    """What was written: samples, and chips when a scene was given."""
    design: Design
    """How it was drawn."""


@dataclass(frozen=True, slots=True)
class SizeWish:
    """What is asked of a sample's size."""

    size: int | None = None
    """Samples in all; else they follow from the standard error."""
    standard_error: float | None = None
    """Wanted for overall accuracy, 0 to 1."""
    expected: float | Mapping[str, float] | None = None
    """Expected user's accuracies, of all strata or by name."""
    allocation: Allocation = "minimum"
    """How the sample is shared out among strata."""
    minimum: int | None = None
    """For rare strata."""


def sample(
    classes: str | Path,
    *,
    output: str | Path = "samples.gpkg",
    design: DesignKind = "stratified",
    strata: str | Path | None = None,
    size: int | None = None,
    standard_error: float | None = None,
    expected: float | Mapping[str, float] | None = None,
    allocation: Allocation = "minimum",
    minimum: int | None = None,
    seed: int = 0,
    plot_px: int | None = None,
    scene: str | Path | None = None,
    chip_px: int = CHIP_PX,
    nodata: float | None = None,
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
) -> ReferenceSample:
    """Draw a probability sample of a map's pixels, for a person to label.

    Args:
        classes: the map, a class raster or a raster of changes.
        output: the GeoPackage to write; chips go into a folder beside it.
        design: "stratified" draws from each class (or stratum) by itself, "simple" from the whole
            map, "systematic" on a square grid with a random start.
        strata: a raster of strata on the map's grid; by default the map's classes are the strata.
            Where it has no data, nothing is sampled.
        size: samples in all. By default they follow from `standard_error`.
        standard_error: wanted for overall accuracy, by default 0.02.
        expected: user's accuracies to expect, of all strata or by their names; 0.8 where nothing
            is said.
        allocation: "proportional", "equal" or "minimum", see `geoseg.accuracy.size.allocate`.
        minimum: samples that a rare stratum gets at least.
        seed: the same seed draws the same sample from the same map.
        plot_px: write squares of this odd number of map pixels instead of points. The pixel in
            the middle is what is sampled and labelled.
        scene: a raster to cut pictures from, one a sample.
        chip_px: side of those pictures in pixels of the scene.
        nodata: the map's code that stands for no data, the file's own when None.
        max_pixels: maps with more pixels are refused.
        overwrite: replace results that exist.

    Raises:
        SceneError: if a raster cannot be read, or the map holds no valid pixel.
        InputError: if results exist, or an option makes no sense.
        OutputError: if the results cannot be written; nothing is left then.
    """
    target = Path(output)
    _check_options(target, design, strata, seed, plot_px, chip_px)
    wish = SizeWish(size, standard_error, expected, allocation, minimum)
    with ExitStack() as opened:
        mapped = opened.enter_context(ClassMap(classes, nodata=nodata, max_pixels=max_pixels))
        divided = None
        if strata is not None:
            divided = opened.enter_context(ClassMap(strata, max_pixels=max_pixels))
        seen = survey(mapped, divided)
        plan = _plan(design, seen, wish, seed, plot_px)
        drawn = _draw(plan, seen, mapped, divided)
        plan = _with_counts(plan, drawn)
        names = {"samples": target.name}
        if scene is not None:
            names["chips"] = f"{target.stem}_chips"
        with staged(
            target.parent,
            target.stem,
            list(names.values()),
            folders=[names["chips"]] if "chips" in names else [],
            overwrite=overwrite,
        ) as staging:
            chips = None
            if scene is not None:
                chips = [f"{names['chips']}/{n:05d}.png" for n in range(1, len(drawn.rows) + 1)]
                staging.path(names["chips"]).mkdir()
                write_scene_chips(
                    scene, mapped.grid, drawn.rows, drawn.cols,
                    [staging.path(chip) for chip in chips], chip_px=chip_px,
                )  # fmt: skip
            _write(staging.path(target.name), plan, drawn, mapped, chips)
            paths = staging.put_in_place(list(names.values()))
    return ReferenceSample(dict(zip(names, paths, strict=True)), plan)


def _plan(
    kind: DesignKind, seen: MapSurvey, wish: SizeWish, seed: int, plot_px: int | None
) -> Design:
    names = {each.code: each.name for each in seen.stratum_legend} | {UNCERTAIN: UNCERTAIN_NAME}
    codes = [int(code) for code in np.flatnonzero(seen.stratum_pixels[:NODATA])]
    pixels = [int(seen.stratum_pixels[code]) for code in codes]
    size, told = _size(kind, [names[code] for code in codes], pixels, wish)
    spacing = None
    if kind == "stratified":
        shares = allocate(size, pixels, wish.allocation, wish.minimum)
        strata = tuple(
            Stratum(code, names[code], count, int(drawn))
            for code, count, drawn in zip(codes, pixels, shares, strict=True)
        )
    else:
        total = sum(pixels)
        spacing = systematic_spacing(total, size)  # refuses more samples than pixels
        strata = (Stratum(0, WHOLE_MAP, total, size),)
    return Design(
        kind=kind,
        strata=strata,
        classes=mapped_classes(seen),
        map_name=seen.map_name,
        map_sha256=seen.sha256,
        seed=seed,
        total_hectares=None if seen.hectares is None else float(seen.hectares[:NODATA].sum()),
        strata_source=seen.strata_source,
        allocation=wish.allocation if kind == "stratified" else None,
        size_from=told,
        spacing_px=spacing if kind == "systematic" else None,
        plot_px=plot_px,
    )


def _size(
    kind: DesignKind, names: Sequence[str], pixels: Sequence[int], wish: SizeWish
) -> tuple[int, str]:
    """The sample's size, and in words where it comes from."""
    if wish.size is not None:
        if wish.standard_error is not None or wish.expected is not None:
            raise InputError("give a size, or a standard error and expectations, not both")
        if wish.size < 2:
            raise InputError(f"a sample of {wish.size} has no standard error; draw at least 2")
        return wish.size, "given"
    goal = STANDARD_ERROR if wish.standard_error is None else wish.standard_error
    expected = wish.expected if wish.expected is not None else {}
    if not isinstance(expected, Mapping):
        expected = dict.fromkeys(names, float(expected))
    unknown = sorted(set(expected) - set(names))
    if unknown:
        raise InputError(f"there is no stratum {unknown[0]!r} to expect an accuracy of: {[*names]}")
    users = [expected.get(name, GUESSED_ACCURACY) for name in names]
    formula = required_size if kind == "stratified" else required_size_simple
    guessed = [name for name in names if name not in expected]
    listed = (
        f"user's accuracies of {users[0]:g}"
        if len(set(users)) == 1
        else "user's accuracies of "
        + ", ".join(f"{value:g} ({name})" for name, value in zip(names, users, strict=True))
    )
    told = f"a standard error of {goal:g} for overall accuracy, with {listed}"
    if guessed:
        whose = "" if len(guessed) == len(names) else f" for {', '.join(guessed)}"
        told += f", assumed{whose}"
    return min(max(2, formula(pixels, users, goal)), sum(pixels)), told


def _draw(plan: Design, seen: MapSurvey, mapped: ClassMap, strata: ClassMap | None) -> Drawn:
    strips = _stratum_strips(mapped, strata, one=plan.kind != "stratified")
    if plan.spacing_px is None:
        return draw_stratified(strips, plan.strata, plan.seed)
    return draw_systematic(strips, mapped.grid.shape, plan.spacing_px, plan.seed)


def _stratum_strips(
    mapped: ClassMap, strata: ClassMap | None, *, one: bool
) -> Iterator[tuple[Window, Codes]]:
    """Stratum codes; when there is but one stratum, 0 wherever there is data."""
    for window, codes in mapped.strips():
        divided = codes if strata is None else np.where(codes == NODATA, codes, strata.read(window))
        yield window, np.where(divided == NODATA, divided, np.uint8(0)) if one else divided


def _with_counts(plan: Design, drawn: Drawn) -> Design:
    """The design with the number of samples that a systematic draw happened to give."""
    if plan.spacing_px is None:
        return plan
    if len(drawn.rows) < 2:
        raise InputError(
            f"a systematic grid of {plan.spacing_px:.1f} pixels met {len(drawn.rows)} valid "
            "pixels; raise --size"
        )
    (stratum,) = plan.strata
    return replace(plan, strata=(replace(stratum, samples=len(drawn.rows)),))


def _write(
    path: Path, plan: Design, drawn: Drawn, mapped: ClassMap, chips: Sequence[str] | None
) -> None:
    from geoseg.vector.samples import SampleRows, write_samples  # geopandas costs half a second

    place_of = {each.code: place for place, each in enumerate(plan.strata)}
    codes = [int(mapped.read(Window(int(row), int(col), 1, 1))[0, 0])
             for row, col in zip(drawn.rows, drawn.cols, strict=True)]  # fmt: skip
    names = {each.code: each.name for each in plan.classes}
    rows = SampleRows(
        shapes=_shapes(mapped.grid, drawn, plan.plot_px),
        rows=drawn.rows,
        cols=drawn.cols,
        strata=np.array([place_of[int(code)] for code in drawn.codes], np.intp),
        map_codes=np.array(codes, np.int64),
        map_names=[names[code] for code in codes],
        chips=chips,
    )
    write_samples(path, rows, plan, mapped.grid.crs)


def _shapes(grid: Grid, drawn: Drawn, plot_px: int | None) -> npt.NDArray[np.object_]:
    cols, rows = (places.astype(np.float64) + 0.5 for places in (drawn.cols, drawn.rows))
    if plot_px is None:
        x, y = grid.to_map(cols, rows)
        return np.asarray(shapely.points(x, y), dtype=object)
    half = plot_px / 2
    corners = np.array([(-half, -half), (half, -half), (half, half), (-half, half)])
    around = np.stack((cols, rows), axis=1)[:, None, :] + corners
    x, y = grid.to_map(around[..., 0], around[..., 1])
    return np.asarray(shapely.polygons(np.stack((x, y), axis=-1)), dtype=object)


def _check_options(
    target: Path,
    design: DesignKind,
    strata: str | Path | None,
    seed: int,
    plot_px: int | None,
    chip_px: int,
) -> None:
    if target.suffix.lower() != ".gpkg":
        raise InputError(f"{target} is no GeoPackage; samples go into one, such as samples.gpkg")
    if strata is not None and design != "stratified":
        raise InputError(f"strata go with the stratified design, not with {design}")
    if seed < 0:
        raise InputError(f"a seed is a whole number from 0 on, not {seed}")
    if plot_px is not None and (plot_px < 1 or plot_px % 2 == 0):
        raise InputError(f"a plot has an odd number of pixels a side, not {plot_px}")
    if not 3 <= chip_px <= 1024:
        raise InputError(f"chips of {chip_px} pixels make no sense; take 3 to 1024")
