"""A scene as a STAC item on this disk, an asset a band or several.

Reference:
    STAC specification 1.0 and 1.1, with the extensions `eo` (common names) and `raster` (scale,
    offset, nodata). https://stacspec.org
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from geoseg.bands import band_names, sensor_named
from geoseg.errors import BandError, SceneError
from geoseg.raster.layered import Layer, Product, Quality
from geoseg.raster.level import Level
from geoseg.raster.products.landsat import PIXEL_BITS
from geoseg.raster.products.sentinel2 import SCENE_CLASSES
from geoseg.raster.scaling import reflectance_scaling, told_scaling
from geoseg.raster.scene import Reading
from geoseg.raster.source import Header, RasterSource

__all__ = ["read_item"]

MAX_DOCUMENT_BYTES = 16 << 20

PICTURES = {"thumbnail", "overview", "visual"}
"""Roles and keys of assets that are for looking at."""

COLLECTION_2 = (2.75e-5, -0.2)
"""Scale and offset of surface reflectance in Landsat's Collection 2."""

REMOVED_OFFSET = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
"""Properties that say that an offset which the assets still tell is no longer in their values."""


def read_item(path: Path, reading: Reading) -> Product:
    """What an item's assets are.

    An asset's scale and offset are those that a person tells, else those of the item, of Landsat's
    Collection 2, of the file, or what is customary for its data type.

    Raises:
        SceneError: if it is no item, or its assets are elsewhere or no bands.
    """
    item = _item(path)
    properties = item.get("properties") or {}
    sensor = _sensor(properties)
    assumed: dict[str, None] = {}
    layers: dict[str, Layer] = {}
    elsewhere = 0
    for key, asset in item["assets"].items():
        bands = _bands_of(asset, key, sensor)
        if not bands or PICTURES & {key, *(asset.get("roles") or ())}:
            continue
        file = _local(path, asset)
        elsewhere += file is None
        if file is not None:
            for layer, said in _layers(file, asset, bands, properties, reading):
                if layers.setdefault(layer.band, layer) is layer:
                    assumed |= dict.fromkeys(said)
    if not layers:
        reason = (
            "its bands are not on this disk; download them, and give an item with relative assets"
            if elsewhere
            else "none of its assets says which band it holds"
        )
        raise SceneError(f"{path}: {reason}")
    quality = _quality(path, item["assets"])
    if not quality:
        assumed["no quality asset (scl, qa_pixel) in the item: clouds are not masked"] = None
    return Product(
        str(item.get("id") or path.stem), tuple(layers.values()), _level(properties, path),
        quality, tuple(assumed), says=("bands", "sensor"),
    )  # fmt: skip


def _item(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_DOCUMENT_BYTES:
            raise SceneError(f"{path} is far too large for a STAC item")
        item = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SceneError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(item, dict) or item.get("type") != "Feature":
        raise SceneError(f"{path} is no STAC item")
    assets = item.get("assets")
    if not isinstance(assets, dict) or not all(isinstance(a, dict) for a in assets.values()):
        raise SceneError(f"{path} is a STAC item without assets")
    return item


def _sensor(properties: Mapping[str, Any]) -> str | None:
    for key in ("constellation", "platform", "instruments"):
        told = properties.get(key)
        with suppress(BandError):
            return sensor_named(str(told[0] if isinstance(told, list) and told else told))
    return None


def _bands_of(asset: Mapping[str, Any], key: str, sensor: str | None) -> list[str | None]:
    """The common name of each band of an asset; None for what is no band that has one."""
    told: Sequence[Any] = asset.get("eo:bands") or asset.get("bands") or ()
    names = [_common_name(each, sensor) for each in told if isinstance(each, dict)]
    if len(names) == 1 and names[0] is None:
        names = [_common_name({"name": key}, sensor)]
    return names if any(names) else []


def _common_name(band: Mapping[str, Any], sensor: str | None) -> str | None:
    prefixed = {key.removeprefix("eo:"): value for key, value in band.items()}
    wavelength = prefixed.get("center_wavelength")
    guesses = (prefixed.get("common_name"), prefixed.get("name"))
    for guess in filter(None, guesses):
        with suppress(BandError):
            if found := band_names([str(guess)], sensor=sensor):
                return next(iter(found))
    if isinstance(wavelength, int | float) and math.isfinite(wavelength):
        return next(iter(band_names([None], [float(wavelength)])), None)
    return None


def _layers(
    file: Path,
    asset: Mapping[str, Any],
    bands: Sequence[str | None],
    properties: Mapping[str, Any],
    reading: Reading,
) -> Iterator[tuple[Layer, tuple[str, ...]]]:
    """The bands of an asset, each with what was taken for granted of it."""
    told: Sequence[Any] = asset.get("raster:bands") or asset.get("bands") or []
    removed = any(properties.get(key) is True for key in REMOVED_OFFSET)
    header: Header | None = None
    for number, band in enumerate(bands, 1):
        if band is None:
            continue
        of_band = told[number - 1] if len(told) >= number and isinstance(told[0], dict) else {}
        facts = {**asset, **of_band}
        nodata = _number(facts, "nodata") if reading.nodata is None else reading.nodata
        scale, offset = _number(facts, "scale"), _number(facts, "offset") or 0.0
        offset = 0.0 if removed else offset
        said: tuple[str, ...] = ()
        untold = scale is None or reading.scale is not None or reading.offset is not None
        if untold and file.is_file():  # what is missing is told of when it is wanted
            header = header or _header(file)
            scale, offset, said = _of_file(header, number, properties, reading, removed)
        yield Layer(band, file, 1e-4 if scale is None else scale, offset, number, nodata), said


def _header(file: Path) -> Header:
    with closing(RasterSource(file)) as source:
        return source.header


def _of_file(
    header: Header, number: int, properties: Mapping[str, Any], reading: Reading, removed: bool
) -> tuple[float, float, tuple[str, ...]]:
    """Scale and offset of a band that the item tells nothing of, and what was assumed."""
    if number > header.count:
        raise SceneError(f"{header.name} has no band {number}, which its item tells of")
    scaling = told_scaling(header, [number], reading)
    correction = str(properties.get("landsat:correction", "")).upper()
    plain = header.scales[number - 1] == 1 and header.offsets[number - 1] == 0
    if scaling is None and plain and header.dtype == np.uint16 and correction.startswith("L2"):
        said = f"values x {COLLECTION_2[0]:g} - 0.2 taken as reflectance, as of {correction}"
        return *COLLECTION_2, (said,)
    if scaling is None:
        baseline = str(properties.get("s2:processing_baseline", ""))
        tags = {} if removed or not baseline else {"PROCESSING_BASELINE": baseline}
        name = "" if removed else str(properties.get("s2:product_uri", header.name))
        scaling = reflectance_scaling(header, [number], name=name, tags=tags)
    (scale,), (offset,), assumed = scaling
    return float(scale), float(offset), assumed


def _number(facts: Mapping[str, Any], key: str) -> float | None:
    value = facts.get(f"raster:{key}", facts.get(key))
    known = isinstance(value, int | float) and math.isfinite(value)
    return float(value) if known and value is not None else None


def _quality(path: Path, assets: Mapping[str, Any]) -> tuple[Quality, ...]:
    told = {key.lower(): _local(path, asset) for key, asset in assets.items()}
    quality = []
    if (classes := told.get("scl") or told.get("scl_20m")) is not None:
        quality.append(Quality(classes, SCENE_CLASSES))
    if (pixel := told.get("qa_pixel")) is not None:
        quality.append(Quality(pixel, PIXEL_BITS))
    return tuple(quality)


def _level(properties: Mapping[str, Any], path: Path) -> Level | None:
    told = " ".join(
        str(properties.get(key, ""))
        for key in ("processing:level", "s2:product_type", "landsat:correction", "s2:product_uri")
    ).upper()
    if any(word in told for word in ("L2", "MSI2A", "MSIL2A")):
        return "surface"
    return "toa" if any(word in told for word in ("L1", "MSI1C")) else None


def _local(path: Path, asset: Mapping[str, Any]) -> Path | None:
    """The asset's file, if it lies on this disk."""
    href = str(asset.get("href", ""))
    parts = urlsplit(href)
    if parts.scheme not in ("", "file") or parts.netloc or not parts.path:
        return None
    return path.parent / (unquote(parts.path) if parts.scheme else href)
