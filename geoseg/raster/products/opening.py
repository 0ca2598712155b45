"""What kind of product a path is, if it is one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from itertools import takewhile
from pathlib import Path

from geoseg.bands import band_names, sensor_named
from geoseg.errors import BandError, SceneError
from geoseg.raster.layered import Layer, Product
from geoseg.raster.level import Level
from geoseg.raster.products import landsat, sentinel2
from geoseg.raster.products.sentinel2 import level_told
from geoseg.raster.products.stac_item import read_item
from geoseg.raster.scaling import reflectance_scaling, told_scaling
from geoseg.raster.scene import Reading
from geoseg.raster.source import RasterSource

__all__ = ["find_product", "product_of_files", "scene_stem"]

PACKED = (".zip", ".tar", ".tgz", ".gz")


def find_product(path: Path, reading: Reading | None = None) -> Product | None:
    """The product at a path; None if it is a file that is none, such as a raster.

    Args:
        path: a .SAFE folder, a Landsat Collection 2 folder, the metadata file of one of them, or
            a STAC item.
        reading: what a person says of a STAC item that does not say it itself.

    Raises:
        SceneError: if it is a folder that holds no product, a packed product, or a product that
            cannot be read.
    """
    if path.name in sentinel2.METADATA and path.is_file():
        return sentinel2.read_safe(path.parent)
    if path.is_file() and any(path.match(pattern) for pattern in landsat.METADATA):
        return landsat.read_landsat(path)
    if path.is_dir():
        return _of_folder(path)
    if path.suffix.lower() == ".json" and path.is_file():
        return read_item(path, reading or Reading())
    if path.suffix.lower() in PACKED and path.is_file():
        raise SceneError(f"{path} is packed; unpack it first and give the folder")
    return None


def product_of_files(paths: Sequence[Path], reading: Reading) -> Product:
    """Rasters of a band each, named by their bands, as one scene.

    Args:
        paths: files such as T32TQM_20200101T101021_B04_10m.jp2, B04.tif or red.tif.
        reading: what a person says of them: whose band names they are, where names alone do not
            tell, and what their numbers mean.

    Raises:
        SceneError: if they do not make a scene.
        BandError: if their names do not say which bands they are.
    """
    key = None if reading.sensor is None else sensor_named(reading.sensor)
    if key is None and all(sentinel2.OWN_FILE.search(path.name) for path in paths):
        key = "sentinel2"
    found = band_names([_told(path) for path in paths], sensor=key)
    if len(found) < len(paths):
        known = set(found.values())
        other = next(path for n, path in enumerate(paths, 1) if n not in known)
        raise BandError(
            f"the name of {other.name} does not say which band it is; name files by their bands "
            "(B04.tif, red.tif), and say whose with --sensor"
        )
    layers: list[Layer] = []
    assumed: dict[str, None] = {}
    levels: set[Level | None] = set()
    for band, number in found.items():
        path = paths[number - 1]
        with closing(RasterSource(path)) as source:
            header = source.header
        told = told_scaling(header, [1], reading)
        (scale,), (offset,), said = told or reflectance_scaling(header, [1])
        layers.append(Layer(band, path, float(scale), float(offset), nodata=reading.nodata))
        assumed |= dict.fromkeys(said)
        levels.add(level_told(header.name, header.tags))
    level = levels.pop() if len(levels) == 1 else None
    return Product(scene_stem(paths), tuple(layers), level, (), tuple(assumed), says=("bands",))


def scene_stem(scene: str | Path | Sequence[str | Path]) -> str:
    """What files made from a scene are called after: its file, its folder, what its files share.

    Raises:
        SceneError: if it is a list of no files.
    """
    if not isinstance(scene, str | Path):
        if not scene:
            raise SceneError("a scene of files of a band each needs a file")
        if len(scene) == 1:
            return scene_stem(scene[0])
        parts = zip(*(Path(each).stem.split("_") for each in scene), strict=False)
        shared = "_".join(each[0] for each in takewhile(lambda each: len(set(each)) == 1, parts))
        return shared or scene_stem(Path(scene[0]).absolute().parent)
    path = Path(scene)
    if path.name in sentinel2.METADATA:
        path = path.absolute().parent
    return (path if path.name not in ("", "..") else path.resolve()).stem


def _of_folder(folder: Path) -> Product:
    try:
        if any((folder / name).is_file() for name in sentinel2.METADATA):
            return sentinel2.read_safe(folder)
        for pattern in landsat.METADATA:
            if found := sorted(folder.glob(pattern)):
                return landsat.read_landsat(found[0])
    except OSError as error:
        raise SceneError(f"{folder} cannot be read: {error.strerror or error}") from error
    raise SceneError(
        f"{folder} is a folder without MTD_MSIL1C.xml, MTD_MSIL2A.xml or ..._MTL: neither a "
        "Sentinel-2 nor a Landsat product; give a raster file, a product's folder or a STAC item"
    )


def _told(path: Path) -> str:
    """A file's name without what follows the band, or its description if it has one."""
    return re.sub(r"_\d+m$", "", path.stem, flags=re.IGNORECASE)
