"""Scenes and maps as xarray.DataArrays, by rioxarray's conventions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401  (gives arrays their .rio)
import xarray
from affine import Affine
from rasterio.crs import CRS
from rioxarray.exceptions import RioXarrayError

from geoseg.errors import SceneError
from geoseg.grid import Grid
from geoseg.legend import NODATA
from geoseg.raster.source import ArraySource, Header

__all__ = ["map_array", "source_of_array"]


def source_of_array(array: xarray.DataArray) -> ArraySource:
    """A source over an array of (band, y, x) or (y, x).

    Band names come from the first dimension's coordinate when it holds text, else from
    `long_name`; CRS, transform and nodata from `array.rio`; scale and offset from the attributes
    `scale_factor` and `add_offset`, or `scales` and `offsets`.

    Raises:
        SceneError: if it has other dimensions, or its coordinates are no regular grid.
    """
    name = str(array.name or "array")
    try:
        array = array.transpose(..., array.rio.y_dim, array.rio.x_dim)
        transform = _transform(array)
        crs = None if array.rio.crs is None else CRS.from_user_input(array.rio.crs)
    except (RioXarrayError, ValueError) as error:
        raise SceneError(f"{name}: no array of (band, y, x) on a grid: {error}") from error
    if array.ndim == 2:
        array = array.expand_dims("band")
    if array.ndim != 3:
        raise SceneError(f"{name}: the dimensions are {array.dims}, expected (band, y, x)")
    if array.dtype.kind not in "uif":
        raise SceneError(f"{name} holds {array.dtype} values; expected integers or floats")
    _refuse_irregular(array, name)
    count, height, width = array.shape
    nodata = np.nan if array.rio.encoded_nodata is not None else array.rio.nodata
    header = Header(
        name=name,
        grid=Grid(crs, transform, (height, width)),
        dtype=_stored_type(array),
        descriptions=_band_names(array),
        colours=(None,) * count,
        wavelengths_um=(None,) * count,
        nodata=(None if nodata is None else float(nodata),) * count,
        scales=_each_band(array, "scale", 1.0),
        offsets=_each_band(array, "offset", 0.0),
        tags={str(k).upper(): v for k, v in array.attrs.items() if isinstance(v, str)},
    )
    return ArraySource(header, array.data)


def _transform(array: xarray.DataArray) -> Affine:
    """Where the pixels lie, by the coordinates where the attributes are not of these pixels."""
    told = Affine(*tuple(array.rio.transform())[:6])
    if told.b or told.d or not {array.rio.x_dim, array.rio.y_dim} <= array.coords.keys():
        return told
    seen = Affine(*tuple(array.rio.transform(recalc=True))[:6])
    height, width = array.rio.shape
    near = 0.01 * max(abs(seen.a), abs(seen.e))  # coordinates are rounded
    corners = (0, 0), (width, height)
    apart = np.subtract([told * each for each in corners], [seen * each for each in corners])
    return told if np.abs(apart).max() <= near else seen


def map_array(
    classes: npt.NDArray[np.uint8], grid: Grid, like: xarray.DataArray, attrs: Mapping[str, str]
) -> xarray.DataArray:
    """Class codes as an array with CRS, transform, nodata and coordinates.

    Args:
        classes: (H, W).
        grid: where they lie.
        like: the scene they are of; its coordinates are kept when its pixels were.
        attrs: what to say of the map.
    """
    x, y = like.rio.x_dim, like.rio.y_dim
    array = xarray.DataArray(classes, dims=(y, x), name="class", attrs=dict(attrs))
    if classes.shape == (like.sizes[y], like.sizes[x]):
        array = array.assign_coords({dim: like.coords[dim] for dim in (y, x) if dim in like.coords})
    elif grid.transform.b == grid.transform.d == 0:
        t, (height, width) = grid.transform, grid.shape
        centres = {
            y: t.f + t.e * (np.arange(height) + 0.5),
            x: t.c + t.a * (np.arange(width) + 0.5),
        }
        array = array.assign_coords(centres)
    array = array.rio.set_spatial_dims(x, y).rio.write_transform(grid.transform)
    if grid.crs is not None:
        array = array.rio.write_crs(grid.crs)
    finished: xarray.DataArray = array.rio.write_nodata(NODATA)
    return finished


def _refuse_irregular(array: xarray.DataArray, name: str) -> None:
    for dim in array.dims[-2:]:
        if dim in array.coords and array.sizes[dim] > 2:
            steps = np.diff(array.coords[dim].values.astype(float))
            if np.abs(steps - steps.mean()).max() > 0.01 * abs(steps.mean()):
                raise SceneError(f"{name}: the coordinates along {dim} are not evenly spaced")


def _stored_type(array: xarray.DataArray) -> np.dtype[Any]:
    """The type in the file, where values were masked to floats but not scaled."""
    stored = array.encoding.get("rasterio_dtype", array.encoding.get("dtype"))
    masked_only = array.rio.encoded_nodata is not None and "scale_factor" not in array.encoding
    return np.dtype(stored) if stored is not None and masked_only else np.dtype(array.dtype)


def _each_band(array: xarray.DataArray, what: str, default: float) -> tuple[float, ...]:
    """Scales or offsets, as rioxarray keeps them: one for all bands, or one for each."""
    count = array.shape[0]
    several = array.attrs.get(f"{what}s")
    if several is not None and len(several) == count:
        return tuple(map(float, several))
    one = array.attrs.get({"scale": "scale_factor", "offset": "add_offset"}[what], default)
    return (float(one),) * count


def _band_names(array: xarray.DataArray) -> tuple[str | None, ...]:
    count, dim = array.shape[0], array.dims[0]
    labels = array.coords[dim].values.tolist() if dim in array.coords else []
    if len(labels) == count and all(isinstance(label, str) for label in labels):
        return tuple(labels)
    names = array.attrs.get("long_name", ())
    names = (names,) if isinstance(names, str) else tuple(map(str, names))
    if len(names) > count == len(labels) and set(labels) <= set(range(1, len(names) + 1)):
        return tuple(names[label - 1] for label in labels)  # some bands of a file, by number
    return names if len(names) == count else (None,) * count
