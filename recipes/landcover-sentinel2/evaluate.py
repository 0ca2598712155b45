"""Score a student against the teacher on held-out places, at 10 m and coarser.

Everything is counted over learnable pixels only. The teacher is no ground truth: these numbers
say how well the student repeats it.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from label import read_index
from places import Split
from safetensors.torch import load_file
from torch import Tensor

from geoseg.nets.unet import UNet

BANDS = ["blue", "green", "red", "nir", "swir16", "swir22"]
CLASSES = [
    "water",
    "trees",
    "grass",
    "flooded_vegetation",
    "crops",
    "shrub_and_scrub",
    "built",
    "bare",
    "snow_and_ice",
]
SURE = 0.6
CALIBRATION_BINS = 20


@dataclass(frozen=True, slots=True)
class Labelled:
    """A chip with the teacher's opinion of it, as label.py wrote them."""

    name: str
    pixels: npt.NDArray[np.uint16]
    probs: npt.NDArray[np.uint8]
    learn: npt.NDArray[np.uint8]
    surface: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """Reflectance, probabilities and masks as tensors; shapes (6, H, W), (9, H, W), (H, W)."""

    reflectance: Tensor
    probs: Tensor
    learn: Tensor
    valid: Tensor


def read_labelled(path: Path) -> Labelled:
    """Read one file of label.py."""
    with np.load(path, allow_pickle=False) as arrays:
        surface = bool(arrays["surface"])
        return Labelled(path.stem, arrays["pixels"], arrays["probs"], arrays["learn"], surface)


def read_split(chips: Path, work: Path, split: Split) -> list[Labelled]:
    """Read the unvaried chips of one side of the split that have anything to learn from."""
    names = [row.name for row in read_index(chips) if row.split == split]
    found = (read_labelled(work / "labels" / f"{name}__0.npz") for name in names)
    return [chip for chip in found if chip.learn.any()]


def to_sample(chip: Labelled) -> Sample:
    """Turn stored integers into reflectance and probabilities."""
    pixels = torch.from_numpy(chip.pixels.astype(np.float32)) / 10_000
    probs = torch.from_numpy(chip.probs.astype(np.float32))
    probs = probs / probs.sum(0).clamp(min=1)
    return Sample(pixels, probs, torch.from_numpy(chip.learn > 0), (pixels > 0).any(0))


def coarsen(sample: Sample, factor: int) -> Sample:
    """Average `factor` x `factor` pixels, as a coarser sensor would; odd rims are dropped.

    A coarse pixel is valid if all its pixels are, and learnable if most of them are.
    """
    if factor == 1:
        return sample
    learn = sample.learn.float()[None]
    share = F.avg_pool2d(learn, factor)
    valid = F.avg_pool2d(sample.valid.float()[None], factor)[0] == 1
    return Sample(
        F.avg_pool2d(sample.reflectance, factor),
        F.avg_pool2d(sample.probs * learn, factor) / share.clamp(min=1e-6),
        (share[0] > 0.5) & valid,
        valid,
    )


def standardize(reflectance: Tensor, valid: Tensor, mean: Tensor, stddev: Tensor) -> Tensor:
    """Turn reflectance into z-scores, and pixels without data into zeros."""
    scores = (reflectance - mean[:, None, None]) / stddev[:, None, None]
    return torch.where(valid.unsqueeze(-3), scores, 0.0)


@torch.inference_mode()
def predict(net: UNet, sample: Sample, mean: Tensor, stddev: Tensor) -> Tensor:
    """Give the student's probabilities, (9, H, W); the chip is padded with no-data."""
    image = standardize(sample.reflectance, sample.valid, mean, stddev)
    height, width = image.shape[1:]
    image = F.pad(image, (0, -width % net.stride, 0, -height % net.stride))[None]
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(image.contiguous(memory_format=torch.channels_last))
    probs: Tensor = logits.float().softmax(1)[0, :, :height, :width]
    return probs


@dataclass(slots=True)
class Tally:
    """What is counted over all chips; every figure is a ratio of these."""

    confusion: Tensor
    """(9, 9): teacher's class by student's class."""
    sure: Tensor
    """Pixels on which the teacher is sure, and those of them that agree."""
    bins: Tensor
    """(bins, 4): pixels, confidence, agreement, teacher's probability of the student's class."""


def tally(net: UNet, chips: Iterable[Labelled], factor: int, mean: Tensor, stddev: Tensor) -> Tally:
    """Compare student and teacher on every learnable pixel."""
    size = len(CLASSES)
    total = Tally(torch.zeros(size, size), torch.zeros(2), torch.zeros(CALIBRATION_BINS, 4))
    total = Tally(*(t.double() for t in (total.confusion, total.sure, total.bins)))
    for chip in chips:
        sample = coarsen(to_sample(chip), factor)
        ours = predict(net, sample, mean, stddev)[:, sample.learn]
        theirs = sample.probs[:, sample.learn]
        confidence, guess = ours.max(0)
        certainty, answer = theirs.max(0)
        agree = (guess == answer).double()
        pairs = torch.bincount(answer * size + guess, minlength=size * size)
        total.confusion += pairs.view(size, size)
        sure = certainty > SURE
        total.sure += torch.stack([sure.sum().double(), agree[sure].sum()])
        named = theirs.gather(0, guess[None])[0]
        columns = torch.stack([torch.ones_like(agree), confidence, agree, named], 1)
        index = (confidence * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
        total.bins.index_add_(0, index, columns.double())
    return total


def figures(total: Tally) -> dict[str, Any]:
    """Turn counts into the figures that are reported."""
    hit, teacher, student = total.confusion.diag(), total.confusion.sum(1), total.confusion.sum(0)
    pixels, confidence, agreement, named = total.bins.T
    iou = hit / (teacher + student - hit).clamp(min=1)
    per_class = {
        name: {
            "support": int(teacher[k]),
            "recall": round(float(hit[k] / teacher[k].clamp(min=1)), 4),
            "precision": round(float(hit[k] / student[k].clamp(min=1)), 4),
            "iou": round(float(iou[k]), 4),
        }
        for k, name in enumerate(CLASSES)
    }
    return {
        "pixels": int(pixels.sum()),
        "agreement": round(float(hit.sum() / pixels.sum()), 4),
        "agreement_where_sure": round(float(total.sure[1] / total.sure[0].clamp(min=1)), 4),
        "sure_share": round(float(total.sure[0] / pixels.sum()), 4),
        "mean_iou": round(float(iou[teacher > 0].mean()), 4),
        "ece_against_class": round(float((confidence - agreement).abs().sum() / pixels.sum()), 4),
        "ece_against_probability": round(float((confidence - named).abs().sum() / pixels.sum()), 4),
        "per_class": per_class,
        "confusion": total.confusion.long().tolist(),
    }


def load_student(folder: Path) -> tuple[UNet, Tensor, Tensor]:
    """Rebuild the network from model.json and weights.safetensors."""
    card = json.loads((folder / "model.json").read_text())
    widths = tuple(card["widths"])
    net = UNet(len(BANDS), len(CLASSES), widths=widths, batch_norm=card["batch_norm"])
    net.load_state_dict(load_file(folder / "weights.safetensors"))
    net.eval().to(memory_format=torch.channels_last)
    return net, torch.tensor(card["mean"]), torch.tensor(card["stddev"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chips", type=Path, required=True, help="folder of images, learn, index")
    parser.add_argument("--work", type=Path, required=True, help="folder that label.py wrote into")
    parser.add_argument("--model", type=Path, required=True, help="weights.safetensors, model.json")
    parser.add_argument("--split", choices=["val", "test"], default="val")
    args = parser.parse_args()
    net, mean, stddev = load_student(args.model)
    chips = read_split(args.chips, args.work, args.split)
    report = {
        f"{args.split}_{10 * factor}m": figures(tally(net, chips, factor, mean, stddev))
        for factor in (1, 2, 3)
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
