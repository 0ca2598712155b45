"""What every architecture does, and what each of them is according to its paper."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from conftest import grey_legend
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import segmentation, vgg

from geoseg.errors import ModelError
from geoseg.model.card import make_card
from geoseg.model.export import export_graph
from geoseg.model.network import scoring_network
from geoseg.nets.deeplab import dilated_encoder
from geoseg.nets.encoders import build_encoder
from geoseg.nets.fcn import BilinearUpsampling
from geoseg.nets.heads import PooledNorm
from geoseg.nets.network import Network
from geoseg.nets.segnet import SegNet, in_slots, slots_of_maxima
from geoseg.nets.vgg import VGG
from geoseg.nets.zoo import NETWORKS, build_model, hyperparameters_of

LITE = "efficientnet-lite0"
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "fcn-8s-vgg16": ("fcn", {"fc_width": 8}),
    "fcn-16s-resnet18": (
        "fcn",
        {"variant": "16s", "encoder": "resnet18", "learned_upsampling": True},
    ),
    "unet": ("unet", {"widths": [4, 6, 8], "encoder": None}),
    "unet-lite0": ("unet", {"encoder": LITE}),
    "unet-resnet18": ("unet", {"encoder": "resnet18", "decoder_widths": [16, 8, 8]}),
    "segnet": ("segnet", {"widths": [8, 12, 16], "depths": [2, 2, 3]}),
    "deeplabv3-resnet18": ("deeplabv3", {"encoder": "resnet18", "auxiliary": True}),
    "deeplabv3plus-lite0": ("deeplabv3plus", {"encoder": LITE, "output_stride": 8}),
    "pspnet-resnet18": ("pspnet", {"encoder": "resnet18", "auxiliary": True}),
}
BANDS = ("blue", "green", "red", "nir")


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def use_whole_numbers(network: SegNet) -> None:
    """Let no sum be rounded: where two maxima nearly tie, rounding decides where a value goes."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            taps = torch.zeros_like(layer.weight)
            for each in taps.flatten(1):
                each[torch.randperm(len(each))[:3]] = torch.randint(2, (3,)) * 2.0 - 1
            layer.weight = nn.Parameter(taps)
            layer.bias = nn.Parameter(torch.randint(-2, 3, (len(taps),)).float())  # type: ignore[assignment]
        elif isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None:
            layer.running_var.fill_(1 - layer.eps)


@pytest.mark.parametrize("variant", SMALL)
class TestEveryArchitecture:
    @pytest.fixture
    def network(self, variant: str) -> Network:
        torch.manual_seed(0)
        name, hyperparameters = SMALL[variant]
        return build_model(name, bands=len(BANDS), classes=5, **hyperparameters)

    def test_trains(self, network: Network) -> None:
        """Shapes, and a gradient for every parameter, with one image as with two."""
        for parameter in network.parameters():  # some layers start at zero, on purpose
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)
        for batch in (1, 2):
            network.zero_grad()
            made = network.train()(torch.randn(batch, len(BANDS), 64, 64))
            both = made if isinstance(made, tuple) else (made,)
            assert len(both) == (2 if network.auxiliary is not None else 1)
            assert {tuple(each.shape) for each in both} == {(batch, 5, 64, 64)}
            sum(each.square().mean() for each in both).backward()
        silent = [
            name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()
        ]
        assert not silent

    def test_is_exported_and_rebuilt_from_its_card(self, network: Network, variant: str) -> None:
        """Without what serves training; the graph scores as torch does, at any size."""
        name, hyperparameters = SMALL[variant]
        plain = {key: value for key, value in hyperparameters.items() if key != "auxiliary"}
        if isinstance(network, SegNet):
            use_whole_numbers(network)
        weights = {k: v for k, v in network.state_dict().items() if not k.startswith("auxiliary.")}
        card = make_card(
            name=variant,
            architecture=name,
            hyperparameters=plain,
            bands=BANDS,
            mean=(2.0,) * 4,
            stddev=(0.5,) * 4,
            legend=grey_legend(5),
            units="stored",
            chip_px=64,
            halo_px=0,
            stride=network.stride,
            exact=False,
        )
        scoring = scoring_network(card, weights)
        graph, numbers = export_graph(scoring.network, card)
        read = openvino.Core().read_model(
            graph, openvino.Tensor(np.frombuffer(numbers, dtype=np.uint8))
        )
        compiled = openvino.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for shape in ((2, 4, 64, 64), (1, 4, 96, 128)):
            values = torch.randint(5, shape).float()
            with torch.inference_mode():
                expected = scoring(values)
                assert torch.equal(scoring(values), expected), "scoring must not be random"
            np.testing.assert_allclose(compiled(values.numpy())[0], expected, atol=1e-4)
            assert expected.std() > 1e-3, "scores that are all the same would prove nothing"

    def test_says_what_it_is(self, network: Network) -> None:
        with pytest.raises(ValueError, match=f"not multiples of {network.stride}"):
            network(torch.zeros(1, 4, 64, network.stride + 1))
        easy = {id(parameter) for parameter in network.encoder_parameters()}
        named = {id(p) for n, p in network.named_parameters() if n.startswith("encoder.")}
        assert easy == named
        assert bool(named) == (type(network).__name__ != "UNet")


@pytest.mark.parametrize("architecture", NETWORKS)
def test_any_number_of_bands_and_classes(architecture: str) -> None:
    light = {"unet": {"widths": [4, 4]}, "segnet": {"widths": [4], "depths": [1]}}
    hyperparameters = light.get(architecture, {"encoder": "resnet18"})
    for bands, classes in ((1, 2), (13, 1)):
        network = build_model(architecture, bands=bands, classes=classes, **hyperparameters)
        assert network.eval()(torch.zeros(1, bands, 64, 96)).shape == (1, classes, 64, 96)


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
    ],
)
def test_published_numbers_of_parameters(
    name: str, hyperparameters: dict[str, Any], published: int
) -> None:
    with torch.device("meta"):
        network = build_model(name, bands=3, classes=21, **hyperparameters)
    assert parameters_of(network) == published


@pytest.mark.parametrize(
    ("name", "hyperparameters", "message"),
    [
        ("unet", {"depth": 4}, "unet takes no depth; it takes encoder, widths, batch_norm"),
        ("unet", {"encoder": "resnet18", "widths": [4]}, "it takes encoder, decoder_widths"),
        ("unet", {"encoder": "no_such_network"}, "Unknown model"),
        ("unet", {"encoder": "hf-hub:somebody/network"}, "is no name of a network"),
        ("unet", {"encoder": "swin_tiny_patch4_window7_224"}, "state that is not among"),
        ("unet", {"encoder": LITE, "decoder_widths": [8, 4]}, "give 5 decoder_widths"),
        ("fcn", {"variant": "4s"}, "'4s' is none of 32s, 16s, 8s"),
        ("segnet", {"widths": [8, 8]}, "one positive depth for each positive width"),
        ("deeplabv3", {"output_stride": 4}, "8 or 16, not 4"),
        ("deeplabv3", {"encoder": "vgg16"}, "output stride of 32"),
        ("deeplabv3", {"encoder": "densenet121"}, "densenet121"),
        ("deeplabv3plus", {"rates": [0, 1]}, "rates are positive"),
        ("deeplabv3plus", {"multi_grid": [-1]}, "positive numbers"),
        ("pspnet", {"bins": []}, "bins are positive"),
        ("pspnet", {"dropout": "much"}, "cannot be built"),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(
    name: str, hyperparameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        build_model(name, bands=3, classes=2, **hyperparameters)
    assert "\n" not in str(caught.value)


def test_bands_and_classes_are_at_least_one() -> None:
    with pytest.raises(ModelError, match="at least one band"):
        build_model("pspnet", bands=0, classes=2)


def test_hyperparameters_are_listed() -> None:
    assert hyperparameters_of("segnet") == ("widths", "depths")
    assert hyperparameters_of("unet", "resnet34") == ("encoder", "decoder_widths")


def test_a_card_names_no_file() -> None:
    """Else a bundle could make us open a path that it chooses."""
    card = make_card(
        name="sly", architecture="unet", hyperparameters={"pretrained": "/etc/passwd"},
        bands=BANDS, mean=(0.0,) * 4, stddev=(1.0,) * 4, legend=grey_legend(2), units="stored",
        chip_px=64, halo_px=0, stride=16, exact=False,
    )  # fmt: skip
    with pytest.raises(ModelError, match="pretrained are no hyperparameters"):
        scoring_network(card, {})


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


@pytest.mark.parametrize("variant", ["fcn-16s-resnet18", "segnet", "pspnet-resnet18"])
def test_trains_in_bfloat16(variant: str) -> None:
    name, hyperparameters = SMALL[variant]
    network = build_model(name, bands=3, classes=2, **hyperparameters).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16):
        made = network(torch.randn(2, 3, 64, 64))
    logits = made[0] if isinstance(made, tuple) else made
    assert logits.dtype == torch.bfloat16
    logits.float().mean().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
