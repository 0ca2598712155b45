"""A judgement as one page of HTML that needs nothing else: no network, no scripts."""

from __future__ import annotations

import math
from html import escape
from importlib.metadata import version
from statistics import NormalDist

from geoseg.accuracy.estimate import Estimate
from geoseg.accuracy.judgement import Judgement
from geoseg.accuracy.page_charts import Row, intervals, matrix_picture, samples_on_map
from geoseg.accuracy.page_frame import (
    MATRIX_KEY,
    SHARE_TICKS,
    capital,
    class_cell,
    document,
    notes,
    table,
)
from geoseg.accuracy.report import MEASURES, OVERALL, methods, title

__all__ = ["to_html"]

SOURCES = (
    "Cochran, W. G. (1977), Sampling Techniques, 3rd ed. Olofsson, P. et al. (2014), Remote "
    "Sensing of Environment 148, 42-57. Stehman, S. V. (2014), International Journal of Remote "
    "Sensing 35, 4923-4939."
)


def to_html(judgement: Judgement) -> str:
    """The page."""
    sections = [
        _head(judgement),
        _matrices(judgement),
        _accuracies(judgement),
        _areas(judgement) if judgement.kind != "agreement" else "",
        _table(judgement),
        _places(judgement),
        _methods(judgement),
    ]
    return document(title(judgement), sections)


def _head(judgement: Judgement) -> str:
    overall, labelled = judgement.figures.overall, sum(judgement.labelled.values())
    what = "pixels compared" if judgement.kind == "census" else "labelled samples"
    left = f", {judgement.unlabelled} not labelled" if judgement.unlabelled else ""
    return (
        f"<h1>{escape(title(judgement))}</h1>"
        f'<p class="small">against {escape(judgement.reference_name)}: {labelled:,} {what}'
        f"{left}</p>"
        f'<p class="big">{_percent(overall)} <small>{OVERALL[judgement.kind]}'
        f"{_interval_words(judgement, overall)}</small></p>{notes(judgement.notes)}"
    )


def _interval_words(judgement: Judgement, figure: Estimate) -> str:
    if judgement.kind != "estimate" or math.isnan(figure.low):
        return ""
    level = f"{judgement.figures.confidence:.0%}"
    return f", {level} interval {100 * figure.low:.1f} to {100 * figure.high:.1f} %"


def _matrices(judgement: Judgement) -> str:
    figures, colours = judgement.figures, [each.colour for each in judgement.classes]
    what = "pixels" if judgement.kind == "census" else "samples"
    pictures = [
        f'<div class="wide"><h3>Number of {what}</h3>'
        f"{matrix_picture(figures.counts, colours, percent=False)}</div>"
    ]
    if judgement.kind != "agreement":
        told = "Share of the area" if judgement.kind == "census" else "Estimated share of the area"
        pictures.append(
            f'<div class="wide"><h3>{told}, in percent</h3>'
            f"{matrix_picture(figures.proportions, colours, percent=True)}</div>"
        )
    return f'<h2>Error matrix</h2>{MATRIX_KEY}<div class="grid">{"".join(pictures)}</div>'


def _accuracies(judgement: Judgement) -> str:
    charts = []
    for what, name in MEASURES[judgement.kind].items():
        if what in ("share", "area", "iou"):
            continue
        rows = [
            Row(each.name, each.colour, getattr(found, what))
            for each, found in zip(judgement.classes, judgement.figures.classes, strict=True)
        ]
        charts.append(f"<div><h3>{capital(name)}</h3>{intervals(rows, 1.0, SHARE_TICKS)}</div>")
    heading = "Agreement" if judgement.kind == "agreement" else "Accuracy"
    return f'<h2>{heading} of each class</h2><div class="grid">{"".join(charts)}</div>'


def _areas(judgement: Judgement) -> str:
    pairs = list(zip(judgement.classes, judgement.figures.classes, strict=True))
    mapped = [judgement.mapped_area(each) for each, _ in pairs]
    rows = [
        Row(each.name, each.colour, found.area, beside)
        for (each, found), beside in zip(pairs, mapped, strict=True)
    ]
    known = [found.area.high for _, found in pairs if not math.isnan(found.area.high)]
    highest = max([*mapped, *known, 1e-12]) * 1.02
    kind = "estimated" if judgement.kind == "estimate" else "by the reference"
    return (
        f"<h2>Area of each class, {judgement.area_unit}</h2>"
        f'<p class="small">Dots: {kind}, with error bars. Hollow boxes: counted on the map, with '
        "the map's errors in it. Where a box lies outside the bar, counting pixels misleads.</p>"
        f'<div class="grid"><div>{intervals(rows, highest, _ticks(highest))}</div></div>'
    )


def _ticks(highest: float) -> list[tuple[float, str]]:
    """At most five round values from 0 on."""
    step = 10 ** math.floor(math.log10(highest / 2))
    step = next(s for s in (step, 2 * step, 5 * step, 10 * step) if highest / s <= 4)
    return [(step * i, f"{step * i:,.10g}") for i in range(int(highest / step) + 1)]


def _table(judgement: Judgement) -> str:
    measures = MEASURES[judgement.kind]
    heads = ["class", *measures.values()]
    level = judgement.figures.confidence
    spread = NormalDist().inv_cdf(0.5 + level / 2) if judgement.kind == "estimate" else 0.0
    if judgement.kind != "agreement":
        heads.append("mapped area")
    lines = []
    for each, found in zip(judgement.classes, judgement.figures.classes, strict=True):
        cells = [class_cell(each.name, each.colour)]
        for what in measures:
            figure = getattr(found, what)
            cells.append((_amount if what == "area" else _percent)(figure, spread))
        if judgement.kind != "agreement":
            cells.append(f"{judgement.mapped_area(each):,.1f}")
        lines.append(cells)
    unseen = (
        f'<p class="small">In neither map nor reference: {escape(", ".join(judgement.unseen))}.</p>'
        if judgement.unseen
        else ""
    )
    told = (
        f'<p class="small">± {spread:.2f} standard errors, half of the {level:.0%} interval before '
        f"it is cut at what is possible. Areas in {judgement.area_unit}.</p>"
        if spread
        else ""
    )
    return f"<h2>In numbers</h2>{told}{table(heads, lines)}{unseen}"


def _places(judgement: Judgement) -> str:
    if not judgement.places:
        return ""
    wrong = sum(place.mapped != place.reference for place in judgement.places)
    return (
        "<h2>Where the errors lie</h2>"
        f'<p class="small">Rings: {len(judgement.places) - wrong} samples that agree with the map. '
        f"Red crosses: {wrong} that do not.</p>"
        f'<div class="grid"><div>{samples_on_map(judgement)}</div></div>'
    )


def _methods(judgement: Judgement) -> str:
    sources = f" {SOURCES}" if judgement.kind == "estimate" else ""
    return (
        f"<h2>How this was found</h2><p>{escape(methods(judgement))}</p>"
        f'<p class="small">geoseg {version("geoseg")}; map <code>{judgement.map_sha256}</code> '
        f"(SHA-256 of grid and pixels).{sources}</p>"
    )


def _percent(figure: Estimate, spread: float = 0.0) -> str:
    """In percent, with `spread` standard errors beside it."""
    if math.isnan(figure.value):
        return "no figure"
    told = f"{100 * figure.value:.1f} %"
    return f"{told} <small>± {100 * spread * figure.standard_error:.1f}</small>" if spread else told


def _amount(figure: Estimate, spread: float) -> str:
    if math.isnan(figure.value):
        return "no figure"
    told = f"{figure.value:,.1f}"
    return f"{told} <small>± {spread * figure.standard_error:,.1f}</small>" if spread else told
