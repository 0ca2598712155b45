"""Class weights by hand, and what holds for all of them."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InputError
from geoseg.training.class_weights import WeightScheme, absent_classes, class_weights

SCHEMES = get_args(WeightScheme)
COUNTS = [800, 150, 50]

BY_HAND = {
    "none": [1, 1, 1],
    "inverse": [1 / 0.8, 1 / 0.15, 1 / 0.05],
    "sqrt_inverse": [0.8**-0.5, 0.15**-0.5, 0.05**-0.5],
    "median_frequency": [0.15 / 0.8, 1.0, 3.0],
    "enet": [1 / math.log(1.82), 1 / math.log(1.17), 1 / math.log(1.07)],
    "effective_number": [1e-3 / (1 - 0.999**n) for n in COUNTS],
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_by_hand(scheme: WeightScheme) -> None:
    found = class_weights(COUNTS, scheme, cap=None, beta=0.999)
    raw = np.array(BY_HAND[scheme])
    np.testing.assert_allclose(found / found[0], raw / raw[0], rtol=1e-9)
    assert (found * COUNTS).sum() / 1000 == pytest.approx(1)


def test_median_frequency_looks_only_at_images_that_hold_the_class() -> None:
    """Class 1 fills 10 of the 100 pixels of the only image that holds it, of 1000 in all."""
    images = [[90, 10, 0], [500, 0, 400]]
    frequency = np.array([590 / 1000, 10 / 100, 400 / 900])
    expected = np.median(frequency) / frequency
    found = class_weights(images, "median_frequency", cap=None)
    np.testing.assert_allclose(found / found[0], expected / expected[0])
    summed = class_weights(np.sum(images, axis=0), "median_frequency", cap=None)
    np.testing.assert_allclose(summed, class_weights(images, "inverse", cap=None))


def test_effective_number_goes_from_none_to_inverse() -> None:
    """Cui et al. 2019, section 3: beta = 0 is no re-weighting, beta -> 1 is by inverse number."""
    flat = class_weights(COUNTS, "effective_number", beta=0.0)
    np.testing.assert_allclose(flat, 1)
    steep = class_weights(COUNTS, "effective_number", beta=1 - 1e-12, cap=None)
    np.testing.assert_allclose(steep, class_weights(COUNTS, "inverse", cap=None), rtol=1e-3)
    many = class_weights([10**9, 10**7], "effective_number", beta=0.999)
    np.testing.assert_allclose(many, 1)


def test_real_land_cover_is_capped() -> None:
    """600:1 and more; nothing weighs more than ten times another."""
    counts = [6_000_000, 900_000, 10_000]
    uncapped = class_weights(counts, "inverse", cap=None)
    assert uncapped.max() / uncapped.min() == pytest.approx(600)
    capped = class_weights(counts, "inverse")
    assert capped.max() / capped.min() == pytest.approx(10)
    assert class_weights(counts, "inverse", cap=1).tolist() == pytest.approx([1, 1, 1])


counts = st.lists(st.integers(0, 10**9), min_size=1, max_size=12).filter(any)


@given(counts, st.sampled_from(SCHEMES), st.floats(1, 1000))
def test_what_holds_for_all(counts: list[int], scheme: WeightScheme, cap: float) -> None:
    found = class_weights(counts, scheme, cap=cap)
    pixels = np.array(counts)
    present = pixels > 0
    assert np.isfinite(found).all()
    assert ((found > 0) == present).all()
    assert (found * pixels).sum() / pixels.sum() == pytest.approx(1)
    assert found.max() <= cap * found[present].min() * (1 + 1e-9)
    order = np.argsort(pixels[present])
    assert (np.diff(found[present][order]) <= 1e-9 * found.max()).all()  # rarer weighs more


@given(counts, st.sampled_from([s for s in SCHEMES if s != "effective_number"]))
def test_twice_the_pixels_weigh_the_same(counts: list[int], scheme: WeightScheme) -> None:
    doubled = class_weights([2 * n for n in counts], scheme)
    np.testing.assert_allclose(doubled, class_weights(counts, scheme))


def test_classes_without_pixels_are_told() -> None:
    assert class_weights([10, 0, 10], "inverse").tolist() == [1, 0, 1]
    assert absent_classes([[10, 0, 0], [10, 0, 1]], ["a", "b", "c"]) == ("b",)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([0, 0], {}, "no pixel is labelled"),
        ([1, -1], {}, "negative or missing"),
        ([1, math.nan], {}, "negative or missing"),
        (np.ones((1, 1, 1)), {}, r"\(K,\) or \(images, K\)"),
        ([1, 1], {"cap": 0.5}, "cap of 0.5"),
        ([1, 1], {"cap": math.nan}, "cap of nan"),
        ([1, 1], {"beta": 1.0}, "beta of 1"),
        ([1, 1], {"scheme": "sqrt"}, "there are none, inverse, sqrt_inverse"),
    ],
)
def test_what_makes_no_sense_is_refused(counts: object, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        class_weights(counts, **({"scheme": "inverse"} | options))  # type: ignore[arg-type]
