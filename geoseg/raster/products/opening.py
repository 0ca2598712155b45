"""What kind of product a path is, if it is one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from geoseg.bands import band_names, sensor_named
from geoseg.errors import BandError, SceneError
from geoseg.raster.layered import Layer, Product
from geoseg.raster.products import landsat, sentinel2
from geoseg.raster.products.stac_item import read_item
from geoseg.raster.source import RasterSource

__all__ = ["find_product", "product_of_files"]

BYTES_OF_16_BIT = 2

PACKED = (".zip", ".tar", ".tgz", ".gz")


def find_product(path: Path) -> Product | None:
    """The product at a path; None if it is a file that is none, such as a raster.

    Args:
        path: a .SAFE folder, a Landsat Collection 2 folder, the metadata file of one of them, or
            a STAC item.

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
        return read_item(path)
    if path.suffix.lower() in PACKED and path.is_file():
        raise SceneError(f"{path} is packed; unpack it first and give the folder")
    return None


def product_of_files(paths: Sequence[Path], sensor: str | None = None) -> Product:
    """Rasters of a band each, named by their bands, as one scene.

    Args:
        paths: files such as T32TQM_20200101T101021_B04_10m.jp2, B04.tif or red.tif.
        sensor: whose band names they are, where names alone do not say it.

    Raises:
        SceneError: if they do not make a scene.
        BandError: if their names do not say which bands they are.
    """
    key = None if sensor is None else sensor_named(sensor)
    found = band_names([_told(path) for path in paths], sensor=key)
    if len(found) < len(paths):
        known = set(found.values())
        other = next(path for n, path in enumerate(paths, 1) if n not in known)
        raise BandError(
            f"the name of {other.name} does not say which band it is; name files by their bands "
            "(B04.tif, red.tif), and say whose with --sensor"
        )
    layers = [_plain_layer(band, paths[number - 1]) for band, number in found.items()]
    assumed = (
        ["values taken as reflectance x 10000"] if any(n.scale == 1e-4 for n in layers) else []
    )
    return Product(Path(paths[0]).name, tuple(layers), None, (), tuple(assumed))


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


def _plain_layer(band: str, path: Path) -> Layer:
    with closing(RasterSource(path)) as source:
        header = source.header
    scale, offset = header.scales[0], header.offsets[0]
    plain = scale == 1 and offset == 0
    if plain and header.dtype.kind != "f":
        if header.dtype.itemsize != BYTES_OF_16_BIT:
            raise SceneError(
                f"{path} holds {header.dtype} values without a scale; stack the bands into one "
                "file and say with --scale how they become reflectance"
            )
        scale = 1e-4
    return Layer(band, path, scale, offset)
