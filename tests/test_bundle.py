"""Bundles: strict, hashed, without code."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import grey_legend

from geoseg.errors import InputError, ModelError, OutputError
from geoseg.model.bundle import list_models, load_bundle, save_bundle
from geoseg.model.card import Card, make_card
from geoseg.model.loading import load_model
from geoseg.nets.unet import UNet
from geoseg.nets.zoo import build_model

WIDTHS = (4, 6)


def card(**more: Any) -> Card:
    fields: dict[str, Any] = {
        "name": "tiny",
        "architecture": "unet",
        "hyperparameters": {"widths": list(WIDTHS)},
        "bands": ("red", "nir"),
        "mean": (0.1, 0.3),
        "stddev": (0.05, 0.1),
        "legend": grey_legend(3),
        "units": "reflectance",
        "chip_px": 64,
        "halo_px": 12,
        "stride": 2,
        "exact": True,
    }
    return make_card(**(fields | more))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("original") / "tiny"
    save_bundle(folder, card(), UNet(2, 3, widths=WIDTHS).eval())
    return folder


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    shutil.copytree(original, tmp_path / "tiny")
    return tmp_path / "tiny"


def edit_card(bundle: Path, **changes: Any) -> None:
    told = json.loads((bundle / "card.json").read_text())
    told.update(changes)
    (bundle / "card.json").write_text(json.dumps(told))


def test_a_bundle_comes_back_as_it_was(original: Path) -> None:
    loaded = load_bundle(original)
    assert loaded.card.bands == ("red", "nir")
    assert loaded.card.total_parameters == sum(
        p.numel() for p in UNet(2, 3, widths=WIDTHS).parameters()
    )
    assert loaded.sha256 == hashlib.sha256((original / "card.json").read_bytes()).hexdigest()
    for name, digest in loaded.card.sha256.items():
        assert hashlib.sha256((original / name).read_bytes()).hexdigest() == digest
    assert Card.from_json(loaded.card.to_json(), "again") == loaded.card


def test_nothing_in_a_bundle_is_a_pickle(original: Path) -> None:
    for file in original.iterdir():
        assert file.suffix in {".json", ".safetensors", ".xml", ".bin"}
        head = file.read_bytes()[:2]
        assert head not in (b"\x80\x02", b"\x80\x04", b"PK")


def test_runtimes_agree(original: Path) -> None:
    values = np.random.default_rng(0).random((2, 64, 64), "float32")
    chips = [values, values[:, ::-1].copy(), values[:, :, ::-1].copy()]
    results = [
        list(load_model(original, runtime=runtime, precision="float32").runtime.scores(chips))
        for runtime in ("openvino", "torch")
    ]
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)
    np.testing.assert_allclose(np.sum(results[0], axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("inside", ["", "tiny/"])
def test_a_zip_is_the_same_model(bundle: Path, tmp_path: Path, inside: str) -> None:
    path = tmp_path / "tiny.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in bundle.iterdir():
            archive.write(file, inside + file.name)
    assert load_bundle(path).sha256 == load_bundle(bundle).sha256


def test_installed_models_are_found_by_name(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOSEG_MODELS", str(tmp_path))
    assert list_models()["tiny"] == bundle
    assert load_bundle("tiny").path == bundle
    assert "landcover" in list_models(), "the default model comes with the package"


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there are: landcover"):
        load_bundle("no-such-model")
    with pytest.raises(ModelError, match=r"is no bundle: it holds no card\.json"):
        load_bundle(tmp_path)
    (tmp_path / "model.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(ModelError, match="is no bundle"):
        load_bundle(tmp_path / "model.zip")


@pytest.mark.parametrize("name", ["weights.safetensors", "graph.xml", "graph.bin"])
def test_a_damaged_or_missing_file_is_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} is not the file that the card describes"):
        load_bundle(bundle)
    (bundle / name).unlink()
    with pytest.raises(ModelError, match=name):
        load_bundle(bundle)


def test_weights_of_another_network_are_refused_even_with_a_right_hash(
    bundle: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    save_bundle(other, card(hyperparameters={"widths": [4, 8]}), UNet(2, 3, widths=(4, 8)).eval())
    shutil.copy(other / "weights.safetensors", bundle)
    hashes = json.loads((bundle / "card.json").read_text())["geoseg:sha256"]
    digest = hashlib.sha256((bundle / "weights.safetensors").read_bytes()).hexdigest()
    edit_card(bundle, **{"geoseg:sha256": hashes | {"weights.safetensors": digest}})
    with pytest.raises(ModelError, match="not of one model"):
        load_bundle(bundle)


def test_a_card_of_another_shape_does_not_take_the_weights(bundle: Path) -> None:
    edit_card(bundle, **{"mlm:hyperparameters": {"widths": [4, 8]}})
    with pytest.raises(ModelError, match="do not fit its card"):
        load_model(bundle, runtime="torch")


def test_a_graph_of_other_bands_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    changed = card(bands=("red", "nir", "blue"), mean=(0.0,) * 3, stddev=(1.0,) * 3)
    save_bundle(other, changed, UNet(3, 3, widths=WIDTHS).eval())
    hashes = json.loads((bundle / "card.json").read_text())["geoseg:sha256"]
    for name in ("graph.xml", "graph.bin"):
        shutil.copy(other / name, bundle)
        hashes[name] = hashlib.sha256((bundle / name).read_bytes()).hexdigest()
    edit_card(bundle, **{"geoseg:sha256": hashes})
    with pytest.raises(ModelError, match="takes 3 bands"):
        load_model(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mlm:tasks": ["object-detection"]}, "mlm:tasks"),
        ({"geoseg:stride": 0}, "geoseg:stride"),
        ({"geoseg:halo_px": 32}, "leaves nothing"),
        ({"geoseg:halo_px": 11}, "multiples of the stride"),
        ({"geoseg:units": "furlongs"}, "geoseg:units"),
        ({"geoseg:gsd_m": [30, 10]}, "gsd_m"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"geoseg:sha256": {"../../etc/passwd": "0"}}, "must name"),
        ({"geoseg:sha256": {}}, "must name"),
    ],
)
def test_a_card_that_makes_no_sense_is_refused_with_its_place(
    bundle: Path, change: dict[str, Any], message: str
) -> None:
    edit_card(bundle, **change)
    with pytest.raises(ModelError, match=message):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"mlm:hyperparameters": {"widths": [4, 6], "batch_norm": False}},
            "not made from this card",
        ),
        ({"mlm:architecture": "nothing"}, "not made from this card"),
        ({"geoseg:stride": 1}, "not made from this card"),
        ({"geoseg:gsd_m": [float("nan"), 10]}, "geoseg:gsd_m"),
    ],
)
def test_a_graph_is_only_used_with_the_card_it_was_made_by(
    bundle: Path, change: dict[str, Any], message: str
) -> None:
    edit_card(bundle, **change)
    with pytest.raises(ModelError, match=message):
        load_model(bundle)


def test_other_scaling_in_the_card_than_in_the_graph_is_refused(bundle: Path) -> None:
    told = json.loads((bundle / "card.json").read_text())
    told["mlm:input"][0]["value_scaling"][0]["mean"] = 9.0
    edit_card(bundle, **told)
    with pytest.raises(ModelError, match="not made from this card"):
        load_model(bundle)


@pytest.mark.parametrize(
    "hyperparameters",
    [{"bands": 3}, {"name": "x"}, {"widths": [3_000_000, 3_000_000]}, {"widths": "ab"}],
)
def test_a_card_that_lies_about_the_network_takes_no_memory(
    bundle: Path, hyperparameters: dict[str, Any]
) -> None:
    edit_card(bundle, **{"mlm:hyperparameters": hyperparameters})
    with pytest.raises(ModelError):
        load_model(bundle, runtime="torch")


def test_weights_cut_short_are_refused_even_with_a_right_hash(bundle: Path) -> None:
    content = (bundle / "weights.safetensors").read_bytes()[:-100]
    (bundle / "weights.safetensors").write_bytes(content)
    hashes = json.loads((bundle / "card.json").read_text())["geoseg:sha256"]
    digest = hashlib.sha256(content).hexdigest()
    edit_card(bundle, **{"geoseg:sha256": hashes | {"weights.safetensors": digest}})
    with pytest.raises(ModelError, match="cut short"):
        load_bundle(bundle)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_damaged_zip_is_refused(bundle: Path, tmp_path: Path, method: int) -> None:
    path = tmp_path / "renamed.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in bundle.iterdir():
            archive.write(file, f"tiny/{file.name}")
    load_bundle(path)
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 4, len(content) * 3 // 4, 50):
        content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"renamed\.zip"):
        load_bundle(path)


def test_a_folder_of_the_models_name_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "landcover").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_bundle("landcover").card.name == "landcover"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\x00\xff", '{"mlm:name": 3}'])
def test_a_card_that_is_no_card(bundle: Path, text: str) -> None:
    (bundle / "card.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"card\.json"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 4, struct.pack("<Q", 1 << 60), struct.pack("<Q", 2) + b"[]"]
)
def test_weights_that_are_no_safetensors(bundle: Path, content: bytes) -> None:
    (bundle / "weights.safetensors").write_bytes(content)
    hashes = json.loads((bundle / "card.json").read_text())["geoseg:sha256"]
    digest = hashlib.sha256(content).hexdigest()
    edit_card(bundle, **{"geoseg:sha256": hashes | {"weights.safetensors": digest}})
    with pytest.raises(ModelError, match="no safetensors"):
        load_bundle(bundle)


def test_a_bundle_is_not_written_over_another(original: Path) -> None:
    with pytest.raises(OutputError, match="holds a bundle already"):
        save_bundle(original, card(), UNet(2, 3, widths=WIDTHS))


def test_networks_by_name() -> None:
    with pytest.raises(ModelError, match="there are fcn, unet"):
        build_model("resnet", bands=1, classes=2)
    with pytest.raises(ModelError, match="unet takes no depth; it takes encoder, widths"):
        build_model("unet", bands=1, classes=2, depth=4)
    with pytest.raises(InputError, match="no runtime"):
        load_model("landcover", runtime="abacus")  # type: ignore[arg-type]


def test_the_original_u_net_has_its_published_size() -> None:
    assert sum(p.numel() for p in UNet(1, 2).parameters()) == 31_030_658
