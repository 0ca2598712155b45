"""Calibration error by hand, and what must hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.accuracy.calibration import Calibration, count_confidences
from geoseg.errors import InputError


def test_by_hand() -> None:
    """Ten pixels at 95 %, nine right; ten at 60 %, three right: (0.05 + 0.3) / 2."""
    percent = np.array([95] * 10 + [60] * 10, np.uint8)
    right = np.array([True] * 9 + [False] + [True] * 3 + [False] * 7)
    found = count_confidences(percent, right)
    assert found.expected_error() == pytest.approx((0.05 + 0.3) / 2)
    assert found.pixels == 20
    filled = [b for b in found.bins() if b.pixels]
    assert [(b.pixels, b.confidence, b.accuracy) for b in filled] == [
        (10, pytest.approx(0.6), pytest.approx(0.3)),
        (10, pytest.approx(0.95), pytest.approx(0.9)),
    ]
    assert all(b.low < b.confidence <= b.high for b in filled)
    assert all(math.isnan(b.accuracy) for b in found.bins() if not b.pixels)


def slow_error(percent: np.ndarray, right: np.ndarray, bins: int) -> float:
    """Guo et al.'s definition: bins ((m - 1) / M, m / M], 0 in the first."""
    total = 0.0
    for m in range(1, bins + 1):
        inside = [
            i for i, p in enumerate(percent.tolist())
            if (m - 1) * 100 < p * bins <= m * 100 or (p == 0 and m == 1)
        ]  # fmt: skip
        if inside:
            accuracy = np.mean(right[inside])
            total += len(inside) / len(percent) * abs(accuracy - np.mean(percent[inside]) / 100)
    return total


pixels = st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1, max_size=60)


@given(pixels, st.sampled_from([1, 7, 10, 15, 20]))
def test_against_the_definition(given_pixels: list[tuple[int, bool]], bins: int) -> None:
    percent, right = (np.array(each) for each in zip(*given_pixels, strict=True))
    found = count_confidences(percent, right).expected_error(bins)
    assert found == pytest.approx(slow_error(percent, right, bins), abs=1e-12)


@given(pixels, st.integers(0, 60))
def test_parts_add_up(given_pixels: list[tuple[int, bool]], cut: int) -> None:
    percent, right = (np.array(each) for each in zip(*given_pixels, strict=True))
    whole = count_confidences(percent, right)
    parts = count_confidences(percent[:cut], right[:cut]) + count_confidences(
        percent[cut:], right[cut:]
    )
    assert parts.expected_error() == whole.expected_error()
    assert sum(b.pixels for b in parts.bins()) == len(percent)


def test_nothing_has_no_error() -> None:
    found = count_confidences(np.zeros(0, np.uint8), np.zeros(0, bool))
    assert math.isnan(found.expected_error())


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="0 to 100 percent"):
        count_confidences(np.array([255]), np.array([True]))
    with pytest.raises(InputError, match="each percent"):
        Calibration(np.zeros(3, np.int64), np.zeros(101, np.int64))
