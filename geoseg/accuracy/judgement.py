"""What is known of a map after it was compared with a reference, and how it is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from geoseg.accuracy.design import Design, MappedClass
from geoseg.accuracy.estimate import ClassEstimate, Estimate, MapEstimate
from geoseg.accuracy.matrix import ErrorMatrix

__all__ = ["Judgement", "JudgementKind", "Place", "agreement", "census"]

JudgementKind: TypeAlias = Literal["estimate", "agreement", "census"]


@dataclass(frozen=True, slots=True)
class Place:
    """A sample on the map."""

    across: float
    """From the map's left edge, 0, to its right, 1."""
    down: float
    """From its top, 0, to its bottom, 1."""
    mapped: str
    """The class on the map."""
    reference: str
    """The class it was labelled."""


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """A map compared with a reference."""

    kind: JudgementKind
    """An estimate comes from a declared probability sample, a census from ground that a reference
    covers in full, agreement from samples of which nobody says how they were chosen."""
    map_name: str
    reference_name: str
    map_sha256: str
    shape: tuple[int, int]
    """(height, width) of the map in pixels."""
    figures: MapEstimate
    """Standard errors are 0 in a census, and NaN where there is but agreement, as areas are."""
    classes: tuple[MappedClass, ...]
    """Those of `figures`, in its order."""
    area_unit: Literal["ha", "px"]
    """Of areas: hectares, or pixels when the map has no CRS."""
    unseen: tuple[str, ...]
    """Classes of the legend that neither map nor reference holds."""
    design: Design | None
    """Of the sample, in an estimate."""
    labelled: Mapping[str, int]
    """Labelled samples by stratum; pixels compared, in a census."""
    unlabelled: int
    """Samples that nobody labelled."""
    places: tuple[Place, ...]
    """Labelled samples; none in a census."""
    notes: tuple[str, ...]
    """What a reader has to know."""
    picture: bytes
    """The map as a small PNG."""

    def mapped_area(self, each: MappedClass) -> float:
        """What pixel counting says a class covers, in the area's unit."""
        return float(each.pixels) if each.hectares is None else each.hectares


def agreement(counts: ErrorMatrix, confidence: float) -> MapEstimate:
    """Shares of samples that agree: no standard errors, no areas."""
    return _without_sampling(counts, counts, math.nan, math.nan, confidence)


def census(
    counts: ErrorMatrix, areas: ErrorMatrix, total_area: float, confidence: float
) -> MapEstimate:
    """Figures of ground that was compared in full: no sampling error.

    Args:
        counts: pixels by mapped and reference class.
        areas: their areas.
        total_area: of that ground.
        confidence: kept for the record.
    """
    return _without_sampling(counts, areas, total_area, 0.0, confidence)


def _without_sampling(
    counts: ErrorMatrix, weighed: ErrorMatrix, total: float, error: float, confidence: float
) -> MapEstimate:
    def exact(value: float, scale: float = 1.0) -> Estimate:
        value, spread = float(value) * scale, error * float(value)
        return Estimate(value, spread, value + spread, value + spread)

    shares = weighed.entries / max(weighed.total, 1e-300)
    proportions = ErrorMatrix(counts.names, shares)
    classes = tuple(
        ClassEstimate(
            name,
            users=exact(weighed.users[i]),
            producers=exact(weighed.producers[i]),
            f1=exact(weighed.f1[i]),
            iou=exact(weighed.iou[i]),
            share=exact(proportions.support[i] if error == 0 else math.nan),
            area=exact(proportions.support[i], total),
            samples=int(counts.support[i]),
        )
        for i, name in enumerate(counts.names)
    )
    return MapEstimate(counts, proportions, exact(weighed.overall), classes, total, confidence)
