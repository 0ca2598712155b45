"""`geoseg train`, `quantize`, `models` and `info`: models made, and what they and scenes are."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from geoseg import printing
from geoseg.commands import INTERRUPTED
from geoseg.commands.bars import training_bar
from geoseg.commands.options import max_pixels_option, quiet_option, reading_options
from geoseg.errors import GeosegError

__all__ = ["info", "models", "quantize", "train"]


@click.command()
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

    with training_bar(show=not (quiet or as_json)) as progress:
        training = learn(
            recipe, output=output, settings=settings, overwrite=overwrite, progress=progress
        )
    if as_json:
        click.echo(json.dumps({**training.summary, "model": str(training.bundle.path)}))
    elif not quiet:
        printing.print_training(training.summary, training.bundle.path)
    return INTERRUPTED if training.interrupted else 0


@click.command()
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


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a model.")
def models(as_json: bool) -> int:
    """List the installed models."""
    from geoseg.model.bundle import list_models, load_bundle

    status = 0
    for name, path in list_models().items():
        try:
            bundle = load_bundle(path)
        except GeosegError as error:
            printing.complain(error)
            status = error.exit_status
            continue
        card = bundle.card
        if as_json:
            click.echo(json.dumps({"name": name, **printing.card_facts(bundle)}))
        else:
            click.echo(f"{name}  {printing.what_it_maps(card)}")
            click.echo(f"    {card.description}")
    return status


@click.command()
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
