"""Polygons of a Sentinel-2 tile's worth of classes: seconds, memory, validity, beside the peers.

    python tests/benchmarks/polygons.py FOLDER [--runs 3] [--validity] [--peers] [--tall]

Makes 10980 x 10980 pixels of eight classes from smoothed noise (about 420,000 patches, half of
them below 32 pixels, one in a hundred above 3800) in FOLDER, and runs each tool in a process of
its own, in turns. Prints a table with the median seconds and the highest peak of memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import rasterio.features
import shapely
from affine import Affine
from rasterio.windows import Window
from scipy import ndimage

SIDE = 10980
CLASSES = 8


def make_classes(side: int = SIDE) -> np.ndarray:
    """Each pixel has the class whose field is highest: coarse landscape and fine detail."""
    rng = np.random.default_rng(0)
    highest = np.full((side, side), -np.inf, np.float32)
    classes = np.zeros((side, side), np.uint8)
    for code in range(CLASSES):
        field = rng.standard_normal((side, side), dtype=np.float32)
        field = ndimage.gaussian_filter(field, 4, truncate=3)
        field /= field.std()
        small = rng.standard_normal((side // 8 + 3,) * 2, dtype=np.float32)
        coarse = ndimage.gaussian_filter(small, 8)
        coarse = ndimage.zoom(coarse / coarse.std(), 8, order=1)[:side, :side]
        field += 2 * coarse + 0.12 * (CLASSES - 1 - code)  # some classes are commoner
        better = field > highest
        highest[better] = field[better]
        classes[better] = code
    return classes


def write_classes(path: Path, classes: np.ndarray, times: int) -> None:
    """Write the classes, `times` of them below each other, every other one upside down."""
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE * times, count=1, dtype="uint8",
        nodata=255, crs="EPSG:32633", transform=Affine(10, 0, 500_000, 0, -10, 5_000_000),
        tiled=True, blockxsize=512, blockysize=512, compress="deflate",
    ) as out:  # fmt: skip
        for turn in range(times):
            part = classes[::-1] if turn % 2 else classes
            out.write(part, 1, window=Window(0, SIDE * turn, SIDE, SIDE))


def run_geoseg(raster: str, output: str, simplify: str) -> None:
    import geoseg

    geoseg.vectorize(
        raster, output, overwrite=True, simplify=None if simplify == "default" else float(simplify)
    )


def run_geoseg_trace(raster: str, output: str, simplify: str) -> None:
    """Everything but writing."""
    from geoseg.raster.classes import ClassRaster, read_strips
    from geoseg.vector.polygons import ClassStrip, trace_polygons

    opened = ClassRaster(raster)
    height = opened.grid.height
    strips = (ClassStrip(c, k, w.row_stop == height) for w, c, k in read_strips(opened))
    for _ in trace_polygons(strips, opened.grid):
        pass


def run_shapes(raster: str, output: str, simplify: str) -> None:
    """rasterio.features.shapes, made a coverage by segmentizing, then coverage_simplify."""
    import geopandas

    with rasterio.open(raster) as dataset:
        band, crs, transform = dataset.read(1), dataset.crs, dataset.transform
    codes, shapes = [], []
    for outline, code in rasterio.features.shapes(band, connectivity=4):
        shell, *holes = outline["coordinates"]
        codes.append(int(code))
        shapes.append(shapely.Polygon(shell, holes))
    simplified = shapely.coverage_simplify(shapely.segmentize(np.array(shapes), 1.0), 1.0)
    a, b, c, d, e, f = transform[:6]
    frame = geopandas.GeoDataFrame({"class_id": codes}, geometry=simplified)
    frame = frame.set_geometry(frame.geometry.affine_transform([a, b, d, e, c, f])).set_crs(crs)
    frame.to_file(output, driver="GPKG")


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds and peak memory in MB of a process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[:3]} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def own(function: str, raster: Path, output: Path, simplify: str = "default") -> list[str]:
    return [sys.executable, __file__, "--call", function, str(raster), str(output), simplify]


def count_patches(raster: Path) -> int:
    with rasterio.open(raster) as dataset:
        classes = dataset.read(1)
    return sum(ndimage.label(classes == code)[1] for code in range(CLASSES))


def make_rasters(square: str, tall: str, _: str) -> None:
    """Write the classes once, and four times on top of each other."""
    classes = make_classes()
    write_classes(Path(square), classes, 1)
    write_classes(Path(tall), classes, 4)


def check(path: Path, pixels: int) -> str:
    shapes = shapely.from_wkb(pyogrio.raw.read(path, layer=0)[2])
    union = shapely.coverage_union_all(shapes).area / 100
    return (
        f"valid {shapely.is_valid(shapes).all()}, "
        f"coverage_is_valid {shapely.coverage_is_valid(shapes)}, "
        f"union area / valid area - 1 = {union / pixels - 1:.1e}"
    )


def main() -> None:
    if sys.argv[1:2] == ["--call"]:
        globals()[sys.argv[2]](*sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--validity", action="store_true", help="a few minutes more")
    parser.add_argument("--peers", action="store_true", help="run them too, several minutes")
    parser.add_argument("--tall", action="store_true", help="10980 x 43920 too")
    options = parser.parse_args()
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    square, tall = folder / "square.tif", folder / "tall.tif"
    if not tall.exists():  # in a process of its own, whose memory is not counted for the others
        subprocess.run(own("make_rasters", square, tall), check=True)
    peer, exact = folder / "peer.gpkg", folder / "exact.gpkg"
    gdal = ["gdal_polygonize.py", "-q", "-overwrite", str(square), "-of", "GPKG", str(peer)]
    default, fewer, shapes = folder / "default.gpkg", folder / "20.gpkg", folder / "shapes.gpkg"
    tools = {
        "geoseg": (own("run_geoseg", square, default), default),
        "geoseg, without writing": (own("run_geoseg_trace", square, folder / "none"), None),
        "geoseg --simplify 0": (own("run_geoseg", square, exact, "0"), exact),
        "geoseg --simplify 20": (own("run_geoseg", square, fewer, "20"), fewer),
    }
    if options.peers:
        tools["gdal_polygonize.py"] = (gdal, peer)
        tools["shapes + coverage_simplify"] = (own("run_shapes", square, shapes), shapes)
    measure(own("run_geoseg", square, exact, "20"))  # compiles what was never compiled here
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in tools}
    for turn in range(options.runs):
        for name, (command, output) in tools.items():
            if turn and name.startswith("shapes"):
                continue  # once is long enough
            if output is not None:
                output.unlink(missing_ok=True)
            figures[name].append(measure(command))
    for name, (_, output) in tools.items():
        seconds = statistics.median(each for each, _ in figures[name])
        memory = max(each for _, each in figures[name])
        count = "" if output is None else pyogrio.read_info(output, layer=0)["features"]
        print(f"{name:<28}{seconds:>8.1f} s {memory:>8.0f} MB  {count}")
    if options.tall:
        seconds, memory = measure(own("run_geoseg", tall, folder / "tall.gpkg"))
        growth = memory / max(each for _, each in figures["geoseg"]) - 1
        print(f"{'geoseg, 10980 x 43920':<28}{seconds:>8.1f} s {memory:>8.0f} MB  {growth:+.0%}")
    # last: a process started by a large one counts that one's memory as its own peak
    print(f"{count_patches(square)} patches by scipy.ndimage.label", flush=True)
    if options.validity:
        for name, (_, output) in tools.items():
            if output is not None and name != "gdal_polygonize.py":
                print(f"{name}: {check(output, SIDE * SIDE)}", flush=True)


if __name__ == "__main__":
    main()
