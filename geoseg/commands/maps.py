"""`geoseg predict`, `change` and `vectorize`: scenes to maps, and maps to polygons."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click

from geoseg import printing
from geoseg.commands.bars import progress_bar
from geoseg.commands.options import (
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
from geoseg.commands.results import echo_json, echo_paths
from geoseg.errors import GeosegError, InputError

__all__ = ["change", "predict", "vectorize"]


@click.command()
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
    from geoseg.quick_start import import_openvino, import_vector_libraries

    if options["runtime"] != "torch":
        import_openvino()
    if not no_polygons:
        import_vector_libraries()
    from geoseg.prediction import predict_scenes

    options |= {"polygons": not no_polygons, "preview": not no_preview}
    failures: list[int] = []

    def bar(scene: Path) -> AbstractContextManager[Callable[[float], None] | None]:
        return progress_bar(scene.name, show=not (quiet or as_json))

    for scene, made in predict_scenes(scenes, progress=bar, **options):
        if isinstance(made, Exception):
            failures.append(_failure_status(made))
            if as_json:
                failure = {"scene": Path(scene).name, "path": scene, "error": str(made)}
                click.echo(json.dumps(failure))
        elif as_json:
            echo_json({**made.summary, "path": scene}, made.files)
        elif not quiet:
            printing.print_prediction(made)
    return 1 if 1 in failures else max(failures, default=0)


@click.command()
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

    with progress_bar(Path(after).name, show=not (quiet or as_json)) as progress:
        made = map_change(before, after, progress=progress, **options)
    if as_json:
        echo_json(made.summary, made.files)
    elif not quiet:
        printing.print_change(made)


@click.command()
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
    from geoseg.quick_start import import_vector_libraries

    import_vector_libraries()
    from geoseg.vectorization import vectorize as vectorize_raster

    wanted = None if classes is None else classes.split(",")
    made = vectorize_raster(raster, classes=wanted, **options)
    files = [str(path) for path in made.files]
    if as_json:
        click.echo(json.dumps({"polygons": made.polygons, "output": made.output, "files": files}))
    else:
        click.echo(f"{Path(raster).name}: {made.polygons:,} polygons")
        echo_paths(files if made.output in files else [made.output, *files])


def _failure_status(error: Exception) -> int:
    """Say why a scene failed; a bug with its traceback, but the next scene has its turn."""
    if isinstance(error, GeosegError):
        printing.complain(error)
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
