"""Run the teacher over the chips and write what `geoseg train` learns from.

`SPLIT/images/NAME__K.tif` holds nine bands uint16, reflectance x 10000, and
`SPLIT/labels/NAME__K.tif` the teacher's nine probabilities, uint8 in 1/255, 0 where nothing may be
learnt. For `geoseg evaluate`, what is kept apart also gets `classes/`, the teacher's classes, and
`sure/`, those that it gives over 0.6; 0 elsewhere. Copy 0 is the chip itself; the others, of
training places only, are given the colours of another chip or mixed with it, varied in light,
brought to the other processing level, turned if they are late ones, and labelled anew, so that the
student learns the teacher's function and not its answers by heart. Seven more, in `turned/`, are
the chip turned and mirrored: of those, the teacher says something else. Files that exist are left
as they are.
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
import openvino
import rasterio
import torch
from places import Split, split_of
from torch import Tensor, nn
from torch.nn import functional as F

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Teacher = Callable[[Floats], Floats]

BANDS = ("blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "swir16", "swir22")
CLASSES = (
    "water", "trees", "grass", "flooded_vegetation", "crops", "shrub_and_scrub", "built", "bare",
    "snow_and_ice",
)  # fmt: skip
REACH_PX = 24
WAYS = 8
"""To turn and mirror a chip, the chip itself counted."""

UNTURNED_COPIES = 15
"""Copies that lie as the chip does; those after them are turned, too."""

LEVEL_CHANGES = 0.35
SURE = 0.6

LOG_PLUS = 200
"""Added to digital numbers before their logarithm is taken."""

LEAST_VARIANCE = 1e-4
"""Of those logarithms, in any direction: chips of one colour can be recoloured, too."""

# Surface reflectance to top of atmosphere, per band: see the chips' PROVENANCE.md.
L2A_GAIN = np.array([0.643, 0.694, 0.792, 0.763, 0.797, 0.852, 0.813, 0.904, 0.836], np.float32)
L2A_OFFSET = np.array([770, 498, 326, 303, 327, 306, 257, 38, 17], np.float32)

WAVELENGTH_UM = np.array([0.49, 0.56, 0.665, 0.705, 0.74, 0.783, 0.842, 1.61, 2.19])
HAZE = np.array([1, 0.65, 0.4, 0.33, 0.3, 0.25, 0.2, 0.05, 0.03])


@dataclass(frozen=True, slots=True)
class Chip:
    """Nine bands of digital numbers, and where they may be learnt from."""

    pixels: Floats
    learn: Mask
    surface: bool
    """True for surface reflectance."""

    @property
    def valid(self) -> Mask:
        return np.asarray((self.pixels > 0).any(0))

    def of(self, pixels: Floats, *, surface: bool | None = None) -> "Chip":
        """The chip with other values where it has any, at least 1."""
        kept = np.where(self.valid, np.clip(pixels, 1, 20000), 0).astype(np.float32)
        return Chip(kept, self.learn, self.surface if surface is None else surface)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of index.csv."""

    number: int
    name: str
    level: str
    split: Split


def read_index(chips: Path) -> list[Row]:
    """The chips, each with the side of the split on which it lies."""
    with (chips / "index.csv").open(newline="") as file:
        return [
            Row(number, row["name"], row["level"], split_of(row["group"]))
            for number, row in enumerate(csv.DictReader(file))
        ]


def read_chip(chips: Path, row: Row) -> Chip:
    with rasterio.open(chips / "images" / f"{row.name}.tif") as image:
        pixels = image.read().astype(np.float32)
    with rasterio.open(chips / "learn" / f"{row.name}.tif") as mask:
        learn = mask.read(1) == 1
    return Chip(pixels, learn & (pixels > 0).any(0), row.level == "L2A")


def turn(chip: Chip, way: int) -> Chip:
    """The chip turned by `way` right angles, mirrored first from the fourth way on."""
    pixels, learn = (
        np.rot90(each[..., ::-1] if way >= 4 else each, way % 4, (-2, -1))
        for each in (chip.pixels, chip.learn)
    )
    return Chip(np.ascontiguousarray(pixels), np.ascontiguousarray(learn), chip.surface)


def to_top_of_atmosphere(chip: Chip) -> Chip:
    """Give a surface chip its atmosphere back, roughly; others pass unchanged."""
    if not chip.surface:
        return chip
    lifted = chip.pixels * L2A_GAIN[:, None, None] + L2A_OFFSET[:, None, None]
    return chip.of(lifted, surface=False)


def to_surface(chip: Chip, much: float) -> Chip:
    """Take most of the atmosphere away, as a correction does: the other way round."""
    if chip.surface:
        return chip
    gain, offset = L2A_GAIN[:, None, None], L2A_OFFSET[:, None, None]
    return chip.of((chip.pixels - much * offset) / (1 - much * (1 - gain)), surface=True)


def vary(chip: Chip, rng: np.random.Generator) -> Chip:
    """Change gain, spectral slope, gamma and haze, within what other sensors and days do."""
    position = np.log(WAVELENGTH_UM / WAVELENGTH_UM.mean())
    gain = rng.normal(0, 0.1) + rng.normal(0, 0.08) * position + rng.normal(0, 0.03, 9)
    gamma = np.exp(rng.normal(0, 0.08))
    haze = rng.uniform(-200, 450) * (rng.random() < 0.6)
    pixels = 2000 * (chip.pixels / 2000) ** gamma * np.exp(gain)[:, None, None]
    return chip.of((pixels + haze * HAZE[:, None, None]).astype(np.float32))


def veil(chip: Chip, rng: np.random.Generator) -> Chip:
    """Add as much to every band, as sun glint on water or thin cloud does."""
    return chip.of(chip.pixels + np.float32(rng.uniform(50, 700)))


def mix(one: Chip, other: Chip, rng: np.random.Generator) -> Chip:
    """Blend two chips' spectra, as coarse pixels do, at the top of the atmosphere."""
    one, other = to_top_of_atmosphere(one), to_top_of_atmosphere(other)
    height, width = np.minimum(one.learn.shape, other.learn.shape)
    share = np.float32(rng.uniform(0.3, 0.7))
    both = [
        Chip(c.pixels[:, :height, :width], c.learn[:height, :width], False) for c in (one, other)
    ]
    valid, learn = both[0].valid & both[1].valid, both[0].learn & both[1].learn
    pixels = share * both[0].pixels + (1 - share) * both[1].pixels
    return Chip(np.where(valid, pixels, 0).astype(np.float32), learn & valid, False)


def recolour(chip: Chip, other: Chip, rng: np.random.Generator) -> Chip:
    """The ground of one chip in the colours of another, or between.

    Mean and covariance of the logarithms become the other's, by the linear map that moves values
    least (Pitie, Kokaram: "The linear Monge-Kantorovitch linear colour mapping", CVMP 2007).
    """
    one, target = (np.log(c.pixels[:, c.valid] + LOG_PLUS) for c in (chip, other))
    mean, wanted = one.mean(axis=1), target.mean(axis=1)
    same = np.eye(len(BANDS))
    covariance, wanted_covariance = (np.cov(c) + LEAST_VARIANCE * same for c in (one, target))
    root, back = power(covariance, 0.5), power(covariance, -0.5)
    recolouring = back @ power(root @ wanted_covariance @ root, 0.5) @ back
    share = rng.uniform(0.3, 1)
    line = share * recolouring + (1 - share) * same
    moved = line @ (one - mean[:, None]) + (share * wanted + (1 - share) * mean)[:, None]
    pixels = np.zeros_like(chip.pixels)
    pixels[:, chip.valid] = np.exp(np.clip(moved, 0, 10)) - LOG_PLUS
    return chip.of(pixels, surface=other.surface if share > 0.5 else chip.surface)


def power(matrix: npt.NDArray[np.float64], exponent: float) -> npt.NDArray[np.float64]:
    """A power of a symmetric positive matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * values**exponent) @ vectors.T)


class Teaching(nn.Module):
    """The teacher with its halving as a plain convolution, so that OpenVINO takes it.

    Equal to the teacher but for the rim; on chips, 99.8 % of pixels get the same class.
    """

    def __init__(self, teacher: nn.Module, normalize: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.teacher, self.normalize = teacher, normalize
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("taps", (taps[:, None] * taps)[None, None].repeat(64, 1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        t = self.teacher
        fine = F.pad(t.stem(self.normalize(pixels)), (1, 1, 1, 1), mode="replicate")
        half = F.conv2d(fine, self.taps, stride=2, groups=64)
        features = t.b3(torch.cat([t.b2(t.b1(half)), t.side(half)], 1))
        features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
        length = features.square().sum(1, keepdim=True).sqrt()
        return t.head(features / (length + 1e-6)).softmax(1)


def load_teacher(folder: Path) -> Teacher:
    """The teacher: digital numbers (9, H, W) at top of atmosphere in, probabilities out."""
    sys.path.insert(0, str(folder))
    dynamicworld = importlib.import_module("dynamicworld")
    plain = dynamicworld.load(folder / "dynamicworld_forward_weights.npz")
    teaching = Teaching(plain, dynamicworld.normalize).eval()
    example = torch.ones(1, 9, 64, 64)
    graph = openvino.convert_model(teaching, example_input=example, input=[(1, 9, -1, -1)])
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def teach(pixels: Floats) -> Floats:
        height, width = pixels.shape[1:]
        rims = ((0, 0), (REACH_PX, REACH_PX + height % 2), (REACH_PX, REACH_PX + width % 2))
        scores = compiled(np.pad(pixels, rims, mode="reflect")[None])[0][0]
        return np.asarray(scores[:, REACH_PX : REACH_PX + height, REACH_PX : REACH_PX + width])

    return teach


def copies(rows: list[Row], chips: Path, count: int) -> Iterator[tuple[Row, int, Chip]]:
    """Every copy to label: the chips themselves, in other colours, turned (numbered below 0)."""
    for row in rows:
        yield row, 0, read_chip(chips, row)
    train = [row for row in rows if row.split == "train"]
    for k in range(1, count + 1):
        for row in train:
            yield row, k, make_copy(row, k, train, chips)
    for way in range(1, WAYS):
        for row in train:
            yield row, -way, turn(read_chip(chips, row), way)


def make_copy(row: Row, k: int, train: list[Row], chips: Path) -> Chip:
    """Copy k of a training chip: recoloured, mixed or neither; then its light is varied.

    Later copies are turned or mirrored at last.
    """
    rng = np.random.default_rng([k, zlib.crc32(row.name.encode())])
    chip = read_chip(chips, row)
    if k % 2 == 0:
        chip = recolour(chip, read_chip(chips, train[rng.integers(len(train))]), rng)
    elif k % 3 == 0:
        chip = mix(chip, read_chip(chips, train[rng.integers(len(train))]), rng)
    chip = veil(chip, rng) if k % 7 == 0 else vary(chip, rng)
    if rng.random() < LEVEL_CHANGES:
        changed = chip.surface
        chip = to_top_of_atmosphere(chip) if changed else to_surface(chip, rng.uniform(0.6, 1))
    return turn(chip, int(rng.integers(1, WAYS))) if k > UNTURNED_COPIES else chip


def write(row: Row, copy: int, folder: Path, chip: Chip, teach: Teacher) -> None:
    """Label one copy; the labels come last, so that both are there where they are."""
    images, labels = (path_of(folder, what, row, copy) for what in ("images", "labels"))
    probabilities = teach(to_top_of_atmosphere(chip).pixels)
    shares = np.where(chip.learn, np.rint(probabilities * 255), 0).astype(np.uint8)
    if row.split != "train":
        known = np.where(chip.learn, probabilities.argmax(axis=0) + 1, 0)[None].astype(np.uint8)
        sure = np.where(probabilities.max(axis=0) > SURE, known, 0)
        for what, codes in (("classes", known), ("sure", sure)):
            write_raster(path_of(folder, what, row, copy), codes, ("class",), row.number)
    write_raster(images, np.rint(chip.pixels).astype(np.uint16), BANDS, row.number)
    write_raster(labels, shares, CLASSES, row.number)


def path_of(folder: Path, what: str, row: Row, copy: int) -> Path:
    part = row.split if copy >= 0 else "turned"
    return folder / part / what / f"{row.name}__{copy}.tif"


def write_raster(
    path: Path, planes: npt.NDArray[np.generic], names: tuple[str, ...], number: int
) -> None:
    """Write a GeoTIFF at a made-up place of its own: half of the chips have no true one."""
    west, north = 4.6e5 + 6000 * (number % 15), 5e6 - 6000 * (number // 15)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    told = {"nodata": 0} if planes.dtype == np.uint16 else {}
    with rasterio.open(
        part, "w", driver="GTiff", count=len(planes), height=planes.shape[1],
        width=planes.shape[2], dtype=planes.dtype, crs="EPSG:32631",
        transform=rasterio.Affine(10, 0, west, 0, -10, north), compress="deflate", **told,
    ) as dataset:  # fmt: skip
        dataset.write(planes)
        dataset.descriptions = names
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chips", type=Path, required=True, help="folder of images, learn, index")
    parser.add_argument("--teacher", type=Path, required=True, help="folder of the teacher")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--copies", type=int, default=25, help="varied copies per training chip")
    args = parser.parse_args()
    teach = load_teacher(args.teacher)
    for row, copy, chip in copies(read_index(args.chips), args.chips, args.copies):
        if not path_of(args.out, "labels", row, copy).exists() and chip.learn.mean() > 0.02:
            write(row, copy, args.out, chip, teach)
    print(f"{len(list(args.out.glob('*/labels/*.tif')))} labelled chips in {args.out}")


if __name__ == "__main__":
    main()
