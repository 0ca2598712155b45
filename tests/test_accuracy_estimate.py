"""The estimators against the worked examples that their authors published."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.accuracy.estimate import Estimate, estimate, estimate_strata
from geoseg.accuracy.matrix import ErrorMatrix, count_pairs
from geoseg.accuracy.strata import merge_strata
from geoseg.errors import InputError

OLOFSSON_2014 = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
WEIGHTS_2014 = [0.020, 0.015, 0.320, 0.645]


def published(found: Estimate, digits: int) -> tuple[float, float]:
    """The value and 1.96 standard errors, rounded as printed."""
    return round(found.value, digits), round(1.96 * found.standard_error, digits)


def test_olofsson_2014() -> None:
    found = estimate(OLOFSSON_2014, WEIGHTS_2014, 900_000)
    assert published(found.overall, 5) == (0.94651, 0.01848)
    assert [published(each.users, 5) for each in found.classes] == [
        (0.88000, 0.07404),
        (0.73333, 0.10076),
        (0.92727, 0.03975),
        (0.96308, 0.02053),
    ]
    assert [published(each.producers, 5) for each in found.classes] == [
        (0.74866, 0.21331),
        (0.84716, 0.25441),
        (0.93451, 0.03432),
        (0.96161, 0.01836),
    ]
    assert [published(each.area, 1) for each in found.classes] == [
        (21_157.8, 6_157.6),
        (11_686.2, 3_755.8),
        (285_769.9, 15_509.8),
        (581_386.2, 16_281.7),
    ]


def test_olofsson_2013() -> None:
    pixels = [22_353, 1_122_543, 610_228]
    found = estimate([[97, 0, 3], [3, 279, 18], [2, 1, 97]], pixels, sum(pixels))
    area = found.classes[0].area
    assert (round(area.value, 1), round(area.standard_error, 1)) == (45_112.4, 10_751.4)
    assert round(found.overall.value, 5) == 0.94442
    assert round(found.classes[0].producers.value, 5) == 0.48063


def stehman_2014() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    stratum = np.repeat([0, 1, 2, 3], 10)
    mapped = ["ABCD".index(c) for c in "AAAAAAABBBABBBBBBBBBBBCCCCCCBBDDDDDDDDDD"]
    reference = ["ABCD".index(c) for c in "AAAAACBABCABBBBBAABBCCCCCDDBBADDDDDDDCCB"]
    return stratum, np.array(mapped), np.array(reference)


STRATA_SIZES_2014 = [40_000, 30_000, 20_000, 10_000]


@pytest.mark.parametrize("sizes", [None, STRATA_SIZES_2014], ids=["without N", "with N"])
def test_stehman_2014(sizes: list[int] | None) -> None:
    found = estimate_strata(*stehman_2014(), STRATA_SIZES_2014, names="ABCD", strata_sizes=sizes)
    a, b, c, _ = found.classes
    for figure, value, error, digits in (
        (a.share, 0.35, 0.082, 2),
        (c.share, 0.20, 0.064, 2),
        (found.overall, 0.63, 0.085, 2),
        (b.users, 0.574, 0.125, 3),
    ):
        assert round(figure.value, digits) == value
        assert round(figure.standard_error, 3) == error
    assert round(b.producers.value, 3) == 0.794
    assert found.proportions.entries[1, 2] == pytest.approx(0.08)


def test_stehman_2014_prints_an_error_of_three_strata() -> None:
    """The paper's .114 is its own formula without the fourth stratum's term; with it, .117."""
    stratum, mapped, reference = stehman_2014()
    found = estimate_strata(stratum, mapped, reference, STRATA_SIZES_2014, names="ABCD")
    b = found.classes[1].producers
    is_b = 1.0 * (reference == 1)
    residual = is_b * (mapped == 1) - b.value * is_b
    terms = [
        (size / 100_000) ** 2 * residual[stratum == h].var(ddof=1) / 10
        for h, size in enumerate(STRATA_SIZES_2014)
    ]
    share = found.classes[1].share.value
    assert round(math.sqrt(sum(terms[:3])) / share, 3) == 0.114
    assert b.standard_error == pytest.approx(math.sqrt(sum(terms)) / share)
    assert round(b.standard_error, 3) == 0.117


def olofsson_by_hand(counts: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Equations 5 to 11 of Olofsson et al. (2014), written out."""
    drawn = counts.sum(axis=1, keepdims=True)
    within = counts / drawn
    shares = weights[:, None] * within
    columns = shares.sum(axis=0)
    users = within.diagonal()
    with np.errstate(invalid="ignore", divide="ignore"):
        producers = shares.diagonal() / columns
    scatter = within * (1 - within) / (drawn - 1)
    own = weights**2 * (1 - producers) ** 2 * users * (1 - users) / (drawn[:, 0] - 1)
    others = (weights**2)[:, None] * scatter
    np.fill_diagonal(others, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        producers_error = np.sqrt(own + producers**2 * others.sum(axis=0)) / columns
    return {
        "users": users,
        "users_error": np.sqrt(users * (1 - users) / (drawn[:, 0] - 1)),
        "producers": producers,
        "producers_error": producers_error,
        "share": columns,
        "share_error": np.sqrt(((weights**2)[:, None] * scatter).sum(axis=0)),
        "overall": np.array([shares.trace()]),
        "overall_error": np.array([math.sqrt(weights**2 @ scatter.diagonal())]),
    }


@st.composite
def matrices(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    k = draw(st.integers(2, 5))
    entries = draw(st.lists(st.integers(0, 40), min_size=k * k, max_size=k * k))
    counts = np.array(entries, float).reshape(k, k) + 2 * np.eye(k)
    weights = np.array(draw(st.lists(st.floats(0.01, 1), min_size=k, max_size=k)))
    return counts, weights / weights.sum()


@settings(max_examples=60, deadline=None)
@given(matrices())
def test_strata_that_are_the_classes_give_olofsson_s_estimators(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    counts, weights = case
    found, expected = estimate(counts, weights), olofsson_by_hand(counts, weights)
    for what in ("users", "producers", "share"):
        figures = [getattr(each, what) for each in found.classes]
        values = [figure.value for figure in figures]
        errors = [figure.standard_error for figure in figures]
        np.testing.assert_allclose(values, expected[what], atol=1e-12)
        np.testing.assert_allclose(errors, expected[f"{what}_error"], atol=1e-12)
    np.testing.assert_allclose(found.overall.value, expected["overall"][0])
    np.testing.assert_allclose(
        found.overall.standard_error, expected["overall_error"][0], atol=1e-12
    )
    mapped, reference = (np.repeat(i, counts.ravel().astype(int)) for i in
                         np.indices(counts.shape).reshape(2, -1))  # fmt: skip
    sizes = np.full(len(mapped), 7.5)
    names = [f"c{i}" for i in range(len(counts))]
    again = estimate_strata(mapped, mapped, reference, weights, names=names, unit_sizes=sizes)
    assert again.overall.value == pytest.approx(found.overall.value)
    assert again.overall.standard_error == pytest.approx(found.overall.standard_error, abs=1e-12)


def test_a_class_that_nobody_saw_has_no_accuracy() -> None:
    found = estimate([[5, 1, 0], [1, 6, 0], [1, 1, 0]], [0.5, 0.3, 0.2], names=["a", "b", "c"])
    ghost = found.by_name("c")
    assert math.isnan(ghost.producers.value)
    assert ghost.users.value == 0
    assert found.counts.absent == ("c",)
    assert found.counts.mean_iou == pytest.approx(found.counts.iou[:2].mean())
    assert found.counts.to_dict()["classes"]["c"]["producers"] is None
    with pytest.raises(InputError, match="no class is called 'd'"):
        found.by_name("d")


def test_a_stratum_looked_at_in_full_has_no_error() -> None:
    stratum, mapped, reference = np.array([0, 0, 1]), np.array([0, 0, 1]), np.array([0, 1, 1])
    found = estimate_strata(
        stratum, mapped, reference, [2, 1], names="ab", strata_sizes=[2, 1], total_area=3
    )
    assert found.overall.standard_error == 0
    assert found.overall.value == pytest.approx(2 / 3)


def test_units_of_different_size_count_by_their_size() -> None:
    zeros = np.zeros(4, int)
    reference = np.array([0, 0, 1, 1])
    found = estimate_strata(
        zeros, zeros, reference, [1], names="ab", unit_sizes=[1, 1, 3, 3], total_area=80
    )
    assert found.by_name("b").area.value == pytest.approx(60)


def test_merged_strata_keep_what_their_samples_stand_for() -> None:
    stratum = np.array([0] * 10 + [1] * 10 + [2])
    mapped = stratum.copy()
    reference = stratum.copy()
    reference[:3] = 1
    weights = np.array([0.6, 0.3, 0.1])
    merged = merge_strata(stratum, weights, [(1, 2)])
    assert merged.weights.tolist() == pytest.approx([0.6, 0.4])
    found = estimate_strata(
        merged.stratum, mapped, reference, merged.weights, names="abc", unit_sizes=merged.factors
    )
    assert found.by_name("c").share.value == pytest.approx(0.1)
    assert found.by_name("a").share.value == pytest.approx(0.6 * 0.7)


@pytest.mark.parametrize(
    ("matrix", "weights", "message"),
    [
        ([[5, 0], [1, 0]], [0.5, 0.5], "stratum '2' has 1 labelled sample;"),
        ([[5, 0], [0, 0]], [0.5, 0.5], "stratum '2' has no labelled samples"),
        ([[5, 0.5], [0, 5]], [0.5, 0.5], "whole counts"),
        ([[5, 0, 1], [0, 5, 1]], [0.5, 0.5], "must be square"),
        ([[5, 1], [1, 5]], [0.5, 0.0], "must be positive"),
        ([[5, 1], [1, 5]], [1.0], "not one of the 1 that have a weight"),
    ],
)
def test_what_cannot_be_estimated_is_refused(
    matrix: list[list[float]], weights: list[float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        estimate(matrix, weights)


def test_senseless_options_are_refused() -> None:
    with pytest.raises(InputError, match="confidence level of 95"):
        estimate(OLOFSSON_2014, WEIGHTS_2014, confidence=95)
    with pytest.raises(InputError, match="total area of 0"):
        estimate(OLOFSSON_2014, WEIGHTS_2014, 0)
    with pytest.raises(InputError, match="negative or missing"):
        ErrorMatrix(("a",), np.array([[np.nan]]))
    with pytest.raises(InputError, match="cannot have the shape"):
        ErrorMatrix(("a",), np.ones((2, 2)))
    with pytest.raises(InputError, match="a reference class is not one of the 2"):
        count_pairs(np.array([0]), np.array([2]), "ab")


def test_matrices_add_up() -> None:
    one = count_pairs(np.array([0, 1, 1]), np.array([0, 1, 0]), "ab")
    assert (one + one).entries.tolist() == [[2, 0], [2, 2]]
    assert one.overall == pytest.approx(2 / 3)
    assert one.iou.tolist() == pytest.approx([0.5, 0.5])
    assert one.f1.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert one.total == 3
    assert math.isnan(ErrorMatrix(("a",), np.zeros((1, 1))).overall)


def made_map() -> tuple[np.ndarray, np.ndarray]:
    """A map of 4, 16 and 80 % whose every pixel has a true class, (N,) each."""
    rng = np.random.default_rng(20261122)
    mapped = np.repeat([0, 1, 2], [8_000, 32_000, 160_000])
    chances = np.array([[0.80, 0.10, 0.10], [0.08, 0.85, 0.07], [0.03, 0.05, 0.92]])
    reached = chances.cumsum(axis=1)[mapped]
    return mapped, (rng.random(len(mapped))[:, None] > reached).sum(axis=1)


def test_intervals_cover_the_truth_and_pixel_counting_does_not() -> None:
    """2,000 stratified samples of a made map: 95 % intervals cover in 93 to 97 % of them."""
    mapped, reference = made_map()
    population = count_pairs(mapped, reference, "abc")
    truth, weights = population.support / population.total, population.mapped / population.total
    rng, runs, drawn = np.random.default_rng(8), 2_000, (150, 150, 500)
    inside = np.zeros(4)
    for _ in range(runs):
        counts = [
            rng.multivariate_hypergeometric(row, n)
            for row, n in zip(population.entries.astype(int), drawn, strict=True)
        ]
        found = estimate(counts, weights)
        figures = [*(each.share for each in found.classes), found.overall]
        goals = [*truth, population.overall]
        inside += [f.low <= goal <= f.high for f, goal in zip(figures, goals, strict=True)]
    covered, bias = inside / runs, weights / truth - 1
    print(f"covered: {covered}; pixel counting is off by {np.round(100 * bias, 1)} %")
    assert (covered >= 0.93).all()
    assert (covered <= 0.97).all()
    assert bias[0] < -0.3  # counting pixels misses a third of the rare class, in every sample
