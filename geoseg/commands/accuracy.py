"""`geoseg evaluate`, `sample` and `accuracy`: how good models and maps are."""

from __future__ import annotations

from typing import Any

import click

from geoseg import printing
from geoseg.commands.bars import progress_bar
from geoseg.commands.options import (
    device_option,
    folder_option,
    max_pixels_option,
    nodata_option,
    overwrite_option,
    precision_option,
    quiet_option,
    reading_options,
    runtime_option,
)
from geoseg.commands.results import echo_json, echo_paths
from geoseg.errors import InputError

__all__ = ["accuracy", "evaluate", "sample"]


class _SeveralValues(click.Command):
    """A command whose options given several times also take values one after another.

    An unquoted pattern reaches us as many file names; all belong to the option before them.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its values."""
        several = {
            name for option in self.params if getattr(option, "multiple", False)
            for name in option.opts
        }  # fmt: skip
        repeated: list[str] = []
        current, values = "", 0
        for arg in args:
            if arg.startswith("-") and arg != "-":
                current, values = (arg, 0) if arg in several else ("", 0)
            elif current:
                values += 1
                if values > 1:
                    repeated.append(current)
            repeated.append(arg)
        return super().parse_args(ctx, repeated)


@click.command(cls=_SeveralValues)
@click.argument("model", metavar="MODEL")
@click.option("--scenes", multiple=True, required=True, metavar="FILE...", help="Files, patterns.")
@click.option(
    "--scenes-after",
    multiple=True,
    metavar="FILE...",
    help="For a model that compares two scenes: the later ones, called as the earlier ones are.",
)
@click.option(
    "--labels",
    multiple=True,
    required=True,
    metavar="FILE...",
    help="Class rasters or polygons called as their scenes are, or one vector file for all.",
)
@folder_option
@click.option(
    "--label-field",
    default="class",
    show_default=True,
    metavar="NAME",
    help="The field of polygons that holds the class.",
)
@click.option(
    "--unlabelled", metavar="CODE,...", help="Codes of label rasters that say nothing of a pixel."
)
@click.option(
    "--boundary-tolerance",
    type=float,
    metavar="METRES",
    help="How far a boundary may be off. Default: two pixels.",
)
@reading_options
@runtime_option
@device_option
@precision_option
@max_pixels_option
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@quiet_option
def evaluate(
    model: str,
    scenes: tuple[str, ...],
    scenes_after: tuple[str, ...],
    labels: tuple[str, ...],
    unlabelled: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Score a model on labelled scenes that it has not seen.

    One error matrix of all pixels, figures of each class, calibration, boundaries, and the
    windows where the map is worst, as a page, a table and JSON.
    """
    from geoseg.accuracy.score_report import to_dict
    from geoseg.evaluation import evaluate as evaluate_model

    with progress_bar("evaluate", show=not (quiet or as_json)) as progress:
        evaluation = evaluate_model(
            model,
            scenes,
            labels,
            scenes_after=scenes_after or None,
            unlabelled=_codes(unlabelled),
            progress=progress,
            **options,
        )
    if as_json:
        echo_json(to_dict(evaluation.figures), evaluation.files)
    elif not quiet:
        printing.print_evaluation(evaluation.figures)
        echo_paths(evaluation.files.values())


@click.command()
@click.argument("classes", metavar="MAP")
@click.option(
    "-o", "--output", default="samples.gpkg", show_default=True, help="GeoPackage to write."
)
@click.option(
    "--design",
    type=click.Choice(["stratified", "simple", "systematic"]),
    default="stratified",
    show_default=True,
    help="From each stratum by itself, from the whole map, or on a grid with a random start.",
)
@click.option("--strata", metavar="RASTER", help="Strata. Default: the map's classes.")
@click.option("-n", "--size", type=int, metavar="N", help="Samples in all.")
@click.option(
    "--standard-error",
    type=float,
    metavar="S",
    help="Instead of a size: the standard error wanted for overall accuracy. Default: 0.02.",
)
@click.option(
    "--expected",
    metavar="U|NAME=U,...",
    help="User's accuracies to expect, for the size. Default: 0.8.",
)
@click.option(
    "--allocation",
    type=click.Choice(["proportional", "equal", "minimum"]),
    default="minimum",
    show_default=True,
    help="How samples are shared out: by size, equally, or by size with a minimum.",
)
@click.option("--minimum", type=int, metavar="N", help="Samples of a rare stratum at least.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another draws another.")
@click.option("--plot", "plot_px", type=int, metavar="PX", help="Squares instead of points.")
@click.option("--scene", metavar="RASTER", help="Cut a picture of it around each sample.")
@click.option("--chip", "chip_px", type=int, default=65, metavar="PX", help="Its side.")
@nodata_option
@max_pixels_option
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print the design as JSON.")
@quiet_option
def sample(classes: str, expected: str | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Draw places of a map to label, so that its accuracy and areas can be estimated.

    Open the GeoPackage in QGIS, fill in the field reference, then run geoseg accuracy.
    """
    from geoseg.sampling import sample as draw_sample

    drawn = draw_sample(classes, expected=_expectations(expected), **options)
    if as_json:
        echo_json(drawn.design.to_dict(), drawn.files)
    elif not quiet:
        printing.print_design(drawn.design)
        echo_paths(drawn.files.values())


@click.command()
@click.argument("classes", metavar="MAP")
@click.argument("reference", metavar="SAMPLES|POLYGONS|RASTER")
@click.option("-o", "--output", default=".", metavar="DIR", help="Folder for the report.")
@click.option(
    "--reference-field",
    default="reference",
    show_default=True,
    metavar="NAME",
    help="The field that holds the reference class.",
)
@click.option(
    "--design",
    type=click.Choice(["stratified", "simple"]),
    help="Say how samples that carry no design were drawn: within the map's classes, or anywhere.",
)
@click.option(
    "--merge", multiple=True, metavar="A+B", help="Put strata together that have too few samples."
)
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of intervals.")
@click.option("--force", is_flag=True, help="Judge another map than the sample was drawn from.")
@nodata_option
@max_pixels_option
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@quiet_option
def accuracy(
    classes: str,
    reference: str,
    merge: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Say how accurate a map is, and how much there is of each class, with intervals.

    Labelled samples give estimates; polygons or a raster, a census of the ground they cover.
    """
    from geoseg.accuracy.report import to_dict
    from geoseg.assessment import assess_accuracy

    groups = [tuple(each.split("+")) for each in merge]
    assessment = assess_accuracy(classes, reference, merge=groups, **options)
    if as_json:
        echo_json(to_dict(assessment.judgement), assessment.files)
    elif not quiet:
        printing.print_judgement(assessment.judgement)
        echo_paths(assessment.files.values())


def _expectations(text: str | None) -> float | dict[str, float] | None:
    """What --expected says: one accuracy for all strata, or by name."""
    if text is None:
        return None
    try:
        if "=" not in text:
            return float(text)
        pairs = (each.rsplit("=", 1) for each in text.split(","))
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError as error:
        raise InputError(f"--expected {text!r} is neither 0.8 nor water=0.9,trees=0.7") from error


def _codes(text: str | None) -> tuple[int, ...]:
    """What --unlabelled says."""
    try:
        return () if text is None else tuple(int(each) for each in text.split(","))
    except ValueError as error:
        raise InputError(f"--unlabelled {text!r} is no list of codes such as 0,255") from error
