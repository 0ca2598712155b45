"""Imagery that nobody here made, where GEOSEG_TEST_DATA names the folder that holds it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

import geoseg
from geoseg.errors import BandError

DATA = Path(os.environ.get("GEOSEG_TEST_DATA", "no-such-folder"))

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="GEOSEG_TEST_DATA names no folder of imagery"
)


def scenes(pattern: str) -> list[Path]:
    return sorted(DATA.glob(pattern))


FITTING = [
    *scenes("s2_landcover/images/*.tif")[::40],
    *scenes("landsat_change_taizhou/Taizhou_200*.tif"),
    *scenes("amazon_forest/images/*.tif")[:1],
    *scenes("chesapeake_naip/train/images/*.tif")[:1],
]
OTHERS = [  # without names, and without blue
    *scenes("naip_prairie_series/*.tif")[:1],
    *scenes("landsat_pucallpa_series/*.tif")[:1],
]


@pytest.mark.parametrize("scene", FITTING, ids=lambda path: path.stem)
def test_scenes_that_fit_the_default_model_are_mapped(scene: Path, tmp_path: Path) -> None:
    made = geoseg.predict(scene, output=tmp_path, gsd=0)
    with rasterio.open(scene) as source, rasterio.open(made.files["classes"]) as classes:
        assert (classes.crs, classes.transform) == (source.crs, source.transform)
        nodata = classes.read(1) == 255
        missing = source.read() == (-1 if source.nodata is None else source.nodata)
        np.testing.assert_array_equal(nodata, missing.any(axis=0))
    assert cog_validate(made.files["classes"], strict=True)[0]
    assert made.summary["assumed"], "no file here says how its values are scaled"


@pytest.mark.parametrize("scene", OTHERS, ids=lambda path: path.stem)
def test_scenes_of_too_few_bands_are_refused(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(BandError, match=r"the model needs the bands .*missing: (blue|red)"):
        geoseg.predict(scene, output=tmp_path)
    assert list(tmp_path.iterdir()) == []
