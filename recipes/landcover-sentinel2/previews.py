"""Pictures of chips beside the teacher's classes and the model's: scene, teacher, model."""

import argparse
from pathlib import Path

import numpy as np
import rasterio

import geoseg
from geoseg.raster.pictures import map_picture, scene_picture
from geoseg.raster.preview import draw_sheet

RED_GREEN_BLUE = 3, 2, 1


def draw(image: Path, labels: Path, model: geoseg.Model, out: Path) -> None:
    """One sheet, called as the chip is."""
    with rasterio.open(image) as scene:
        pixels = scene.read(RED_GREEN_BLUE).astype(np.float32)
    with rasterio.open(labels) as probabilities:
        shares = probabilities.read()
    legend = model.card.legend
    taught = np.where(shares.any(axis=0), np.array(legend.codes)[shares.argmax(axis=0)], 255)
    options = {"scale": 1e-4, "polygons": False, "preview": False, "overwrite": True}
    made = geoseg.predict(image, model=model, output=out, **options)
    with rasterio.open(made.files["classes"]) as classes:
        mapped = classes.read(1)
    for path in made.files.values():
        path.unlink()
    pictures = (
        scene_picture(pixels, (pixels > 0).any(axis=0)),
        map_picture(taught.astype(np.uint8), legend),
        map_picture(mapped, legend),
    )
    known = taught != 255
    agreement = (mapped == taught)[known].mean() if known.any() else float("nan")
    title = f"{image.stem}   -   scene, teacher, model: {agreement:.0%} the same"
    present = np.union1d(taught[known], mapped)
    entries = [(each.rgb, each.name) for each in legend if each.code in present]
    draw_sheet(out / f"{image.stem}.png", title, pictures, entries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="what prepare.py wrote")
    parser.add_argument("--model", default="landcover")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("names", nargs="*", help="chips, all that are kept apart by default")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model = geoseg.load_model(args.model)
    for split in ("val", "test"):
        for labels in sorted((args.data / split / "labels").glob("*.tif")):
            if not args.names or labels.stem in args.names:
                draw(args.data / split / "images" / labels.name, labels, model, args.out)


if __name__ == "__main__":
    main()
