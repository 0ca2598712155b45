"""The plan of chips: every pixel once, on the stride, with halo or the scene's own edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.raster.chips import FITTED_PX, ChipPlan


@st.composite
def plans(draw: st.DrawFn) -> ChipPlan:
    stride = draw(st.sampled_from([1, 2, 4, 8]))
    halo = stride * draw(st.integers(0, 4))
    chip = 2 * halo + stride * draw(st.integers(1, 8))
    shape = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    return ChipPlan(shape, chip, halo, stride, fitted=draw(st.booleans()))


@given(plans())
def test_a_plan_covers_every_pixel_once(plan: ChipPlan) -> None:
    seen = np.zeros(plan.shape, int)
    for planned in plan:
        seen[planned.core.within(Window(0, 0, *plan.shape))] += 1
    assert (seen == 1).all()
    assert len(plan) == len(list(plan))


@given(plans())
def test_chips_keep_to_the_stride_and_inside_the_padded_scene(plan: ChipPlan) -> None:
    padded = [-(-size // plan.stride) * plan.stride for size in plan.shape]
    for planned in plan:
        window = planned.window
        assert window.shape == plan.chip_shape
        assert window.row % plan.stride == window.col % plan.stride == 0
        assert planned.core.row % plan.stride == planned.core.col % plan.stride == 0
        assert Window(0, 0, *padded).contains(window)


@given(plans())
def test_a_kept_pixel_is_a_halo_away_from_every_edge_that_is_not_the_scenes(
    plan: ChipPlan,
) -> None:
    padded = [-(-size // plan.stride) * plan.stride for size in plan.shape]
    for planned in plan:
        window, core = planned.window, planned.core
        assert window.row == 0 or core.row - window.row >= plan.halo_px
        assert window.col == 0 or core.col - window.col >= plan.halo_px
        assert window.row_stop == padded[0] or window.row_stop - core.row_stop >= plan.halo_px
        assert window.col_stop == padded[1] or window.col_stop - core.col_stop >= plan.halo_px


@given(st.integers(1, 3000), st.integers(0, 3), st.integers(1, 16), st.sampled_from([1, 2, 32]))
def test_fitted_chips_are_the_smallest_of_their_number(
    size: int, halo: int, core: int, stride: int
) -> None:
    halo_px, chip_px = FITTED_PX * halo, FITTED_PX * (2 * halo + core)

    def count(side: int) -> int:
        return ChipPlan((size, 1), side, halo_px, stride).row_count

    plan = ChipPlan((size, 1), chip_px, halo_px, stride, fitted=True)
    assert plan.row_count == count(chip_px)
    if plan.row_count > 1:
        sides = range(2 * halo_px + FITTED_PX, chip_px + 1, FITTED_PX)
        assert plan.chip_shape[0] == next(each for each in sides if count(each) == count(chip_px))


@pytest.mark.parametrize(("chip", "halo"), [(60, 8), (64, 12), (64, 32), (64, -8), (0, 0)])
def test_chips_that_cannot_be_are_refused(chip: int, halo: int) -> None:
    with pytest.raises(InputError):
        ChipPlan((100, 100), chip, halo, 8)
