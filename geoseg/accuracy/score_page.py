"""A score as one page of HTML that needs nothing else: no network, no scripts."""

from __future__ import annotations

import base64
import math
from html import escape
from importlib.metadata import version
from pathlib import PurePath

from geoseg.accuracy.estimate import Estimate
from geoseg.accuracy.page_charts import Row, intervals, matrix_picture, reliability_diagram
from geoseg.accuracy.page_frame import (
    MATRIX_KEY,
    SHARE_TICKS,
    capital,
    class_cell,
    document,
    notes,
    table,
)
from geoseg.accuracy.score import SceneScore, Score, WorstChip
from geoseg.accuracy.score_report import classes, methods

__all__ = ["to_html"]

MOST_SCENES = 40
"""Listed on the page; all are in the figures."""

MEASURES = {
    "iou": "IoU",
    "f1": "F1",
    "users_accuracy": "user's accuracy",
    "producers_accuracy": "producer's accuracy",
    "boundary_f1": "boundary F1",
}
"""Of a class, and what they are called."""

PANELS = (("scene", "image/jpeg"), ("labels", "image/png"), ("map", "image/png"))
"""Of a chip, left to right."""


def to_html(score: Score) -> str:
    """The page."""
    return document(
        f"Evaluation of {score.model}",
        [
            _head(score),
            _classes(score),
            _matrix(score),
            _calibration(score),
            _worst(score),
            _scenes(score),
            _methods(score),
        ],
    )


def _head(score: Score) -> str:
    matrix = score.matrix
    besides = (
        ("overall accuracy", _percent(matrix.overall)),
        ("mean F1", _percent(matrix.mean_f1)),
        ("calibration error", _percent(score.calibration.expected_error())),
        (f"mean boundary F1 within {score.tolerance}", _percent(score.boundaries.mean_f1)),
    )
    told = "".join(f"<div><h3>{escape(what)}</h3>{value}</div>" for what, value in besides)
    return (
        f"<h1>Evaluation of {escape(score.model)}</h1>"
        f'<p class="small">on {len(score.scenes):,} labelled scenes, {int(matrix.total):,} pixels '
        "compared</p>"
        f'<p class="big">{_percent(matrix.mean_iou)} <small>mean IoU of '
        f"{len(matrix.names) - len(matrix.absent)} classes</small></p>"
        f'<div class="tiles">{told}</div>{notes(score.notes)}'
    )


def _classes(score: Score) -> str:
    found = classes(score)
    charts = []
    for what, name in MEASURES.items():
        rows = [
            Row(each.name, each.colour, _figure(figures[what]))
            for each, figures in zip(score.legend, found, strict=True)
        ]
        charts.append(f"<div><h3>{capital(name)}</h3>{intervals(rows, 1.0, SHARE_TICKS)}</div>")
    lines = [
        [
            class_cell(each.name, each.colour),
            *(_percent(figures[what]) for what in MEASURES),
            f"{figures['support_px']:,}",
            f"{figures['mapped_px']:,}",
        ]
        for each, figures in zip(score.legend, found, strict=True)
    ]
    heads = ["class", *MEASURES.values(), "pixels labelled", "pixels mapped"]
    return (
        f'<h2>Each class</h2>{table(heads, lines)}<div class="grid below">{"".join(charts)}</div>'
    )


def _matrix(score: Score) -> str:
    colours, matrix = [each.colour for each in score.legend], score.matrix
    return (
        f'<h2>Error matrix</h2>{MATRIX_KEY}<div class="grid"><div class="wide"><h3>Number of '
        f"pixels</h3>{matrix_picture(matrix, colours, percent=False)}</div></div>"
    )


def _calibration(score: Score) -> str:
    bins = score.calibration.bins()
    lines = [
        [
            f"{100 * each.low:.1f}-{100 * each.high:.1f} %",
            _percent(each.confidence),
            _percent(each.accuracy),
            f"{each.pixels:,}",
        ]
        for each in bins
        if each.pixels
    ]
    heads = ["confidence", "mean confidence", "right", "pixels"]
    return (
        "<h2>Can its confidence be believed?</h2>"
        '<p class="small">Across: the winning class\'s probability in percent. Up: how many of '
        "these pixels are right, in percent; on the dashed line the promise is kept, below it the "
        "model is too sure. Grey: how many pixels there are.</p>"
        f'<div class="grid"><div>{reliability_diagram(bins)}</div>'
        f"<div>{table(heads, lines)}</div></div>"
    )


def _worst(score: Score) -> str:
    if not score.worst:
        return ""
    key = "".join(f"<span>{class_cell(each.name, each.colour)}</span>" for each in score.legend)
    chips = "".join(_chip(each) for each in score.worst)
    return (
        "<h2>Where it is worst</h2>"
        '<p class="small">The windows with the lowest share of right pixels, each as scene, '
        f'labels and map.</p><p class="small key-line">{key}</p><div class="chips">{chips}</div>'
    )


def _chip(chip: WorstChip) -> str:
    window, name = chip.window, escape(PurePath(chip.scene).name)
    pictures = "".join(
        f'<img alt="{what}" src="data:{kind};base64,{base64.b64encode(data).decode("ascii")}">'
        for (what, kind), data in zip(PANELS, chip.pictures, strict=True)
    )
    return (
        f'<figure><div class="trio">{pictures}</div><figcaption>{name}, rows {window.row}-'
        f"{window.row_stop - 1}, columns {window.col}-{window.col_stop - 1}: "
        f"{_percent(chip.agreement)} of {chip.compared:,} pixels right</figcaption></figure>"
    )


def _scenes(score: Score) -> str:
    def agreement(scene: SceneScore) -> float:
        return scene.matrix.overall if scene.compared else math.inf

    listed = sorted(score.scenes, key=agreement)[:MOST_SCENES]
    which = "" if len(listed) == len(score.scenes) else f" The {MOST_SCENES} lowest are listed."
    lines = [
        [
            escape(PurePath(each.scene).name),
            _percent(each.matrix.overall),
            _percent(each.matrix.mean_iou),
            f"{each.compared:,}",
            f"{each.unlabelled:,}",
        ]
        for each in listed
    ]
    heads = ["scene", "overall accuracy", "mean IoU", "pixels compared", "unlabelled"]
    return (
        f'<h2>Each scene</h2><p class="small">For looking into; no figure above is a mean of '
        f"these.{which}</p>{table(heads, lines)}"
    )


def _methods(score: Score) -> str:
    assumed = sorted({each for scene in score.scenes for each in scene.assumed})[:MOST_SCENES]
    told = "".join(f"<li>{escape(each)}</li>" for each in assumed)
    listed = f'<p class="small">Taken for granted:</p><ul class="small">{told}</ul>' if told else ""
    return (
        f"<h2>How this was found</h2><p>{escape(methods(score))}</p>{listed}"
        f'<p class="small">geoseg {version("geoseg")}, {escape(score.runtime)}; model '
        f"<code>{score.model_sha256}</code> (SHA-256 of its card).</p>"
    )


def _figure(value: float | None) -> Estimate:
    return Estimate(math.nan if value is None else value, math.nan, math.nan, math.nan)


def _percent(value: float | None) -> str:
    return "no figure" if value is None or math.isnan(value) else f"{100 * value:.1f} %"
