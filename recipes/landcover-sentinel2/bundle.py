"""Make a bundle of trained weights: python bundle.py --model DIR --out DIR."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from geoseg.legend import Legend, LegendClass
from geoseg.model.bundle import save_bundle
from geoseg.model.card import make_card
from geoseg.nets.unet import UNet

BANDS = ("blue", "green", "red", "nir", "swir16", "swir22")
CHIP_PX = 512
GSD_M = (10.0, 30.0)

LEGEND = Legend(
    tuple(
        LegendClass(code, name, colour)
        for code, (name, colour) in enumerate(
            (
                ("water", "#419bdf"),
                ("trees", "#397d49"),
                ("grass", "#88b053"),
                ("flooded_vegetation", "#7a87c6"),
                ("crops", "#e49635"),
                ("shrub_and_scrub", "#dfc35a"),
                ("built", "#c4281b"),
                ("bare", "#a59b8f"),
                ("snow_and_ice", "#b39fe1"),
            ),
            start=1,
        )
    )
)
"""Dynamic World's classes in its order and its colours."""

LIMITS = (
    "it has learnt what the Dynamic World model says, mistakes included, not the ground truth",
    "it knows no cloud: clouds and their shadows come out as snow, built, bare or water",
    "flooded vegetation and snow were rare in training, deserts and dense cities few",
    "hazy or far-northern surface reflectance was left out of training",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder that train.py wrote")
    parser.add_argument("--figures", type=Path, help="JSON that evaluate.py wrote")
    parser.add_argument("--date", required=True, help="when it was trained, YYYY-MM-DD")
    parser.add_argument("--steps", type=int, required=True, help="optimizer steps taken")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the bundle to make")
    given = parser.parse_args()
    told: dict[str, Any] = json.loads((given.model / "model.json").read_text())
    network = UNet(
        len(BANDS), len(LEGEND), widths=tuple(told["widths"]), batch_norm=told["batch_norm"]
    )
    network.load_state_dict(load_file(given.model / "weights.safetensors"))
    stride, reach = network.stride, network.reach_px
    card = make_card(
        name="landcover",
        description="Nine land-cover classes from the six bands that Sentinel-2 and Landsat share",
        architecture="unet",
        hyperparameters={"widths": list(network.widths), "batch_norm": told["batch_norm"]},
        bands=BANDS,
        mean=tuple(told["mean"]),
        stddev=tuple(told["stddev"]),
        legend=LEGEND,
        units="reflectance",
        gsd_m=GSD_M,
        chip_px=CHIP_PX,
        halo_px=-(-reach // stride) * stride,
        stride=stride,
        exact=True,
        license="Apache-2.0",
        total_parameters=0,
        training={
            "data": "Sentinel-2 chips, top-of-atmosphere and surface reflectance, at 10, 20 and "
            "30 m; contains modified Copernicus Sentinel data",
            "teacher": "Dynamic World forward model (Google, Apache-2.0), soft labels",
            "recipe": "recipes/landcover-sentinel2",
            "date": given.date,
            "steps": given.steps,
            "seed": given.seed,
        },
        figures=json.loads(given.figures.read_text()) if given.figures else {},
        limits=LIMITS,
    )
    print(save_bundle(given.out, card, network.eval()).label)


if __name__ == "__main__":
    main()
