"""A score as JSON and CSV, and how it came about in words."""

from __future__ import annotations

import csv
import io
import json
import math
from importlib.metadata import version
from typing import Any

from geoseg.accuracy.score import Score

__all__ = ["methods", "to_csv", "to_dict", "to_json"]


def to_json(score: Score) -> str:
    """All of it as JSON; what does not exist is null."""
    return json.dumps(to_dict(score), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_dict(score: Score) -> dict[str, Any]:
    """All of it as plain values."""
    matrix, calibration, boundaries = score.matrix, score.calibration, score.boundaries
    return {
        "geoseg": version("geoseg"),
        "model": {"name": score.model, "sha256": score.model_sha256, "runtime": score.runtime},
        "pixels": int(matrix.total),
        "overall_accuracy": _plain(matrix.overall),
        "mean_iou": _plain(matrix.mean_iou),
        "mean_f1": _plain(matrix.mean_f1),
        "expected_calibration_error": _plain(calibration.expected_error()),
        "mean_boundary_f1": _plain(boundaries.mean_f1),
        "boundary_tolerance": score.tolerance,
        "absent": list(matrix.absent),
        "classes": classes(score),
        "matrix": {
            "rows": "mapped",
            "columns": "labelled",
            "names": list(matrix.names),
            "pixels": [[int(entry) for entry in row] for row in matrix.entries],
        },
        "reliability": [
            {"above": each.low, "up_to": each.high, "pixels": each.pixels,
             "confidence": _plain(each.confidence), "accuracy": _plain(each.accuracy)}
            for each in calibration.bins()
        ],
        "scenes": _scenes(score),
        "worst_chips": [
            {"scene": each.scene, "row": each.window.row, "col": each.window.col,
             "height": each.window.height, "width": each.window.width,
             "agreement": each.agreement, "pixels": each.compared}
            for each in score.worst
        ],
        "notes": list(score.notes),
        "methods": methods(score),
    }  # fmt: skip


def classes(score: Score) -> list[dict[str, Any]]:
    """The figures of each class; None where the labels hold nothing to measure it by."""
    matrix, boundaries = score.matrix, score.boundaries
    columns = {
        "iou": matrix.iou,
        "f1": matrix.f1,
        "users_accuracy": matrix.users,
        "producers_accuracy": matrix.producers,
        "boundary_f1": boundaries.f1,
        "boundary_precision": boundaries.precision,
        "boundary_recall": boundaries.recall,
    }
    present = matrix.support > 0
    return [
        {"code": each.code, "class": each.name, "present": bool(present[i])}
        | {what: _plain(values[i]) if present[i] else None for what, values in columns.items()}
        | {"support_px": int(matrix.support[i]), "mapped_px": int(matrix.mapped[i])}
        for i, each in enumerate(score.legend)
    ]


def to_csv(score: Score) -> str:
    """One row a class; empty where there is no figure."""
    rows = classes(score)
    file = io.StringIO()
    table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({what: _cell(value) for what, value in row.items()})
    return file.getvalue()


def methods(score: Score) -> str:
    """How the figures came about, in words that a methods section can use."""
    return (
        f"{score.model} mapped {len(score.scenes)} scenes, tiled as geoseg predict does it. Each "
        f"of the {int(score.matrix.total):,} pixels with data and a label counts once, in one "
        "error matrix of all scenes from which every figure is taken; none is a mean over chips "
        "or scenes. Mean IoU and mean F1 are means over the classes that the labels hold. The "
        "expected calibration error has 15 bins of equal width of the winning class's probability "
        "in whole percent, so it is known to within half a percent (Guo et al. 2017). Boundary "
        f"F1 (Csurka et al. 2013) counts boundary pixels of a class within {score.tolerance} of "
        "one of the same class; boundaries along unlabelled pixels, and within the tolerance of "
        "them or of the edge of the scene, do not count."
    )


def _scenes(score: Score) -> list[dict[str, Any]]:
    return [
        {
            "scene": each.scene,
            "labels": each.labels,
            "shape": list(each.shape),
            "gsd_m": each.gsd_m,
            "boundary_tolerance_m": each.tolerance_m,
            "pixels": each.compared,
            "unlabelled_px": each.unlabelled,
            "labelled_without_map_px": each.unmapped,
            "overall_accuracy": _plain(each.matrix.overall),
            "mean_iou": _plain(each.matrix.mean_iou),
            "assumed": list(each.assumed),
        }
        for each in score.scenes
    ]


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
