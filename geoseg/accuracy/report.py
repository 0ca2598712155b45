"""A judgement as JSON and CSV, and its methods in words."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from geoseg.accuracy.design import Design
from geoseg.accuracy.estimate import Estimate
from geoseg.accuracy.judgement import Judgement, JudgementKind

__all__ = ["MEASURES", "OVERALL", "methods", "title", "to_csv", "to_dict", "to_json"]

OVERALL = {
    "estimate": "overall accuracy",
    "census": "overall accuracy",
    "agreement": "overall agreement",
}
"""What the share of right pixels may be called."""

_ACCURACIES = {
    "users": "user's accuracy",
    "producers": "producer's accuracy",
    "f1": "F1",
    "iou": "IoU",
    "share": "share of the area",
    "area": "area",
}

MEASURES: dict[JudgementKind, dict[str, str]] = {
    "estimate": _ACCURACIES,
    "census": _ACCURACIES,
    "agreement": {
        "users": "agreement of what is mapped so",
        "producers": "agreement of what is labelled so",
    },
}
"""What is told of each class, and what it may be called."""

_DESIGNS = {
    "stratified": "a stratified random sample",
    "simple": "a simple random sample",
    "systematic": "a systematic sample with a random start",
}

_ALLOCATIONS = {
    "proportional": "in proportion to their size",
    "equal": "in equal parts",
    "minimum": "in proportion to their size, with a minimum for rare ones",
}


def to_json(judgement: Judgement) -> str:
    """All of it as JSON; what is not known is null."""
    return json.dumps(to_dict(judgement), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_dict(judgement: Judgement) -> dict[str, Any]:
    """All of it as plain values."""
    figures = judgement.figures
    measures = MEASURES[judgement.kind]
    return {
        "geoseg": version("geoseg"),
        "kind": judgement.kind,
        "map": judgement.map_name,
        "map_sha256": judgement.map_sha256,
        "reference": judgement.reference_name,
        "area_unit": judgement.area_unit,
        "total_area": _plain(figures.total_area),
        "confidence": figures.confidence,
        "labelled": dict(judgement.labelled),
        "unlabelled": judgement.unlabelled,
        _key(OVERALL[judgement.kind]): _numbers(figures.overall),
        "classes": [
            {"code": each.code, "name": each.name, "mapped_area": judgement.mapped_area(each)}
            | {_key(name): _numbers(getattr(found, what)) for what, name in measures.items()}
            | {"labels": found.samples}
            for each, found in zip(judgement.classes, figures.classes, strict=True)
        ],
        "matrix": {
            "names": list(figures.counts.names),
            "counts": figures.counts.entries.tolist(),
            "proportions": (
                None if judgement.kind == "agreement" else figures.proportions.entries.tolist()
            ),
        },
        "in_neither_map_nor_reference": list(judgement.unseen),
        "notes": list(judgement.notes),
        "methods": methods(judgement),
        "design": None if judgement.design is None else judgement.design.to_dict(),
    }


def to_csv(judgement: Judgement) -> str:
    """One row a figure: measure, class, value, standard error, interval, unit."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("measure", "class", "value", "standard_error", "low", "high", "unit"))
    for measure, name, figure, unit in _figures(judgement):
        values = (figure.value, figure.standard_error, figure.low, figure.high)
        rows.writerow(
            (measure, name, *("" if math.isnan(v) else f"{v:.10g}" for v in values), unit)
        )
    names = judgement.figures.counts.names
    for mapped, counts in zip(names, judgement.figures.counts.entries, strict=True):
        for reference, count in zip(names, counts, strict=True):
            rows.writerow((f"matrix: mapped as {mapped}", reference, f"{count:g}", "", "", "", "1"))
    return file.getvalue()


def _figures(judgement: Judgement) -> Iterator[tuple[str, str, Estimate, str]]:
    yield OVERALL[judgement.kind], "", judgement.figures.overall, "1"
    for each, found in zip(judgement.classes, judgement.figures.classes, strict=True):
        for what, name in MEASURES[judgement.kind].items():
            unit = judgement.area_unit if what == "area" else "1"
            yield name, each.name, getattr(found, what), unit
        mapped = judgement.mapped_area(each)
        only = Estimate(mapped, math.nan, math.nan, math.nan)
        yield "mapped area", each.name, only, judgement.area_unit


def title(judgement: Judgement) -> str:
    """A line that says what was compared, and how it may be called."""
    what = {"estimate": "Accuracy", "census": "Accuracy", "agreement": "Agreement"}
    return f"{what[judgement.kind]} of {judgement.map_name}"


def methods(judgement: Judgement) -> str:
    """How the figures came about, in words that a methods section can use."""
    if judgement.kind == "census":
        return (
            f"The map {judgement.map_name} was compared pixel by pixel with "
            f"{judgement.reference_name}, at {judgement.labelled['pixels']:,} pixels that both "
            "cover. Accuracies and areas weigh each pixel by its true area on the ellipsoid. They "
            "are a census of that ground and have no sampling error."
        )
    if judgement.design is None:
        return (
            f"The map {judgement.map_name} was compared with {judgement.labelled['samples']} "
            f"labelled samples, {judgement.reference_name}, whose sampling design is not known. "
            "Agreement is the share of these samples; it estimates nothing about the map."
        )
    return " ".join((_drawn(judgement, judgement.design), _estimated(judgement, judgement.design)))


def _drawn(judgement: Judgement, design: Design) -> str:
    unit = "points at the centres of pixels"
    if design.plot_px is not None:
        unit = f"squares of {design.plot_px} x {design.plot_px} pixels around pixels"
    if design.declared_by != "geoseg sample":
        return (
            f"The map {judgement.map_name} was judged by {sum(judgement.labelled.values())} "
            f"samples, {judgement.reference_name}, declared by {design.declared_by} to be "
            f"{_DESIGNS[design.kind]}{_strata(judgement, design)}."
        )
    told = (
        f"From the map {design.map_name}, {_DESIGNS[design.kind]} of {design.samples} {unit} was "
        f"drawn (seed {design.seed}){_strata(judgement, design)}."
    )
    if design.spacing_px is not None:
        told += f" The grid's lines lie {design.spacing_px:.2f} pixels apart."
    if design.allocation is not None:
        told += f" Samples were shared out among strata {_ALLOCATIONS[design.allocation]}."
    if design.size_from not in (None, "given"):
        told += f" The size follows from {design.size_from}."
    labelled = sum(judgement.labelled.values())
    return f"{told} {labelled} of the {design.samples} samples were labelled."


def _strata(judgement: Judgement, design: Design) -> str:
    if design.kind != "stratified":
        return f" from {design.pixels:,} valid pixels"
    source = f"those of {design.strata_source}" if design.strata_source else "the map's classes"
    listed = ", ".join(
        f"{each.name} ({each.samples} samples of {each.pixels:,} pixels)" for each in design.strata
    )
    return f"; the strata are {source}: {listed}"


def _estimated(judgement: Judgement, design: Design) -> str:
    by_classes = design.kind == "stratified" and design.strata_source is None
    source = (
        "the stratified estimators of Olofsson et al. (2014)"
        if by_classes and design.map_sha256 == judgement.map_sha256
        else "the estimators for strata that are not the map's classes of Stehman (2014)"
        if design.kind == "stratified"
        else "the ratio estimators of a simple random sample (Cochran 1977)"
    )
    return (
        f"Accuracies and areas were estimated with {source}, weighing each pixel by its true area, "
        f"with the finite population correction; intervals are normal, at "
        f"{judgement.figures.confidence:.0%}. The area of a class is that of the reference, not "
        "the count of the map's pixels."
    )


def _numbers(figure: Estimate) -> dict[str, float | None]:
    return {
        "value": _plain(figure.value),
        "standard_error": _plain(figure.standard_error),
        "low": _plain(figure.low),
        "high": _plain(figure.high),
    }


def _key(name: str) -> str:
    return name.replace("'", "").replace(" ", "_").lower()


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
