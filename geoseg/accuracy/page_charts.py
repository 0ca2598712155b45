"""Pictures of a judgement as SVG: the matrix, figures with error bars, samples on the map.

They are drawn at the width of a telephone, so that text stays readable there, and several stand
beside each other where there is room.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from geoseg.accuracy.calibration import ReliabilityBin
from geoseg.accuracy.estimate import Estimate
from geoseg.accuracy.judgement import Judgement
from geoseg.accuracy.matrix import ErrorMatrix

__all__ = ["Row", "intervals", "matrix_picture", "reliability_diagram", "samples_on_map"]

WIDTH = 360
LABEL_PX, ROW_PX, CELL_PX = 118, 26, 30
NARROWEST_CELL_PX = 27
LONGEST_LABEL = 16
RIGHT, WRONG = "#1864ab", "#d9480f"
"""Of agreement and of errors; told apart by who sees no red or no green, and by their shape."""


@dataclass(frozen=True, slots=True)
class Row:
    """A class in a chart."""

    name: str
    colour: str
    """'#rrggbb', the legend's."""
    figure: Estimate
    beside: float | None = None
    """Another value to show, such as the mapped area."""


def intervals(rows: Sequence[Row], highest: float, ticks: Sequence[tuple[float, str]]) -> str:
    """Estimates as dots with error bars, one row a class.

    Args:
        rows: top to bottom.
        highest: value at the right edge; 0 is at the left.
        ticks: values of the axis and what is written there.
    """
    height = ROW_PX * len(rows) + 30
    left, right = LABEL_PX + 6, WIDTH - 22

    def at(value: float) -> float:
        return left + (right - left) * min(1.0, max(0.0, value / highest))

    parts = [
        f'<path class="grid" d="M{at(value):.1f} 4V{height - 22}"/>'
        f'<text class="tick" x="{at(value):.1f}" y="{height - 7}" text-anchor="middle">'
        f"{escape(text)}</text>"
        for value, text in ticks
    ]
    for number, row in enumerate(rows):
        y = 4 + ROW_PX * number + ROW_PX / 2
        parts.append(_label(row.name, row.colour, y))
        figure = row.figure
        if row.beside is not None:
            x = at(row.beside)
            parts.append(f'<rect class="mapped" x="{x - 4:.1f}" y="{y - 9:.1f}" width="8" '
                         f'height="18"/>')  # fmt: skip
        if math.isnan(figure.value):
            parts.append(f'<text class="tick" x="{left + 6}" y="{y + 4:.1f}">no figure</text>')
            continue
        if not math.isnan(figure.low):
            low, high = at(figure.low), at(figure.high)
            parts.append(
                f'<path class="bar" d="M{low:.1f} {y - 5:.1f}v10M{low:.1f} {y:.1f}H{high:.1f}'
                f'M{high:.1f} {y - 5:.1f}v10"/>'
            )
        parts.append(f'<circle class="dot" cx="{at(figure.value):.1f}" cy="{y:.1f}" r="4.5"/>')
    return _svg(WIDTH, height, parts)


def matrix_picture(matrix: ErrorMatrix, colours: Sequence[str], *, percent: bool) -> str:
    """An error matrix as a picture: rows are the map, columns the reference, by number.

    Args:
        matrix: counts, or shares of the area.
        colours: (K,), of the legend.
        percent: write entries as percent of the whole.
    """
    count = len(matrix.names)
    left = LABEL_PX + 18
    cell = max(NARROWEST_CELL_PX, min(46.0, (WIDTH - left - 4) / count))
    width, height = max(WIDTH, left + cell * count + 4), 22 + CELL_PX * count
    rows = matrix.mapped
    parts = []
    for i, name in enumerate(matrix.names):
        y = 20 + CELL_PX * i
        parts.append(_label(name, colours[i], y + CELL_PX / 2))
        parts.append(_text(left - 10, y + CELL_PX / 2 + 4, str(i + 1), "number"))
        parts.append(_text(left + cell * (i + 0.5), 14, str(i + 1), "number"))
        for j, entry in enumerate(matrix.entries[i]):
            strength = entry / rows[i] if rows[i] else 0.0
            ink = RIGHT if i == j else WRONG
            x = left + cell * j
            parts.append(
                f'<rect x="{x + 1:.1f}" y="{y + 1}" width="{cell - 2:.1f}" height="{CELL_PX - 2}" '
                f'rx="3" fill="{ink}" fill-opacity="{0.04 + 0.86 * strength:.2f}"/>'
            )
            shown = _entry(float(entry), percent)
            kind = "strong" if strength > 0.5 else "cell"
            parts.append(_text(x + cell / 2, y + CELL_PX / 2 + 4, shown, kind))
    return _svg(width, height, parts)


def reliability_diagram(bins: Sequence[ReliabilityBin]) -> str:
    """Accuracy over confidence, and below it how many pixels have that confidence.

    Bars that end on the line keep what they promise; below it the map is too sure of itself.
    """
    left, right, top, bottom, foot = 40.0, WIDTH - 8.0, 8.0, 268.0, 330.0
    side, most = right - left, max(each.pixels for each in bins) or 1

    def at(confidence: float, accuracy: float) -> tuple[float, float]:
        return left + side * confidence, bottom - (bottom - top) * accuracy

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = at(tick, tick)
        parts.append(
            f'<path class="grid" d="M{left} {y:.1f}H{right}"/>'
            f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{100 * tick:.0f}</text>"
        )
        parts.append(_text(min(x, right - 8), foot + 16, f"{100 * tick:.0f}", "tick"))
    for each in bins:
        if not each.pixels:
            continue
        x, y = at(each.low, each.accuracy)
        wide, tall = side * (each.high - each.low) - 2, (foot - bottom - 14) * each.pixels / most
        told = (
            f"confidence {100 * each.confidence:.1f} %, right {100 * each.accuracy:.1f} %, "
            f"{each.pixels:,} pixels"
        )
        parts.append(
            f'<g><title>{told}</title><rect x="{x + 1:.1f}" y="{y:.1f}" width="{wide:.1f}" '
            f'height="{bottom - y:.1f}" fill="{RIGHT}" fill-opacity=".75"/>'
            f'<rect x="{x + 1:.1f}" y="{foot - tall:.1f}" width="{wide:.1f}" '
            f'height="{tall:.1f}" fill="#868e96"/></g>'
        )
    parts.append(
        f'<path d="M{left} {bottom}L{right} {top}" stroke="{WRONG}" stroke-width="1.6" '
        f'stroke-dasharray="5 4"/><path class="grid" d="M{left} {foot}H{right}"/>'
    )
    return _svg(WIDTH, foot + 20, parts)


def samples_on_map(judgement: Judgement) -> str:
    """The map in pale colours and its samples: rings where they agree, crosses where not."""
    height, width = judgement.shape
    scale = min(WIDTH / width, 420 / height)
    wide, high = width * scale, height * scale
    picture = base64.b64encode(judgement.picture).decode("ascii")
    parts = [
        f'<image href="data:image/png;base64,{picture}" width="{wide:.1f}" height="{high:.1f}" '
        'preserveAspectRatio="none" opacity="0.45" style="image-rendering:pixelated"/>'
    ]
    rights = [place for place in judgement.places if place.mapped == place.reference]
    wrongs = [place for place in judgement.places if place.mapped != place.reference]
    parts += [
        f'<circle class="agrees" cx="{place.across * wide:.1f}" cy="{place.down * high:.1f}" '
        'r="2.6"/>'
        for place in rights
    ]
    parts += [
        f'<path class="differs" d="M{place.across * wide - 3.2:.1f} '
        f'{place.down * high - 3.2:.1f}l6.4 6.4m0 -6.4l-6.4 6.4"><title>mapped as '
        f"{escape(place.mapped)}, labelled {escape(place.reference)}</title></path>"
        for place in wrongs
    ]
    return _svg(wide, high, parts)


def _entry(value: float, percent: bool) -> str:
    if value == 0:
        return "·"
    if not percent:
        for unit, size, least in (("G", 1e9, 1e9), ("M", 1e6, 1e6), ("k", 1e3, 1e4)):
            if value >= least:
                few = value / size
                return f"{few:.1f}{unit}" if few < 10 else f"{few:.0f}{unit}"
        return f"{value:.0f}"
    return f"{100 * value:.1f}" if value >= 0.0005 else "<.1"


def _label(name: str, colour: str, y: float) -> str:
    short = name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"
    return (
        f'<rect x="0" y="{y - 5:.1f}" width="10" height="10" rx="2" fill="{escape(colour)}" '
        f'stroke="#868e96" stroke-width=".5"/><text x="15" y="{y + 4:.1f}">{escape(short)}'
        f"<title>{escape(name)}</title></text>"
    )


def _text(x: float, y: float, text: str, kind: str) -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(text)}</text>'
    )


def _svg(width: float, height: float, parts: Sequence[str]) -> str:
    least = f"min-width:{width:.0f}px;" if width > WIDTH else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="{least}max-width:{1.35 * width:.0f}px" role="img">{"".join(parts)}</svg>'
    )
