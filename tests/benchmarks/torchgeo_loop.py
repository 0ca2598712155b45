"""The peer: a plain loop of torchgeo 0.8 as its documentation has it, float32, eager, on the CPU.

    python tests/benchmarks/torchgeo_loop.py SCENE BUNDLE MAP.tif --stride 384

A GridGeoSampler over a RasterDataset, a DataLoader, the network, and each chip's middle into one
array that is written as a GeoTIFF. The network and its weights are those of the bundle.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler

from geoseg.model.bundle import load_bundle
from geoseg.model.network import scoring_network

CHIP_PX = 512
REFLECTANCE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("map", type=Path)
    parser.add_argument("--stride", type=int, default=CHIP_PX - 128)
    told = parser.parse_args()

    bundle = load_bundle(told.bundle)
    network = scoring_network(bundle.card, load_file(told.bundle / "weights.safetensors"))
    codes = np.array(bundle.card.legend.codes, np.uint8)
    dataset = RasterDataset(paths=[str(told.scene)])
    sampler = GridGeoSampler(dataset, size=CHIP_PX, stride=told.stride)
    loader = DataLoader(dataset, batch_size=4, sampler=sampler, collate_fn=stack_samples)
    with rasterio.open(told.scene) as scene:
        left, top, profile = scene.bounds.left, scene.bounds.top, scene.profile
        height, width, size = scene.height, scene.width, scene.res[0]
    classes = np.full((height, width), 255, np.uint8)
    rim = (CHIP_PX - told.stride) // 2
    with torch.inference_mode():
        for batch in loader:
            scores = network(batch["image"] * REFLECTANCE)
            winners = codes[scores.argmax(dim=1).numpy()]
            empty = (batch["image"] == 0).any(dim=1).numpy()
            for bounds, won, lacks in zip(batch["bounds"], winners, empty, strict=True):
                x, y = (bounds[0].start, bounds[1].stop)
                row, col = round((top - y) / size), round((x - left) / size)
                won[lacks] = 255
                rows = slice(max(row + rim, 0), min(row + CHIP_PX - rim, height))
                cols = slice(max(col + rim, 0), min(col + CHIP_PX - rim, width))
                if rows.start < rows.stop and cols.start < cols.stop:
                    classes[rows, cols] = won[
                        rows.start - row : rows.stop - row, cols.start - col : cols.stop - col
                    ]
    profile.update(count=1, dtype="uint8", nodata=255, predictor=1)
    with rasterio.open(told.map, "w", **profile) as out:
        out.write(classes, 1)


if __name__ == "__main__":
    main()
