"""The command line: parse, call one verb, print.

Results go to standard output, everything else to standard error. Exit status: 0 done, 2 what was
given cannot be used, 3 a result could not be written, 1 a bug; `geoseg job run` has its own.
Verbs are imported when called, so that `geoseg --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import click

from geoseg import printing
from geoseg.cli_options import (
    bands_option,
    device_option,
    folder_option,
    level_option,
    max_pixels_option,
    model_option,
    nodata_option,
    offset_option,
    overwrite_option,
    precision_option,
    quiet_option,
    reading_options,
    runtime_option,
    scale_option,
    sensor_option,
)
from geoseg.errors import GeosegError, InputError
from geoseg.job_commands import job

STANDARD_ERROR = 2
INTERRUPTED = 130
CLOSED_PIPE = 141


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        with _libraries_quiet():
            status = cli(standalone_mode=False)
    except GeosegError as error:
        _complain(error)
        status = error.exit_status
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("geoseg: interrupted", err=True)
        status = INTERRUPTED
    except BrokenPipeError:  # whoever was reading has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = CLOSED_PIPE
    sys.exit(status)


@contextmanager
def _libraries_quiet() -> Iterator[None]:
    """Keep what C libraries print by themselves off the terminal, unless there is a bug.

    libtiff says "_tiffWriteProc: No space left on device" line upon line; we say it once.
    """
    try:
        sys.stderr.flush()
        terminal = os.dup(STANDARD_ERROR)
    except (OSError, AttributeError):  # there is no standard error to keep clean
        yield
        return
    python_stderr = sys.stderr
    with tempfile.TemporaryFile() as noise, os.fdopen(terminal, "w", buffering=1) as ours:
        os.dup2(noise.fileno(), STANDARD_ERROR)
        sys.stderr = ours
        try:
            yield
        except (GeosegError, click.ClickException, click.Abort, KeyboardInterrupt, BrokenPipeError):
            raise
        except BaseException:
            noise.seek(0)
            ours.write(noise.read().decode(errors="replace"))
            raise
        finally:
            ours.flush()
            sys.stderr = python_stderr
            os.dup2(terminal, STANDARD_ERROR)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="geoseg")
def cli() -> None:
    """Satellite and aerial scenes in, maps out."""


cli.add_command(job)


@cli.command()
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...")
@folder_option
@model_option
@reading_options
@click.option(
    "--min-confidence",
    type=float,
    default=0.0,
    metavar="P",
    help="Call pixels uncertain (254) whose class is less probable, 0 to 1.",
)
@click.option("--scores", is_flag=True, help="Write every class's probability.")
@click.option("--confidence", is_flag=True, help="Write the winning class's probability.")
@click.option("--no-polygons", is_flag=True, help="Write no polygons.")
@click.option("--no-preview", is_flag=True, help="Write no preview picture.")
@overwrite_option
@click.option(
    "--skip-existing",
    is_flag=True,
    help="Leave scenes alone that this model has mapped already.",
)
@click.option(
    "--join",
    type=click.Choice(["crop", "blend"]),
    help="Keep chips' cores, or blend what overlaps. Default: what suits the model.",
)
@click.option("--chip", "chip_px", type=int, metavar="PX", help="Side of a chip, at most.")
@click.option(
    "--halo", "halo_px", type=int, metavar="PX", help="Rim of a chip that is read but not kept."
)
@runtime_option
@device_option
@precision_option
@click.option(
    "--memory",
    metavar="SIZE",
    help="What the process may take: 2GB. Default: what the model's chips take.",
)
@click.option(
    "--dask",
    metavar="ADDRESS",
    help="Let the workers of this dask scheduler compute: tcp://HOST:8786.",
)
@max_pixels_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a scene.")
@quiet_option
def predict(
    scenes: tuple[str, ...],
    no_polygons: bool,
    no_preview: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Map scenes: a class GeoTIFF, polygons, areas and a preview for each.

    One bad scene does not stop the others; it is reported, and the exit status says so.
    """
    _refuse_twins(scenes)
    from geoseg.quick_start import import_openvino, import_pyogrio

    if options["runtime"] != "torch":
        import_openvino()
    if not no_polygons:
        import_pyogrio()
    from geoseg.prediction import predict_scenes

    options |= {"polygons": not no_polygons, "preview": not no_preview}
    failures: list[int] = []

    def bar(scene: Path) -> AbstractContextManager[Callable[[float], None] | None]:
        return _progress(scene.name, show=not (quiet or as_json))

    for scene, made in predict_scenes(scenes, progress=bar, **options):
        if isinstance(made, Exception):
            failures.append(_failure_status(made))
            if as_json:
                failure = {"scene": Path(scene).name, "path": scene, "error": str(made)}
                click.echo(json.dumps(failure))
        elif as_json:
            files = {what: str(path) for what, path in made.files.items()}
            click.echo(json.dumps({**made.summary, "path": scene, "files": files}))
        elif not quiet:
            printing.print_prediction(made)
    return 1 if 1 in failures else max(failures, default=0)


@cli.command()
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="AFTER")
@folder_option
@click.option("--name", default="change", show_default=True, help="What their names begin with.")
@click.option(
    "--method",
    type=click.Choice(["model", "irmad", "cva"]),
    default="model",
    show_default=True,
    help="Compare a model's classes, or without a model the values themselves.",
)
@model_option
@click.option("--from", "from_classes", metavar="NAME,...", help="Only change from these classes.")
@click.option("--to", "to_classes", metavar="NAME,...", help="Only change to these classes.")
@click.option("--before-date", metavar="DATE", help="YYYY-MM-DD. Default: what the file says.")
@click.option("--after-date", metavar="DATE", help="See --before-date.")
@click.option(
    "--min-area", metavar="AREA", help="Smaller patches go to a neighbour: 5000 (m2), 9px, 0.5ha."
)
@click.option("--area", metavar="FILE", help="Polygons to confine the comparison to.")
@click.option("--coregister", is_flag=True, help="Correct the shift between the scenes.")
@click.option("--force", is_flag=True, help="Go on where the scenes are shifted by over 3 px.")
@bands_option
@sensor_option
@scale_option
@offset_option
@nodata_option
@level_option
@click.option(
    "--gsd",
    type=float,
    metavar="METRES",
    help="Compare at this ground sample distance; 0: as the scenes are.",
)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "openvino", "torch"]),
    default="auto",
    show_default=True,
    help="What computes the model.",
)
@max_pixels_option
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@quiet_option
def change(
    before: str,
    after: str,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Map what changed between two scenes: where, from what to what, how much."""
    from geoseg.change_detection import change as map_change

    with _progress(Path(after).name, show=not (quiet or as_json)) as progress:
        made = map_change(before, after, progress=progress, **options)
    if as_json:
        files = {what: str(path) for what, path in made.files.items()}
        click.echo(json.dumps({**made.summary, "files": files}))
    elif not quiet:
        printing.print_change(made)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a model.")
def models(as_json: bool) -> int:
    """List the installed models."""
    from geoseg.model.bundle import list_models, load_bundle

    status = 0
    for name, path in list_models().items():
        try:
            bundle = load_bundle(path)
        except GeosegError as error:
            _complain(error)
            status = error.exit_status
            continue
        card = bundle.card
        if as_json:
            click.echo(json.dumps({"name": name, **printing.card_facts(bundle)}))
        else:
            click.echo(f"{name}  {printing.what_it_maps(card)}")
            click.echo(f"    {card.description}")
    return status


@cli.command()
@click.argument("recipe", required=False, metavar="RECIPE.yaml")
@click.option("-o", "--output", metavar="DIR", help="Folder of the run. Default: runs/NAME.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace what the recipe says: --set lr=3e-4 --set network.encoder=resnet18.",
)
@click.option("--overwrite", is_flag=True, help="Begin anew even if the folder holds a run.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of recipes and exit.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@quiet_option
def train(
    recipe: str | None,
    output: str | None,
    settings: tuple[str, ...],
    overwrite: bool,
    schema: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Learn a model from scenes and labels.

    A run that was cut off goes on when it is called again. Ctrl-C keeps the best model so far.
    """
    if schema:
        from geoseg.recipe import recipe_schema

        click.echo(recipe_schema())
        return 0
    if recipe is None:
        raise click.UsageError("give a recipe, or --schema")
    from geoseg.learning import train as learn

    with printing.training_bar(show=not (quiet or as_json)) as progress:
        training = learn(
            recipe, output=output, settings=settings, overwrite=overwrite, progress=progress
        )
    if as_json:
        click.echo(json.dumps({**training.summary, "model": str(training.bundle.path)}))
    elif not quiet:
        printing.print_training(training.summary, training.bundle.path)
    return INTERRUPTED if training.interrupted else 0


@cli.command()
@click.argument("model", metavar="MODEL")
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...")
@click.option("-o", "--output", required=True, metavar="DIR", help="Folder of the new bundle.")
@reading_options
@click.option(
    "--chips", type=int, default=48, show_default=True, help="How many to draw from the scenes."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draw.")
@max_pixels_option
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@quiet_option
def quantize(
    model: str,
    scenes: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Add a graph in int8 to a model, for --precision int8.

    Post-training quantization: half of the chips that are drawn from the scenes, which need no
    labels, calibrate it, a quarter validates it, and a quarter, kept apart, tests how many pixels
    keep the class that they have in float32.
    """
    from geoseg.quantization import FIGURE
    from geoseg.quantization import quantize as quantize_model

    if not (quiet or as_json):
        click.echo("calibrating and validating: this takes minutes", err=True)
    made = quantize_model(model, scenes, **options)
    if as_json:
        figures = made.bundle.card.figures[FIGURE]
        click.echo(json.dumps({**figures, "path": str(made.bundle.path)}))
    elif not quiet:
        printing.print_quantization(made)


@cli.command()
@click.argument("target", metavar="MODEL|SCENE")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(target: str, as_json: bool) -> None:
    """Show what a model or a scene is, as geoseg reads it."""
    from geoseg.model.bundle import CARD, list_models, load_bundle

    path = Path(target)
    if target in list_models() or (path / CARD).is_file() or path.suffix == ".zip":
        bundle = load_bundle(target)
        if as_json:
            click.echo(
                json.dumps(
                    printing.card_facts(bundle) | {"card": json.loads(bundle.card.to_json())}
                )
            )
        else:
            printing.print_model(bundle)
        return
    from geoseg.raster.products.opening import find_product
    from geoseg.raster.source import RasterSource

    product = find_product(path)
    if product is not None:
        facts = printing.product_facts(product)
    else:
        with closing(RasterSource(target, max_pixels=sys.maxsize)) as source:
            facts = printing.scene_facts(source.header)
    click.echo(json.dumps(facts, allow_nan=False) if as_json else printing.table(facts))


@cli.command()
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
        files = {what: str(path) for what, path in drawn.files.items()}
        click.echo(json.dumps({**drawn.design.to_dict(), "files": files}))
    elif not quiet:
        printing.print_design(drawn.design)
        for path in drawn.files.values():
            click.echo(f"  {path}")


@cli.command()
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
        files = {what: str(path) for what, path in assessment.files.items()}
        click.echo(json.dumps({**to_dict(assessment.judgement), "files": files}))
    elif not quiet:
        printing.print_judgement(assessment.judgement)
        for path in assessment.files.values():
            click.echo(f"  {path}")


@cli.command()
@click.argument("raster", metavar="CLASSES.tif")
@click.option(
    "-o",
    "--output",
    metavar="FILE|URL",
    help="NAME.gpkg, .shp, .parquet, .fgb or .geojson, or postgresql://...?table=NAME. "
    "Default: a GeoPackage here.",
)
@click.option(
    "--simplify",
    type=float,
    metavar="METRES",
    help="No border moves further than this; 0: pixels' outlines. "
    "Default: half a pixel's staircase is removed.",
)
@click.option("--smooth", is_flag=True, help="Round corners off, within half a pixel.")
@click.option(
    "--min-area",
    metavar="AREA",
    help="Smaller patches go to the neighbour with the longest shared border: 5000 (m2), 9px, "
    "0.5ha.",
)
@click.option(
    "--sieve", metavar="FILE", help="Write the class raster without the small patches too."
)
@click.option("--classes", metavar="NAME,...", help="Only these classes, by name or code.")
@click.option(
    "--confidence",
    metavar="FILE",
    help="Confidences on the same pixels. Default: NAME_confidence.tif beside NAME_classes.tif.",
)
@click.option("--nodata", type=float, help="The value that stands for no data.")
@max_pixels_option
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def vectorize(raster: str, classes: str | None, as_json: bool, **options: Any) -> None:
    """Turn a class raster into polygons that share their borders: no gaps, no overlaps."""
    from geoseg.vectorization import vectorize as vectorize_raster

    wanted = None if classes is None else classes.split(",")
    made = vectorize_raster(raster, classes=wanted, **options)
    files = [str(path) for path in made.files]
    if as_json:
        click.echo(json.dumps({"polygons": made.polygons, "output": made.output, "files": files}))
    else:
        click.echo(f"{Path(raster).name}: {made.polygons:,} polygons")
        for path in [] if made.output in files else [made.output]:
            click.echo(f"  {path}")
        for path in files:
            click.echo(f"  {path}")


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


@cli.command(cls=_SeveralValues)
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

    with _progress("evaluate", show=not (quiet or as_json)) as progress:
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
        files = {what: str(path) for what, path in evaluation.files.items()}
        click.echo(json.dumps({**to_dict(evaluation.figures), "files": files}))
    elif not quiet:
        printing.print_evaluation(evaluation.figures)
        for path in evaluation.files.values():
            click.echo(f"  {path}")


def _failure_status(error: Exception) -> int:
    """Say why a scene failed; a bug with its traceback, but the next scene has its turn."""
    if isinstance(error, GeosegError):
        _complain(error)
        return error.exit_status
    traceback.print_exception(error, file=sys.stderr)
    return 1


def _refuse_twins(scenes: tuple[str, ...]) -> None:
    """Scenes of one name would overwrite each other's results."""
    from geoseg.raster.products.opening import scene_stem

    seen: dict[str, str] = {}
    for scene in scenes:
        twin = seen.setdefault(scene_stem(scene), scene)
        if twin is not scene:
            raise InputError(f"{twin} and {scene} would write the same files; map them apart")


@contextmanager
def _progress(name: str, *, show: bool) -> Iterator[Callable[[float], None] | None]:
    """A bar on a terminal, nothing when piped."""
    if not (show and sys.stderr.isatty()):
        yield None
        return
    with click.progressbar(length=1000, label=name, file=sys.stderr) as bar:

        def advance(share: float) -> None:
            bar.update(round(share * 1000) - bar.pos)

        yield advance


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


def _complain(error: GeosegError) -> None:
    click.echo(f"geoseg: error: {error}", err=True)


if __name__ == "__main__":
    main()
