"""Sample sizes, allocation, designs and drawing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.accuracy.design import Design, MappedClass, Stratum
from geoseg.accuracy.drawing import draw_stratified, draw_systematic, systematic_spacing
from geoseg.accuracy.size import allocate, required_size, required_size_simple
from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.legend import NODATA

WEIGHTS = [0.02, 0.015, 0.32, 0.645]


def test_the_published_sample_size() -> None:
    """Olofsson et al. (2014), section 5.1.1."""
    assert required_size(WEIGHTS, [0.7, 0.6, 0.9, 0.95], 0.01) == 641


def test_the_size_of_a_simple_sample() -> None:
    assert required_size_simple([1], [0.8], 0.02) == 400


@pytest.mark.parametrize(
    ("weights", "users", "error"),
    [([1], [0.8, 0.9], 0.1), ([1], [1.1], 0.1), ([1], [0.8], 0.0), ([0], [0.8], 0.1)],
)
def test_sizes_of_nonsense_are_refused(
    weights: list[float], users: list[float], error: float
) -> None:
    with pytest.raises(InputError):
        required_size(weights, users, error)


def test_allocations() -> None:
    units = [20_000, 15_000, 320_000, 645_000]
    assert allocate(640, units, "proportional").tolist() == [13, 9, 205, 413]
    assert allocate(640, units, "equal").tolist() == [160] * 4
    assert allocate(640, units, "minimum", 75).tolist() == [75, 75, 162, 328]
    assert allocate(640, units).tolist() == [50, 50, 179, 361]
    assert allocate(100, [1, 10_000], "equal").tolist() == [1, 99]
    assert allocate(100, [3, 5], "equal").tolist() == [3, 5]
    with pytest.raises(InputError, match="100 samples cannot give 50 to each of 4 strata"):
        allocate(100, units, "minimum", 50)
    with pytest.raises(InputError, match="goes with --allocation minimum"):
        allocate(100, units, "equal", 50)
    with pytest.raises(InputError, match="below the 2"):
        allocate(100, units, "minimum", 1)
    with pytest.raises(InputError, match="at least one unit"):
        allocate(100, [0, 5])


@given(
    st.lists(st.integers(1, 5_000), min_size=1, max_size=12),
    st.integers(24, 3_000),
    st.sampled_from(["proportional", "equal", "minimum"]),
)
def test_an_allocation_adds_up_and_keeps_its_limits(units: list[int], size: int, how: str) -> None:
    shares = allocate(size, units, how)  # type: ignore[arg-type]
    assert shares.sum() == min(size, sum(units))
    assert (shares <= units).all()
    assert (shares >= np.minimum(2, units)).all()


def strips_of(codes: np.ndarray, height: int) -> Iterator[tuple[Window, np.ndarray]]:
    whole = Window(0, 0, *codes.shape)
    for window in whole.row_strips(height):
        yield window, codes[window.row : window.row_stop]


def strata_of(codes: np.ndarray, samples: int) -> list[Stratum]:
    held, pixels = np.unique(codes[codes != NODATA], return_counts=True)
    return [Stratum(int(c), f"s{c}", int(n), samples) for c, n in zip(held, pixels, strict=True)]


CODES = np.random.default_rng(3).choice([1, 2, 7, NODATA], (90, 70), p=[0.5, 0.05, 0.3, 0.15])


@pytest.mark.parametrize("height", [1, 7, 90])
def test_a_draw_does_not_depend_on_the_strips(height: int) -> None:
    codes = CODES.astype(np.uint8)
    strata = strata_of(codes, 40)
    drawn = draw_stratified(strips_of(codes, height), strata, seed=5)
    again = draw_stratified(strips_of(codes, 13), strata, seed=5)
    assert np.array_equal(drawn.rows, again.rows)
    assert np.array_equal(drawn.cols, again.cols)
    assert np.array_equal(codes[drawn.rows, drawn.cols], drawn.codes)
    assert len(set(zip(drawn.rows.tolist(), drawn.cols.tolist(), strict=True))) == 120
    assert np.bincount(drawn.codes)[[1, 2, 7]].tolist() == [40, 40, 40]
    assert set(drawn.codes[:20].tolist()) == {1, 2, 7}  # in random order, not stratum by stratum
    other = draw_stratified(strips_of(codes, 13), strata, seed=6)
    assert not np.array_equal(drawn.rows, other.rows)


def test_every_pixel_of_a_stratum_has_the_same_chance() -> None:
    codes = np.array([[1, 1, 2, 1], [255, 2, 1, 1]], np.uint8)
    hits = np.zeros(codes.shape)
    strata = [Stratum(1, "a", 5, 2), Stratum(2, "b", 2, 1)]
    for seed in range(3_000):
        drawn = draw_stratified(strips_of(codes, 1), strata, seed)
        hits[drawn.rows, drawn.cols] += 1
    assert hits[codes == NODATA].sum() == 0
    np.testing.assert_allclose(hits[codes == 1] / 3_000, 0.4, atol=0.04)
    np.testing.assert_allclose(hits[codes == 2] / 3_000, 0.5, atol=0.04)


def test_a_systematic_draw_meets_every_pixel_alike() -> None:
    codes = np.zeros((6, 9), np.uint8)
    codes[2, 2] = NODATA
    hits = np.zeros(codes.shape)
    spacing = 2.5
    for seed in range(4_000):
        drawn = draw_systematic(strips_of(codes, 4), codes.shape, spacing, seed)
        hits[drawn.rows, drawn.cols] += 1
    assert hits[2, 2] == 0
    np.testing.assert_allclose(hits[codes == 0] / 4_000, 1 / spacing**2, atol=0.035)


def test_a_systematic_draw_has_about_the_size_asked_for() -> None:
    codes = np.where(CODES == NODATA, NODATA, 0).astype(np.uint8)
    spacing = systematic_spacing(int((codes == 0).sum()), 200)
    sizes = [len(draw_systematic(strips_of(codes, 16), codes.shape, spacing, s).rows)
             for s in range(50)]  # fmt: skip
    assert 190 < np.mean(sizes) < 210
    with pytest.raises(InputError, match="cannot be drawn from 10 pixels"):
        systematic_spacing(10, 11)


def test_a_raster_that_changed_meanwhile_is_noticed() -> None:
    codes = np.ones((10, 10), np.uint8)
    with pytest.raises(InputError, match="changed while it was sampled"):
        draw_stratified(strips_of(codes, 5), [Stratum(1, "a", 5_000, 40)], 0)


def test_drawing_holds_a_strip_not_the_raster() -> None:
    """20,000 x 5,000 pixels that exist only strip by strip."""
    shape, height = (20_000, 5_000), 250
    strip = np.random.default_rng(1).integers(0, 3, (height, shape[1])).astype(np.uint8)
    counts = np.bincount(strip.ravel()) * (shape[0] // height)
    strata = [Stratum(c, f"s{c}", int(n), 300) for c, n in enumerate(counts)]
    strips = ((Window(row, 0, height, shape[1]), strip) for row in range(0, shape[0], height))
    tracemalloc.start()
    drawn = draw_stratified(strips, strata, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(drawn.rows) == 900
    assert peak < shape[0] * shape[1] / 2


def design() -> Design:
    return Design(
        kind="stratified",
        strata=(Stratum(1, "water", 100, 10), Stratum(2, "trees", 300, 20)),
        classes=(MappedClass(1, "water", "#0000ff", 100, 1.0),),
        map_name="map.tif",
        map_sha256="ab",
        seed=3,
        total_hectares=4.0,
    )


def test_a_design_survives_its_json() -> None:
    assert Design.from_json(design().to_json()) == design()
    told = design().to_dict()
    assert told["strata"][0]["weight"] == 0.25
    assert told["strata"][0]["inclusion_probability"] == 0.1
    assert design().samples == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        (design().to_json().replace('"version": 1', '"version": 2'), "version 2"),
        (design().to_json().replace("stratified", "purposive"), "unknown kind"),
        (design().to_json().replace('"samples": 10', '"samples": 101'), "cannot have 101 samples"),
        (design().to_json().replace("trees", "water"), "different names"),
        (design().to_json().replace('"seed"', '"sead"'), "damaged"),
    ],
)
def test_a_damaged_design_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Design.from_json(text)


def test_a_design_needs_strata() -> None:
    with pytest.raises(InputError, match="needs strata"):
        replace(design(), strata=())
