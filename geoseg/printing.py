"""What people are told on the terminal: results to standard output, remarks to standard error."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import click

from geoseg.errors import GeosegError, InputError, SceneError

if TYPE_CHECKING:
    from geoseg.accuracy.design import Design
    from geoseg.accuracy.estimate import Estimate
    from geoseg.accuracy.judgement import Judgement
    from geoseg.accuracy.score import Score
    from geoseg.change_detection import Change
    from geoseg.jobs.status import JobStatus, SceneState
    from geoseg.map_making import Prediction
    from geoseg.model.bundle import Bundle
    from geoseg.model.card import Card
    from geoseg.quantization import Quantization
    from geoseg.raster.layered import Product
    from geoseg.raster.source import Header

__all__ = [
    "card_facts",
    "complain",
    "print_change",
    "print_design",
    "print_evaluation",
    "print_job_status",
    "print_judgement",
    "print_model",
    "print_prediction",
    "print_quantization",
    "print_training",
    "product_facts",
    "scene_facts",
    "table",
    "what_it_maps",
]


MOST_REMARKS = 6

MOST_LISTED = 3


def print_prediction(prediction: Prediction) -> None:
    """A finished map: classes by area, what was assumed, where the files are."""
    summary = prediction.summary
    rows, cols = summary["shape"]
    gsd = "unknown gsd" if summary["gsd_m"] is None else f"{summary['gsd_m']:g} m"
    seconds, chips = summary["elapsed_seconds"], summary["chips"]
    most = "up to " if chips["join"] == "crop" else ""
    click.echo(
        f"{summary['scene']}: {rows} x {cols} pixels at {gsd}, "
        f"{summary['valid_share']:.1%} valid, mapped in {seconds:.1f} s"
    )
    click.echo(
        f"  by {summary['model']['runtime']}; chips of {most}{chips['chip_px']} px, halo "
        f"{chips['halo_px']} px, {chips['join']}"
    )
    for warning in summary["warnings"]:
        click.echo(f"  warning: {warning}", err=True)
    for assumed in summary["assumed"]:
        click.echo(f"  assumed: {assumed}", err=True)
    for each in sorted(summary["classes"], key=lambda each: -each["pixels"]):
        if each["pixels"]:
            area = each["hectares"]
            amount = f"{each['pixels']:>12,} px" if area is None else f"{area:>12,.1f} ha"
            click.echo(f"  {each['name']:<20}{amount}{each['share']:>9.1%}")
    for path in prediction.files.values():
        if not path.name.endswith(".aux.xml"):
            click.echo(f"  {path}")


def print_change(change: Change) -> None:
    """A finished change map: how much changed from what to what, where the files are."""
    summary = change.summary
    seconds = sum(summary["seconds"].values())
    click.echo(
        f"{summary['before']} -> {summary['after']}: {summary['changed_share']:.2%} of "
        f"{summary['valid_pixels']:,} pixels changed, {summary['polygons']:,} polygons, "
        f"by {summary['method']} in {seconds:.1f} s"
    )
    for warning in summary["warnings"]:
        click.echo(f"  warning: {warning}", err=True)
    for assumed in summary["assumed"]:
        click.echo(f"  assumed: {assumed}", err=True)
    for each in summary["transitions"] or summary["kinds"]:
        what = each["change"] if "change" in each else f"{each['from']} -> {each['to']}"
        area = each["area_ha"]
        amount = f"{each['pixels']:>12,} px" if area is None else f"{area:>12,.1f} ha"
        click.echo(f"  {what:<32}{amount}")
    for path in change.files.values():
        if not path.name.endswith((".aux.xml", ".qml")):
            click.echo(f"  {path}")


def print_design(design: Design) -> None:
    """A drawn sample, stratum by stratum."""
    click.echo(f"{design.map_name}: {design.samples} samples, {design.kind}, seed {design.seed}")
    if design.size_from not in (None, "given"):
        click.echo(f"  size: from {design.size_from}", err=True)
    for stratum, weight in zip(design.strata, design.weights, strict=True):
        click.echo(f"  {stratum.name:<20}{stratum.samples:>7} of {stratum.pixels:>12,} px"
                   f"{weight:>9.1%}")  # fmt: skip


def print_job_status(status: JobStatus) -> None:
    """A job's scenes in the order of time, and how many there are of each kind."""
    rows = [JOB_HEADS, *map(_job_row, status.scenes)]
    wide = [max(len(row[i]) for row in rows) for i in range(len(JOB_HEADS))]
    for row in rows:
        click.echo("  ".join(f"{cell:<{w}}" for cell, w in zip(row, wide, strict=True)).rstrip())
    told = ", ".join(f"{count} {kind}" for kind, count in status.counts.items())
    click.echo(f"{status.job}: {told or 'no scene yet'}; ledger {status.ledger}", err=True)


JOB_HEADS = ("date", "scene", "no data", "status", "since", "changed, ha", "alert", "reason")


def _job_row(scene: SceneState) -> tuple[str, ...]:
    return (
        scene.date,
        scene.scene,
        "" if scene.invalid_share is None else f"{scene.invalid_share:.1%}",
        scene.status.replace("_", " "),
        scene.before_date or "",
        "" if scene.changed_area_ha is None else f"{scene.changed_area_ha:,.2f}",
        (scene.webhook or "yes") if scene.alert else "",
        scene.reason or "",
    )


def print_judgement(judgement: Judgement) -> None:
    """Accuracies and areas, with half of their intervals as the report's page has it."""
    from geoseg.accuracy.report import OVERALL, title

    figures, unit = judgement.figures, judgement.area_unit
    errors = NormalDist().inv_cdf(0.5 + figures.confidence / 2)
    overall = _spread(figures.overall, 100, errors)
    click.echo(f"{title(judgement)}: {OVERALL[judgement.kind]} {overall} %")
    for note in judgement.notes:
        click.echo(f"  note: {note}", err=True)
    shown, heads = 3, ("user's", "producer's", f"area, {unit}")
    if judgement.kind == "agreement":  # neither accuracies nor areas
        shown, heads = 2, ("of mapped", "of labelled", "")
    rows: dict[str, tuple[str, ...]] = {"": heads}
    for each in figures.classes:
        figures_of = ((each.users, 100), (each.producers, 100), (each.area, 1))
        rows[each.name] = tuple(_spread(figure, scale, errors) for figure, scale in figures_of)
    wide = [max(len(cells[i]) for cells in rows.values()) for i in range(shown)]
    for name, cells in rows.items():
        told = "".join(f"  {cell:>{w}}" for cell, w in zip(cells, wide, strict=False))
        click.echo(f"  {name:<20}{told}")
    if judgement.kind == "estimate":
        click.echo(
            f"  ± {errors:.2f} standard errors: half of the {figures.confidence:.0%} interval"
        )


def print_evaluation(score: Score) -> None:
    """How good a model is: the headline, each class, what a reader has to know."""
    from geoseg.accuracy.score_report import classes

    matrix = score.matrix
    click.echo(
        f"{score.model}: mean IoU {_percent(matrix.mean_iou)}, overall accuracy "
        f"{_percent(matrix.overall)}, on {int(matrix.total):,} pixels of {len(score.scenes)} scenes"
    )
    click.echo(
        f"  calibration error {_percent(score.calibration.expected_error())}, mean boundary F1 "
        f"{_percent(score.boundaries.mean_f1)} within {score.tolerance}"
    )
    for note in score.notes:
        click.echo(f"  note: {note}", err=True)
    assumed = sorted({each for scene in score.scenes for each in scene.assumed})
    for remark in assumed[:MOST_REMARKS]:
        click.echo(f"  assumed: {remark}", err=True)
    if len(assumed) > MOST_REMARKS:
        click.echo(f"  assumed: {len(assumed) - MOST_REMARKS} more, see the figures", err=True)
    heads = {
        "iou": "IoU",
        "f1": "F1",
        "users_accuracy": "user's",
        "producers_accuracy": "producer's",
        "boundary_f1": "boundary F1",
    }
    shown = "".join(f"{head:>12}" for head in heads.values())
    click.echo(f"  {'':<20}{shown}{'pixels':>14}")
    for each in classes(score):
        figures = "".join(f"{_percent(each[what]):>12}" for what in heads)
        click.echo(f"  {each['class']:<20}{figures}{each['support_px']:>14,}")


def _percent(share: float | None) -> str:
    return "-" if share is None or math.isnan(share) else f"{share:.1%}"


def _spread(figure: Estimate, scale: float, errors: float) -> str:
    """A figure and so many standard errors, where there are any."""
    if math.isnan(figure.value):
        return "-"
    told = f"{figure.value * scale:,.1f}"
    known = not math.isnan(figure.standard_error) and figure.low < figure.high
    return f"{told} ± {errors * figure.standard_error * scale:,.1f}" if known else told


def card_facts(bundle: Bundle) -> dict[str, Any]:
    """The gist of a model, for machines."""
    card = bundle.card
    return {
        "path": str(bundle.path),
        "sha256": bundle.sha256,
        "bands": list(card.bands),
        "dates": card.dates,
        "classes": {each.code: each.name for each in card.legend},
        "units": card.units,
        "gsd_m": card.gsd_m,
        "license": card.license,
    }


def what_it_maps(card: Card) -> str:
    """What goes into a model and what comes out, in a line."""
    bands, count = " ".join(card.bands), len(card.legend)
    if card.dates == 1:
        return f"{count} classes from {bands}"
    kinds = "change" if count == 2 else f"{count - 1} kinds of change"
    return f"{kinds} between two scenes, from {bands} of each"


def print_model(bundle: Bundle) -> None:
    """All that a card says."""
    card = bundle.card
    halo_px = card.halo_px if card.exact else card.chip_px // 4  # blended chips overlap by half
    times = card.chip_px**2 / (card.chip_px - 2 * halo_px) ** 2
    gsd = "any" if card.gsd_m is None else "-".join(f"{each:.3g}" for each in card.gsd_m) + " m"
    chips = f"{card.chip_px} px, halo {halo_px} px, stride {card.stride} px"
    click.echo(f"{card.name}: {card.description}")
    facts = {
        "path": bundle.path,
        "sha256": bundle.sha256,
        "license": card.license,
        "network": f"{card.architecture} {json.dumps(card.hyperparameters)}, "
        f"{card.total_parameters:,} parameters",
        "bands": " ".join(card.bands),
        "units": card.units,
        "maps": what_it_maps(card),
        "gsd": gsd,
        "classes": ", ".join(f"{each.code} {each.name}" for each in card.legend),
        "chips": f"{chips}; each pixel is computed {times:.2f} times",
        "joined": "without a trace" if card.exact else "by blending, never exactly",
        **{f"figure: {key}": value for key, value in card.figures.items()},
        **{f"made: {key}": _gist(value) for key, value in card.training.items()},
        **{f"limit {i}": limit for i, limit in enumerate(card.limits, 1)},
    }
    click.echo(table(facts))


def print_quantization(made: Quantization) -> None:
    """What a model keeps of its answers in int8."""
    from geoseg.quantization import ENOUGH

    click.echo(f"{made.bundle.path}: {made.bundle.label}")
    click.echo(
        f"  {made.agreement:.2%} of the pixels of {made.tested} test chips have the class that "
        "they have in float32"
    )
    for name, iou in made.iou.items():
        click.echo(f"    IoU of both {iou:.3f}  {name}")
    if made.agreement < ENOUGH:
        click.echo(
            f"warning: less than {ENOUGH:.0%}: look whether the maps are still what you need; "
            "more --chips, or scenes more varied, may help",
            err=True,
        )
    click.echo(f"  geoseg predict SCENE -m {made.bundle.path} --precision int8")


def _gist(value: Any) -> Any:
    """A value for a line of text: of long lists the first few."""
    if isinstance(value, list | tuple) and len(value) > MOST_LISTED:
        return f"{', '.join(map(str, value[:MOST_LISTED]))} and {len(value) - MOST_LISTED} more"
    return value


def scene_facts(header: Header) -> dict[str, Any]:
    """A scene as geoseg reads it."""
    from geoseg.bands import find_bands
    from geoseg.raster.products.sentinel2 import level_told
    from geoseg.raster.scene import Reading

    grid = header.grid
    try:
        known: Any = find_bands(**Reading().of_bands(header))[0]
    except InputError as error:
        known = str(error)
    alpha = header.alpha(known.values() if isinstance(known, dict) else ())
    return {
        "scene": header.name,
        "pixels": f"{grid.height} x {grid.width}",
        "type": str(header.dtype),
        "crs": None if grid.crs is None else grid.crs.to_string(),
        "gsd_m": None if grid.gsd_m is None else round(grid.gsd_m, 4),
        "north_up": grid.is_north_up,
        "bounds": list(grid.bounds),
        "bands": [name or f"band {i}" for i, name in enumerate(header.descriptions, 1)],
        "common_names": known,
        "nodata": _one_or_all([_number(value) for value in header.nodata]),
        "scale": _one_or_all(header.scales),
        "offset": _one_or_all(header.offsets),
        "reflectance": _reflectance(header, alpha),
        "level": level_told(header.name, header.tags),
        "alpha_band": alpha,
    }


def _reflectance(header: Header, alpha: int | None) -> str:
    """How stored values become reflectance, where a model wants that and nobody says another."""
    from geoseg.raster.scaling import reflectance_scaling

    bands = [number for number in range(1, header.count + 1) if number != alpha]
    try:
        scales, offsets, assumed = reflectance_scaling(header, bands)
    except SceneError as error:
        return str(error)
    lines = [f"stored value x {s:g} + {o:g}" for s, o in zip(scales, offsets, strict=True)]
    return "; ".join((*dict.fromkeys(lines), *assumed))


def _number(value: float | None) -> float | str | None:
    """A number as JSON can hold it."""
    return value if value is None or math.isfinite(value) else str(value)


def product_facts(product: Product) -> dict[str, Any]:
    """A product as geoseg reads it."""
    return {
        "product": product.name,
        "level": product.level,
        "bands": {layer.band: layer.path.name for layer in product.layers},
        "reflectance": [
            f"{bands}: stored value x {scale:g} + {offset:g}"
            for (scale, offset), bands in _by_scaling(product).items()
        ],
        "masked_by": [quality.path.name for quality in product.quality],
        "assumed": list(product.assumed),
    }


def _by_scaling(product: Product) -> dict[tuple[float, float], str]:
    bands: dict[tuple[float, float], str] = {}
    for layer in product.layers:
        key = layer.scale, layer.offset
        bands[key] = f"{bands[key]} {layer.band}" if key in bands else layer.band
    return bands


def _one_or_all(values: Sequence[Any]) -> Any:
    return values[0] if len(set(values)) == 1 else list(values)


def table(facts: dict[str, Any]) -> str:
    """Keys and values in two columns."""
    wide = max(map(len, facts))
    return "\n".join(f"  {key:<{wide}}  {value}" for key, value in facts.items())


def print_training(summary: dict[str, Any], model: Path) -> None:
    """A finished training: how good its best network is, and where it lies."""
    click.echo(
        f"{summary['name']}: {summary['epochs']} epochs in {summary['seconds']:.0f} s, "
        f"the best was {summary['best_epoch']}"
    )
    for assumed in summary["assumed"]:
        click.echo(f"  assumed: {assumed}", err=True)
    for name in summary["absent"]:
        click.echo(f"  warning: no pixel to learn from is labelled {name}", err=True)
    for purpose in ("validation", "test"):
        if purpose not in summary:
            continue
        figures = summary[purpose]
        click.echo(
            f"  {purpose}: accuracy {figures['overall']:.4f}, mean IoU {figures['mean_iou']:.4f}"
        )
        for name, each in figures["classes"].items():
            iou = "   absent" if not each["support"] else f"{each['iou']:>9.4f}"
            click.echo(f"    {name:<24}IoU{iou}{each['support']:>14,.0f} px")
    click.echo(f"  {model}")


def complain(error: GeosegError) -> None:
    """Why something failed, in one line."""
    click.echo(f"geoseg: error: {error}", err=True)
