"""A tiled map is the whole image's map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import torch
from conftest import GRIDS, SIX, OneHotRuntime, grey_legend, stored_card

import geoseg
from geoseg.grid import Window
from geoseg.model.bundle import load_bundle, save_bundle
from geoseg.model.card import make_card
from geoseg.model.loading import Model, load_model
from geoseg.model.network import scoring_network
from geoseg.nets.unet import UNet
from geoseg.raster.chips import ChipPlan, PlannedChip
from geoseg.raster.opening import open_scene
from geoseg.raster.scene import Chip
from geoseg.raster.stitch import ScoredChip, stitch
from geoseg.scene_mapping import Tiling, predict_strips

Write = Callable[..., Path]


@pytest.mark.parametrize("join", ["crop", "blend"])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("shape", [(131, 203), (64, 64), (65, 7 * 8), (9, 300), (8, 8)])
def test_the_identity_network_returns_its_band(
    write_scene: Write,
    identity: Model,
    tmp_path: Path,
    shape: tuple[int, int],
    grid: str,
    join: str,
) -> None:
    crs, transform = GRIDS[grid]
    pixels = np.random.default_rng(0).integers(0, 200, (1, *shape)).astype("uint8")
    pixels[0, :3, :5] = 255
    scene = write_scene(pixels, crs=crs, transform=transform, nodata=255, descriptions=("red",))
    made = geoseg.predict(
        scene, model=identity, output=tmp_path / "out", join=join, polygons=False, preview=False
    )
    with rasterio.open(made.files["classes"]) as classes:
        np.testing.assert_array_equal(classes.read(1), pixels[0])
        assert classes.crs == crs
        assert classes.transform == transform
        assert classes.nodata == 255


@pytest.mark.parametrize("axis", [0, 1])
def test_a_scene_of_coordinates_returns_coordinates(
    write_scene: Write, identity: Model, axis: int
) -> None:
    """So that no swap or shift can hide: each pixel holds its own row, or column."""
    pixels = np.indices((150, 190))[axis : axis + 1].astype("uint8")
    path = write_scene(pixels, descriptions=("red",))
    with open_scene(path, ("red",), units="stored") as scene:
        strips = list(predict_strips(scene, identity))
    np.testing.assert_array_equal(np.concatenate([s.classes for s in strips]), pixels[0])
    assert [s.window.row for s in strips[1:]] == [s.window.row_stop for s in strips[:-1]]


@pytest.fixture(scope="module")
def trained_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net with the statistics of a trained one: logits that differ by place."""
    torch.manual_seed(3)
    network = UNet(6, 5, widths=(8, 12, 16, 24), batch_norm=True)
    with torch.no_grad():
        for _ in range(20):  # give batch norm its running statistics
            network(torch.randn(2, 6, 64, 64))
        network.head.weight *= 6
    card = make_card(
        name="small",
        architecture="unet",
        hyperparameters={"widths": [8, 12, 16, 24], "batch_norm": True},
        bands=SIX,
        mean=(0.1, 0.1, 0.1, 0.3, 0.2, 0.1),
        stddev=(0.05, 0.05, 0.06, 0.1, 0.1, 0.1),
        legend=grey_legend(5),
        units="reflectance",
        chip_px=160,
        halo_px=-(-network.reach_px // 8) * 8,
        stride=8,
        exact=True,
    )
    folder = tmp_path_factory.mktemp("bundles") / "small"
    save_bundle(folder, card, network.eval())
    return folder


def whole_image_scores(bundle: Path, pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """One forward pass in torch over the scene, padded at its far edges to the stride."""
    from safetensors.torch import load

    loaded = load_bundle(bundle)
    network = scoring_network(loaded.card, load(loaded.parts["weights.safetensors"]))
    values = pixels.astype("float32") * np.float32(1e-4)
    height, width = pixels.shape[1:]
    missing = ((0, 0), (0, -height % 8), (0, -width % 8))
    padded = np.pad(values - loaded.card.neutral[:, None, None], missing)
    padded += loaded.card.neutral[:, None, None]  # padding is each band's mean, as where invalid
    with torch.inference_mode():
        scores = network(torch.from_numpy(padded)[None])[0].numpy()
    return scores[:, :height, :width]


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
@pytest.mark.parametrize("shape", [(333, 415), (160, 160), (50, 500)])
def test_tiled_scores_are_whole_image_scores(
    write_scene: Write, trained_like: Path, runtime: str, shape: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(5).integers(200, 4000, (6, *shape)).astype("uint16")
    expected = whole_image_scores(trained_like, pixels)
    model = load_model(trained_like, runtime=runtime, precision="float32")  # type: ignore[arg-type]
    path = write_scene(pixels, descriptions=SIX)
    with open_scene(path, SIX) as scene:
        plan, _ = Tiling().plan(shape, model.card)
        windows = [planned.window for planned in plan]
        chips = (model.filled(scene.read(window)) for window in windows)
        tiled = np.zeros_like(expected)
        for planned, scores in zip(plan, model.runtime.scores(chips), strict=True):
            core = planned.core
            tiled[:, *core.within(Window(0, 0, *shape))] = scores[:, *core.within(planned.window)]
        strips = list(predict_strips(scene, model, scores=True))
    assert np.abs(tiled - expected).max() < 1e-4
    classes = np.concatenate([strip.classes for strip in strips])
    first, second = np.sort(expected, axis=0)[-1:-3:-1]
    tied = first - second < 1e-5  # there the winner is a matter of rounding
    assert tied.mean() < 1e-3
    np.testing.assert_array_equal(classes[~tied], expected.argmax(axis=0)[~tied])
    percents = np.concatenate([s.scores for s in strips if s.scores is not None], axis=1)
    assert np.abs(percents / 100 - expected).max() < 0.0051


def test_a_smaller_halo_is_not_exact(write_scene: Write, trained_like: Path) -> None:
    """The test above would notice: without a halo, scores differ at the seams."""
    pixels = np.random.default_rng(5).integers(200, 4000, (6, 333, 415)).astype("uint16")
    expected = whole_image_scores(trained_like, pixels)
    model = load_model(trained_like)
    with open_scene(write_scene(pixels, descriptions=SIX), SIX) as scene:
        strips = predict_strips(scene, model, tiling=Tiling(halo_px=0), scores=True)
        percents = np.concatenate([s.scores for s in strips if s.scores is not None], axis=1)
    assert np.abs(percents / 100 - expected).max() > 0.05


def test_reach_is_how_far_a_pixel_sees() -> None:
    """Poke one input pixel of a positive network: what changes lies within the reach."""
    network = UNet(1, 1, widths=(2, 2, 2, 2))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.5)
    size = 160
    image = torch.zeros(1, 1, size, size)
    seen = 0
    with torch.inference_mode():
        still = network(image)
        for row in range(72, 80):
            poked = image.clone()
            poked[0, 0, row, row] = 1
            rows = (network(poked) != still)[0, 0].any(dim=1).nonzero().flatten()
            seen = max(seen, int((rows - row).abs().max()))
    assert seen == network.reach_px


@pytest.mark.parametrize("chip_px", [32, 64])
def test_blending_is_the_weighted_mean_of_overlapping_chips(chip_px: int) -> None:
    """Against a slow sum over all chips, with scores that disagree where chips overlap."""
    shape, halo = (75, 101), chip_px // 4
    plan = ChipPlan(shape, chip_px, halo, 8)
    rng = np.random.default_rng(2)
    chips = []
    for planned in plan:
        raw = rng.random((3, *planned.window.shape)).astype("float32")
        scores = None if rng.random() < 0.1 else raw / raw.sum(axis=0)
        valid = rng.random(planned.window.shape) < 0.9
        chips.append(ScoredChip(planned, scores, valid))
    total, weight = np.zeros((3, 200, 200)), np.zeros((200, 200))
    known = np.zeros((200, 200), bool)
    n = plan.chip_shape
    for chip in chips:
        if chip.scores is None:
            continue
        for r in range(n[0]):
            for c in range(n[1]):
                hann = np.sin(np.pi * (r + 0.5) / n[0]) ** 2 * np.sin(np.pi * (c + 0.5) / n[1]) ** 2
                place = chip.planned.window.row + r, chip.planned.window.col + c
                total[:, *place] += hann * chip.scores[:, r, c]
                weight[place] += hann
                known[place] |= chip.valid[r, c]
    known = known[: shape[0], : shape[1]]
    mean = (total / np.maximum(weight, 1e-12))[:, : shape[0], : shape[1]]
    strips = list(stitch(plan, chips, (4, 5, 6), join="blend", scores=True))
    classes = np.concatenate([strip.classes for strip in strips])
    np.testing.assert_array_equal(classes, np.where(known, mean.argmax(axis=0) + 4, 255))
    percents = np.concatenate([s.scores for s in strips if s.scores is not None], axis=1)
    wrong = np.abs(np.where(known, percents - mean * 100, 0)).max()
    assert wrong < 0.51


def test_chips_without_valid_pixels_are_not_computed(write_scene: Write) -> None:
    computed = 0

    class Counting(OneHotRuntime):
        def scores(self, chips: Iterator[np.ndarray]) -> Iterator[np.ndarray]:  # type: ignore[override]
            nonlocal computed
            for scores in super().scores(chips):
                computed += 1
                yield scores

    pixels = np.zeros((1, 320, 320), "uint8")
    pixels[0, :10, 300:] = 7
    model = Model(stored_card(), Counting(200), "0" * 64)
    path = write_scene(pixels, nodata=0, descriptions=("red",))
    seen: list[PlannedChip] = []

    def see(planned: PlannedChip, chip: Chip) -> None:
        seen.append(planned)

    with open_scene(path, ("red",), units="stored") as scene:
        classes = np.concatenate(
            [strip.classes for strip in predict_strips(scene, model, see_chip=see)]
        )
    np.testing.assert_array_equal(classes, np.where(pixels[0] == 0, 255, 7))
    assert computed == 1
    assert len(seen) == 81
