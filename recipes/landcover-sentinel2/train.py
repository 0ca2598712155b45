"""Teach a small U-Net to give the teacher's soft labels; resumes where it was stopped.

The learning rate warms up, stays, and falls along a cosine over the last part of the steps.
Every step draws from a generator seeded by its own number, so a resumed run goes on as if it
had never stopped.
"""

import argparse
import csv
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from evaluate import (
    BANDS,
    CLASSES,
    Labelled,
    Sample,
    coarsen,
    figures,
    read_labelled,
    read_split,
    standardize,
    tally,
    to_sample,
)
from label import L2A_GAIN, L2A_OFFSET, STUDENT_BANDS, read_index
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from geoseg.nets.unet import UNet

SEED = 20261122
WARMUP_STEPS = 200
FREEZE_STEP = 600
FALL_SHARE = 0.45
EMA_DECAY = 0.998
SHARPNESS = 3
LEVEL_CHANGES = 0.3
GAIN = torch.from_numpy(L2A_GAIN[STUDENT_BANDS])[:, None, None]
OFFSET = torch.from_numpy(L2A_OFFSET[STUDENT_BANDS])[:, None, None] / 10_000
LOW_WEIGHT_SOURCE = "barkbeetle_cz"


@dataclass(frozen=True, slots=True)
class Scale:
    """A ground sample distance to train at."""

    factor: int
    crop_px: int
    """After coarsening."""
    batch: int
    share: float


# Many small crops: batch statistics of a few large ones depend too much on which were drawn.
SCALES = [Scale(1, 80, 24, 0.6), Scale(2, 72, 24, 0.22), Scale(3, 64, 24, 0.18)]


@dataclass(frozen=True, slots=True)
class Batch:
    """z-scores (N, 6, H, W), probabilities (N, 9, H, W), learnable (N, H, W)."""

    image: Tensor
    probs: Tensor
    learn: Tensor


class Pool:
    """The training chips and their varied copies, with the odds of drawing each."""

    def __init__(self, chips: Path, work: Path) -> None:
        self.work = work
        self.names = [row.name for row in read_index(chips) if row.split == "train"]
        self.chips: list[Labelled] = []
        self.odds = np.zeros(0)
        self._seen: set[Path] = set()
        self.refresh()

    def refresh(self) -> None:
        """Take in what label.py has written since."""
        for name in self.names:
            for path in sorted((self.work / "labels").glob(f"{name}__?.npz")):
                if path not in self._seen:
                    self._seen.add(path)
                    chip = read_labelled(path)
                    self.chips.extend([chip] if chip.learn.mean() > 0.02 else [])
        self.odds = _odds(self.chips)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each band over learnable pixels of unvaried chips."""
        own = [chip for chip in self.chips if chip.name.endswith("__0")]
        values = np.concatenate([chip.pixels[:, chip.learn > 0] for chip in own], 1) / 10_000
        return torch.tensor(values.mean(1)).float(), torch.tensor(values.std(1)).float()

    def emphasis(self) -> Tensor:
        """How much a pixel of each class counts: the root of its rarity, within bounds."""
        own = [chip for chip in self.chips if chip.name.endswith("__0")]
        first = np.concatenate([chip.probs.argmax(0)[chip.learn > 0] for chip in own])
        share = np.bincount(first, minlength=len(CLASSES)) / first.size
        weights = np.sqrt(np.median(share) / share.clip(min=1e-6))
        return torch.from_numpy(weights.clip(0.7, 3)).float()


def _odds(chips: list[Labelled]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Draw chips with rare classes more often: by the root of each class's inverse frequency."""
    mass = np.stack([(chip.probs * (chip.learn > 0)).sum((1, 2)) / 255.0 for chip in chips])
    rarity = np.minimum((mass.sum() / mass.sum(0)) ** 0.5, 12)
    area = mass.sum(1)
    odds = (mass * rarity).sum(1) / area * np.minimum(area / 40_000, 2) ** 0.7
    low = [chip.name.startswith(LOW_WEIGHT_SOURCE) for chip in chips]
    odds *= np.where(low, 0.3, 1.0)
    return np.asarray(odds / odds.sum())


def crop(chip: Labelled, size: int, rng: np.random.Generator) -> Sample:
    """Cut a square at random; what lies outside a small chip is no-data."""
    height, width = chip.learn.shape
    top = int(rng.integers(max(height - size, 0) + 1))
    left = int(rng.integers(max(width - size, 0) + 1))
    rows, cols = slice(top, top + size), slice(left, left + size)
    part = (chip.pixels[:, rows, cols], chip.probs[:, rows, cols], chip.learn[rows, cols])
    sample = to_sample(Labelled(chip.name, *part, chip.surface))
    rim = (0, max(size - width, 0), 0, max(size - height, 0))
    return Sample(*(F.pad(t, rim) for t in _tensors(sample)))


def change_level(sample: Sample, surface: bool, rng: np.random.Generator) -> Sample:
    """Now and then give surface reflectance its atmosphere back, or take most of it away."""
    if rng.random() > LEVEL_CHANGES:
        return sample
    if surface:
        changed = sample.reflectance * GAIN + OFFSET
    else:
        much = float(rng.uniform(0.6, 1.0))
        changed = (sample.reflectance - much * OFFSET) / (1 - much * (1 - GAIN))
    changed = torch.where(sample.valid, changed.clamp(min=1e-4), 0)
    return Sample(changed, sample.probs, sample.learn, sample.valid)


def turn(sample: Sample, rng: np.random.Generator) -> Sample:
    """Turn and mirror at random."""
    quarters, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    turned = [torch.rot90(t, quarters, (-2, -1)) for t in _tensors(sample)]
    return Sample(*(t.flip(-1) if mirrored else t for t in turned))


def blank(sample: Sample, rng: np.random.Generator) -> Sample:
    """Now and then take the data away beyond a slanted edge, as at the rim of a swath."""
    if rng.random() > 0.12:
        return sample
    size = sample.valid.shape[-1]
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(-0.1, 0.45) * size
    axis = torch.arange(size) - size / 2
    inside = axis[:, None] * np.sin(angle) + axis[None] * np.cos(angle) < distance
    return Sample(sample.reflectance, sample.probs, sample.learn & inside, sample.valid & inside)


def _tensors(sample: Sample) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return sample.reflectance, sample.probs, sample.learn, sample.valid


def draw(pool: Pool, mean: Tensor, stddev: Tensor, rng: np.random.Generator) -> Batch:
    """Draw a batch of crops, all at one scale."""
    scale = SCALES[rng.choice(len(SCALES), p=[s.share for s in SCALES])]
    chosen = rng.choice(len(pool.chips), scale.batch, p=pool.odds)
    samples = []
    for k in chosen:
        chip = pool.chips[k]
        sample = crop(chip, scale.crop_px * scale.factor, rng)
        sample = change_level(sample, chip.surface, rng)
        samples.append(blank(turn(coarsen(sample, scale.factor), rng), rng))
    image = torch.stack([standardize(s.reflectance, s.valid, mean, stddev) for s in samples])
    return Batch(
        image.contiguous(memory_format=torch.channels_last),
        torch.stack([s.probs for s in samples]),
        torch.stack([s.learn for s in samples]),
    )


def distillation_loss(logits: Tensor, batch: Batch, emphasis: Tensor) -> Tensor:
    """Cross-entropy against the teacher's probabilities, averaged over learnable pixels.

    The teacher is rarely sure: its probabilities alone say little about which class is first. So
    the same cross-entropy is added with both sides sharpened; both are least for equal logits.
    """
    logits = logits.float()
    sharp = batch.probs**SHARPNESS
    sharp = sharp / sharp.sum(1, keepdim=True).clamp(min=1e-9)
    soft_loss = -(batch.probs * logits.log_softmax(1)).sum(1)
    sharp_loss = -(sharp * (SHARPNESS * logits).log_softmax(1)).sum(1)
    weight = torch.einsum("nkhw,k->nhw", batch.probs, emphasis) * batch.learn
    return ((soft_loss + sharp_loss) * weight).sum() / weight.sum().clamp(min=1)


def rate(step: int, steps: int, peak: float) -> float:
    """Give the learning rate of a step."""
    fall = FALL_SHARE * steps
    left = min(1.0, (steps - step) / fall)
    return peak * min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 - math.cos(math.pi * left))


class Run:
    """The network, its optimizer and its averaged weights, on disk and off."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        torch.manual_seed(SEED)
        self.net = UNet(len(BANDS), len(CLASSES), widths=widths, batch_norm=True)
        self.net.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), weight_decay=0.02)
        self.average = {k: v.clone() for k, v in self.net.state_dict().items()}
        self.step = 0

    def learn(self, batch: Batch, emphasis: Tensor, learning_rate: float) -> float:
        """Take one step."""
        self.net.train()
        if self.step >= FREEZE_STEP:
            self.freeze_statistics()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        with torch.autocast("cpu", torch.bfloat16):
            logits = self.net(batch.image)
        loss = distillation_loss(logits, batch, emphasis)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        # Early on the average would be mostly the random start.
        decay = min(EMA_DECAY, self.step / (self.step + 10))
        for name, value in self.net.state_dict().items():
            counter = not value.is_floating_point()
            self.average[name] = value if counter else value.lerp(self.average[name], decay)
        return float(loss.detach())

    def freeze_statistics(self) -> None:
        """Normalize as in prediction: absolute reflectance matters, whatever else is drawn."""
        if self.step == FREEZE_STEP:
            self.net.load_state_dict(
                {k: v for k, v in self.average.items() if "running" in k}, strict=False
            )
        for module in self.net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()

    def averaged(self) -> UNet:
        """Give a network with the averaged weights, ready to predict."""
        net = UNet(len(BANDS), len(CLASSES), widths=self.net.widths, batch_norm=True)
        net.load_state_dict(self.average)
        net.eval().to(memory_format=torch.channels_last)
        return net

    def save(self, path: Path) -> None:
        """Write everything needed to go on."""
        state = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        state |= {f"average.{k}": v for k, v in self.average.items()}
        for k, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{k}.{name}": value for name, value in moments.items()}
        _write_tensors(path, state, {"step": str(self.step)})

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote."""
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.step = int(file.metadata()["step"])
        self.net.load_state_dict(_under("net.", state))
        self.average = _under("average.", state)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _under("optimizer.", state).items():
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = value
        packed = self.optimizer.state_dict()
        self.optimizer.load_state_dict(packed | {"state": moments})


def _under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _write_tensors(path: Path, state: dict[str, Tensor], notes: dict[str, str]) -> None:
    part = path.with_suffix(".part")
    save_file({k: v.detach().clone().contiguous() for k, v in state.items()}, part, notes)
    part.rename(path)


def export(run: Run, folder: Path, mean: Tensor, stddev: Tensor) -> None:
    """Write the averaged weights, and what is needed to rebuild and feed the network."""
    folder.mkdir(parents=True, exist_ok=True)
    card = {
        "widths": list(run.net.widths),
        "mean": [round(float(v), 6) for v in mean],
        "stddev": [round(float(v), 6) for v in stddev],
        "batch_norm": True,
        "bands": BANDS,
        "classes": CLASSES,
        "steps": run.step,
    }
    (folder / "model.json").write_text(json.dumps(card, indent=1) + "\n")
    _write_tensors(folder / "weights.safetensors", run.average, {})


def steps_left(run: Run, steps: int) -> Iterator[int]:
    """Count on from where the run stands."""
    while run.step < steps:
        yield run.step


def note(path: Path, **values: float) -> None:
    """Add a line to the log."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        lines = csv.writer(file)
        if fresh:
            lines.writerow(values)
        lines.writerow(round(v, 5) for v in values.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chips", type=Path, required=True, help="folder of images, learn, index")
    parser.add_argument("--work", type=Path, required=True, help="folder that label.py wrote into")
    parser.add_argument("--widths", type=int, nargs="+", default=[24, 32, 64, 128])
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints")
    args = parser.parse_args()
    pool = Pool(args.chips, args.work)
    mean, stddev = pool.statistics()
    emphasis = pool.emphasis()
    held_out = read_split(args.chips, args.work, "val")
    run = Run(tuple(args.widths))
    checkpoint = args.work / "checkpoint.safetensors"
    if checkpoint.exists():
        run.load(checkpoint)
    losses, began = [], time.monotonic()
    for step in steps_left(run, args.steps):
        rng = np.random.default_rng([SEED, step])
        batch = draw(pool, mean, stddev, rng)
        loss = run.learn(batch, emphasis, rate(step, args.steps, args.rate))
        losses.append(loss)
        if run.step % args.every == 0 or run.step == args.steps:
            run.save(checkpoint)
            export(run, args.work / "model", mean, stddev)
            score = figures(tally(run.averaged(), held_out, 1, mean, stddev))
            note(
                args.work / "log.csv",
                step=run.step,
                seconds=time.monotonic() - began,
                loss=float(np.mean(losses)),
                chips=len(pool.chips),
                val_agreement=score["agreement"],
                val_sure=score["agreement_where_sure"],
                val_mean_iou=score["mean_iou"],
            )
            losses.clear()
            pool.refresh()


if __name__ == "__main__":
    main()
