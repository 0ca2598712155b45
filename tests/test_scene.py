"""Every kind of raster becomes the same pixels and the same `valid`."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from conftest import GRIDS, NORTH_UP, UTM
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from geoseg.errors import BandError, InputError, SceneError
from geoseg.grid import Grid, Window
from geoseg.raster.align import ResampledScene
from geoseg.raster.opening import open_scene
from geoseg.raster.scene import Chip, Reading

Write = Callable[..., Path]

ROWS, COLS = 37, 53
HOLE = (slice(5, 9), slice(11, 20))


def values(dtype: str) -> np.ndarray:
    """Two bands whose pixels say where they are."""
    rows, cols = np.mgrid[:ROWS, :COLS]
    return np.stack([rows + 1, cols + 1]).astype(dtype)


def read(path: Path, window: Window | None = None, **said: object) -> Chip:
    reading = Reading(**said)  # type: ignore[arg-type]
    with open_scene(path, ("red", "nir"), units="stored", reading=reading) as scene:
        return scene.read(window or scene.grid.window)


def nodata_value(write: Write, dtype: str) -> Path:
    pixels = values(dtype)
    pixels[0][HOLE] = 99  # one band is enough
    return write(pixels, nodata=99, descriptions=("red", "nir"))


def nan_pixels(write: Write, dtype: str) -> Path:
    pixels = values("float32")
    pixels[1][HOLE] = np.nan
    return write(pixels, descriptions=("red", "nir"))


def infinite_pixels(write: Write, dtype: str) -> Path:
    pixels = values("float64")
    pixels[1][HOLE] = -np.inf
    return write(pixels, descriptions=("red", "nir"))


def nan_nodata(write: Write, dtype: str) -> Path:
    pixels = values("float32")
    pixels[:, *HOLE] = np.nan
    return write(pixels, nodata=np.nan, descriptions=("red", "nir"))


def alpha_band(write: Write, dtype: str) -> Path:
    alpha = np.full((1, ROWS, COLS), 255, dtype)
    alpha[0][HOLE] = 0
    path = write(np.concatenate([values(dtype), alpha]), descriptions=("red", "nir", None))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha]
    return path


def mask_band(write: Write, dtype: str) -> Path:
    mask = np.full((ROWS, COLS), 255, "uint8")
    mask[HOLE] = 0
    return write(values(dtype), mask=mask, descriptions=("red", "nir"))


def told_nodata(write: Write, dtype: str) -> Path:
    pixels = values(dtype)
    pixels[0][HOLE] = 99
    return write(pixels, descriptions=("red", "nir"))


KINDS = [nodata_value, nan_pixels, infinite_pixels, nan_nodata, alpha_band, mask_band, told_nodata]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_nodata_becomes_one_valid(
    write_scene: Write, kind: Callable[[Write, str], Path], dtype: str
) -> None:
    said = {"nodata": 99} if kind is told_nodata else {}
    chip = read(kind(write_scene, dtype), **said)
    expected = np.ones((ROWS, COLS), bool)
    expected[HOLE] = False
    np.testing.assert_array_equal(chip.valid, expected)
    np.testing.assert_array_equal(chip.pixels, np.where(expected, values("float32"), 0))


@pytest.mark.parametrize("window", [Window(-4, -5, 20, 20), Window(30, 40, 20, 30)])
def test_a_window_beyond_the_edge_is_invalid_there(write_scene: Write, window: Window) -> None:
    chip = read(write_scene(values("uint8"), descriptions=("red", "nir")), window)
    rows = np.arange(window.row, window.row_stop)
    cols = np.arange(window.col, window.col_stop)
    inside = ((rows >= 0) & (rows < ROWS))[:, None] & ((cols >= 0) & (cols < COLS))
    np.testing.assert_array_equal(chip.valid, inside)
    np.testing.assert_array_equal(chip.pixels[0], np.where(inside, rows[:, None] + 1, 0))
    np.testing.assert_array_equal(chip.pixels[1], np.where(inside, cols + 1, 0))


def test_a_nir_band_marked_as_alpha_is_data(write_scene: Write) -> None:
    """As in NAIP files whose fourth band GDAL takes for an alpha band."""
    path = write_scene(values("uint8"), descriptions=("red", "nir"))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    assert read(path).valid.all()


def test_scale_and_offset_of_the_file_are_applied(write_scene: Write) -> None:
    path = write_scene(values("uint16"), descriptions=("red", "nir"), scale=0.01)
    with open_scene(path, ("nir",)) as scene:
        chip = scene.read(scene.grid.window)
        assert scene.assumed == ()
    np.testing.assert_allclose(chip.pixels[0], values("float32")[1] * 0.01, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "factor", "said"),
    [("uint16", 1e-4, "x 10000"), ("uint8", 1 / 255, "8-bit"), ("float32", 1, "0-1")],
)
def test_what_is_assumed_of_unscaled_values_is_said(
    write_scene: Write, dtype: str, factor: float, said: str
) -> None:
    pixels = values(dtype) if dtype != "float32" else values(dtype) / 100
    path = write_scene(pixels, descriptions=("red", "nir"))
    with open_scene(path, ("red", "nir")) as scene:
        chip = scene.read(scene.grid.window)
        assert any(said in sentence for sentence in scene.assumed)
    np.testing.assert_allclose(chip.pixels, pixels * np.float32(factor), rtol=1e-6)


def test_a_forgotten_scale_is_refused(write_scene: Write) -> None:
    path = write_scene(values("float32") * 100, descriptions=("red", "nir"))
    with pytest.raises(SceneError, match="--scale"), open_scene(path, ("red",)):
        pass
    with open_scene(path, ("red",), reading=Reading(scale=1e-4)) as scene:
        assert scene.read(Window(0, 0, 1, 1)).pixels[0, 0, 0] == pytest.approx(0.01)


def test_values_stored_in_another_type_than_the_model_knows_are_refused(write_scene: Write) -> None:
    path = write_scene(values("uint16"), descriptions=("red", "nir"))
    opening = open_scene(path, ("red",), units="stored", stored_type="uint8")
    with pytest.raises(SceneError, match=r"uint16 values.*trained on uint8"), opening:
        pass


def test_threads_at_a_time_read_through_handles_of_their_own(write_scene: Write) -> None:
    path = write_scene(values("uint8"), descriptions=("red", "nir"), blockysize=1)
    ready = threading.Barrier(4)
    with open_scene(path, ("red", "nir"), units="stored") as scene:

        def rows(start: int) -> bool:
            ready.wait()
            return all(
                (scene.read(Window(row, 0, 1, COLS)).pixels[0] == row + 1).all()
                for row in [*range(start, ROWS), *range(start)]
            )

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(rows, range(4)))
        at_once = len(scene._source._idle)  # type: ignore[attr-defined]
        assert 1 <= at_once <= 4
        for _ in range(20):  # as many epochs of a training
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(scene.read, Window(0, 0, 1, COLS)).result().valid.all()
        assert len(scene._source._idle) == at_once  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", GRIDS)
def test_half_the_gsd_repeats_and_twice_averages(write_scene: Write, name: str) -> None:
    """Doubling a mean over 2 x 2 pixels, on every kind of grid, against plain numpy."""
    crs, transform = GRIDS[name]
    pixels = np.random.default_rng(1).integers(1, 200, (2, 40, 60)).astype("uint8")
    path = write_scene(pixels, crs=crs, transform=transform, descriptions=("red", "nir"))
    with open_scene(path, ("red", "nir"), units="stored") as scene:
        coarse = ResampledScene(scene, scene.grid.rescale(2))
        chip = coarse.read(coarse.grid.window)
        blocks = pixels.reshape(2, 20, 2, 30, 2).mean(axis=(2, 4))
        np.testing.assert_allclose(chip.pixels, blocks, rtol=1e-5)
        assert chip.valid.all()
        part = coarse.read(Window(3, 5, 7, 9))
        np.testing.assert_array_equal(part.pixels, chip.pixels[:, 3:10, 5:14])


def test_resampling_keeps_a_ramp_and_its_hole_in_place(write_scene: Write) -> None:
    """Interpolating a linear ramp gives the ramp; windows agree with the whole."""
    rows, cols = np.mgrid[:60, :80].astype("float32")
    ramp = np.stack([10 + rows, 10 + cols])
    ramp[:, 20:30, 30:50] = np.nan
    path = write_scene(ramp, descriptions=("red", "nir"))
    with open_scene(path, ("red", "nir"), units="stored") as scene:
        fine = ResampledScene(scene, Grid(UTM, NORTH_UP @ Affine.scale(0.4), (150, 200)))
        whole = fine.read(fine.grid.window)
        part = fine.read(Window(33, 41, 60, 90))
    y, x = (np.arange(n) * 0.4 + 0.2 - 0.5 for n in (150, 200))
    inner = (slice(3, 40), slice(3, 60))
    np.testing.assert_allclose(
        whole.pixels[0][inner], (10 + y)[3:40, None].repeat(57, 1), atol=1e-3
    )
    np.testing.assert_allclose(
        whole.pixels[1][inner], (10 + x)[None, 3:60].repeat(37, 0), atol=1e-3
    )
    hole = ~whole.valid[3:-3, 3:-3]
    assert hole.mean() == pytest.approx(25 * 50 / (144 * 194), rel=0.1)
    assert not whole.valid[52:73, 77:123].any()
    np.testing.assert_array_equal(part.valid, whole.valid[33:93, 41:131])
    np.testing.assert_allclose(part.pixels, whole.pixels[:, 33:93, 41:131], atol=1e-4)


@pytest.mark.parametrize("factor", [0.3, 1.3, 1.77, 1.99, 3.7])
def test_one_window_or_many_resampling_is_the_same(write_scene: Write, factor: float) -> None:
    pixels = np.random.default_rng(3).random((2, 700, 700)).astype("float32")
    pixels[:, 100:130, 200:290] = np.nan
    path = write_scene(pixels, descriptions=("red", "nir"))
    with open_scene(path, ("red", "nir"), units="stored") as scene:
        resampled = ResampledScene(scene, scene.grid.rescale(factor))
        whole = resampled.read(resampled.grid.window)
        for window in (Window(3, 5, 40, 60), Window(100, 90, 64, 64), Window(80, 1, 33, 120)):
            part = resampled.read(window)
            place = window.within(resampled.grid.window)
            np.testing.assert_allclose(part.pixels, whole.pixels[:, *place], atol=1e-5)
            np.testing.assert_array_equal(part.valid, whole.valid[place])


def test_a_pixel_at_the_far_edge_is_valid_when_half_of_it_is_there(write_scene: Write) -> None:
    path = write_scene(np.ones((2, 38, 31), "uint8"), descriptions=("red", "nir"))
    with open_scene(path, ("red", "nir"), units="stored") as scene:
        coarse = ResampledScene(scene, scene.grid.rescale(4))
        valid = coarse.read(coarse.grid.window).valid
    assert valid.shape == (10, 8)
    assert valid[-1, :-1].all(), "2 of 4 rows are there"
    assert valid[:-1, -1].all(), "3 of 4 columns are there"
    assert not valid[-1, -1], "6 of 16 pixels are there"
    with open_scene(path, ("red", "nir"), units="stored") as scene:
        coarse = ResampledScene(scene, scene.grid.rescale(6))
        valid = coarse.read(coarse.grid.window).valid
    assert not valid[-1].any(), "2 of 6 rows are there"
    assert not valid[:, -1].any(), "1 of 6 columns is there"


def test_a_far_finer_scene_is_read_in_parts(write_scene: Write) -> None:
    rows, cols = np.mgrid[:3000, :3000]
    path = write_scene(np.stack([rows, cols]).astype("uint16"), descriptions=("red", "nir"))
    with open_scene(path, ("red", "nir"), units="stored") as scene:
        sizes: list[int] = []

        class Watched:
            name, grid, bands, assumed = scene.name, scene.grid, scene.bands, scene.assumed

            def read(self, window: Window) -> Chip:
                sizes.append(window.height * window.width)
                return scene.read(window)

        coarse = ResampledScene(Watched(), scene.grid.rescale(30))
        chip = coarse.read(coarse.grid.window)
    np.testing.assert_allclose(chip.pixels[0, :, 0], np.arange(100) * 30 + 14.5, atol=0.01)
    np.testing.assert_allclose(chip.pixels[1, 0], np.arange(100) * 30 + 14.5, atol=0.01)
    assert len(sizes) > 1
    assert max(sizes) <= 1 << 22


def test_a_told_scale_keeps_the_files_offset(write_scene: Write) -> None:
    path = write_scene(values("uint16"), descriptions=("red", "nir"), scale=0.5)
    with rasterio.open(path, "r+") as dataset:
        dataset.offsets = (-0.1, -0.1)
    with open_scene(path, ("red",), reading=Reading(scale=0.01)) as scene:
        assert scene.read(Window(2, 0, 1, 1)).pixels[0, 0, 0] == pytest.approx(0.03 - 0.1)
    with open_scene(path, ("red",), units="stored", reading=Reading(offset=7)) as scene:
        assert scene.read(Window(2, 0, 1, 1)).pixels[0, 0, 0] == pytest.approx(1.5 + 7)
    for said in ({"scale": np.nan}, {"scale": 0}, {"offset": np.inf}, {"nodata": np.nan}):
        opening = open_scene(path, ("red",), reading=Reading(**said))
        with pytest.raises(InputError, match="--"), opening:
            pass


def test_values_that_no_float32_holds_are_invalid(write_scene: Write) -> None:
    pixels = values("float64") / 100
    pixels[1][HOLE] = -1.797e308
    path = write_scene(pixels, descriptions=("red", "nir"))
    chip = read(path)
    assert not chip.valid[HOLE].any()
    assert chip.valid.sum() == ROWS * COLS - 36
    assert np.isfinite(chip.pixels).all()


def test_an_undeclared_nodata_value_is_asked_about(write_scene: Write) -> None:
    pixels = values("float32") / 100
    pixels[:, 15:20, 20:30] = -9999
    path = write_scene(pixels, descriptions=("red", "nir"))
    with pytest.raises(SceneError, match="--nodata"), open_scene(path, ("red", "nir")):
        pass


def test_a_band_told_to_be_nir_is_no_alpha(write_scene: Write) -> None:
    four = np.concatenate([values("uint8"), values("uint8")])
    four[3] = 0
    path = write_scene(four)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [*[ColorInterp.undefined] * 3, ColorInterp.alpha]
    reading = Reading(sensor="naip")
    with open_scene(path, ("red",), units="stored", reading=reading) as scene:
        assert scene.read(scene.grid.window).valid.all()


def test_pictures_and_unplaced_scenes_are_refused(write_scene: Write) -> None:
    path = write_scene(values("uint8")[:1], "palette.tif", photometric="palette")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {1: (255, 0, 0)})
    with pytest.raises(SceneError, match="palette colours"):
        open_scene(path, ("red",)).__enter__()
    points = [GroundControlPoint(r, c, 15 + c / 1e4, 45 - r / 1e4) for r, c in
              ((0, 0), (0, 50), (30, 0), (30, 50))]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = write_scene(values("uint8"), "gcps.tif", crs=None, transform=None)
        with rasterio.open(path, "r+") as dataset:
            dataset.gcps = (points, "EPSG:4326")
    with pytest.raises(SceneError, match="gdalwarp"):
        open_scene(path, ("red",)).__enter__()


@pytest.mark.parametrize("ending", [".msk", ".ovr"])
def test_a_sidecar_that_is_no_tiff_is_refused(write_scene: Write, ending: str) -> None:
    """GDAL would open a VRT of that name, and read from wherever it points."""
    path = write_scene(values("uint8"), descriptions=("red", "nir"))
    path.with_name(path.name + ending).write_text("<VRTDataset/>")
    with pytest.raises(SceneError, match="not what its name says"):
        open_scene(path, ("red",)).__enter__()


def test_a_note_that_points_to_another_file_is_refused(write_scene: Write) -> None:
    path = write_scene(values("uint8"), descriptions=("red", "nir"))
    path.with_name(path.name + ".aux.xml").write_text(
        '<PAMDataset><Metadata domain="OVERVIEWS">'
        '<MDI key="OVERVIEW_FILE">/etc/elsewhere</MDI></Metadata></PAMDataset>'
    )
    with pytest.raises(SceneError, match="points to another file"):
        open_scene(path, ("red",)).__enter__()


def test_a_closed_scene_reads_no_more(write_scene: Write) -> None:
    path = write_scene(values("uint8"), descriptions=("red", "nir"))
    with open_scene(path, ("red",), units="stored") as scene:
        pass
    with pytest.raises(SceneError, match="closed"):
        scene.read(Window(0, 0, 1, 1))


def test_missing_bands_name_the_option(write_scene: Write) -> None:
    path = write_scene(values("uint8"))
    with pytest.raises(BandError, match="--bands red=1,nir=2"), open_scene(path, ("red", "nir")):
        pass
    with open_scene(path, ("nir",), units="stored", reading=Reading(bands="nir=2")) as scene:
        assert scene.read(Window(0, 3, 1, 1)).pixels[0, 0, 0] == 4
