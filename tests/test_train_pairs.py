"""Learning change from pairs of scenes, and what the bundle that comes of it does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from made_ground import grid_at, make_scene, recipe_of
from made_jobs import write_job
from made_pairs import YES_OR_NO, make_pair, make_pairs, told_of_pairs

import geoseg
from geoseg.errors import InputError
from geoseg.grid import Window
from geoseg.labels import pair_up
from geoseg.learning import train
from geoseg.recipe import Recipe, make_recipe
from geoseg.training.augment import Variation, vary
from geoseg.training.ground import find_pairs, open_grounds
from geoseg.training.survey import band_statistics, survey_grounds


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pairs(tmp_path_factory.mktemp("pairs"))


def recipe_of_pairs(folder: Path, **more: Any) -> Recipe:
    return make_recipe(told_of_pairs(folder, **more))


@pytest.fixture(scope="module")
def learnt(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> geoseg.Training:
    recipe = recipe_of_pairs(folder, epochs=8, chips_per_epoch=24, validation=0.25, test=0.25)
    return train(recipe, output=tmp_path_factory.mktemp("runs") / "learnt")


# --- learning ------------------------------------------------------------------------------------


def test_it_learns_what_changed(learnt: geoseg.Training) -> None:
    for purpose in ("validation", "test"):
        assert learnt.summary[purpose]["classes"]["changed"]["iou"] > 0.8
    card = learnt.bundle.card
    assert (card.dates, card.unchanged, card.bands) == (2, 0, ("red", "nir"))
    assert card.inputs[0].input.shape[1] == 4
    assert all("before" not in name and " -> " in name for name in card.training["scenes"])
    assert (learnt.folder / "examples.png").stat().st_size > 5000


class PowerCut(BaseException):
    pass


def test_a_run_that_was_cut_off_goes_on(folder: Path, tmp_path: Path) -> None:
    def cut(now: Any) -> None:
        if (now.epoch, now.step, now.ended) == (2, 1, False):
            raise PowerCut

    recipe = recipe_of_pairs(folder, epochs=2)
    with pytest.raises(PowerCut):
        train(recipe, output=tmp_path / "cut", progress=cut)
    weights = [
        train(recipe, output=tmp_path / name).bundle.card.sha256["weights.safetensors"]
        for name in ("cut", "whole")
    ]
    assert weights[0] == weights[1]


def test_a_chip_holds_both_dates_where_both_have_data(tmp_path: Path) -> None:
    """The later scene is cut and moved; against reading both files by hand."""
    grid = grid_at(0)
    later = grid.crop(Window(5, 7, 80, 140))
    make_pair(tmp_path, "p", grid, later=later)
    recipe = recipe_of_pairs(tmp_path)
    with open_grounds(recipe, find_pairs(recipe)) as (ground,):
        whole = ground.read(ground.grid.window)
    place = grid.align(ground.grid)
    assert (place.row, place.col) == (5, 7)
    both = []
    for date in ("before", "after"):
        with rasterio.open(tmp_path / date / "p.tif") as scene:
            at = Window(0, 0, *scene.shape) if date == "after" else place
            read = scene.read()[:, at.row :, at.col :]
        both.append(read[:, : whole.valid.shape[0], : whole.valid.shape[1]])
    expected = np.concatenate(both)
    valid = (expected > 0).all(axis=0)
    np.testing.assert_array_equal(whole.valid, valid)
    np.testing.assert_array_equal(whole.pixels, np.where(valid, expected, 0))
    with rasterio.open(tmp_path / "masks/p.tif") as masks:
        mask = masks.read(1)[5:, 7:][: valid.shape[0], : valid.shape[1]]
    np.testing.assert_array_equal(whole.labels, np.where(valid, mask, 255))


def test_both_dates_are_scaled_alike(folder: Path) -> None:
    recipe = recipe_of_pairs(folder)
    with ExitStack() as stack:
        pairs = find_pairs(recipe)
        grounds = stack.enter_context(open_grounds(recipe, pairs))
        mean, stddev = band_statistics(survey_grounds(recipe, pairs, grounds), 2)
        chips = [ground.read(ground.grid.window) for ground in grounds]
    values = np.concatenate([chip.pixels[:, chip.valid] for chip in chips], axis=1)
    by_band = np.concatenate([values[:2], values[2:]], axis=1).astype(float)
    np.testing.assert_allclose(mean, by_band.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(stddev, by_band.std(axis=1), rtol=1e-6)


def test_dates_are_turned_together_and_lit_apart() -> None:
    place = torch.arange(64.0).reshape(1, 8, 8) + 1
    image, labels = torch.cat([place, place]), place[0].long() % 7
    no_shares, chance = torch.zeros(0, 8, 8), torch.Generator()
    varied, moved, _ = vary(image, labels, no_shares, Variation(dates=2), chance.manual_seed(3))
    torch.testing.assert_close(varied[0], varied[1])
    torch.testing.assert_close(varied[0].long() % 7, moved)
    assert not torch.equal(varied[0], place[0])
    jitter = Variation(flips=False, jitter=0.5, dates=2)
    lit, _, _ = vary(image, labels, no_shares, jitter, chance.manual_seed(3))
    gains = (lit - lit.mean((1, 2), keepdim=True)) / (image - image.mean((1, 2), keepdim=True))
    assert gains[0].std() < 1e-4  # one gain a date
    assert abs(gains[0].mean() - gains[1].mean()) > 1e-2
    assert abs(lit[0].mean() - lit[1].mean()) > 1e-2


def test_of_one_date_twice_nothing_changed() -> None:
    image, labels = torch.randn(4, 8, 8), torch.full((8, 8), 1)
    image[:, :2] = 0  # no data
    seen = set()
    for seed in range(20):
        variation = Variation(flips=False, dates=2, same_date=0.999, unchanged=2)
        chance = torch.Generator().manual_seed(seed)
        varied, moved, _ = vary(image, labels, torch.zeros(0, 8, 8), variation, chance)
        assert torch.equal(varied[:2], varied[2:])
        seen.add(next(i for i in (0, 1) if torch.equal(varied[:2], image[2 * i : 2 * i + 2])))
        assert (moved[:2] == 255).all()
        assert (moved[2:] == 2).all()
    assert seen == {0, 1}


def test_later_scenes_are_paired_by_name() -> None:
    paths = {date: [Path(date, f"{n}.tif") for n in ("b", "a")] for date in ("x", "y", "masks")}
    pairs = pair_up(paths["x"], paths["masks"], list(reversed(paths["y"])))
    assert [(p.scene.parent.name, str(p.after), str(p.labels)) for p in pairs] == [
        ("x", "y/b.tif", "masks/b.tif"), ("x", "y/a.tif", "masks/a.tif")
    ]  # fmt: skip
    (only,) = pair_up([Path("t_2000.tif")], [Path("change.tif")], [Path("t_2003.tif")])
    assert (only.name, str(only.labels)) == ("t_2000.tif -> t_2003.tif", "change.tif")
    with pytest.raises(InputError, match="1 of 2 scenes have no later scenes of the same name"):
        pair_up(paths["x"], paths["masks"], paths["y"][:1])


def test_what_does_not_fit_is_one_line(folder: Path, tmp_path: Path) -> None:
    make_scene(tmp_path, "s", grid_at(0))
    for more, said in (
        ({"architecture": "unet"}, "takes no scenes_after; networks that do are siamese_unet"),
        ({"unchanged": 7}, "unchanged: 7 is no class"),
        ({"scenes_after": "after/p1.tif"}, "3 of 4 scenes have no later scenes"),
        ({"validation_scenes": "before/p1.tif", "validation_labels": "masks/p1.tif"},
         "validation_scenes_after"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=said) as caught:
            train(recipe_of_pairs(folder, **more), output=tmp_path / "run")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="siamese_unet compares two dates"):
        train(recipe_of(tmp_path, architecture="siamese_unet"), output=tmp_path / "run")


def test_scenes_kept_apart_have_their_later_ones(folder: Path, tmp_path: Path) -> None:
    kept = {f"test_{what}": f"{place}/p3.tif" for what, place in
            (("scenes", "before"), ("scenes_after", "after"), ("labels", "masks"))}  # fmt: skip
    learn = {what: f"{place}/p[012].tif" for what, place in
             (("scenes", "before"), ("scenes_after", "after"), ("labels", "masks"))}  # fmt: skip
    recipe = recipe_of_pairs(folder, **learn, **kept)
    pairs = find_pairs(recipe)
    assert [(p.kept_for, p.after and p.after.name) for p in pairs][-1] == ("test", "p3.tif")


# --- the bundle ----------------------------------------------------------------------------------


def files(folder: Path, number: int) -> list[Path]:
    return [folder / date / f"p{number}.tif" for date in ("before", "after", "masks")]


def test_change_is_what_evaluation_scored(
    learnt: geoseg.Training, folder: Path, tmp_path: Path
) -> None:
    before, after, masks = files(folder, 1)
    model = learnt.bundle.path
    score = geoseg.evaluate(
        model, before, masks, scenes_after=after, unlabelled=[255], output=tmp_path / "score"
    ).figures
    made = geoseg.change(before, after, model=model, output=tmp_path / "map", force=True)
    with rasterio.open(made.files["change"]) as raster, rasterio.open(masks) as file:
        assert raster.descriptions == ("change", "confidence")
        changed, percent = raster.read()
        mask = file.read(1)
    told = (mask != 255) & (changed != 255)
    counts = [[int(((changed == m) & (mask == t) & told).sum()) for t in (0, 1)] for m in (0, 1)]
    np.testing.assert_array_equal(score.matrix.entries, counts)
    assert counts[1][1] > 0.8 * (mask == 1).sum()
    assert (percent[changed == 1] >= 50).all()
    (kind,) = made.summary["kinds"]
    assert (kind["change"], kind["pixels"]) == ("changed", (changed == 1).sum())
    assert made.summary["transitions"] == []


@pytest.mark.parametrize("light", [0, 1])
def test_of_a_scene_and_itself_nothing_changed(
    learnt: geoseg.Training, folder: Path, tmp_path: Path, light: int
) -> None:
    before = files(folder, light)[light]
    made = geoseg.change(before, before, model=learnt.bundle.path, output=tmp_path)
    assert made.summary["polygons"] == 0


def geoseg_run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "geoseg.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, text=True)


def test_the_command_line_knows_models_of_two_dates(
    learnt: geoseg.Training, folder: Path, tmp_path: Path
) -> None:
    before, after, masks = files(folder, 0)
    model = learnt.bundle.path
    refused = geoseg_run(
        "predict", before, files(folder, 1)[1], "-m", model, "-o", tmp_path / "map"
    )
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [
        "geoseg: error: made compares two scenes: use geoseg change BEFORE AFTER --model MODEL"
    ]
    assert not (tmp_path / "map").exists()
    told = json.loads(geoseg_run("info", model, "--json").stdout)
    assert (told["dates"], told["card"]["geoseg:dates"]) == (2, 2)
    assert "change between two scenes" in geoseg_run("info", model).stdout
    missing = geoseg_run("evaluate", model, "--scenes", before, "--labels", masks)
    assert "--scenes-after" in missing.stderr
    scored = geoseg_run(
        "evaluate", model, "--scenes", before, "--scenes-after", after, "--labels", masks,
        "--unlabelled", "255", "-o", tmp_path, "--json",
    )  # fmt: skip
    assert json.loads(scored.stdout)["scenes"][0]["scene"] == "p0.tif -> p0.tif"


def test_a_model_of_one_date_takes_no_later_scenes(folder: Path) -> None:
    before, after, masks = files(folder, 0)
    with pytest.raises(InputError, match="one scene at a time"):
        geoseg.evaluate("landcover", before, masks, scenes_after=after)


def test_a_job_runs_it(learnt: geoseg.Training, folder: Path, tmp_path: Path) -> None:
    """Alike dates, then one on which something is new, and then that again."""
    job = write_job(
        tmp_path, method="model", model=str(learnt.bundle.path), min_area="9px", alert_area_ha=1,
        force=True,
    )  # fmt: skip
    before, after, _ = files(folder, 1)
    for day, scene in ((1, before), (2, after), (3, after)):
        put = tmp_path / f"in/lake_2020010{day}.tif"
        with rasterio.open(scene) as file:
            pixels, profile = file.read(), file.profile
        pixels[0, 0, day] += 1  # no two files of one content
        with rasterio.open(put, "w", **profile) as file:
            file.write(pixels)
            file.descriptions = ("red", "nir")
    done = geoseg.run_job(job)
    by_date = {outcome.date[:10]: outcome for outcome in done.outcomes}
    assert [outcome.status for outcome in done.outcomes].count("compared") == 2
    assert by_date["2020-01-02"].changed_area_ha == pytest.approx(4.8 + 5, rel=0.2)
    assert by_date["2020-01-03"].changed_area_ha == 0
    assert (done.alerts, by_date["2020-01-02"].alert) == (1, True)
    again = geoseg.run_job(job)
    assert [outcome for outcome in again.outcomes if outcome.status == "compared"] == []
    refused = write_job(
        tmp_path, method="model", model=str(learnt.bundle.path), **{"from": "trees"}
    )
    with pytest.raises(InputError, match="does not say from what to what"):
        geoseg.run_job(refused)
    assert YES_OR_NO[1] == "changed"
