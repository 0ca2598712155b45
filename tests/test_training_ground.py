"""What is learnt from what: ground, surveys, splits, samplers, variants, torchgeo's view of it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_ground import CLASSES, grid_at, make_scene, recipe_of, write_raster
from rasterio.crs import CRS

from geoseg.errors import InputError, LegendError, SceneError
from geoseg.grid import Grid, Window
from geoseg.legend import NODATA
from geoseg.raster.opening import open_scene
from geoseg.soft_labels import open_soft_labels
from geoseg.training.augment import Variation, resize, vary
from geoseg.training.datasets import AheadLoader, LabelledGround
from geoseg.training.ground import Ground, find_pairs, open_grounds
from geoseg.training.samplers import (
    ChipPlace,
    GriddedChips,
    RandomChips,
    RareClassChips,
    class_probabilities,
    countable,
    covering_chips,
)
from geoseg.training.splits import Area, Split, check_apart, split_grounds
from geoseg.training.survey import CELL_PX, GroundSurvey, band_statistics, survey, survey_grounds


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        make_scene(tmp_path, f"s{number}", grid_at(number), seed=number)
    return tmp_path


def opened(stack: ExitStack, folder: Path, **more: Any) -> list[Ground]:
    recipe = recipe_of(folder, **more)
    return stack.enter_context(open_grounds(recipe, find_pairs(recipe)))


def counted(labels: np.ndarray) -> GroundSurvey:
    """A survey of labels alone, cell by cell."""
    rows, cols = (-(-size // CELL_PX) for size in labels.shape)
    cells = np.zeros((rows, cols, 3), np.int32)
    for row, col in np.argwhere(labels != NODATA):
        cells[row // CELL_PX, col // CELL_PX, labels[row, col]] += 1
    return GroundSurvey(cells, 1, np.zeros(1), np.ones(1), np.zeros((1, 2)))


def test_ground_in_memory_is_ground_on_disk(folder: Path) -> None:
    with ExitStack() as stack:
        on_disk = opened(stack, folder, cache_mb=0)[0]
        in_memory = opened(stack, folder)[0]
        assert type(on_disk) is not type(in_memory)
        for window in (Window(-5, -7, 40, 30), Window(80, 100, 64, 64), Window(10, 10, 5, 5)):
            a, b = on_disk.read(window), in_memory.read(window)
            for what in ("pixels", "labels", "valid"):
                np.testing.assert_array_equal(getattr(a, what), getattr(b, what))


def test_labels_are_places_in_the_legend_and_nothing_where_invalid(folder: Path) -> None:
    labels = make_scene(folder, "s0", grid_at(0))
    with ExitStack() as stack:
        chip = opened(stack, folder)[0].read(Window(0, 0, 96, 128))
    expected = np.where(labels == 0, NODATA, labels - 1)
    expected[-6:, :10] = NODATA
    np.testing.assert_array_equal(chip.labels, expected)
    assert not chip.valid[-6:, :10].any()
    assert chip.valid[:-6].all()


def test_what_is_kept_apart_is_not_counted() -> None:
    labels = np.zeros((128, 128), np.uint8)
    labels[:, 64:] = 1
    labels[:40, 96:] = 2
    whole, kept = Window(0, 0, 128, 128), Window(0, 96, 40, 32)
    surveys = [counted(labels), counted(labels)]
    counts = countable([Area(0, whole, (kept,)), Area(1, whole)], surveys)
    assert counts[1].tolist() == [64 * 128, 64 * 128 - 40 * 32, 40 * 32]
    assert counts[0].tolist() == [64 * 128, 64 * 128 - 64 * 32, 0]  # a cell is counted whole


def test_a_survey_counts_what_is_there(folder: Path) -> None:
    with ExitStack() as stack:
        ground = opened(stack, folder)[1]
        found, whole = survey(ground, 3, 2), ground.read(ground.grid.window)
    np.testing.assert_array_equal(found.cells, counted(whole.labels).cells)
    values = whole.pixels[:, whole.valid].astype(np.float64)
    assert found.valid_px == values.shape[1]
    np.testing.assert_allclose(found.mean, values.mean(axis=1))
    np.testing.assert_allclose(found.variance, values.var(axis=1))


def test_statistics_of_many_are_those_of_all_pixels_together() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(i, 1 + i, (2, 50 * (i + 1))) for i in range(4)]
    no_values = np.zeros((2, 2))
    surveys = [
        GroundSurvey(
            np.zeros((1, 1, 2), np.int32), p.shape[1], p.mean(axis=1), p.var(axis=1), no_values
        )
        for p in parts
    ]
    mean, stddev = band_statistics(surveys, 2)
    together = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(mean, together.mean(axis=1))
    np.testing.assert_allclose(stddev, together.std(axis=1))


def test_ground_is_surveyed_once_until_its_labels_change(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(folder)
    pairs = find_pairs(recipe)
    with open_grounds(recipe, pairs) as grounds:
        first = survey_grounds(recipe, pairs, grounds)

    def never(*_: object) -> GroundSurvey:
        raise AssertionError("surveyed again")

    monkeypatch.setattr("geoseg.training.survey.survey", never)
    with open_grounds(recipe, pairs) as grounds:
        again = survey_grounds(recipe, pairs, grounds)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a.cells, b.cells)
        with pytest.raises(AssertionError):  # another legend is another survey
            survey_grounds(recipe_of(folder, classes=CLASSES | {4: "x"}), pairs, grounds)
    make_scene(folder, "s2", grid_at(2), seed=9)
    with open_grounds(recipe, pairs) as grounds, pytest.raises(AssertionError):
        survey_grounds(recipe, pairs, grounds)


def test_labels_that_say_nothing_or_too_much_are_refused(folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    make_scene(bare, "a", grid_at(0), labels=np.zeros((96, 128), np.uint8))
    recipe = recipe_of(bare)
    pairs = find_pairs(recipe)
    with open_grounds(recipe, pairs) as grounds, pytest.raises(InputError, match="not one valid"):
        survey_grounds(recipe, pairs, grounds)
    few = recipe_of(folder, classes={1: "dark", 2: "bright"}, cache_mb=0)
    with (
        open_grounds(few, find_pairs(few)) as grounds,
        pytest.raises(LegendError, match="code 3"),
    ):
        survey_grounds(few, find_pairs(few), grounds)
    with pytest.raises(InputError, match=r"no scenes are called .*pictures/\*\.tif"):
        find_pairs(recipe_of(folder, scenes="pictures/*.tif"))


def test_scenes_are_read_at_the_gsd_asked_for(folder: Path) -> None:
    with ExitStack() as stack:
        ground = opened(stack, folder, gsd_m=20)[0]
        assert (
            np.abs(np.subtract(ground.grid.shape, (48, 64))).max() <= 1
        )  # UTM is not true to scale
        assert any("resampled" in said for said in ground.assumed)
        assert any("nearest taken" in said for said in ground.assumed)
        labels = ground.read(ground.grid.window).labels
    assert (labels[4:14, 2:30] == 0).all()
    assert (labels[4:14, 34:60] == 1).all()


def split(folder: Path, **more: Any) -> tuple[Split, list[Grid]]:
    recipe = recipe_of(folder, **more)
    pairs = find_pairs(recipe)
    with open_grounds(recipe, pairs) as grounds:
        surveys = survey_grounds(recipe, pairs, grounds)
        return split_grounds(recipe, pairs, grounds, surveys, 20), [each.grid for each in grounds]


def test_whole_scenes_are_kept_apart(folder: Path) -> None:
    found, _ = split(folder, validation=0.25, test=0.25)
    parts = [[area.ground for area in part] for part in (found.train, found.validation, found.test)]
    assert sorted(number for part in parts for number in part) == [0, 1, 2, 3]
    assert [len(part) for part in parts] == [2, 1, 1]
    folds = [split(folder, folds=4, fold=i)[0].validation[0].ground for i in range(4)]
    assert sorted(folds) == [0, 1, 2, 3]
    only = folder / "only"
    make_scene(only, "a", grid_at(0))
    with pytest.raises(InputError, match="split: blocks"):
        split(only)


def test_scenes_may_be_kept_apart_by_name(folder: Path) -> None:
    told = {"scenes": ["images/s0.tif", "images/s1.tif"], "labels": "labels/s[01].tif"}
    kept = {"validation_scenes": "images/s2.tif", "validation_labels": "labels/s2.tif"}
    test = {"test_scenes": "images/s3.tif", "test_labels": "labels/s3.tif"}
    found, _ = split(folder, **told, **kept, **test)
    parts = [[area.ground for area in part] for part in (found.train, found.validation, found.test)]
    assert parts == [[0, 1], [2], [3]]
    with pytest.raises(InputError, match="go together"):
        recipe_of(folder, test_scenes="images/s3.tif")
    with pytest.raises(InputError, match="kept apart"):  # what is learnt from cannot be
        split(folder, **kept)


def test_scenes_that_overlap_cannot_be_kept_apart_as_scenes(tmp_path: Path) -> None:
    make_scene(tmp_path, "may", grid_at(0))
    make_scene(tmp_path, "june", Grid(grid_at(0).crs, grid_at(0).transform, (96, 128)))
    with pytest.raises(InputError, match=r"lie in .*split: blocks"):
        split(tmp_path, validation=0.5)


def test_neighbours_that_share_an_edge_do_not_overlap(tmp_path: Path) -> None:
    left = grid_at(0)
    make_scene(tmp_path, "left", left)
    make_scene(tmp_path, "right", left.crop(Window(0, 128, 96, 128)))
    found, _ = split(tmp_path, validation=0.5)
    assert len(found.train) == len(found.validation) == 1


def test_blocks_are_kept_apart_on_the_ground_in_every_scene(tmp_path: Path) -> None:
    shape = (320, 320)
    labels = np.random.default_rng(0).integers(1, 4, shape).astype(np.uint8)
    first = Grid(grid_at(0).crs, grid_at(0).transform, shape)
    turned = Grid(
        first.crs, first.transform @ Affine.translation(40, 8) @ Affine.rotation(20), shape
    )
    geographic = Grid(CRS.from_epsg(4326), Affine(1.2e-4, 0, 13.73, 0, -9e-5, 45.146), shape)
    for name, grid in (("a", first), ("b", turned), ("c", geographic)):
        make_scene(tmp_path, name, grid, labels=labels)
    found, grids = split(
        tmp_path, split="blocks", block_px=64, validation=0.04, test=0.02, buffer_px=24
    )
    kept = [*found.validation, *found.test]
    assert found.validation
    assert found.test
    inside: list[np.ndarray] = []
    for area in kept:  # pixel centres of what is kept apart, on the ground of each other scene
        window, grid = area.window, grids[area.ground]
        rows, cols = np.mgrid[window.row : window.row_stop, window.col : window.col_stop] + 0.5
        inside.append(np.stack(grid.from_pixels_of(grid, cols.ravel(), rows.ravel())))
    surveys = [counted(labels - 1)] * 3
    sampler = RandomChips(found.train, surveys, chip_px=48, length=300, zoom=(1 / 1.2, 1.2))
    for place in sampler:
        for area, points in zip(kept, inside, strict=True):
            col, row = grids[place.ground].from_pixels_of(grids[area.ground], *points)
            near = place.window.pad(23)
            hit = (
                (row >= near.row)
                & (row < near.row_stop)
                & (col >= near.col)
                & (col < near.col_stop)
            )
            if area.ground == place.ground:
                assert not hit.any()
            else:  # another lattice: a pixel's width of doubt
                assert not place.window.pad(22).contains(place.window) or not (
                    (row >= place.window.row) & (row < place.window.row_stop)
                    & (col >= place.window.col) & (col < place.window.col_stop)
                ).any()  # fmt: skip
    with pytest.raises(InputError, match="narrower than the 20 px"):
        split(tmp_path, split="blocks", block_px=64, buffer_px=8)


@pytest.mark.parametrize("seed", range(5))
def test_blocks_of_several_dates_are_kept_apart_together(tmp_path: Path, seed: int) -> None:
    """Else what chose the epoch would be tested, and little ground be left to learn from."""
    shape = (512, 512)
    labels = np.random.default_rng(0).integers(1, 4, shape).astype(np.uint8)
    grid = Grid(grid_at(0).crs, grid_at(0).transform, shape)
    for name in ("may", "june", "july"):
        make_scene(tmp_path, name, grid, labels=labels)
    found, grids = split(
        tmp_path, split="blocks", block_px=64, validation=0.2, test=0.1, buffer_px=24,
        split_seed=seed,
    )  # fmt: skip
    for part, count in ((found.validation, 13), (found.test, 7)):
        own = [{area.window for area in part if area.ground == ground} for ground in range(3)]
        assert [len(windows) for windows in own] == [count] * 3
        assert own[0] == own[1] == own[2]
    check_apart(found, grids, ["july", "june", "may"])


def test_an_epoch_covers_what_is_labelled(tmp_path: Path) -> None:
    """However few pixels are: a hundred points are no single chip."""
    labels = np.zeros((512, 512), np.uint8)
    labels[::64, ::64] = 1
    labels[::128, ::128] = 2
    surveys = [counted(np.where(labels == 0, NODATA, labels - 1))]
    whole = [Area(0, Window(0, 0, 512, 512))]
    assert covering_chips(whole, surveys, 64) == 64
    assert covering_chips(whole, surveys, 128) == 16
    assert covering_chips([Area(0, Window(0, 0, 256, 512))], surveys, 64) == 32
    full = [counted(np.ones((512, 512), np.uint8))]
    assert covering_chips(whole, full, 128) == 16


def test_an_overlap_is_an_error_whoever_made_the_split() -> None:
    grid = grid_at(0)
    area = Area(0, Window(0, 0, 50, 50))
    fine = Split((area,), (Area(0, Window(50, 0, 46, 50)),), ())
    check_apart(fine, [grid], ["scene.tif"])
    for wrong in (
        Split((area,), (Area(0, Window(49, 0, 46, 50)),), ()),
        Split((area,), (), (Area(0, Window(0, 49, 46, 50)),)),
        Split((), (area,), (Area(0, Window(10, 10, 5, 5)),)),
    ):
        with pytest.raises(InputError, match=r"scene\.tif is to be kept apart"):
            check_apart(wrong, [grid], ["scene.tif"])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_a_chip_always_holds_labels_and_stays_in_its_area(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(33, 200), st.integers(33, 200)))
    labels = np.full(shape, NODATA, np.uint8)
    for _ in range(data.draw(st.integers(1, 3))):
        row, col = (data.draw(st.integers(0, size - 1)) for size in shape)
        labels[row, col] = data.draw(st.integers(0, 2))
    chip, align = data.draw(st.sampled_from([32, 48, 64, 256])), data.draw(st.integers(1, 3))
    sampler = RandomChips(
        [Area(0, Window(0, 0, *shape))], [counted(labels)], chip_px=chip, length=20,
        zoom=(1 / 1.3, 1.3), seed=data.draw(st.integers(0, 99)), align_px=align,
    )  # fmt: skip
    padded = np.pad(labels, 400, constant_values=NODATA)
    for place in sampler:
        w = place.window
        assert (
            padded[400 + w.row : 400 + w.row_stop, 400 + w.col : 400 + w.col_stop] != NODATA
        ).any()
        for start, stop, size in ((w.row, w.row_stop, shape[0]), (w.col, w.col_stop, shape[1])):
            assert start % align == 0
            beyond = align - 1
            assert (start >= 0 and stop <= size + beyond) or (start <= beyond and stop >= size)


def test_a_share_of_the_chips_is_zoomed() -> None:
    area, labels = Area(0, Window(0, 0, 200, 200)), counted(np.zeros((200, 200), np.uint8))
    sampler = RandomChips([area], [labels], chip_px=48, length=400, zoom=(1.5, 2.0), zoomed=0.25)
    sides = [place.window.height for place in sampler]
    assert all(side == 48 or 72 <= side <= 96 for side in sides)
    assert 60 < sum(side > 48 for side in sides) < 140


def test_draws_are_a_function_of_seed_and_epoch_and_are_shared_out() -> None:
    labels = np.zeros((200, 200), np.uint8)

    area = Area(0, Window(0, 0, 200, 200))

    def sampler(seed: int = 0) -> RandomChips:
        return RandomChips([area], [counted(labels)], chip_px=64, length=10, seed=seed)

    first = list(sampler())
    assert first == list(sampler())
    assert first != list(sampler().at(1))
    assert list(sampler().at(1)) == list(sampler().at(1))
    assert first != list(sampler(seed=1))
    halves = (sampler().at(0, (half, 2)) for half in (0, 1))
    assert [place for pair in zip(*halves, strict=True) for place in pair] == first


def test_rare_classes_are_drawn_as_often_as_the_formula_says() -> None:
    counts = np.array([9000, 900, 100, 0])
    share = counts / counts.sum()
    expected = np.array([np.exp((1 - f) / 0.5) if f else 0 for f in share])
    np.testing.assert_allclose(class_probabilities(counts, 0.5), expected / expected.sum())
    assert np.isfinite(class_probabilities(counts, 1e-4)).all()  # where the exponential overflows

    labels = np.zeros((256, 256), np.uint8)
    labels[100:110, 40:50] = 1  # 100 px in two cells
    labels[5, 5] = 2  # too few to ask for more
    sampler = RareClassChips(
        [Area(0, Window(0, 0, 256, 256))], [counted(labels)], temperature=1.0, min_class_px=50,
        chip_px=64, length=600,
    )  # fmt: skip
    held = np.zeros(3)
    for place in sampler:
        w = place.window
        seen = np.bincount(labels[w.row : w.row_stop, w.col : w.col_stop].ravel(), minlength=3)
        held += seen >= (1, 50, 1)
    drawn = 600 * sampler.probabilities
    assert held[1] >= drawn[1] - 4 * np.sqrt(drawn[1])
    assert held[2] >= drawn[2] - 4 * np.sqrt(drawn[2])
    assert held[1] < 500  # not all of them


def test_gridded_chips_count_each_labelled_pixel_once() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (150, 90)).astype(np.uint8)
    labels[:40] = NODATA
    area = Area(0, Window(10, 4, 130, 80))
    times = np.zeros(labels.shape, int)
    sampler = GriddedChips([area], [counted(labels)], chip_px=64, halo_px=8, stride=8)
    for place in sampler:
        assert place.core is not None
        assert place.window.contains(place.core)
        times[place.core.within(Window(0, 0, 150, 90))] += 1
    inside = np.zeros(labels.shape, bool)
    inside[10:140, 4:84] = True
    assert (times[~inside] == 0).all()
    assert (times[inside & (labels != NODATA)] == 1).all()
    assert times.max() == 1


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places() -> tuple[torch.Tensor, torch.Tensor]:
    """An image whose pixels say what they are labelled as."""
    labels = torch.arange(40 * 40).view(40, 40) // 100 % 7
    return labels[None].float() + 1, labels


def test_a_variant_moves_image_and_labels_alike() -> None:
    image, labels = places()
    seen = set()
    for seed in range(60):
        varied, moved, _ = vary(image, labels, torch.zeros(0, 40, 40), Variation(), generator(seed))
        assert torch.equal(varied[0] - 1, moved.float())
        assert torch.equal(moved.flatten().sort().values, labels.flatten().sort().values)
        seen.add(tuple(moved.flatten().tolist()))
    assert len(seen) == 8


def test_a_turned_chip_is_unlabelled_where_it_comes_from_outside() -> None:
    image = torch.ones(1, 41, 41)
    labels = torch.full((41, 41), 3)
    outside = 0
    for seed in range(10):
        variation = Variation(flips=False, rotate=0.999)
        turned, moved, _ = vary(image, labels, torch.zeros(0, 41, 41), variation, generator(seed))
        assert set(moved.unique().tolist()) <= {3, NODATA}
        assert (turned[0][moved == NODATA] < 0.51).all()
        assert moved[20, 20] == 3
        outside += int((moved == NODATA).sum())
    assert outside > 100
    kept = torch.full((41, 41), NODATA)
    _, moved, _ = vary(image, kept, torch.zeros(0, 41, 41), Variation(rotate=0.999), generator(1))
    assert (moved == NODATA).all()


def test_jitter_leaves_what_is_invalid_and_labels_alone() -> None:
    image, labels = places()
    image[:, :10] = 0
    jitter = Variation(flips=False, jitter=0.3)
    varied, same, _ = vary(image, labels, torch.zeros(0, 40, 40), jitter, generator(0))
    assert torch.equal(labels, same)
    assert (varied[:, :10] == 0).all()
    before, after = image[0, 10:].flatten(), varied[0, 10:].flatten()
    line = np.polyfit(before.numpy(), after.numpy(), 1)
    np.testing.assert_allclose(np.polyval(line, before.numpy()), after.numpy(), atol=1e-4)
    assert 0.5 < line[0] < 2
    assert line[0] != 1


def test_resized_chips_keep_their_ground() -> None:
    image, labels = torch.zeros(1, 32, 32), torch.zeros(32, 32, dtype=torch.int64)
    image[:, :16], labels[:16] = 1, 2
    for side in (20, 50):
        resized, nearest, _ = resize(image, labels, torch.zeros(0, 32, 32), side)
        assert resized.shape[-2:] == nearest.shape == (side, side)
        assert (nearest[: side // 2 - 1] == 2).all()
        assert (nearest[side // 2 + 1 :] == 0).all()
        assert float((resized.mean() - 0.5).abs()) < 0.01


def test_a_data_set_gives_scaled_chips_and_batches_in_order(folder: Path) -> None:
    with ExitStack() as stack:
        grounds = opened(stack, folder)
        mean, stddev = np.array([100.0, 110.0]), np.array([50.0, 40.0])
        ground = LabelledGround(grounds, mean, stddev, chip_px=64)
        place = ChipPlace(2, Window(50, 90, 64, 64), core=Window(60, 90, 20, 10))
        sample = ground[place]
        chip = grounds[2].read(place.window)
        expected = (chip.pixels - mean[:, None, None]) / stddev[:, None, None]
        np.testing.assert_allclose(
            sample["image"].numpy(), np.where(chip.valid, expected, 0), rtol=1e-5, atol=1e-6
        )
        assert (sample["mask"][10:30, :10].numpy() == chip.labels[10:30, :10]).all()
        assert (sample["mask"] != NODATA).sum() == (chip.labels[10:30, :10] != NODATA).sum()
        surveys = [survey(each, 3, 2) for each in grounds]
        areas = [Area(i, each.grid.window) for i, each in enumerate(grounds)]
        sampler = RandomChips(areas, surveys, chip_px=64, length=11)
        loader = AheadLoader(ground, sampler, 4, train=True)
        batches = list(loader)
        assert [len(batch["place"]) for batch in batches] == [4, 4] == [4] * len(loader)
        assert [place for batch in batches for place in batch["place"]] == list(sampler)[:8]
        assert torch.equal(batches[1]["image"][3], ground[batches[1]["place"][3]]["image"])
        early = iter(loader)
        next(early)
        early.close()  # leaves no thread behind that hangs


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torchgeo")
@pytest.mark.filterwarnings("ignore:Use torchgeo.samplers")
def test_torchgeos_own_samplers_draw_from_it(folder: Path) -> None:
    from torchgeo.samplers import GridGeoSampler, RandomGeoSampler

    with ExitStack() as stack:
        grounds = opened(stack, folder)
        ground = LabelledGround(grounds, np.zeros(2), np.ones(2))
        assert len(ground) == 4
        random = RandomGeoSampler(ground, size=32, length=12)
        for query in random:
            sample = ground[query]
            assert sample["image"].shape == (2, 32, 32)
            x, y, _ = query
            grid = grounds[sample["place"].ground].grid
            left, top = grid.transform @ (sample["place"].window.col, sample["place"].window.row)
            assert abs(left - x.start) <= 5.1
            assert abs(top - y.stop) <= 5.1
        seen = {ground[query]["place"].ground for query in GridGeoSampler(ground, 48, 48)}
        assert seen == {0, 1, 2, 3}
        with pytest.raises(IndexError, match="none of the scenes"):
            ground[0:10, 0:10]
        both = ground | LabelledGround(grounds[:1], np.zeros(2), np.ones(2))
        assert len(both) == 5


def test_a_scene_read_by_itself_is_what_ground_reads(folder: Path) -> None:
    with ExitStack() as stack:
        ground = opened(stack, folder)[3]
        path = folder / "images" / "s3.tif"
        with open_scene(path, ["red", "nir"], units="stored") as scene:
            window = Window(20, 30, 40, 50)
            np.testing.assert_array_equal(scene.read(window).pixels, ground.read(window).pixels)


def test_soft_labels_move_with_the_ground() -> None:
    """Turned, mirrored or resized, the most probable class stays the labelled one."""
    image, labels = places()
    shares = 0.6 * torch.nn.functional.one_hot(labels, 7).movedim(-1, 0).float() + 0.4 / 7
    for seed in range(20):
        varied, moved, soft = vary(image, labels, shares, Variation(), generator(seed))
        assert torch.equal(soft.argmax(0), moved)
        assert torch.equal(varied[0] - 1, moved.float())
    _, moved, soft = vary(image, labels, shares, Variation(rotate=0.999), generator(3))
    inside = soft.sum(0) > 0.99  # not mixed with what comes from outside
    assert (soft.argmax(0) == moved)[inside & (moved != NODATA)].float().mean() > 0.9
    assert (soft[:, moved == NODATA].sum(0) < 0.51).all()
    _, nearest, soft = resize(image, labels, shares, 80)
    assert (soft.argmax(0) == nearest).float().mean() > 0.95


def test_bands_are_missing_in_sets() -> None:
    image, labels = torch.ones(3, 8, 8), torch.zeros(8, 8, dtype=torch.int64)
    variation = Variation(band_sets=((0, 2), (1,)))
    drawn = [
        vary(image, labels, torch.zeros(0, 8, 8), variation, generator(s))[0] for s in range(60)
    ]
    for varied in drawn:
        assert bool((varied.isnan().all((1, 2)) == varied.isnan().any((1, 2))).all())
    there = [tuple((~each.isnan()).all((1, 2)).nonzero().flatten().tolist()) for each in drawn]
    assert set(there) == {(0, 1, 2), (0, 2), (1,)}
    assert min(map(there.count, set(there))) > 8
    assert there.count((0, 1, 2)) > 20


def test_soft_labels_are_read_onto_the_scene(tmp_path: Path) -> None:
    """Whatever the number type; where nothing is probable, nothing is labelled."""
    grid = grid_at(0, (32, 40))
    shares = np.zeros((3, 32, 40), np.float32)
    shares[0], shares[2, :, 20:] = 0.25, 0.75
    shares[:, :5] = 0
    for name, planes in (("float", shares), ("whole", (shares * 200).astype(np.uint8))):
        write_raster(tmp_path / f"{name}.tif", planes, grid, None)
        with open_soft_labels(tmp_path / f"{name}.tif", grid, 3, "the scene") as labels:
            read = labels.read(Window(-2, 10, 20, 20))
        assert not read[:, :7].any()
        assert (read[:, 8, 5] == (255, 0, 0)).all()
        assert (read[:, 8, 15] == (64, 0, 191)).all()
    with (
        pytest.raises(SceneError, match="hold 3 bands; probabilities need one for each of the 4"),
        open_soft_labels(tmp_path / "float.tif", grid, 4, "the scene"),
    ):
        pass
    with (
        pytest.raises(SceneError, match="do not overlap"),
        open_soft_labels(tmp_path / "float.tif", grid_at(2, (32, 40)), 3, "the scene"),
    ):
        pass
