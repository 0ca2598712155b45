"""The Cloud Optimized GeoTIFFs that maps become."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from conftest import UTM, grey_legend
from rio_cogeo.cogeo import cog_validate

from geoseg.grid import Grid
from geoseg.legend import NODATA, Legend
from geoseg.raster.geotiff import MapWriter


def written(path: Path, bands: np.ndarray, legend: Legend | None = None) -> Path:
    """The bands as a COG, handed over in strips of 100 rows."""
    grid = Grid(UTM, Affine(10, 0, 500000, 0, -10, 5000000), bands.shape[1:])
    names = tuple(f"band {number}" for number in range(len(bands)))
    writer = MapWriter(path, grid, names, tags={}, legend=legend)
    for strip in grid.window.row_strips(100):
        writer.write(strip, bands[:, strip.row : strip.row_stop])
    writer.close()
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return path


def speckled(shape: tuple[int, ...], values: int) -> np.ndarray:
    """Values from 0, and every fifth pixel without data; blocks without any, too."""
    rng = np.random.default_rng(4)
    bands = rng.integers(0, values, shape).astype(np.uint8)
    bands[rng.random(shape) < 0.2] = NODATA
    bands[:, 8:16, 8:16] = NODATA
    return bands


@pytest.mark.parametrize(
    ("shape", "factors"),
    [
        ((1, 40), []),
        ((512, 512), []),
        ((513, 600), [2]),
        ((1024, 530), [2]),
        ((1026, 600), [2, 4]),
        ((700, 4500), [2, 4, 8, 16]),
    ],
)
def test_a_map_has_overviews_until_one_fits_a_block(
    tmp_path: Path, shape: tuple[int, int], factors: list[int]
) -> None:
    path = written(tmp_path / "map.tif", speckled((1, *shape), 3), grey_legend(3))
    valid, errors, _ = cog_validate(path, quiet=True)
    assert valid, errors
    with rasterio.open(path) as dataset:
        assert dataset.overviews(1) == factors


@pytest.mark.parametrize("settings", [{}, {"COMPRESS_OVERVIEW": "JPEG", "TIFF_USE_OVR": "YES"}])
def test_an_overview_shows_the_commonest_class_that_it_stands_for(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    classes = speckled((1, 600, 700), 3)
    with rasterio.Env(**settings):
        path = written(tmp_path / "map.tif", classes, grey_legend(3))
    with rasterio.open(path, overview_level=0) as overview:
        shown = overview.read(1)
    assert shown.shape == (300, 350)
    for (row, col), code in np.ndenumerate(shown):
        block = classes[0, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel().tolist()
        counts = Counter(each for each in block if each != NODATA)
        assert counts[code] == max(counts.values()) if counts else code == NODATA


def test_an_overview_of_percentages_shows_their_mean(tmp_path: Path) -> None:
    percent = speckled((2, 600, 700), 101)
    path = written(tmp_path / "scores.tif", percent)
    with rasterio.open(path, overview_level=0) as overview:
        shown = overview.read()
    blocks = percent.reshape(2, 300, 2, 350, 2).transpose(0, 1, 3, 2, 4).reshape(*shown.shape, 4)
    means = np.ma.masked_equal(blocks, NODATA).mean(axis=-1)
    np.testing.assert_array_equal(shown == NODATA, means.mask)
    assert np.abs(np.ma.array(shown, mask=means.mask) - means).max() <= 0.5
