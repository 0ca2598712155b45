"""Run the teacher over the chips and keep its soft labels.

Writes one `NAME__K.npz` per chip and copy K: `pixels` (6, H, W) uint16 as the student sees them,
`probs` (9, H, W) uint8 in 1/255, `learn` (H, W) uint8,
`surface` true for surface reflectance. Copy 0 is the chip itself; the others, for
training places only, are radiometrically varied or mixed with another training chip, and labelled
anew, so that the student learns the teacher's function and not its answers by heart.
"""

import argparse
import csv
import importlib
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from places import Split, split_of
from torch import Tensor, nn

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Teacher = Callable[[Floats, bool], Floats]

STUDENT_BANDS = [0, 1, 2, 6, 7, 8]  # blue green red nir swir16 swir22 of the chips' nine
REACH_PX = 24

# Surface reflectance to top of atmosphere, per band: see the chips' PROVENANCE.md.
L2A_GAIN = np.array([0.643, 0.694, 0.792, 0.763, 0.797, 0.852, 0.813, 0.904, 0.836], np.float32)
L2A_OFFSET = np.array([770, 498, 326, 303, 327, 306, 257, 38, 17], np.float32)

WAVELENGTH_UM = np.array([0.49, 0.56, 0.665, 0.705, 0.74, 0.783, 0.842, 1.61, 2.19])
HAZE = np.array([1, 0.65, 0.4, 0.33, 0.3, 0.25, 0.2, 0.05, 0.03])


@dataclass(frozen=True, slots=True)
class Chip:
    """Nine bands of digital numbers, and where they may be learnt from."""

    name: str
    pixels: Floats
    learn: Mask
    surface: bool
    """True for L2A."""

    @property
    def valid(self) -> Mask:
        return np.asarray((self.pixels > 0).any(0))


@dataclass(frozen=True, slots=True)
class Row:
    """A line of index.csv."""

    name: str
    level: str
    split: Split


def read_index(chips: Path) -> list[Row]:
    """Read the list of chips with the side of the split on which each one lies."""
    with (chips / "index.csv").open(newline="") as file:
        return [Row(r["name"], r["level"], split_of(r["group"])) for r in csv.DictReader(file)]


def read_chip(chips: Path, row: Row) -> Chip:
    """Read one chip and its mask."""
    with rasterio.open(chips / "images" / f"{row.name}.tif") as image:
        pixels = image.read().astype(np.float32)
    with rasterio.open(chips / "learn" / f"{row.name}.tif") as mask:
        learn = mask.read(1) == 1
    return Chip(row.name, pixels, learn & (pixels > 0).any(0), row.level == "L2A")


def to_top_of_atmosphere(chip: Chip) -> Chip:
    """Give an L2A chip back its atmosphere, roughly; L1C chips pass unchanged."""
    if not chip.surface:
        return chip
    pixels = chip.pixels * L2A_GAIN[:, None, None] + L2A_OFFSET[:, None, None]
    return Chip(chip.name, np.where(chip.valid, pixels, 0), chip.learn, surface=False)


def vary(chip: Chip, rng: np.random.Generator) -> Chip:
    """Change gain, spectral slope, gamma and haze, within what other sensors and days do."""
    position = np.log(WAVELENGTH_UM / WAVELENGTH_UM.mean())
    wobble = rng.normal(0, 0.04, 6)
    gain = rng.normal(0, 0.1) + rng.normal(0, 0.08) * position
    # The red edge follows its neighbours: the student could not see it move alone.
    gain += np.interp(WAVELENGTH_UM, WAVELENGTH_UM[STUDENT_BANDS], wobble)
    gamma = np.exp(rng.normal(0, 0.08))
    haze = rng.uniform(-200, 450) * (rng.random() < 0.6)
    pixels = 2000 * (chip.pixels / 2000) ** gamma * np.exp(gain)[:, None, None]
    pixels = np.clip(pixels + haze * HAZE[:, None, None], 1, 20000)
    pixels = np.where(chip.valid, pixels, 0).astype(np.float32)
    return Chip(chip.name, pixels, chip.learn, chip.surface)


def mix(one: Chip, other: Chip, rng: np.random.Generator) -> Chip:
    """Blend two chips' spectra, as coarse pixels do, at the top of the atmosphere."""
    one, other = to_top_of_atmosphere(one), to_top_of_atmosphere(other)
    height, width = np.minimum(one.learn.shape, other.learn.shape)
    share = rng.uniform(0.3, 0.7)
    valid = (one.valid[:height, :width]) & other.valid[:height, :width]
    pixels = share * one.pixels[:, :height, :width] + (1 - share) * other.pixels[:, :height, :width]
    learn = one.learn[:height, :width] & other.learn[:height, :width]
    pixels = np.where(valid, pixels, 0).astype(np.float32)
    return Chip(one.name, pixels, learn, surface=False)


class HalfPrecision(nn.Module):
    """A part of the teacher in bf16: twice as fast, the same class on 99 % of pixels."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part.to(memory_format=torch.channels_last)
        self.on = True

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.on):
            result: Tensor = self.part(features).float()
        return result


def load_teacher(folder: Path) -> Teacher:
    """Load the teacher: digital numbers (9, H, W) at top of atmosphere in, probabilities out."""
    sys.path.insert(0, str(folder))
    dynamicworld = importlib.import_module("dynamicworld")
    model = dynamicworld.load(folder / "dynamicworld_forward_weights.npz")
    names = ("stem", "b1", "b2", "side", "b3")
    parts = {name: HalfPrecision(getattr(model, name)) for name in names}
    for name, part in parts.items():
        setattr(model, name, part)

    @torch.inference_mode()
    def teach(pixels: Floats, fast: bool) -> Floats:
        for part in parts.values():
            part.on = fast
        edge = ((0, 0), (REACH_PX, REACH_PX), (REACH_PX, REACH_PX))
        batch = torch.from_numpy(np.pad(pixels, edge, mode="reflect"))[None]
        probs = model(dynamicworld.normalize(batch)).softmax(1)[0].numpy()
        return np.asarray(probs[:, REACH_PX:-REACH_PX, REACH_PX:-REACH_PX])

    return teach


def copies(rows: list[Row], chips: Path, count: int) -> Iterator[tuple[str, Callable[[], Chip]]]:
    """Name every copy to label, the chips themselves first, each with how to make it."""
    for row in rows:
        yield f"{row.name}__0", lambda row=row: read_chip(chips, row)  # type: ignore[misc]
    train = [row for row in rows if row.split == "train"]
    for k in range(1, count + 1):
        for row in train:
            name = f"{row.name}__{k}"
            yield name, lambda row=row, k=k: make_copy(row, k, train, chips)  # type: ignore[misc]


def make_copy(row: Row, k: int, train: list[Row], chips: Path) -> Chip:
    """Make copy k of a training chip; every third one is a mix."""
    rng = np.random.default_rng([k, zlib.crc32(row.name.encode())])
    chip = read_chip(chips, row)
    if k % 3 == 0:
        chip = mix(chip, read_chip(chips, train[rng.integers(len(train))]), rng)
    return vary(chip, rng)


def write(path: Path, chip: Chip, teach: Teacher, fast: bool) -> None:
    """Label one copy and put the file in place once it is whole."""
    probs = teach(to_top_of_atmosphere(chip).pixels, fast)
    arrays = {
        "pixels": np.rint(chip.pixels[STUDENT_BANDS]).astype(np.uint16),
        "probs": np.rint(probs * 255).astype(np.uint8),
        "learn": chip.learn.astype(np.uint8),
        "surface": np.bool_(chip.surface),
    }
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    part.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chips", type=Path, required=True, help="folder of images, learn, index")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of the teacher")
    parser.add_argument("--work", type=Path, required=True, help="folder to write into")
    parser.add_argument("--copies", type=int, default=6, help="varied copies per training chip")
    args = parser.parse_args()
    labels = args.work / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    teach = load_teacher(args.teacher)
    for name, make in copies(read_index(args.chips), args.chips, args.copies):
        path = labels / f"{name}.npz"
        if not path.exists():
            write(path, make(), teach, fast=not name.endswith("__0"))
    print(f"{len(list(labels.glob('*.npz')))} labelled chips in {labels}")


if __name__ == "__main__":
    main()
