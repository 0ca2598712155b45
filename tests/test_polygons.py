"""Polygons of small rasters against slow, obvious answers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import shapely
from affine import Affine
from conftest import GRIDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from geoseg.grid import Grid
from geoseg.legend import NO_CLASS
from geoseg.vector.polygons import ClassStrip, Generalization, PolygonBatch, trace_polygons

NOWHERE = Affine.identity()
LINES = {
    "outline": Generalization("outline"),
    "middles": Generalization("middles"),
    "smooth": Generalization("smooth"),
    "tolerance 0.3": Generalization(tolerance_m=0.3),
    "tolerance 1": Generalization(tolerance_m=1),
    "tolerance 6": Generalization(tolerance_m=6),
}
NO_CONFIDENCE = np.empty((0, 0), np.float32)

property_test = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@st.composite
def rasters(draw: st.DrawFn) -> np.ndarray:
    """Codes 0 to 3, some without data; single pixels or blocks of them."""
    shape = draw(st.tuples(st.integers(1, 10), st.integers(1, 10)))
    values = draw(st.sampled_from([[0, 1], [0, 1, 2, 3], [0, 1, NO_CLASS]]))
    codes = draw(arrays.arrays(np.int32, shape, elements=st.sampled_from(values)))
    times = draw(st.integers(1, 3))
    return np.repeat(np.repeat(codes, times, 0), times, 1)


def strips(
    codes: np.ndarray, rows: int | None = None, confidence: np.ndarray = NO_CONFIDENCE
) -> Iterator[ClassStrip]:
    rows = rows or len(codes)
    for row in range(0, len(codes), rows):
        part = slice(row, row + rows)
        known = confidence[part] if confidence.size else NO_CONFIDENCE
        yield ClassStrip(codes[part].astype(np.int32), known, row + rows >= len(codes))


def trace(
    codes: np.ndarray,
    line: str = "middles",
    rows: int | None = None,
    grid: Grid | None = None,
    **options: object,
) -> tuple[np.ndarray, np.ndarray, list[PolygonBatch]]:
    """Codes and shapes of all polygons, and the batches that they came in."""
    grid = grid or Grid(None, NOWHERE, codes.shape)
    batches = list(
        trace_polygons(strips(codes, rows), grid, generalization=LINES[line], **options)  # type: ignore[arg-type]
    )
    shapes = np.concatenate([np.empty(0, object), *(batch.shapes for batch in batches)])
    return np.concatenate([[], *(batch.codes for batch in batches)]), shapes, batches


def outlines(codes: np.ndarray) -> list[tuple[int, shapely.Polygon]]:
    """The slow answer: a box a pixel, united patch by patch."""
    found = []
    for code in np.unique(codes[codes != NO_CLASS]):
        labels, count = ndimage.label(codes == code)
        for label in range(1, count + 1):
            rows, cols = np.nonzero(labels == label)
            found.append(
                (int(code), shapely.union_all(shapely.box(cols, rows, cols + 1, rows + 1)))
            )
    return found


@property_test
@given(rasters(), st.integers(1, 12))
def test_outlines_are_the_pixels_united(codes: np.ndarray, rows: int) -> None:
    found_codes, shapes, batches = trace(codes, "outline", rows)
    expected = {(code, shapely.normalize(shape).wkb) for code, shape in outlines(codes)}
    simplified = shapely.normalize(
        shapely.simplify(shapes, 0)
    )  # united boxes keep no straight vertex
    assert len(shapes) == len(expected)
    for code, shape in zip(found_codes, simplified, strict=True):
        assert any(code == other and shape.equals(shapely.from_wkb(wkb)) for other, wkb in expected)
    for batch in batches:
        np.testing.assert_array_equal(batch.pixels, shapely.area(batch.shapes))
        np.testing.assert_allclose(batch.perimeters, shapely.length(batch.shapes))


@pytest.mark.parametrize("line", LINES)
@property_test
@given(codes=rasters(), rows=st.integers(1, 12))
def test_a_coverage_without_gaps_or_overlaps(line: str, codes: np.ndarray, rows: int) -> None:
    _, shapes, _ = trace(codes, line, rows)
    patches = sum(ndimage.label(codes == code)[1] for code in np.unique(codes[codes != NO_CLASS]))
    assert len(shapes) == patches
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    covered = shapely.union_all(shapes).area if len(shapes) else 0
    assert covered == pytest.approx((codes != NO_CLASS).sum(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("line", ["outline", "middles", "smooth"])
@property_test
@given(codes=rasters(), rows=st.integers(1, 12))
def test_strips_leave_no_trace(line: str, codes: np.ndarray, rows: int) -> None:
    whole, in_strips = trace(codes, line)[1], trace(codes, line, rows)[1]
    assert {shape.wkb for shape in shapely.normalize(whole)} == {
        shape.wkb for shape in shapely.normalize(in_strips)
    }


@pytest.mark.parametrize(
    ("line", "most"),
    [("middles", 0.36), ("smooth", 0.36), ("tolerance 1", 1), ("tolerance 6", 6)],
)
@property_test
@given(codes=rasters())
def test_no_border_moves_further_than_said(line: str, most: float, codes: np.ndarray) -> None:
    exact = shapely.boundary(trace(codes, "outline")[1])
    moved = shapely.boundary(trace(codes, line)[1])
    for one, other in zip(exact, moved, strict=True):
        assert shapely.hausdorff_distance(other, one, densify=0.25) <= most + 1e-9


def test_holes_and_islands() -> None:
    codes = np.zeros((9, 9), np.int32)
    codes[1:8, 1:8] = 1
    codes[2:7, 2:7] = 2
    codes[4, 4] = 1
    found, shapes, _ = trace(codes, "outline")
    holes = shapely.get_num_interior_rings(shapes).tolist()
    assert sorted(zip(found.tolist(), holes, strict=True)) == [(0, 1), (1, 0), (1, 1), (2, 1)]


def test_patches_that_touch_themselves_at_corners_are_valid() -> None:
    codes = np.ones((5, 5), np.int32)
    codes[1, 1] = codes[2, 2] = codes[3, 3] = codes[2, 0] = 0
    for line in LINES:
        _, shapes, _ = trace(codes, line)
        assert shapely.is_valid(shapes).all()
        assert shapely.coverage_is_valid(shapes)


@pytest.mark.parametrize("name", GRIDS)
def test_polygons_lie_where_the_grid_says(name: str) -> None:
    crs, transform = GRIDS[name]
    codes = np.random.default_rng(1).integers(0, 3, (20, 30)).repeat(2, 0).repeat(2, 1)
    grid = Grid(crs, transform, codes.shape)
    found, shapes, batches = trace(codes, "outline", grid=grid)
    assert shapely.coverage_is_valid(shapes)
    pixels = np.concatenate([batch.pixels for batch in batches])
    np.testing.assert_allclose(shapely.area(shapes), pixels * abs(transform.determinant), rtol=1e-6)
    inside = shapely.get_coordinates(shapely.point_on_surface(shapes))
    for code, point in zip(found, inside, strict=True):
        col, row = ~transform @ tuple(point)
        assert codes[int(row), int(col)] == code
    assert all(shapely.is_ccw(shapely.get_exterior_ring(shapes)))
    areas = np.concatenate([batch.areas for batch in batches])
    assert areas.sum() == pytest.approx(grid.cell_area_m2().sum(), rel=1e-7)


@pytest.mark.parametrize("name", GRIDS)
def test_perimeters_are_geodesic(name: str) -> None:
    crs, transform = GRIDS[name]
    codes = np.full((60, 60), NO_CLASS, np.int32)
    codes[10:50, 5:45] = 1
    grid = Grid(crs, transform, codes.shape)
    import pyproj

    shape = trace(codes, "outline", grid=grid)[1][0]
    geodetic = pyproj.CRS.from_wkt(crs.to_wkt()).geodetic_crs
    to_geodetic = pyproj.Transformer.from_crs(crs.to_wkt(), geodetic, always_xy=True)
    x, y = to_geodetic.transform(*shapely.get_coordinates(shapely.segmentize(shape, 1e3)).T)
    expected = geodetic.get_geod().line_length(x, y)
    _, _, batches = trace(codes, "outline", grid=grid)
    assert batches[0].perimeters[0] == pytest.approx(expected, rel=1e-5)


def test_true_area_holds_over_a_whole_hemisphere() -> None:
    grid = Grid(GRIDS["geographic"][0], Affine(0.5, 0, -90, 0, -0.5, 80), (320, 360))
    codes = np.random.default_rng(2).integers(0, 2, (40, 45)).repeat(8, 0).repeat(8, 1)
    areas = np.concatenate([batch.areas for batch in trace(codes, grid=grid, rows=50)[2]])
    assert areas.sum() == pytest.approx(grid.cell_area_m2().sum(), rel=1e-6)


def test_confidences_belong_to_their_patches() -> None:
    codes = np.array([[1, 1, 2], [1, 2, 2], [3, 3, 3]], np.int32)
    confidence = np.array([[0.5, 0.7, 1], [0.9, 0.2, np.nan], [np.nan] * 3], np.float32)
    grid = Grid(None, NOWHERE, codes.shape)
    found = {}
    for batch in trace_polygons(strips(codes, 1, confidence), grid):
        rows = zip(batch.codes, batch.confidence_means, batch.confidence_minima, strict=True)
        found |= {int(code): (mean, least) for code, mean, least in rows}
    assert found[1] == pytest.approx((0.7, 0.5))
    assert found[2] == pytest.approx((0.6, 0.2))
    assert np.isnan(found[3]).all()


def test_classes_left_out_leave_the_others_as_they_are() -> None:
    codes = np.random.default_rng(3).integers(0, 4, (12, 12))
    found, shapes, _ = trace(codes)
    some, fewer, _ = trace(codes, classes=frozenset({1, 3}))
    assert set(some) == {1, 3}
    assert {s.wkb for s in fewer} == {
        s.wkb for s, c in zip(shapes, found, strict=True) if c in (1, 3)
    }


def test_a_raster_without_data_has_no_polygons() -> None:
    assert trace(np.full((4, 5), NO_CLASS, np.int32))[2] == []
