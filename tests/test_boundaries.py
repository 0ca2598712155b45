"""Boundaries matched by brute force: every pixel against every other, in metres."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.accuracy.boundaries import BoundaryCount, BoundaryCounter
from geoseg.errors import InputError
from geoseg.legend import NODATA

AROUND = ((-1, 0), (1, 0), (0, -1), (0, 1))


def slow(
    mapped: np.ndarray, reference: np.ndarray, classes: int, reach: tuple[float, float]
) -> list[list[int]]:
    """(4, K): boundary pixels of the map, matched ones, those of the reference, matched ones."""
    height, width = mapped.shape
    known = {
        (r, c) for r in range(height) for c in range(width)
        if mapped[r, c] != NODATA and reference[r, c] != NODATA
    }  # fmt: skip
    unknown = {(r, c) for r in range(-9, height + 9) for c in range(-9, width + 9)} - known

    def near(a: tuple[int, int], b: tuple[int, int]) -> bool:
        steps = [(x - y) / max(px, 1e-9) for x, y, px in zip(a, b, reach, strict=True)]
        return math.hypot(*steps) <= 1.005

    def boundary(raster: np.ndarray, k: int) -> list[tuple[int, int]]:
        return [
            (r, c) for r, c in known
            if raster[r, c] == k
            and any((r + i, c + j) in known and raster[r + i, c + j] != k for i, j in AROUND)
        ]  # fmt: skip

    counts = [[0] * classes for _ in range(4)]
    for k in range(classes):
        ours, theirs = boundary(mapped, k), boundary(reference, k)
        for row, these, others in ((0, ours, theirs), (2, theirs, ours)):
            judged = [p for p in these if not any(near(p, q) for q in unknown)]
            counts[row][k] = len(judged)
            counts[row + 1][k] = sum(any(near(p, q) for q in others) for p in judged)
    return counts


def fast(
    mapped: np.ndarray,
    reference: np.ndarray,
    classes: int,
    reach: tuple[float, float],
    strip: int = 1000,
) -> BoundaryCount:
    names = [f"c{k}" for k in range(classes)]
    counter = BoundaryCounter(mapped.shape[1], names, reach)
    for row in range(0, len(mapped), strip):
        counter.add(mapped[row : row + strip], reference[row : row + strip])
    return counter.finish()


def told(count: BoundaryCount) -> list[list[int]]:
    every = (count.mapped, count.mapped_matched, count.reference, count.reference_matched)
    return [each.tolist() for each in every]


def blobs(seed: int, shape: tuple[int, int], classes: int, holes: float) -> np.ndarray:
    """Patches of a few pixels, with some that have no class."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (shape[0] // 3 + 1, shape[1] // 3 + 1))
    raster = np.repeat(np.repeat(coarse, 3, 0), 3, 1)[: shape[0], : shape[1]].astype(np.uint8)
    raster[rng.random(shape) < holes] = NODATA
    return raster


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.tuples(st.integers(1, 16), st.integers(1, 18)),
    st.integers(1, 11),
    st.sampled_from([(0, 0), (1, 1), (1.5, 1.5), (2, 2), (1, 2.7), (3.1, 2), (0, 2)]),
    st.sampled_from([0.0, 0.02]),
    st.integers(1, 16),
)  # fmt: skip
def test_against_brute_force_however_strips_are_cut(
    seed: int,
    shape: tuple[int, int],
    classes: int,
    reach: tuple[float, float],
    holes: float,
    strip: int,
) -> None:
    mapped = blobs(seed, shape, classes, holes)
    reference = blobs(seed + 1, shape, classes, holes)
    reference[: shape[0] // 2] = mapped[: shape[0] // 2]
    expected = slow(mapped, reference, classes, reach)
    assert told(fast(mapped, reference, classes, reach, strip)) == expected


def halves(shape: tuple[int, int], at: int) -> np.ndarray:
    return np.where(np.arange(shape[0])[:, None] < at, 0, 1).repeat(shape[1], 1).astype(np.uint8)


@pytest.mark.parametrize(("moved", "expected"), [(0, 1.0), (1, 1.0), (2, 1.0), (3, 0.0), (9, 0.0)])
def test_a_boundary_moved_within_the_tolerance_is_found(moved: int, expected: float) -> None:
    """By hand: two straight boundaries, of which only the distance counts."""
    count = fast(halves((60, 50), 20 + moved), halves((60, 50), 20), 2, (2.0, 2.0), strip=20)
    assert count.f1.tolist() == [expected, expected]
    assert count.mean_f1 == expected
    assert count.mapped.tolist() == [46, 46]  # less two columns at either side of the scene


def test_strips_draw_no_boundaries() -> None:
    one = np.zeros((64, 30), np.uint8)
    count = fast(one, one, 2, (2.0, 2.0), strip=16)
    assert told(count) == [[0, 0]] * 4
    assert np.isnan(count.f1).all()
    assert math.isnan(count.mean_f1)


def test_what_is_unlabelled_draws_no_boundaries() -> None:
    mapped = halves((40, 30), 20)
    reference = np.where(halves((40, 30), 20) == 1, NODATA, 0).astype(np.uint8)
    assert told(fast(mapped, reference, 2, (2.0, 2.0))) == [[0, 0]] * 4
    apart = np.zeros((40, 30), np.uint8)
    apart[18:22] = NODATA
    assert told(fast(mapped, apart, 2, (2.0, 2.0))) == [[0, 0]] * 4


def test_a_class_that_the_map_misses_scores_zero_and_one_that_is_not_there_scores_nothing() -> None:
    reference, blank = halves((40, 30), 20), np.zeros((40, 30), np.uint8)
    missed = fast(blank, reference, 3, (2.0, 2.0))
    np.testing.assert_array_equal(missed.f1, [0.0, 0.0, np.nan])
    assert missed.mean_f1 == 0
    invented = fast(reference, blank, 3, (2.0, 2.0))
    assert np.isnan(invented.f1).all()
    np.testing.assert_array_equal(invented.precision, [0.0, 0.0, np.nan])


@given(st.integers(0, 1000), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_a_larger_tolerance_matches_no_less_of_what_both_judge(seed: int, holes: int) -> None:
    mapped, reference = blobs(seed, (30, 30), 3, holes / 100), blobs(seed + 1, (30, 30), 3, 0.0)
    same = fast(mapped, mapped, 3, (2.0, 2.0))
    known = same.reference > 0
    assert (same.f1[known] == 1).all()
    ours, theirs = fast(mapped, reference, 3, (1.5, 1.5)), fast(reference, mapped, 3, (1.5, 1.5))
    np.testing.assert_array_equal(ours.f1, theirs.f1)
    np.testing.assert_array_equal(ours.precision, theirs.recall)


@pytest.mark.parametrize("px", [-1.0, 101.0, math.nan, math.inf])
def test_tolerances_that_make_no_sense_are_refused(px: float) -> None:
    with pytest.raises(InputError, match="boundary tolerance"):
        BoundaryCounter(10, ["a"], (px, px))
