"""Where networks run, how precisely, and what is left of their scores."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import OneHotRuntime, assert_ctrl_c_is_told_after, grey_legend, stored_card

import geoseg
from geoseg.errors import InputError, ModelError
from geoseg.map_making import memory_bytes
from geoseg.model import openvino_runtime, torch_runtime
from geoseg.model.bundle import load_bundle, save_bundle
from geoseg.model.card import make_card
from geoseg.model.loading import Model, load_model
from geoseg.model.runtime import Array, Runtime
from geoseg.model.torch_runtime import TorchRuntime
from geoseg.nets.unet import UNet
from geoseg.nets.zoo import build_model
from geoseg.raster.decision import decide
from geoseg.scene_mapping import Tiling

WIDTHS = (4, 6)

needs_bf16 = pytest.mark.skipif(
    not openvino_runtime.has_bf16(), reason="this processor has no bf16"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("runtimes") / "tiny"
    card = make_card(
        name="tiny", architecture="unet", hyperparameters={"widths": list(WIDTHS)},
        bands=("red", "nir"), mean=(0.1, 0.3), stddev=(0.05, 0.1), legend=grey_legend(5),
        units="reflectance", chip_px=64, halo_px=12, stride=2, exact=True,
    )  # fmt: skip
    save_bundle(folder, card, UNet(2, 5, widths=WIDTHS).eval())
    return folder


def chips(count: int) -> list[Array]:
    rng = np.random.default_rng(8)
    return [rng.random((2, 64, 64), np.float32) for _ in range(count)]


@pytest.mark.parametrize("planes", [1, 2, 5, 254])
def test_decisions_are_those_of_numpy(planes: int) -> None:
    rng = np.random.default_rng(planes)
    scores = rng.integers(0, 4, (planes, 40, 50)).astype(np.float32) / 4  # with many equals
    scores[:, :2] = rng.random((planes, 2, 50))
    decision = decide(scores)
    np.testing.assert_array_equal(decision.winner, scores.argmax(axis=0))
    np.testing.assert_array_equal(decision.confidence, np.rint(scores.max(axis=0) * 100))


def test_where_a_network_breaks_down_nothing_is_decided() -> None:
    scores = np.full((3, 4, 4), 0.25, np.float32)
    scores[1, 0] = np.nan
    scores[2, 1] = np.inf
    decision = decide(scores)
    for array in (decision.winner, decision.confidence):
        assert (array[:2] == 255).all()
        assert (array[2:] != 255).all()


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [
        ("openvino", "float32"),
        pytest.param("openvino", "bf16", marks=needs_bf16),
        ("torch", "float32"),
        ("torch", "bf16"),
    ],
)
def test_a_runtimes_decisions_are_those_of_its_scores(
    bundle: Path, runtime: str, precision: str
) -> None:
    model = load_model(bundle, runtime=runtime, device="cpu", precision=precision)  # type: ignore[arg-type]
    assert model.runtime.label.endswith(f"cpu, {precision}")
    scores = list(model.runtime.scores(chips(7)))
    decisions = list(model.runtime.decisions(chips(7)))
    assert len(scores) == len(decisions) == 7
    for told, decision in zip(scores, decisions, strict=True):
        np.testing.assert_array_equal(decision.winner, told.argmax(axis=0))
        np.testing.assert_array_equal(decision.confidence, np.rint(told.max(axis=0) * 100))


@pytest.mark.parametrize("runtime", ["openvino", "torch"])
def test_a_runtime_that_has_rested_goes_on(bundle: Path, runtime: str) -> None:
    model = load_model(bundle, runtime=runtime, device="cpu")  # type: ignore[arg-type]
    before = np.stack(list(model.runtime.scores(chips(3))))
    model.runtime.rest()
    np.testing.assert_array_equal(np.stack(list(model.runtime.scores(chips(3)))), before)


@pytest.mark.parametrize("runtime", [pytest.param("openvino", marks=needs_bf16), "torch"])
def test_bf16_is_close_to_float32_and_other(bundle: Path, runtime: str) -> None:
    reference, scores = (
        np.stack(list(load_model(bundle, runtime=r, precision=p).runtime.scores(chips(2))))  # type: ignore[arg-type]
        for r, p in (("torch", "float32"), (runtime, "bf16"))
    )
    assert 1e-6 < np.abs(scores - reference).max() < 0.03


@pytest.mark.parametrize(
    ("precision", "merged"), [("float32", True), pytest.param("bf16", False, marks=needs_bf16)]
)
def test_upsampling_is_merged_where_that_was_measured(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, precision: str, merged: bool
) -> None:
    graphs: list[Any] = []
    monkeypatch.setattr(openvino_runtime, "merge_upsampling", graphs.append)
    model = load_model(bundle, runtime="openvino", precision=precision)  # type: ignore[arg-type]
    assert len(list(model.runtime.scores(chips(2)))) == 2
    assert len(graphs) == merged


def test_a_processor_without_bf16_is_not_asked_for_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_runtime, "has_bf16", lambda: False)
    assert load_model(bundle, runtime="openvino").runtime.label.endswith("cpu, float32")
    with pytest.raises(InputError, match="has no bf16; choose --precision float32"):
        load_model(bundle, runtime="openvino", precision="bf16")


def test_batches_change_nothing_but_the_pace(bundle: Path) -> None:
    """The last batch of five is half empty; what was in its buffer must not come out."""
    loaded = load_bundle(bundle)
    one, three = (TorchRuntime(loaded, "cpu", "float32", batch=count) for count in (1, 3))
    for single, batched in zip(one.scores(chips(5)), three.scores(chips(5)), strict=True):
        np.testing.assert_allclose(single, batched, atol=1e-6)
    assert len(list(three.scores(chips(5)))) == 5


def test_buffers_serve_the_next_scene_but_no_two_at_a_time(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, what is made for the first batch costs more than many a scene."""
    made: list[tuple[int, ...]] = []

    class Counted(torch_runtime._Lane):
        def __init__(self, compute: Any, shape: tuple[int, ...], device: torch.device) -> None:
            made.append(shape)
            super().__init__(compute, shape, device)

    monkeypatch.setattr(torch_runtime, "_Lane", Counted)
    runtime = TorchRuntime(load_bundle(bundle), "cpu", "float32", batch=2)
    first = list(runtime.scores(chips(3)))
    for again, told in zip(runtime.scores(chips(3)), first, strict=True):
        np.testing.assert_array_equal(again, told)
    assert made == [(2, 2, 64, 64)]
    one, other = runtime.scores(chips(3)), runtime.scores(chips(3))
    for told in first:
        np.testing.assert_array_equal(next(one), told)
        np.testing.assert_array_equal(next(other), told)
    assert len(made) == 2
    assert len(list(runtime.decisions(chips(1)))) == 1
    larger = [np.zeros((2, 96, 96), np.float32)]
    assert next(iter(runtime.scores(larger))).shape == (5, 96, 96)


@pytest.mark.parametrize("architecture", ["residual", "unet", "deeplabv3plus"])
def test_each_set_of_bands_has_its_graph(tmp_path: Path, architecture: str) -> None:
    """What the runtime tells the graph of missing bands is what torch sees in the chip."""
    torch.manual_seed(1)
    narrow: dict[str, Any] = {"residual": {"width": 8, "stem": 6, "blocks": 1},
                              "unet": {"widths": [6, 8]},
                              "deeplabv3plus": {"encoder": "resnet18"}}[architecture]  # fmt: skip
    told = narrow | {"band_sets": [[0, 1], [2]]}
    network = build_model(architecture, bands=3, classes=4, **told).eval()
    card = make_card(
        name="sets", architecture=architecture, hyperparameters=told, bands=("red", "nir", "blue"),
        mean=(-2.0, -1.0, -2.5), stddev=(0.5,) * 3, legend=grey_legend(4), units="reflectance",
        chip_px=64, halo_px=16, stride=network.stride, exact=False, logarithm=0.02,
        band_sets=(("red", "nir"), ("blue",)),
    )  # fmt: skip
    save_bundle(tmp_path / "sets", card, network)
    runtimes = [
        load_model(tmp_path / "sets", runtime=name, precision="float32").runtime  # type: ignore[arg-type]
        for name in ("openvino", "torch")
    ]
    rng, seen = np.random.default_rng(0), []
    for missing in ([], [2], [0, 1], [], [0]):
        given = [rng.random((3, 64, 64), np.float32) for _ in range(3)]
        for chip in given:
            chip[missing] = np.nan
        graph, network_scores = (list(runtime.scores(given)) for runtime in runtimes)
        np.testing.assert_allclose(graph, network_scores, atol=1e-4)
        seen.append(np.std(graph[0]))
    assert min(seen[:3]) > 1e-3


def test_segnet_stays_in_float32_unless_asked() -> None:
    segnet = stored_card().model_copy(update={"architecture": "segnet"})
    assert not segnet.allows_bf16
    assert segnet.model_copy(update={"bf16": True}).allows_bf16
    assert stored_card().allows_bf16
    assert not stored_card(bf16=False).allows_bf16


def test_int8_is_only_computed_where_it_was_made(bundle: Path) -> None:
    with pytest.raises(ModelError, match=r"graph_int8\.xml; make one with geoseg quantize"):
        geoseg.load_model(bundle, precision="int8")
    with pytest.raises(InputError, match="torch computes no int8"):
        geoseg.load_model(bundle, precision="int8", runtime="torch")


def test_to_quantize_takes_what_may_not_be_there(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(InputError, match=r"pip install 'geoseg\[quantize\]'"):
        geoseg.quantize(bundle, ["no.tif"], output=tmp_path / "new")


def test_ctrl_c_is_told_where_models_have_come_and_gone(bundle: Path) -> None:
    assert_ctrl_c_is_told_after(f"""
from geoseg.model.loading import load_model
models = [load_model({str(bundle)!r}, runtime="openvino") for _ in range(2)]
while models:
    del models[0]
""")


def test_a_card_may_keep_its_network_in_float32(bundle: Path, tmp_path: Path) -> None:
    plain = load_bundle(bundle)
    told = plain.card.model_copy(update={"bf16": False, "sha256": {}})
    save_bundle(tmp_path / "tiny", told, UNet(2, 5, widths=WIDTHS).eval())
    assert load_model(tmp_path / "tiny", device="cpu").runtime.label.endswith("float32")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"device": "cuda:7"}, "GPUs that torch can use"),
        ({"device": "moon", "runtime": "torch"}, "no device is called 'moon'"),
        ({"device": "meta", "runtime": "torch"}, "no runtime computes on 'meta'"),
        ({"device": "cuda", "runtime": "openvino"}, "openvino runs on the cpu"),
        ({"precision": "float16"}, "no precision is called"),
    ],
)
def test_what_a_machine_lacks_is_said(bundle: Path, options: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        load_model(bundle, **options)  # type: ignore[arg-type]


def test_amounts_of_memory() -> None:
    assert memory_bytes("2GB") == 2_000_000_000
    assert memory_bytes("1.5 GiB") == 3 << 29
    assert memory_bytes("800mb") == 800_000_000
    assert memory_bytes(7) == 7
    assert memory_bytes(None) is None
    for wrong in ("much", "-1GB", "GB", "1e9"):
        with pytest.raises(InputError, match="is no amount"):
            memory_bytes(wrong)


class Hungry(Runtime):
    """Takes a kilobyte a pixel and computes nothing."""

    label = "hungry"

    def scores(self, chips: Iterator[Array]) -> Iterator[Array]:  # type: ignore[override]
        raise NotImplementedError

    def memory_bytes(self, shape: tuple[int, ...]) -> int:
        return shape[1] * shape[2] * 1000


def test_chips_are_as_small_as_memory_asks_where_the_map_stays_the_same() -> None:
    exact = Model(stored_card(chip_px=512, halo_px=64), Hungry(), "0" * 64)
    chips_at = {
        memory: Tiling().settled((9000, 9000), exact, memory_bytes(memory)).chip_px
        for memory in ("8GB", "540MB", "500MB", "340MB")
    }
    assert chips_at == {"8GB": 512, "540MB": 512, "500MB": 256, "340MB": 256}
    assert Tiling().settled((9000, 9000), exact).chip_px == 512
    with pytest.raises(InputError, match=r"takes about 0\.3 GB with chips of 256 px"):
        Tiling().settled((9000, 9000), exact, 100 << 20)
    fixed = Model(stored_card(chip_px=512, halo_px=64, exact=False), Hungry(), "0" * 64)
    with pytest.raises(InputError, match=r"with chips of 512 px"):
        Tiling().settled((9000, 9000), fixed, memory_bytes("500MB"))
    with pytest.raises(InputError, match=r"with chips of 512 px"):
        Tiling(chip_px=512).settled((9000, 9000), exact, memory_bytes("500MB"))
    untold = Model(stored_card(chip_px=512, halo_px=64), OneHotRuntime(200), "0" * 64)
    with pytest.raises(InputError, match="--memory is counted for openvino alone"):
        Tiling().settled((9000, 9000), untold, memory_bytes("8GB"))


def test_what_openvino_takes_grows_with_the_chip(bundle: Path) -> None:
    runtime = load_model(bundle, runtime="openvino", precision="float32").runtime
    small, large = (runtime.memory_bytes((2, side, side)) for side in (64, 128))
    assert small is not None
    assert large is not None
    assert 3.5 < large / small < 4.5
    assert small > 5 * 64 * 64 * 4
