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
    "it repeats what the Dynamic World model says, mistakes included; it was never compared with "
    "the ground",
    "flooded vegetation is not learnt",
    "trees and crops become shrub and scrub in dry and far-northern places, grass becomes trees",
    "it knows no cloud: clouds, their shadows and haze come out as snow, built, bare or water",
    "30 m imagery was only imitated by averaging; no Landsat scene was scored",
    "its confidence is as modest as its teacher's: about 0.7 on open water",
)


def figures_of(scores: dict[str, Any]) -> dict[str, Any]:
    """The headline of what evaluate.py wrote, by ground sample distance."""
    figures: dict[str, Any] = {}
    for gsd in ("10m", "20m", "30m"):
        test = scores[f"test_{gsd}"]
        figures[f"agreement with the teacher on unseen places, {gsd}"] = test["agreement"]
        figures[f"the same where the teacher is sure (p > 0.6), {gsd}"] = test[
            "agreement_where_sure"
        ]
        figures[f"mean IoU against the teacher, {gsd}"] = test["mean_iou"]
    at_home = scores["test_10m"]["per_class"]
    figures["IoU by class, 10m"] = {name: each["iou"] for name, each in at_home.items()}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder that train.py wrote")
    parser.add_argument("--figures", type=Path, required=True, help="JSON that evaluate.py wrote")
    parser.add_argument("--date", required=True, help="when it was trained, YYYY-MM-DD")
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
        training={
            "data": "Sentinel-2 chips, top-of-atmosphere and surface reflectance, at 10, 20 and "
            "30 m; contains modified Copernicus Sentinel data",
            "teacher": "Dynamic World forward model (Google, Apache-2.0), soft labels",
            "recipe": "recipes/landcover-sentinel2",
            "date": given.date,
            "steps": told["steps"],
            "seed": given.seed,
        },
        figures=figures_of(json.loads(given.figures.read_text())),
        limits=LIMITS,
    )
    print(save_bundle(given.out, card, network.eval()).label)


if __name__ == "__main__":
    main()
