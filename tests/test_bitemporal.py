"""Each step between two scenes and a change map, against something that computes it otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.special
from affine import Affine
from conftest import NORTH_UP, UTM, grey_legend
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from scipy import ndimage

from geoseg.bitemporal.alteration import Comparison, fit_alteration
from geoseg.bitemporal.connection import ConnectedChange
from geoseg.bitemporal.context import REACH_PX, SAY, in_context, with_halo
from geoseg.bitemporal.dates import find_date
from geoseg.bitemporal.draft import Differences, Draft
from geoseg.bitemporal.mixture import judge
from geoseg.bitemporal.pair import StoredRange, open_pair, shared_bands
from geoseg.bitemporal.registration import measure_shift
from geoseg.bitemporal.semantic import WantedTransitions, compare_classes
from geoseg.errors import BandError, InputError, SceneError
from geoseg.grid import Grid, Window
from geoseg.legend import NODATA
from geoseg.raster.scene import Reading
from geoseg.raster.stitch import Strip

Write = Callable[..., Path]


def texture(shape: tuple[int, int], seed: int = 0, bands: int = 2) -> np.ndarray:
    """Smooth noise, float (bands, H, W) around 100."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((bands, *shape))
    return 100 + 60 * ndimage.gaussian_filter(noise, (0, 2, 2), mode="wrap")


# --- where both scenes lie -----------------------------------------------------------------------


def write_ramp(write_scene: Write, name: str, crs: CRS, transform: Affine, size: int) -> Path:
    """A scene whose two bands hold easting and northing in UTM 33, whatever its own grid."""
    import pyproj

    grid = Grid(crs, transform, (size, size))
    cols, rows = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    x, y = grid.to_map(cols, rows)
    if crs != UTM:
        x, y = pyproj.Transformer.from_crs(crs, UTM, always_xy=True).transform(x, y)
    pixels = np.stack([x - 500_000, y - 5_000_000]).astype("float64")
    return write_scene(pixels, name, crs=crs, transform=transform, descriptions=("red", "nir"))


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (UTM, NORTH_UP),
        (UTM, NORTH_UP @ Affine.translation(3, -2)),
        (UTM, NORTH_UP @ Affine.translation(7.3, 2.8) @ Affine.rotation(20)),
        (UTM, NORTH_UP @ Affine.scale(0.4)),
        (CRS.from_epsg(4326), Affine(9e-5, 0, 15.0002, 0, -9e-5, 45.1534)),
        (CRS.from_epsg(32634), Affine(10, 0, 27_000, 0, -10, 5_016_000)),
    ],
    ids=["the same", "moved", "rotated", "finer", "geographic", "next zone"],
)
def test_scenes_of_any_grid_meet_on_that_of_the_coarser(
    write_scene: Write, crs: CRS, transform: Affine
) -> None:
    before = write_ramp(write_scene, "before.tif", UTM, NORTH_UP, 60)
    after = write_ramp(write_scene, "after.tif", crs, transform, 150)
    if crs != UTM:  # made to overlap the first scene, wherever that is in this CRS
        import pyproj

        x, y = pyproj.Transformer.from_crs(UTM, crs, always_xy=True).transform(500_300, 4_999_700)
        t = transform
        moved = Affine(t.a, t.b, x - 75 * t.a, t.d, t.e, y - 75 * t.e)
        after = write_ramp(write_scene, "after.tif", crs, moved, 150)
    with open_pair(before, after, ("red", "nir")) as pair:
        chip = pair.read(pair.grid.window)
        finest = min(Grid(UTM, NORTH_UP, (1, 1)).gsd_m or 0, pair.grid.gsd_m or 0)
        assert (pair.grid.gsd_m or 0) >= finest
    assert chip.valid.mean() > 0.3
    inner = ndimage.binary_erosion(chip.valid, iterations=2)
    assert inner.any()
    away = np.abs(chip.before - chip.after)[:, inner]  # metres
    assert away.max() < 0.6


def test_scenes_that_do_not_meet_are_refused(write_scene: Write) -> None:
    pixels = texture((40, 40)).astype("uint16")
    named = {"descriptions": ("red", "nir")}
    before = write_scene(pixels, "before.tif", **named)
    far = write_scene(pixels, "far.tif", transform=NORTH_UP @ Affine.translation(1000, 0), **named)
    with (
        pytest.raises(SceneError, match="do not overlap"),
        open_pair(before, far, ("red", "nir")),
    ):
        pass
    nowhere = write_scene(pixels, "nowhere.tif", crs=None, **named)
    with (
        pytest.raises(SceneError, match="one has a CRS, the other has none"),
        open_pair(before, nowhere, ("red", "nir")),
    ):
        pass


def test_bands_are_matched_by_name_or_by_order_but_never_mixed(write_scene: Write) -> None:
    pixels = texture((8, 8), bands=3).astype("uint16")
    one = write_scene(pixels, "one.tif", descriptions=("blue", "red", "nir"))
    other = write_scene(pixels, "other.tif", descriptions=("nir", "red", "swir16"))
    plain, plainer = write_scene(pixels, "plain.tif"), write_scene(pixels[:2], "plainer.tif")
    bands, assumed = shared_bands(one, other, Reading())
    assert bands == ("red", "nir")
    assert "red nir" in assumed[0]
    assert shared_bands(plain, plain, Reading())[0] is None
    for pair in ((one, plain), (plain, plainer)):
        with pytest.raises(BandError, match="--bands"):
            shared_bands(*pair, Reading())
    assert shared_bands(plain, plainer, Reading(bands="red=1,nir=2"))[0] == ("red", "nir")


@pytest.mark.parametrize("name", ["S2A_MSIL1C_20240305T101021_T33TWM.tif", "lake-2024-03-05.tif"])
def test_dates_come_from_metadata_then_from_the_name(name: str) -> None:
    assert find_date(name, {}, None).day == "2024-03-05"
    assert find_date(name, {"TIFFTAG_DATETIME": "2025:01:01 00:00:00"}, None).day == "2024-03-05"
    by_tag = find_date(name, {"Acquisition_Date": "2023-12-31"}, None)
    assert (by_tag.day, by_tag.told) == ("2023-12-31", False)
    assert "metadata" in by_tag.assumed[0]
    assert find_date(name, {}, "2020-02-29").day == "2020-02-29"
    assert find_date("taizhou_2003.tif", {}, None).day is None
    with pytest.raises(InputError, match="YYYY-MM-DD"):
        find_date(name, {}, "5.3.2024")


# --- how far they are shifted --------------------------------------------------------------------


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -2), (0.4, -0.3), (5.5, 2.25), (-40, 30)])
def test_a_known_shift_is_found_whatever_the_contrast(
    write_scene: Write, shift: tuple[float, float]
) -> None:
    pixels = texture((300, 300))
    moved = np.fft.ifft2(ndimage.fourier_shift(np.fft.fft2(pixels), (0, *shift))).real
    before = write_scene(pixels, "before.tif", descriptions=("red", "nir"))
    after = write_scene(500 - 1.7 * moved, "after.tif", descriptions=("red", "nir"))
    with open_pair(before, after, ("red", "nir")) as pair:
        found = measure_shift(pair)
        back = measure_shift(pair.shifted(*shift))
    assert found is not None
    assert back is not None
    assert (found.rows, found.cols) == pytest.approx(shift, abs=0.05)
    assert (back.rows, back.cols) == pytest.approx((0, 0), abs=0.06)
    assert 0.5 < found.quality <= 1


def test_nothing_alike_gives_no_shift(write_scene: Write) -> None:
    named = {"descriptions": ("red", "nir")}
    flat = write_scene(np.full((2, 300, 300), 7, "uint8"), "flat.tif", **named)
    one, other = (write_scene(texture((300, 300), s), f"{s}.tif", **named) for s in (1, 2))
    for before, after in ((flat, one), (one, other)):
        with open_pair(before, after, ("red", "nir")) as pair:
            assert measure_shift(pair) is None


# --- how unlike they are -------------------------------------------------------------------------


def correlated(count: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((3, count))
    one = rng.standard_normal((3, 3)) @ common + 0.3 * rng.standard_normal((3, count))
    other = rng.standard_normal((3, 3)) @ common + 0.3 * rng.standard_normal((3, count)) + 5
    return one.astype(np.float32), other.astype(np.float32)


def test_canonical_correlations_are_those_of_whitened_data() -> None:
    before, after = correlated()
    found = fit_alteration(before, after)
    statistic = found.statistic(before, after) * found.scale
    weights = scipy.special.chdtrc(3, statistic.astype(float) / found.scale)

    def whitened(pixels: np.ndarray) -> np.ndarray:
        centred = pixels - np.average(pixels, axis=1, weights=weights)[:, None]
        covariance = np.cov(centred, aweights=weights, bias=True)
        return np.asarray(np.linalg.inv(scipy.linalg.sqrtm(covariance)) @ centred)

    one, other = whitened(before), whitened(after)
    expected = np.linalg.svd((one * weights) @ other.T / weights.sum(), compute_uv=False)
    assert sorted(found.correlations, reverse=True) == pytest.approx(expected, abs=2e-3)
    assert found.converged


def test_without_change_the_statistic_is_chi_square() -> None:
    before, after = correlated(200_000)
    found = fit_alteration(before, after)
    shares = scipy.special.chdtr(3, found.statistic(before, after).astype(float))
    assert np.histogram(shares, 10, (0, 1))[0] / 20_000 == pytest.approx(np.ones(10), abs=0.15)


@pytest.mark.parametrize("comparison", ["irmad", "cva"])
def test_gains_and_offsets_change_nothing(comparison: Comparison) -> None:
    before, after = correlated()
    gains = np.array([[0.3], [2.0], [7.0]])
    same = fit_alteration(before, after, comparison=comparison)
    other = fit_alteration(gains * before - 3, after * gains[::-1] + 11, comparison=comparison)
    found = other.statistic(
        (gains * before - 3).astype("f4"), (after * gains[::-1] + 11).astype("f4")
    )
    assert found == pytest.approx(same.statistic(before, after), rel=0.02, abs=0.02)


def test_any_mixture_of_bands_is_as_good() -> None:
    before, after = correlated()
    mixed = (np.array([[1.0, 2, 0], [0, 1, -1], [3, 0, 1]]) @ after).astype("f4")
    found = fit_alteration(before, mixed).statistic(before, mixed)
    expected = fit_alteration(before, after).statistic(before, after)
    assert np.quantile(np.abs(found - expected) / (1 + expected), 0.99) < 0.05


def test_what_was_cut_off_at_the_end_of_the_range_is_no_change() -> None:
    rng = np.random.default_rng(0)
    before = rng.uniform(20, 240, (3, 5000)).round().astype("f4")
    after = np.minimum(np.rint(before * 1.2 + 30), 255).astype("f4")
    byte = StoredRange(1, 0, 255)
    assert (after == 255).mean() > 0.1
    assert fit_alteration(before, after, (byte, byte)).statistic(before, after).max() < 5
    assert fit_alteration(before, after).statistic(before, after).max() > 100


def test_too_few_pixels_say_nothing() -> None:
    with pytest.raises(SceneError, match="too few"):
        fit_alteration(np.ones((2, 20), "f4"), np.ones((2, 20), "f4"))


# --- what of that is change ----------------------------------------------------------------------

BINS = np.arange(20_000) / 1000


def counted(values: np.ndarray) -> np.ndarray:
    return np.bincount(np.rint(values * 1000).astype(int), minlength=len(BINS))


def test_a_mixture_is_taken_apart() -> None:
    rng = np.random.default_rng(0)
    unchanged = np.cbrt(rng.chisquare(4, 90_000))
    changed = rng.normal(5, 0.8, 10_000)
    verdict = judge(counted(np.concatenate((unchanged, changed))), BINS, 4)
    assert verdict.changed_share == pytest.approx(0.1, abs=0.01)
    assert verdict.changed == pytest.approx((5, 0.8), abs=0.05)
    even = BINS[np.searchsorted(verdict.log_odds, 0)]
    wrong = (unchanged >= even).mean(), (changed < even).mean()
    assert max(wrong) < 0.03
    assert (np.diff(verdict.log_odds) >= 0).all()


@pytest.mark.parametrize("variates", [1, 4, 12])
def test_chance_alone_makes_no_core(variates: int) -> None:
    rng = np.random.default_rng(1)
    for scale in (0.1, 1.0):
        values = np.cbrt(scale * rng.chisquare(variates, 300_000))
        assert judge(counted(values), BINS, variates).changed_share == 0


def test_neighbours_have_the_say_they_are_given() -> None:
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 3, (9, 11)).astype("f4")
    valid = rng.random((9, 11)) < 0.8
    now = odds.astype(float)
    for _ in range(REACH_PX):
        probable = 1 / (1 + np.exp(-now))
        following = np.full_like(now, np.nan)
        for row in range(1, 8):
            for col in range(1, 10):
                say = 0.0
                for down in (-1, 0, 1):
                    for across in (-1, 0, 1):
                        place = row + down, col + across
                        if (down or across) and valid[place]:
                            say += SAY / 8 * (2 * probable[place] - 1)
                following[row, col] = odds[row, col] + say
        now = following
    rim = slice(REACH_PX, -REACH_PX)
    expected = 1 / (1 + np.exp(-now[rim, rim]))
    assert in_context(odds, valid) == pytest.approx(expected, abs=1e-5)


def test_a_thin_road_stays_and_does_not_grow() -> None:
    odds = np.full((40, 40), -4.0, "f4")
    road = np.zeros((40, 40), bool)
    road[np.arange(5, 35), np.arange(5, 35)] = True
    odds[road] = 6
    padded = np.pad(odds, REACH_PX, constant_values=-4)
    changed = in_context(padded, np.ones_like(padded, bool)) > 0.5
    assert (changed == road).all()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_strips_with_halo_are_parts_of_the_whole(heights: list[int], px: int) -> None:
    heights = [max(px, height) for height in heights]
    whole = np.arange(sum(heights) * 7, dtype=np.uint16).reshape(-1, 7)
    padded = np.pad(whole, px, constant_values=9999)
    starts = np.cumsum([0, *heights])
    windows = [
        Window(int(start), 0, height, 7) for start, height in zip(starts, heights, strict=False)
    ]
    strips = ((w, whole[w.row : w.row_stop]) for w in windows)
    for window, plane in with_halo(strips, px, 9999):
        assert (plane == padded[window.row : window.row_stop + 2 * px]).all()


class Planes:
    """Findings from whole arrays, cut into strips."""

    def __init__(self, rim: np.ndarray, core: np.ndarray, heights: list[int]) -> None:
        self._rim, self._core, self._heights = rim, core, heights

    def strips(self) -> Iterator[Differences]:
        row = 0
        for height in self._heights:
            rows = slice(row, row + height)
            zero = np.zeros(self._rim[rows].shape, np.uint8)
            window = Window(row, 0, *zero.shape)
            yield Differences(window, zero, self._rim[rows], self._core[rows], zero, zero, zero)
            row += height

    def facts(self) -> dict[str, Any]:
        return {}


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 9), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_rims_count_where_they_hang_together_with_a_core(seed: int, heights: list[int]) -> None:
    rng = np.random.default_rng(seed)
    shape = sum(heights), int(rng.integers(1, 15))
    rim = rng.random(shape) < rng.uniform(0.2, 0.7)
    core = rng.random(shape) < 0.05
    changed = [kept for _, kept in ConnectedChange(Planes(rim, core, heights)).strips()]
    expected = ndimage.binary_propagation(core & rim, np.ones((3, 3)), mask=rim)
    assert (np.concatenate(changed) == expected).all()


# --- what a model says ---------------------------------------------------------------------------


def strip_of(percent: np.ndarray) -> Strip:
    """A strip with these scores, (K, H, W)."""
    window, empty = Window(0, 0, *percent.shape[1:]), np.zeros(percent.shape[1:], np.uint8)
    return Strip(window, empty, empty, percent.astype(np.uint8))


def compared(tmp_path: Path, one: np.ndarray, other: np.ndarray, **wanted: Any) -> Differences:
    legend = grey_legend(len(one))
    draft = Draft(tmp_path / "draft", Grid(None, NORTH_UP, one.shape[1:]), 4, np.uint8)
    chosen = WantedTransitions.of(legend, **wanted)
    strips = [(strip_of(one), strip_of(other))]
    (found,) = compare_classes(strips, legend, chosen, draft).strips()
    return found


def test_the_least_change_is_that_of_the_best_coupling(tmp_path: Path) -> None:
    """A linear program finds the joint distribution that changes least."""
    rng = np.random.default_rng(0)
    p, q = (rng.dirichlet(np.full(3, 0.6), 12) * 100 for _ in range(2))
    before, after = (np.rint(each).T.reshape(3, 1, 12) for each in (p, q))
    found = compared(tmp_path, before, after)
    cost = (1 - np.eye(3)).ravel()
    sums = np.array([np.kron(np.eye(3)[k], np.ones(3)) for k in range(3)]
                    + [np.kron(np.ones(3), np.eye(3)[k]) for k in range(3)])  # fmt: skip
    for pixel in range(12):
        squares = (each[:, 0, pixel] ** 2 for each in (before, after))
        one, other = (each / each.sum() for each in squares)
        best = scipy.optimize.linprog(cost, A_eq=sums, b_eq=np.concatenate((one, other)))
        assert found.probability[0, pixel] == pytest.approx(100 * best.fun, abs=0.51)


def test_from_and_to_are_what_was_lost_and_gained(tmp_path: Path) -> None:
    before = np.array([80, 15, 5, 80, 10, 10, 100, 0, 0]).reshape(3, 3).T[:, None]
    after = np.array([10, 15, 75, 80, 10, 10, 0, 100, 0]).reshape(3, 3).T[:, None]
    found = compared(tmp_path, before, after)
    assert found.probability.tolist() == [[95, 0, 100]]  # 1 - (0.017 + 0.034 + 0.004)
    assert (found.before[0, 0], found.after[0, 0]) == (0, 2)
    assert (found.before[0, 2], found.after[0, 2]) == (0, 1)
    assert found.stable[0, 1] == 0
    assert found.core.tolist() == [[True, False, True]]
    only = compared(tmp_path, before, after, after=["c1"])
    assert only.rim.tolist() == [[False, False, True]]
    with pytest.raises(InputError, match="itself"):
        compared(tmp_path, before, after, before=["c1"], after=[1])
    with pytest.raises(InputError, match="no class"):
        compared(tmp_path, before, after, before=["swamp"])


def test_pixels_without_data_on_either_date_stay_so(tmp_path: Path) -> None:
    before, after = np.full((2, 2, 3), 50), np.full((2, 2, 3), 50)
    before[:, 0, 0], after[:, 1, 2] = NODATA, NODATA
    found = compared(tmp_path, before, after)
    for plane in (found.probability, found.stable, found.before, found.after):
        assert (plane == NODATA).tolist() == [[True, False, False], [False, False, True]]
