"""What each architecture is according to its paper, against torch's and torchvision's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import segmentation, vgg

from geoseg.nets.deeplab import dilated_encoder
from geoseg.nets.encoders import build_encoder
from geoseg.nets.fcn import BilinearUpsampling
from geoseg.nets.heads import PooledNorm
from geoseg.nets.segnet import SegNet, in_slots, slots_of_maxima
from geoseg.nets.vgg import VGG
from geoseg.nets.zoo import build_model

LITE = "efficientnet-lite0"


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "hyperparameters", "published"),
    [
        ("fcn", {"variant": "32s"}, 134_346_581),
        ("fcn", {"variant": "8s"}, 134_362_751),
        ("segnet", {}, 29_455_125),
        ("unet", {"encoder": "resnet34"}, 24_439_269),
        ("deeplabv3", {}, 39_638_869),
        ("deeplabv3", {"auxiliary": True}, 42_004_074),
        ("deeplabv3plus", {}, 26_682_725),
        ("pspnet", {}, 46_592_597),
        ("pspnet", {"auxiliary": True}, 48_957_802),
        ("siamese_unet", {"encoder": "resnet34"}, 24_439_269),  # shared: no more than one date's
        ("fcsiam_diff", {}, 24_439_269),
    ],
)
def test_published_numbers_of_parameters(
    name: str, hyperparameters: dict[str, Any], published: int
) -> None:
    with torch.device("meta"):
        network = build_model(name, bands=3, classes=21, **hyperparameters)
    assert parameters_of(network) == published


@pytest.mark.parametrize("factor", [2, 8, 32])
@pytest.mark.parametrize("learned", [False, True])
def test_upsampling_starts_as_bilinear_interpolation(factor: int, learned: bool) -> None:
    scores = torch.randn(2, 3, 5, 7)
    upsampling = BilinearUpsampling(3, factor, learned=learned)
    with torch.no_grad():
        enlarged = upsampling(scores)
    expected = F.interpolate(scores, scale_factor=factor, mode="bilinear", align_corners=False)
    inside = (..., slice(factor, -factor), slice(factor, -factor))  # theirs repeats the border
    torch.testing.assert_close(enlarged[inside], expected[inside], atol=1e-5, rtol=0)
    assert enlarged.shape == expected.shape
    assert parameters_of(upsampling) == (9 * (2 * factor) ** 2 if learned else 0)


def test_finer_variants_of_fcn_start_from_coarse_scores() -> None:
    """New skips add nothing at first (but a constant), as when the authors train 32s, 16s, 8s."""
    network = build_model("fcn", bands=3, classes=2, encoder="resnet18", variant="8s").eval()
    image = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        scores = network.classifier(network.encoder(image)[-1])  # type: ignore[operator, misc]
        difference = network(image)
        for factor in (2, 2, 8):
            scores = F.interpolate(scores, scale_factor=factor, mode="bilinear")
        difference -= scores
    inside = difference[..., 80:-80, 80:-80]
    assert inside.flatten(2).std(dim=2).max() < 1e-5
    assert scores.std() > 1e-2


def tied_features() -> Tensor:
    """After a ReLU most windows are tied; whole numbers make many more ties."""
    return torch.randint(-3, 4, (3, 5, 12, 16)).relu().float()


def test_unpooling_is_torchs_own() -> None:
    torch.manual_seed(0)
    features, values = tied_features(), torch.randn(3, 5, 6, 8)
    _, indices = nn.MaxPool2d(2, return_indices=True)(features)
    expected = nn.MaxUnpool2d(2)(values, indices)
    assert torch.equal(in_slots(values, slots_of_maxima(features)), expected)


def test_segnet_is_the_same_in_training_and_in_evaluation() -> None:
    """The two ways of pooling and unpooling, gradients included; batch norm kept still."""
    torch.manual_seed(0)
    network = SegNet(2, 3, widths=(4, 6), depths=(1, 2)).double()
    image = torch.randn(2, 2, 16, 24).double()
    results = []
    for training in (False, True):
        network.eval()
        network.training = training
        network.zero_grad()
        logits = network(image)
        logits.square().sum().backward()
        results.append([logits.detach(), *(p.grad.clone() for p in network.parameters())])  # type: ignore[union-attr]
    for here, there in zip(*results, strict=True):
        torch.testing.assert_close(here, there)


def test_vgg_is_torchvisions() -> None:
    torch.manual_seed(0)
    published = vgg.make_layers(vgg.cfgs["D"], batch_norm=True).eval()
    ours = VGG(3, batch_norm=True).eval()
    ours.features.load_state_dict(published.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(image)[-1], published(image))


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("encoder", ["resnet18", "resnet50", LITE])
def test_dilation_keeps_the_size(encoder: str, output_stride: int) -> None:
    trunk = dilated_encoder(encoder, 3, output_stride).eval()
    with torch.inference_mode():
        features = trunk(torch.zeros(1, 3, 128, 64))
    assert features[-1].shape[-2:] == (128 // output_stride, 64 // output_stride)
    assert features[2].shape[-2:] == (32, 16), "the decoder of V3+ counts on it"


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilation_sees_what_strides_saw(output_stride: int) -> None:
    """Every second, or fourth, feature of the dilated trunk is a feature of the strided one."""
    torch.manual_seed(0)
    strided = build_encoder("resnet18", 3).eval()
    dilated = dilated_encoder("resnet18", 3, output_stride).eval()
    dilated.load_state_dict(strided.state_dict())
    for layer in (*strided.modules(), *dilated.modules()):
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)  # else residual branches start at zero
    image, step = torch.randn(1, 3, 128, 128), 32 // output_stride
    with torch.inference_mode():
        every = dilated(image)[-1]
        torch.testing.assert_close(
            every[..., ::step, ::step], strided(image)[-1], atol=1e-4, rtol=1e-4
        )


def test_multi_grid_of_the_last_stage() -> None:
    for output_stride, expected in ((16, [2, 4, 8]), (8, [4, 8, 16])):
        with torch.device("meta"):
            trunk = dilated_encoder("resnet50", 3, output_stride, (1, 2, 4))
        found = [block.conv2.dilation[0] for block in trunk.model.layer4]  # type: ignore[union-attr]
        assert found == expected


@pytest.mark.slow
def test_deeplabv3_is_torchvisions() -> None:
    """At output stride 8, where its rates are the paper's; it knows no multi-grid."""
    torch.manual_seed(0)
    published = segmentation.deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=4, aux_loss=True
    ).eval()
    ours = build_model(
        "deeplabv3", bands=3, classes=4, output_stride=8, multi_grid=[], auxiliary=True
    ).eval()
    in_order = zip(ours.state_dict(), published.state_dict().values(), strict=True)
    ours.load_state_dict(dict(in_order))
    image = torch.randn(1, 3, 128, 128)
    with torch.inference_mode():
        theirs = published(image)
        torch.testing.assert_close(ours(image), theirs["out"], atol=1e-4, rtol=1e-4)
        last_but_one = ours.encoder(image)[-2]  # type: ignore[misc]
        auxiliary = F.interpolate(ours.auxiliary(last_but_one), size=(128, 128), mode="bilinear")  # type: ignore[misc]
        torch.testing.assert_close(auxiliary, theirs["aux"], atol=1e-4, rtol=1e-4)
    assert theirs["out"].std() > 1e-3


def test_bins_of_pspnet_are_means_of_the_parts_of_the_image() -> None:
    """A grid of 2 x 2 bins over features that are constant in each quarter."""
    network = build_model("pspnet", bands=1, classes=2, encoder="resnet18", bins=[2]).eval()
    quarters = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    features = quarters.repeat_interleave(6, 0).repeat_interleave(6, 1).expand(1, 512, 12, 12)
    pool = network.pyramid[0][0]  # type: ignore[index]
    assert torch.equal(pool(features)[0, 0], quarters)


def test_norm_of_one_value_is_that_of_evaluation() -> None:
    norm = PooledNorm(3)
    norm.running_mean = torch.tensor([1.0, 2.0, 3.0])
    one, two = torch.randn(1, 3, 1, 1), torch.randn(2, 3, 1, 1)
    alone = norm(one)
    torch.testing.assert_close(norm.running_mean, torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(alone, norm.eval()(one))
    norm.train()
    torch.testing.assert_close(norm(two).mean(dim=0), torch.zeros(3, 1, 1), atol=1e-6, rtol=0)


SIAMESE: dict[str, tuple[str, dict[str, Any]]] = {
    "siamese_unet": ("siamese_unet", {"widths": [4, 6, 8], "batch_norm": True}),
    "siamese_unet-resnet18": ("siamese_unet", {"encoder": "resnet18"}),
    "fcsiam_diff": ("fcsiam_diff", {"encoder": "resnet18"}),
    "fcsiam_conc": ("fcsiam_conc", {"encoder": "resnet18"}),
}


@pytest.fixture(params=SIAMESE)
def siamese(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    name, hyperparameters = SIAMESE[request.param]
    return build_model(name, bands=3, classes=2, **hyperparameters).eval()


def test_both_dates_are_seen(siamese: nn.Module) -> None:
    dates = torch.randn(1, 6, 64, 64, requires_grad=True)
    siamese(dates).square().sum().backward()
    assert dates.grad is not None
    assert (dates.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_swapped_dates(siamese: nn.Module) -> None:
    """Absolute differences are the same either way; signed ones and features side by side not."""
    one, other = torch.randn(2, 1, 3, 64, 64)
    with torch.inference_mode():
        there, back = siamese(torch.cat([one, other], 1)), siamese(torch.cat([other, one], 1))
    symmetric = type(siamese).__name__ in {"SiameseUNet", "EncoderSiameseUNet"}
    assert torch.allclose(there, back, atol=1e-6) == symmetric


def test_what_did_not_change_is_the_same_everywhere(siamese: nn.Module) -> None:
    """Of one image twice, networks of differences see nothing of what is on it."""
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        logits = siamese(torch.cat([image, image], 1))[..., 24:40, 24:40]
        blank = siamese(torch.zeros(1, 6, 64, 64))[..., 24:40, 24:40]
    blind = type(siamese).__name__ != "FCSiamConc"
    assert torch.allclose(logits, blank, atol=1e-5) == blind


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcsiam_diff", "fcsiam_conc"])
def test_fcsiam_is_torchgeos(name: str) -> None:
    from torchgeo import models  # takes seconds

    torch.manual_seed(0)
    kind = {"fcsiam_diff": models.FCSiamDiff, "fcsiam_conc": models.FCSiamConc}[name]
    published = kind("tu-resnet18", encoder_weights=None, in_channels=4, classes=3).eval()
    ours = build_model(name, bands=4, classes=3, encoder="resnet18").eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), published.state_dict().values(), strict=True)))
    dates = torch.randn(2, 2, 4, 64, 96)
    with torch.inference_mode():
        theirs = published(dates)
        torch.testing.assert_close(ours(dates.flatten(1, 2)), theirs, atol=1e-5, rtol=1e-5)
    assert theirs.std() > 1e-2


def test_pretrained_filters_serve_both_dates(tmp_path: Path) -> None:
    """By name, not by position: the shared first layer takes the bands of either date."""
    source = build_encoder("resnet18", 3)
    torch.save(source.model.state_dict(), tmp_path / "weights.pth")  # type: ignore[union-attr]
    bands = ("nir", "blue", "red")
    network = build_model(
        "fcsiam_conc", bands=bands, classes=2, encoder="resnet18",
        pretrained=tmp_path / "weights.pth",
    )  # fmt: skip
    filters = source.model.conv1.weight  # type: ignore[union-attr]
    expected = torch.stack([filters.mean(1), filters[:, 2], filters[:, 0]], 1)
    assert torch.allclose(network.encoder.model.conv1.weight, expected)  # type: ignore[union-attr]
