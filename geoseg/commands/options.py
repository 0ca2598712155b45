"""Options that several commands of the command line take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from geoseg.limits import MAX_PIXELS

__all__ = [
    "bands_option",
    "device_option",
    "folder_option",
    "gsd_option",
    "keep_clouds_option",
    "level_option",
    "max_pixels_option",
    "model_option",
    "nodata_option",
    "offset_option",
    "overwrite_option",
    "precision_option",
    "quiet_option",
    "reading_options",
    "runtime_option",
    "scale_option",
    "sensor_option",
]

model_option = click.option(
    "-m",
    "--model",
    default="landcover",
    show_default=True,
    metavar="MODEL",
    help="An installed model's name, or the path of a bundle.",
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(["auto", "openvino", "torch"]),
    default="auto",
    show_default=True,
    help="What computes the network.",
)
device_option = click.option(
    "--device", default="auto", metavar="NAME", help="Where: cpu, cuda, cuda:1; auto: a GPU if any."
)
precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bf16", "int8"]),
    default="auto",
    show_default=True,
    help="How precisely. auto: bf16 where the machine is built for it; int8: of a model that "
    "geoseg quantize has made.",
)
gsd_option = click.option(
    "--gsd",
    type=float,
    metavar="METRES",
    help="Read at this ground sample distance; 0: as it is. Default: within the model's range.",
)
keep_clouds_option = click.option(
    "--keep-clouds",
    is_flag=True,
    help="Take what a product's quality bands call cloud, shadow or saturated, too.",
)
folder_option = click.option(
    "-o", "--output", default=".", metavar="DIR", help="Folder for the results."
)
bands_option = click.option(
    "--bands", metavar="NAME=N,...", help="Which band is which: red=3,green=2,..."
)
sensor_option = click.option(
    "--sensor",
    metavar="NAME",
    help="Whose band names or band order the scene uses: sentinel2, landsat8, naip, ...",
)
nodata_option = click.option(
    "--nodata", type=float, help="The stored value that stands for no data."
)
scale_option = click.option(
    "--scale", type=float, help="Reflectance = stored value x SCALE + OFFSET."
)
offset_option = click.option("--offset", type=float, help="See --scale.")
level_option = click.option(
    "--level",
    type=click.Choice(["toa", "surface"]),
    help="Of the reflectance: at the top of the atmosphere or at the surface. Default: as the "
    "scene says.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=int,
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse rasters with more pixels.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace results that exist.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print only errors.")


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All that say how a scene is read for a model."""
    for option in (
        keep_clouds_option,
        gsd_option,
        level_option,
        nodata_option,
        offset_option,
        scale_option,
        sensor_option,
        bands_option,
    ):
        command = option(command)
    return command
