"""How fast scenes become maps, and what binds: python tests/benchmarks/predict.py CACHE --data DIR

DIR is the folder of test imagery (GEOSEG_TEST_DATA); from it a U-Net with a ResNet-34 encoder is
trained and a scene is made, once, in the folder CACHE (`prediction_inputs.py`). Each way to map
the scene is a process of its own, from start to GeoTIFF, measured from outside; chips are of 512 px
with a halo of 64 px where nothing else is said. What counts are the ratios within one run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from prediction_inputs import (
    BORDER,
    CHIP_PX,
    HALO_PX,
    make_scene,
    quantized_model,
    trained_model,
)

import geoseg
from geoseg.model.loading import load_model
from geoseg.model.openvino_runtime import has_bf16
from geoseg.raster.chips import ChipPlan, PlannedChip
from geoseg.raster.geotiff import MapWriter
from geoseg.raster.opening import open_scene

HERE = Path(__file__).parent
LARGE_PX = 768
HEAD = f"{'':<42}{'seconds':>9}{'CPU s':>8}{'Mpx/s':>8}{'peak MB':>9}{'agree %':>9}"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one whole process, children included."""

    seconds: float
    cpu_seconds: float
    peak_mb: float


def geoseg_command(scene: Path, model: Path, folder: Path, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "geoseg.cli", "predict", str(scene), "-m", str(model),
        "-o", str(folder), "--join", "crop", "--halo", str(HALO_PX), "--no-polygons",
        "--no-preview", "--overwrite", "--quiet", *options,
    ]  # fmt: skip


def own_command(part: str, scene: Path, model: Path, chip_px: int = CHIP_PX) -> list[str]:
    command = [sys.executable, __file__, str(scene), "--part", part, "--model", str(model)]
    return [*command, "--chip", str(chip_px)]


def measured(command: list[str]) -> Cost:
    began = time.monotonic()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    spent = usage.ru_utime + usage.ru_stime
    return Cost(time.monotonic() - began, spent, usage.ru_maxrss * 1024 / 1e6)


def read_map(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def agreement(map_path: Path, reference: np.ndarray | None) -> float | None:
    if reference is None or not map_path.is_file():
        return None
    classes = read_map(map_path)
    known = (classes != 255) & (reference != 255)
    return float((classes == reference)[known].mean())


def line(name: str, cost: Cost, megapixels: float, agree: float | None = None) -> None:
    told = "" if agree is None else f"{agree:>9.3%}"
    print(
        f"{name:<42}{cost.seconds:>9.1f}{cost.cpu_seconds:>8.1f}"
        f"{megapixels / cost.seconds:>8.2f}{cost.peak_mb:>9.0f}{told}",
        flush=True,
    )


def run_part(part: str, scene_path: Path, model_path: Path, chip_px: int) -> None:
    """What a process of its own does: the network alone, only reading, or only writing."""
    model = load_model(model_path, precision="float32" if part == "network32" else "auto")
    with open_scene(scene_path, model.card.bands) as scene:
        plan = ChipPlan(scene.grid.shape, chip_px, HALO_PX, model.card.stride, fitted=True)
        if part == "read":
            for planned in plan:
                model.filled(scene.read(planned.window))
        elif part == "write":
            _write(scene_path.with_suffix(".written.tif"), scene.grid)
        else:
            bare = BORDER * scene.grid.width  # how far the empty border leans in at the top
            filled = [p for p in plan if p.window.col_stop > bare * _left(p, scene.grid)]
            some = [p for p in filled if p.core.col > bare][:16]
            chips, valid = [model.filled(scene.read(p.window)) for p in some], len(filled)
            list(model.runtime.scores(chips[:2]))
            began, spent = time.monotonic(), time.process_time()
            for _ in model.runtime.scores(chips[n % len(chips)] for n in range(valid)):
                pass
            seconds, spent = time.monotonic() - began, time.process_time() - spent
            print(
                f"    of these the network alone, {valid} chips: {seconds:.1f} s, {spent:.1f} CPU s"
            )


def _left(planned: PlannedChip, grid: geoseg.Grid) -> float:
    """How much of the border's width is left at the chip's last row."""
    return max(0.0, 1 - (planned.window.row_stop - 1) / grid.height)


def _write(path: Path, grid: geoseg.Grid) -> None:
    rng = np.random.default_rng(0)
    writer = MapWriter(path, grid, ("class",), tags={})
    for strip in grid.window.row_strips(CHIP_PX - 2 * HALO_PX):
        patches = rng.integers(1, 9, (strip.height // 8 + 1, strip.width // 8 + 1), np.uint8)
        classes = patches.repeat(8, 0).repeat(8, 1)[: strip.height, : strip.width]
        writer.write(strip, classes[None])
    writer.close()
    path.unlink()


def ways(
    scene: Path, model: Path, quantized: Path | None, cache: Path
) -> dict[str, Callable[[], tuple[Cost, Path]]]:
    """Every way to measure, by its name in the table."""

    def ours(name: str, *options: str, model: Path = model) -> Callable[[], tuple[Cost, Path]]:
        folder = cache / f"map_{name}"
        command = geoseg_command(scene, model, folder, *options)
        return lambda: (measured(command), folder / f"{scene.stem}_classes.tif")

    def peer(stride: int) -> Callable[[], tuple[Cost, Path]]:
        out = cache / f"torchgeo_{stride}.tif"
        script = str(HERE / "torchgeo_loop.py")
        command = [sys.executable, script, str(scene), str(model), str(out), "--stride"]
        return lambda: (measured([*command, str(stride)]), out)

    def part(name: str, *chip_px: int) -> Callable[[], tuple[Cost, Path]]:
        return lambda: (measured(own_command(name, scene, model, *chip_px)), Path())

    stride, wide = CHIP_PX - 2 * HALO_PX, CHIP_PX - HALO_PX
    torch, openvino = ("--runtime=torch", "--device=cpu"), ("--runtime=openvino",)
    fp32, bf16 = "--precision=float32", "--precision=bf16"
    large = f"--chip={LARGE_PX}"
    in_bf16, in_int8 = {}, {}
    usual, bare = "float32", {}
    if has_bf16():
        usual, bare = "bf16", {"bare network, openvino float32": part("network32")}
        in_bf16 = {
            "geoseg, openvino bf16": ours("bf16", *openvino, bf16),
            "geoseg, torch bf16": ours("torch16", *torch, bf16),
        }
    if quantized is not None:
        int8 = partial(ours, "int8", *openvino, "--precision=int8", model=quantized)
        in_int8 = {
            "geoseg, openvino int8": int8(),
            f"geoseg, openvino int8, chips of {LARGE_PX} px": int8(large),
        }
    return {
        "geoseg, torch float32 (the reference)": ours("reference", *torch, fp32),
        "geoseg, openvino float32": ours("float32", *openvino, fp32),
        **in_bf16,
        f"geoseg, openvino {usual}, chips of {LARGE_PX} px": ours("large", *openvino, large),
        **in_int8,
        f"torchgeo loop, same chips (stride {stride})": peer(stride),
        f"torchgeo loop, half the overlap ({wide})": peer(wide),
        f"bare network, openvino {usual}": part("network"),
        f"bare network, openvino {usual}, of {LARGE_PX} px": part("network", LARGE_PX),
        **bare,
        "read only": part("read"),
        "write only": part("write"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path, help="folder to keep model and scenes in; or a scene")
    parser.add_argument("--data", type=Path, default=os.environ.get("GEOSEG_TEST_DATA"))
    parser.add_argument("--model", type=Path, help="a bundle instead of the one that is trained")
    parser.add_argument("--size", default="4096x4096", help="HEIGHTxWIDTH of the scene")
    parser.add_argument("--only", help="measure only ways whose name holds this")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--chip", type=int, default=CHIP_PX, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.part:
        run_part(told.part, told.cache, told.model, told.chip)
        return
    if told.data is None:
        raise SystemExit("say with --data or GEOSEG_TEST_DATA where the test imagery lies")
    told.cache.mkdir(parents=True, exist_ok=True)
    model = told.model or trained_model(told.cache, Path(told.data))
    quantized = None if told.model else quantized_model(told.cache, model, Path(told.data))
    height, width = map(int, told.size.split("x"))
    scene = make_scene(told.cache / f"scene_{height}x{width}.tif", (height, width), Path(told.data))
    print(f"{height} x {width} pixels, 4 bands uint16; {os.cpu_count()} cores, ", end="")
    print(f"{len(os.sched_getaffinity(0))} used; load {os.getloadavg()[0]:.1f}\n{HEAD}")
    kept = told.cache / "map_reference" / f"{scene.stem}_classes.tif"
    reference = read_map(kept) if told.only and kept.exists() else None
    for name, measure in ways(scene, model, quantized, told.cache).items():
        if told.only is None or any(each in name for each in told.only.split(",")):
            cost, made = measure()
            line(name, cost, height * width / 1e6, agreement(made, reference))
            if "reference" in name:
                reference = read_map(made)


if __name__ == "__main__":
    main()
