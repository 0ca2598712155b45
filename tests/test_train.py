"""Learning as a person has it: a recipe in, a bundle out, whatever happens on the way."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from made_ground import CLASSES, grid_at, make_scene, recipe_of, write_raster, write_recipe
from PIL import Image
from safetensors.torch import load

import geoseg
from geoseg.errors import BandError, InputError, OutputError, TrainingError
from geoseg.learning import train
from geoseg.model.bundle import Bundle, load_bundle
from geoseg.model.loading import load_model
from geoseg.nets.zoo import build_model
from geoseg.training.callbacks import Progress
from geoseg.training.task import Schedule, SegmentationTask, _averaging, count_classes


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Networks this small are slower on two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ground")
    for number in range(4):
        make_scene(folder, f"s{number}", grid_at(number), seed=number)
    return folder


@pytest.fixture(scope="module")
def learnt(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> geoseg.Training:
    """A training that nobody disturbed."""
    recipe = recipe_of(folder, epochs=6, chips_per_epoch=24, validation=0.25, test=0.25)
    return train(recipe, output=tmp_path_factory.mktemp("runs") / "learnt")


def test_it_learns_what_is_to_be_seen(learnt: geoseg.Training) -> None:
    assert not learnt.interrupted
    for purpose in ("validation", "test"):
        assert learnt.summary[purpose]["mean_iou"] > 0.9
    rows = list(csv.DictReader((learnt.folder / "history.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    best = max(rows, key=lambda row: float(row["miou"]))
    assert learnt.summary["best_epoch"] == int(best["epoch"])
    assert learnt.summary["validation"]["mean_iou"] == pytest.approx(float(best["miou"]), abs=1e-5)


def test_the_run_says_what_it_did(learnt: geoseg.Training, folder: Path) -> None:
    for name in ("curves.png", "matrix.png", "examples.png"):
        with Image.open(learnt.folder / name) as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    split = json.loads((learnt.folder / "split.json").read_text())
    scenes = [each["scene"] for part in split.values() for each in part]
    assert sorted(scenes) == [f"s{i}.tif" for i in range(4)]
    assert geoseg.read_recipe(learnt.folder / "recipe.yaml").classes == CLASSES
    card = learnt.bundle.card
    assert card.figures["test"]["mean_iou"] == pytest.approx(
        learnt.summary["test"]["mean_iou"], abs=1e-4
    )
    assert card.training["recipe"]["lr"] == 0.01
    assert "data" not in card.training["recipe"]  # a path of somebody's machine
    assert (card.stored_type, card.gsd_m) == ("uint8", pytest.approx((10, 10), rel=1e-2))


def test_the_bundle_predicts_as_it_was_judged(learnt: geoseg.Training, folder: Path) -> None:
    split = json.loads((learnt.folder / "split.json").read_text())
    name = split["test"][0]["scene"]
    with geoseg.open_scene(folder / "images" / name, ["red", "nir"], units="stored") as scene:
        chip = scene.read(scene.grid.window)
    scores = {}
    for runtime in ("openvino", "torch"):
        model = load_model(learnt.bundle.path, runtime=runtime, precision="float32")  # type: ignore[arg-type]
        (scores[runtime],) = model.runtime.scores([model.filled(chip)])
    np.testing.assert_allclose(scores["openvino"], scores["torch"], atol=1e-4)
    import rasterio

    with rasterio.open(folder / "labels" / name) as file:
        labels = file.read(1)
    kept = (labels != 0) & chip.valid
    right = (scores["torch"].argmax(axis=0) + 1 == labels)[kept].mean()
    assert right == pytest.approx(learnt.summary["test"]["overall"], abs=0.02)


def test_it_learns_on_from_a_model(learnt: geoseg.Training, folder: Path, tmp_path: Path) -> None:
    known = str(learnt.bundle.path)
    barely = {"epochs": 1, "chips_per_epoch": 8, "batch": 8, "lr": 1e-9, "validation": 0.25}
    done = train(recipe_of(folder, begin_with=known, **barely), output=tmp_path / "on")
    assert done.summary["validation"]["mean_iou"] > 0.9  # chance gives about a third
    card = done.bundle.card
    assert card.training["begun_with"] == learnt.bundle.label
    assert known not in card.to_json()  # a path of somebody's machine
    np.testing.assert_array_equal(card.mean, learnt.bundle.card.mean)
    four = CLASSES | {4: "water"}
    other = train(
        recipe_of(folder, begin_with=known, classes=four, **barely), output=tmp_path / "four"
    )
    ours, theirs = (
        load(each.parts["weights.safetensors"]) for each in (other.bundle, learnt.bundle)
    )
    assert set(ours) == set(theirs)
    last = {name for name in ours if ours[name].shape != theirs[name].shape}
    assert {len(ours[name]) for name in last} == {4}
    for name in set(ours) - last:
        if ".running_" not in name:  # those follow the chips, whatever the learning rate
            torch.testing.assert_close(ours[name], theirs[name], atol=1e-6, rtol=1e-5)
    for wrong, said in (
        ({"bands": ["nir", "red"]}, "differ in bands"),
        ({"logarithm": 1.0}, "differ in logarithm"),
        ({"band_sets": [["red"]]}, "differ in band_sets"),
        ({"architecture": "segnet", "network": {}}, "differ in architecture"),
        ({"network": {"widths": [4, 16]}}, "are not those of the recipe"),
        ({"pretrained": "imagenet"}, "leave pretrained out"),
    ):
        with pytest.raises(InputError, match=said):
            train(recipe_of(folder, begin_with=known, **wrong), output=tmp_path / "wrong")


def test_a_training_is_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(folder, rotate=0.5, zoom=1.2, sampler="rare_class")
    first, second = (train(recipe, output=tmp_path / name) for name in ("a", "b"))
    assert weights_of(first) == weights_of(second)
    other = train(recipe.model_copy(update={"seed": 1}), output=tmp_path / "c")
    assert weights_of(other) != weights_of(first)


def weights_of(training: geoseg.Training) -> str:
    return training.bundle.card.sha256["weights.safetensors"]


class PowerCut(BaseException):
    pass


def cut_at(epoch: int, step: int) -> Any:
    def tell(now: Progress) -> None:
        if (now.epoch, now.step, now.ended) == (epoch, step, False):
            raise PowerCut

    return tell


@pytest.mark.parametrize("at", [(1, 2), (2, 1), (3, 2)])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
    folder: Path, tmp_path: Path, at: tuple[int, int]
) -> None:
    recipe = recipe_of(folder, patience=3)
    undisturbed = train(recipe, output=tmp_path / "undisturbed")
    with pytest.raises(PowerCut):
        train(recipe, output=tmp_path / "cut", progress=cut_at(*at))
    resumed = train(recipe, output=tmp_path / "cut")
    assert weights_of(resumed) == weights_of(undisturbed)
    history = [(each.folder / "history.csv").read_text() for each in (undisturbed, resumed)]
    assert history[0] == history[1]


def test_a_run_that_lost_patience_and_was_cut_off_learns_no_more(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(folder, patience=1, lr=1e-9, epochs=9)  # so no epoch is better
    with monkeypatch.context() as patch:
        patch.setattr("geoseg.learning.conclude", _power_cut)
        with pytest.raises(PowerCut):
            train(recipe, output=tmp_path / "run")
    rows = (tmp_path / "run" / "history.csv").read_text()
    assert train(recipe, output=tmp_path / "run").summary["epochs"] < 9
    assert (tmp_path / "run" / "history.csv").read_text() == rows


def _power_cut(*_: Any) -> None:
    raise PowerCut


def test_the_last_epoch_s_network_can_be_kept(folder: Path, tmp_path: Path) -> None:
    told: dict[str, Any] = {"epochs": 3, "average": 0.0, "lr": 0.3}  # too fast to get better
    last, best = (
        train(recipe_of(folder, keep=keep, **told), output=tmp_path / keep)
        for keep in ("last", "best")
    )
    mious = [float(row["miou"]) for row in _history(last)]
    assert mious == [float(row["miou"]) for row in _history(best)]
    assert (last.summary["best_epoch"], best.summary["best_epoch"]) == (3, 1 + np.argmax(mious))
    for each in (last, best):
        now = each.summary["validation"]["mean_iou"]
        assert now == pytest.approx(mious[each.summary["best_epoch"] - 1], abs=1e-5)


def _history(done: geoseg.Training) -> list[dict[str, str]]:
    return list(csv.DictReader((done.folder / "history.csv").read_text().splitlines()))


def test_another_recipe_does_not_go_on_with_a_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(PowerCut):
        train(recipe_of(folder), output=tmp_path / "run", progress=cut_at(2, 1))
    with pytest.raises(InputError, match=r"begun with lr: 0\.01, now it is 0\.02.*--overwrite"):
        train(recipe_of(folder, lr=0.02), output=tmp_path / "run")
    done = train(recipe_of(folder, cache_mb=1), output=tmp_path / "run")  # where, not what
    assert done.summary["epochs"] == 3
    with pytest.raises(InputError, match="finished"):
        train(recipe_of(folder), output=tmp_path / "run")
    again = train(recipe_of(folder, lr=0.02), output=tmp_path / "run", overwrite=True)
    assert again.bundle.card.training["recipe"]["lr"] == 0.02
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.doc").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        train(recipe_of(folder), output=other)
    assert [each.name for each in other.iterdir()] == ["thesis.doc"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_ctrl_c_keeps_the_best_so_far_and_the_run_goes_on(
    folder: Path, tmp_path: Path, optimizer: str
) -> None:
    recipe = recipe_of(folder, optimizer=optimizer)

    def tell(now: Progress) -> None:
        if (now.epoch, now.step) == (2, 1) and not now.ended:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    stopped = train(recipe, output=tmp_path / "run", progress=tell)
    assert stopped.interrupted
    assert stopped.summary["epochs"] == 1
    assert load_bundle(tmp_path / "run" / "model").card.name == "made"
    assert signal.getsignal(signal.SIGINT) == before
    done = train(recipe, output=tmp_path / "run")
    whole = train(recipe, output=tmp_path / "whole")
    assert weights_of(done) == weights_of(whole)


def test_muon_turns_the_step_of_a_convolution_as_its_singular_vectors_say() -> None:
    network = build_model("residual", bands=3, classes=2, stem=8, width=8, blocks=1)
    schedule = Schedule("muon", 0.01, 1.0, 0.0, warmup=0.0, steps=9, average=0.0, auxiliary=0.0)
    task = SegmentationTask(network, torch.nn.Identity(), ["no", "yes"], schedule)
    before = {name: each.detach().clone() for name, each in task.network.named_parameters()}
    for parameter in task.network.parameters():
        parameter.grad = torch.randn_like(parameter) * 7
    configured = task.configure_optimizers()
    configured["optimizer"].step()
    for name, parameter in task.network.named_parameters():
        step = (parameter - before[name]).detach()
        assert step.any(), f"{name} did not move"
        if name.startswith("blocks") and step.ndim == 4:
            assert parameter.grad is not None
            left, _, right = np.linalg.svd(parameter.grad.flatten(1).numpy(), full_matrices=False)
            turned, length = left @ right, 0.01 * 0.2 * np.sqrt(8 * 9)
            moved = step.flatten(1).numpy()
            assert np.vdot(moved, -turned) > 0.97 * np.linalg.norm(moved) * np.linalg.norm(turned)
            values = np.linalg.svd(moved, compute_uv=False)
            assert np.all((values > 0.6 * length) & (values < 1.3 * length))


def test_a_loss_that_is_no_number_names_the_chips_and_keeps_the_best(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    from geoseg.training import losses

    forward = losses.WeightedSum.forward

    def spoilt(self: torch.nn.Module, *given: torch.Tensor) -> torch.Tensor:
        good = forward(self, *given)  # type: ignore[arg-type]
        return good * float("nan") if len(told) >= 4 else good

    monkeypatch.setattr(losses.WeightedSum, "forward", spoilt)
    with pytest.raises(TrainingError, match=r"loss is no number at epoch 2.*s\d\.tif at row"):
        train(recipe_of(folder), output=tmp_path / "run", progress=told.append)
    assert [each.epoch for each in told if each.ended] == [1]
    assert load_bundle(tmp_path / "run" / "model").card.training["best_epoch"] == 1
    assert not (tmp_path / "run" / "summary.json").exists()


def test_a_class_without_a_pixel_is_said_and_weighs_nothing(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(folder, classes=CLASSES | {9: "unicorn"}, epochs=1, validation=0)
    done = train(recipe, output=tmp_path / "run")
    assert done.summary["absent"] == ["unicorn"]
    assert "class unicorn was nowhere to be learnt" in done.bundle.card.limits
    assert "validation" not in done.summary
    assert done.bundle.card.legend.codes == (1, 2, 3, 9)


def test_an_auxiliary_head_helps_to_learn_and_is_left_behind(folder: Path, tmp_path: Path) -> None:
    network = {"encoder": "resnet18", "auxiliary": True}
    recipe = recipe_of(folder, architecture="pspnet", epochs=1, network=network)
    done = train(recipe, output=tmp_path / "run")
    assert "auxiliary" not in done.bundle.card.hyperparameters
    load_model(done.bundle.path, runtime="torch")


def test_nothing_is_left_where_nothing_was_learnt(folder: Path, tmp_path: Path) -> None:
    for more, said in (
        ({"scenes": "images/none*.tif"}, "no scenes are called"),
        ({"chip_px": 33}, "no multiple"),
        ({"network": {"wdths": [4]}}, "wdths"),
        ({"batch": 50}, "no batch of 50"),
        ({"loss": "crossentropy"}, "cross_entropy"),
        ({"label_field": "x", "labels": "labels/s1.tif"}, "same name"),
    ):
        with pytest.raises(InputError, match=said):
            train(recipe_of(folder, **more), output=tmp_path / "deep" / "run")
        assert not (tmp_path / "deep" / "run").exists()


def test_two_runs_cannot_share_a_folder(folder: Path, tmp_path: Path) -> None:
    def tell(_: Progress) -> None:
        with pytest.raises(OutputError, match="another geoseg is training"):
            train(recipe_of(folder), output=tmp_path / "run")
        raise PowerCut

    with pytest.raises(PowerCut):
        train(recipe_of(folder), output=tmp_path / "run", progress=tell)


SMALL_DISK = """
import resource, signal, sys
from geoseg.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
main()
"""
"""Files may not grow beyond what history and recipe need; a full disk says much the same."""


def test_a_full_disk_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", folder)
    run = subprocess.run(
        [sys.executable, "-c", SMALL_DISK, "train", recipe, "-q", "-o", tmp_path / "run"],
        capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert run.returncode == 3, run.stderr
    told = run.stderr.splitlines()[-1]  # before it, libraries may speak of caches of their own
    assert told.startswith("geoseg: error: could not write")
    assert os.strerror(errno.EFBIG) in told
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_it_learns_from_doubts_and_with_bands_missing(tmp_path: Path) -> None:
    """Soft labels, and sets of bands: what is learnt maps with red and nir as with red alone."""
    for number in range(4):
        grid = grid_at(number)
        labels = make_scene(tmp_path, f"s{number}", grid, seed=number)
        shares = np.stack([np.where(labels == code, 180, 30) for code in CLASSES])
        shares[:, labels == 0] = 0
        write_raster(tmp_path / "soft" / f"s{number}.tif", shares.astype(np.uint8), grid, None)
    recipe = recipe_of(
        tmp_path, labels="soft/*.tif", labels_are="probabilities", unlabelled=[],
        band_sets=[["red"]], loss="soft_cross_entropy", epochs=6, chips_per_epoch=24,
        validation=0.25, logarithm=10.0, zoom=[1, 2], zoomed=0.5, align_px=2,
        limits=["It has seen no snow."],
    )  # fmt: skip
    done = train(recipe, output=tmp_path / "run")
    assert done.summary["validation"]["mean_iou"] > 0.6
    card = done.bundle.card
    assert card.band_sets == (("red",),)
    assert card.hyperparameters["band_sets"] == [[0]]
    assert card.logarithm == 10
    fewer = card.figures["validation"]["red"]
    assert 0.6 < fewer["accuracy"] <= 1
    assert fewer != card.figures["validation"]
    assert card.limits == ("It has seen no snow.",)
    assert card.gsd_m == pytest.approx((10, 20), rel=1e-3)
    assert card.temperature == done.summary["temperature"] != 1
    assert done.summary["validation"]["calibration_error"] < 0.1
    (low, high), _ = card.value_ranges  # of red, whose classes are 60, 140 and 200 with noise of 8
    assert 30 < low < 60
    assert 200 < high < 230
    scene, model = tmp_path / "images/s0.tif", done.bundle.path
    for bands, used in ((None, ["red", "nir"]), ("red=1", ["red"])):
        prediction = geoseg.predict(
            scene, model=model, bands=bands, output=tmp_path / str(bands), precision="float32"
        )
        assert prediction.summary["bands"] == used
        assert any("manages without nir" in each for each in prediction.summary["assumed"]) == (
            used == ["red"]
        )
        with rasterio.open(prediction.files["classes"]) as mapped:
            classes = mapped.read(1)
        with rasterio.open(tmp_path / "labels/s0.tif") as labelled:
            labels = labelled.read(1)
        known = (labels > 0) & (classes != 255)
        assert (classes == labels)[known].mean() > 0.8, used
    with pytest.raises(BandError, match="needs the bands red nir, or red, the scene has nir"):
        geoseg.predict(scene, model=model, bands="nir=2", output=tmp_path / "none")
    with pytest.raises(InputError, match="labels_are: probabilities"):
        train(recipe_of(tmp_path, loss="soft_cross_entropy"), output=tmp_path / "other")


def test_the_average_is_the_formula_by_hand() -> None:
    averaged, now = [torch.zeros(3)], [torch.ones(3)]
    expected = 0.0
    for n in range(30):
        _averaging(0.9)(averaged, now, torch.tensor(n))
        keep = min(0.9, (1 + n) / (10 + n))
        expected = keep * expected + (1 - keep)
        assert averaged[0][0].item() == pytest.approx(expected, rel=1e-5)


def test_classes_are_counted_where_labelled() -> None:
    rng = np.random.default_rng(0)
    mapped, labels = rng.integers(0, 3, (2, 2, 9, 9))
    labels[0, :3] = 255
    logits = torch.nn.functional.one_hot(torch.from_numpy(mapped), 3).permute(0, 3, 1, 2).float()
    expected = np.zeros((3, 3))
    for m, truth in zip(mapped.ravel(), labels.ravel(), strict=True):
        if truth != 255:
            expected[m, truth] += 1
    counted = count_classes(logits, torch.from_numpy(labels))
    np.testing.assert_array_equal(counted.numpy(), expected)


def geoseg_train(recipe: Path, run: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "geoseg.cli", "train", str(recipe), "-o", str(run), *more]


@pytest.mark.slow
def test_kill_9_changes_nothing(folder: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", folder, epochs=30)
    killed = subprocess.Popen(geoseg_train(recipe, tmp_path / "killed"), stderr=subprocess.DEVNULL)
    history = tmp_path / "killed" / "history.csv"
    for _ in range(2000):
        if history.exists() and len(history.read_text().splitlines()) > 3:
            break
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    before = len(history.read_text().splitlines())
    command = geoseg_train(recipe, tmp_path / "killed", "--json")
    resumed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(resumed.stdout)["epochs"] == 30 > before - 1
    whole = train(geoseg.read_recipe(recipe), output=tmp_path / "whole")
    killed_weights = load_bundle(tmp_path / "killed" / "model").card.sha256["weights.safetensors"]
    assert killed_weights == weights_of(whole)


def _parameters(bundle: Bundle) -> np.ndarray:
    tensors = load(bundle.parts["weights.safetensors"])
    return np.concatenate([tensors[name].numpy().ravel() for name in sorted(tensors)])


@pytest.mark.slow
def test_two_processes_learn_together(folder: Path, tmp_path: Path) -> None:
    plain: Any = {
        "epochs": 2, "chips_per_epoch": 32, "average": 0.0, "precision": "float32",
        "network": {"widths": [4, 8], "batch_norm": False},
    }  # fmt: skip
    recipe = write_recipe(tmp_path / "r.yaml", folder, batch=2, **plain)
    command = geoseg_train(recipe, tmp_path / "run", "--set", "devices=2", "--json")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    summary = json.loads(line)
    assert summary["machine"].split(", ")[1] == "2 x CPU"
    together = load_bundle(tmp_path / "run" / "model")
    assert together.card.training["epochs"] == 2
    alone = train(recipe_of(folder, batch=4, **plain), output=tmp_path / "alone").bundle
    half = train(recipe_of(folder, batch=2, **plain), output=tmp_path / "half").bundle
    weights = [_parameters(each) for each in (together, alone, half)]
    apart, other = (np.abs(each - weights[1]).mean() for each in (weights[0], weights[2]))
    assert apart < other / 10  # the same chips in a step, so the same but for what is unlabelled
