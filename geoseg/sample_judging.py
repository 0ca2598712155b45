"""What labelled samples say of a map, by the design that they were drawn by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from geoseg.accuracy.design import Design, MappedClass, Stratum
from geoseg.accuracy.estimate import MapEstimate, estimate_strata
from geoseg.accuracy.judgement import Judgement, Place, agreement
from geoseg.accuracy.matrix import count_pairs
from geoseg.accuracy.strata import merge_strata
from geoseg.errors import InputError
from geoseg.labelled_samples import SampledPixels, classes_in_use, look_up
from geoseg.legend import NODATA
from geoseg.map_survey import MapSurvey, mapped_classes
from geoseg.raster.class_map import ClassMap
from geoseg.vector.samples import LabelledSamples

__all__ = ["DeclaredDesign", "Judging", "judge_samples"]

DeclaredDesign: TypeAlias = Literal["stratified", "simple"]

Ints: TypeAlias = npt.NDArray[np.int64]

SURE = 3
"""Of n samples without an error, up to 3 / n may still be wrong: the 95 % rule of three."""


@dataclass(frozen=True, slots=True)
class Judging:
    """How samples are to be judged."""

    declared: DeclaredDesign | None = None
    """The design of samples that carry none."""
    merge: tuple[tuple[str, ...], ...] = ()
    """Names of strata to put together."""
    confidence: float = 0.95
    """Level of the intervals."""
    force: bool = False
    """Judge another map than the one that the samples were drawn from."""


def judge_samples(
    mapped: ClassMap,
    seen: MapSurvey,
    picture: bytes,
    samples: LabelledSamples,
    source: str,
    judging: Judging,
) -> Judgement:
    """Compare a map with labelled samples.

    Args:
        mapped: the map.
        seen: what a pass over it told.
        picture: of it.
        samples: as read.
        source: what their file is called.
        judging: how.

    Raises:
        InputError: if samples lie outside the map, on nodata, twice on a pixel, carry labels that
            are not in the legend, or do not follow from their design.
    """
    design = _design(samples, seen, judging)
    same_map = design is None or design.map_sha256 == seen.sha256
    classes = design.classes if design is not None and same_map else mapped_classes(seen)
    found = look_up(mapped, samples, classes, source)
    classes, unseen = classes_in_use(classes, found)
    place_of = {each.code: place for place, each in enumerate(classes)}
    on_map, labels = (
        np.array([place_of[int(code)] for code in codes], np.int64)
        for codes in (found.mapped, found.reference)
    )
    names = [each.name for each in classes]
    if design is None:
        figures = agreement(count_pairs(on_map, labels, names), judging.confidence)
        labelled = {"samples": len(found.kept)}
    else:
        strata = _strata_of(samples, found, design)
        labelled = _by_stratum(strata, design)
        if samples.design is None:  # how many were drawn is not told: those labelled count
            design = replace(
                design,
                strata=tuple(replace(s, samples=labelled[s.name]) for s in design.strata),
            )
        figures = _estimate(mapped, design, found, strata, on_map, labels, names, judging)
    height, width = mapped.grid.shape
    places = tuple(
        Place((col + 0.5) / width, (row + 0.5) / height, names[a], names[b])
        for row, col, a, b in zip(found.rows, found.cols, on_map, labels, strict=True)
    )
    drawn = len(samples.labels) if design is None or samples.design is None else design.samples
    return Judgement(
        kind="agreement" if design is None else "estimate",
        map_name=mapped.name,
        reference_name=source,
        map_sha256=seen.sha256,
        shape=mapped.grid.shape,
        figures=figures,
        classes=classes,
        area_unit="px" if seen.hectares is None else "ha",
        unseen=unseen,
        design=design,
        labelled=labelled,
        unlabelled=drawn - len(found.kept),
        places=places,
        notes=tuple(
            _notes(design, classes, figures, drawn - len(found.kept), drawn, same_map, judging)
        ),
        picture=picture,
    )


def _design(samples: LabelledSamples, seen: MapSurvey, judging: Judging) -> Design | None:
    """The design that the samples carry, or that their bearer declares."""
    design = samples.design
    if design is not None:
        if judging.declared is not None:
            raise InputError("the samples carry their design; leave out --design")
        if design.map_sha256 != seen.sha256 and not judging.force:
            raise InputError(
                f"{seen.map_name} is not the map that the samples were drawn from, "
                f"{design.map_name}: its pixels or grid have changed. Give that map, or judge "
                "this one by the old map's strata with --force"
            )
        return design
    if judging.merge and judging.declared is None:
        raise InputError("without a design there are no strata to merge")
    if judging.declared is None:
        return None
    return _declared(samples, seen, judging.declared)


def _declared(samples: LabelledSamples, seen: MapSurvey, kind: DeclaredDesign) -> Design:
    classes, count = mapped_classes(seen), len(samples.labels)
    present = [each for each in classes if each.pixels]
    total = sum(each.pixels for each in present)
    strata = (
        (Stratum(0, "map", total, min(count, total)),)
        if kind == "simple"
        else tuple(Stratum(each.code, each.name, each.pixels, 0) for each in present)
    )
    hectares = None if seen.hectares is None else float(seen.hectares[:NODATA].sum())
    return Design(
        kind, strata, classes, seen.map_name, seen.sha256, 0, hectares,
        declared_by="the person who ran geoseg accuracy",
    )  # fmt: skip


def _strata_of(samples: LabelledSamples, found: SampledPixels, design: Design) -> Ints:
    """(N,), the place of each labelled sample's stratum in the design."""
    if samples.strata is None or samples.numbers is None:
        if len(design.strata) == 1:
            return np.zeros(len(found.kept), np.int64)
        by_code = {each.code: place for place, each in enumerate(design.strata)}
        return np.array([by_code[int(code)] for code in found.mapped], np.int64)
    drawn = set(range(1, design.samples + 1))
    strange = [n for n in samples.numbers if n not in drawn]
    if strange or len(set(samples.numbers)) < len(samples.numbers):
        raise InputError(
            f"sample_id {strange[0] if strange else 'of some sample'} is not, or not once, one of "
            f"the {design.samples} that were drawn; take out what was added to the sample"
        )
    by_name = {each.name: place for place, each in enumerate(design.strata)}
    unknown = sorted({*samples.strata} - {*by_name})
    if unknown:
        raise InputError(f"a sample's stratum {unknown[0]!r} is not in its design: {[*by_name]}")
    return np.array([by_name[samples.strata[i]] for i in found.kept], np.int64)


def _by_stratum(strata: Ints, design: Design) -> dict[str, int]:
    counts = np.bincount(strata, minlength=len(design.strata))
    return {each.name: int(n) for each, n in zip(design.strata, counts, strict=True)}


def _estimate(
    mapped: ClassMap,
    design: Design,
    found: SampledPixels,
    strata: Ints,
    on_map: Ints,
    labels: Ints,
    names: Sequence[str],
    judging: Judging,
) -> MapEstimate:
    stratum_names = [each.name for each in design.strata]
    groups = [_group(names_together, stratum_names) for names_together in judging.merge]
    merged = merge_strata(strata, design.weights, groups)
    areas = mapped.grid.cell_area_m2_at(
        *(x.astype(np.float64) + 0.5 for x in (found.rows, found.cols))
    )
    sizes = merged.factors if areas is None else merged.factors * areas
    pixels = np.array([each.pixels for each in design.strata])
    total = design.pixels if design.total_hectares is None else design.total_hectares
    return estimate_strata(
        merged.stratum,
        on_map,
        labels,
        merged.weights,
        float(total),
        names=names,
        strata_names=["+".join(stratum_names[i] for i in group) for group in merged.groups],
        strata_sizes=[int(pixels[list(group)].sum()) for group in merged.groups],
        unit_sizes=sizes,
        confidence=judging.confidence,
    )


def _group(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    for name in wanted:
        if name not in names:
            raise InputError(f"there is no stratum {name!r} to merge; the sample has {[*names]}")
    return [names.index(name) for name in wanted]


def _notes(
    design: Design | None,
    classes: Sequence[MappedClass],
    figures: MapEstimate,
    unlabelled: int,
    drawn: int,
    same_map: bool,
    judging: Judging,
) -> list[str]:
    notes = []
    if unlabelled:
        notes.append(
            f"{unlabelled} of {drawn} samples are not labelled. The figures hold if those are "
            "like the others of their stratum; if they were left out because they were hard to "
            "tell, the figures are too good."
        )
    if design is None:
        notes.append(
            "The samples declare no probability design, so nothing is known of the ground "
            "between them: what follows is agreement with these samples, not the map's accuracy. "
            "No standard errors and no areas are given. If they were drawn at random, say how "
            "with --design."
        )
        return notes
    if not same_map:
        notes.append(
            f"This map is not the one that the sample was drawn from ({design.map_name}). The "
            "strata are the old map's; estimates stay unbiased, since they use the strata only "
            "for the samples' weights. Mapped areas are those of this whole map."
        )
    if design.kind == "systematic":
        notes.append(
            "A systematic sample has no unbiased estimate of its variance; that of a simple "
            "random sample stands in for it, which is usually too large."
        )
    notes += [f"The strata {' and '.join(each)} were merged." for each in judging.merge]
    for each, known, agreed in zip(figures.classes, classes, figures.counts.mapped, strict=True):
        alike = each.users.standard_error == 0 and agreed
        if alike and agreed < known.pixels:
            notes.append(
                f"All {agreed:.0f} samples mapped as {each.name} say the same, so the interval of "
                f"its user's accuracy has no width; up to {min(1, SURE / agreed):.0%} may still "
                "be otherwise."
            )
    never = [each.name for each in figures.classes if not each.samples]
    if never:
        notes.append(
            f"No sample was labelled {', '.join(never)}: the area is small, but not shown to be 0."
        )
    return notes
