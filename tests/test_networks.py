"""What every architecture does: shapes, gradients, exports, refusals."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from conftest import grey_legend
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from geoseg.errors import ModelError
from geoseg.model.card import make_card
from geoseg.model.export import export_graph
from geoseg.model.network import scoring_network
from geoseg.nets.network import Network, _relative
from geoseg.nets.segnet import SegNet
from geoseg.nets.zoo import NETWORKS, build_model, hyperparameters_of

LITE = "efficientnet-lite0"
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "fcn-8s-vgg16": ("fcn", {"fc_width": 8}),
    "fcn-16s-resnet18": (
        "fcn",
        {"variant": "16s", "encoder": "resnet18", "learned_upsampling": True},
    ),
    "unet": ("unet", {"widths": [4, 6, 8], "encoder": None}),
    "unet-relative": ("unet", {"widths": [4, 6, 8], "relative": True}),
    "unet-band-sets": ("unet", {"widths": [4, 6, 8], "band_sets": [[0, 3], [1]]}),
    "unet-lite0": ("unet", {"encoder": LITE}),
    "unet-resnet18": ("unet", {"encoder": "resnet18", "decoder_widths": [16, 8, 8]}),
    "segnet": ("segnet", {"widths": [8, 12, 16], "depths": [2, 2, 3]}),
    "deeplabv3-resnet18": ("deeplabv3", {"encoder": "resnet18", "auxiliary": True}),
    "deeplabv3plus-lite0": ("deeplabv3plus", {"encoder": LITE, "output_stride": 8}),
    "pspnet-resnet18": ("pspnet", {"encoder": "resnet18", "auxiliary": True}),
    "residual": ("residual", {"stem": 6, "width": 8, "blocks": 2}),
    "siamese_unet": ("siamese_unet", {"widths": [4, 6, 8], "batch_norm": True}),
    "siamese_unet-resnet18": ("siamese_unet", {"encoder": "resnet18"}),
    "fcsiam_diff-resnet18": ("fcsiam_diff", {"encoder": "resnet18", "decoder_widths": [16, 8, 8]}),
    "fcsiam_conc-resnet18": ("fcsiam_conc", {"encoder": "resnet18", "decoder_widths": [16, 8, 8]}),
}
BANDS = ("blue", "green", "red", "nir")


class NothingFromTheHost(TorchDispatchMode):
    """Refuses operations that make a tensor from what lies in Python."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func not in (torch.ops.aten.lift_fresh.default, torch.ops.aten.index.Tensor)
        return func(*args, **(kwargs or {}))


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


SLOW = {"fcn-8s-vgg16", "unet-lite0", "unet-resnet18", "siamese_unet-resnet18",
        "fcsiam_diff-resnet18"}  # fmt: skip
"""There is a quicker one of each architecture."""


@pytest.mark.parametrize(
    "variant",
    [pytest.param(each, marks=pytest.mark.slow if each in SLOW else ()) for each in SMALL],
)
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
            made = network.train()(torch.randn(batch, network.dates * len(BANDS), 64, 64))
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
            dates=network.dates,  # type: ignore[arg-type]
            unchanged=0 if network.dates == 2 else None,
        )
        scoring = scoring_network(card, weights)
        graph, numbers = export_graph(scoring.network, card)
        read = openvino.Core().read_model(
            graph, openvino.Tensor(np.frombuffer(numbers, dtype=np.uint8))
        )
        compiled = openvino.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for batch, size in ((2, (64, 64)), (1, (96, 128))):
            values = torch.randint(5, (batch, network.dates * 4, *size)).float()
            with torch.inference_mode():
                expected = scoring(values)
                assert torch.equal(scoring(values), expected), "scoring must not be random"
            np.testing.assert_allclose(compiled(values.numpy())[0], expected, atol=1e-4)
            assert expected.std() > 1e-3, "scores that are all the same would prove nothing"

    def test_says_what_it_is(self, network: Network) -> None:
        with pytest.raises(ValueError, match=f"not multiples of {network.stride}"):
            network(torch.zeros(1, network.dates * 4, 64, network.stride + 1))
        easy = {id(parameter) for parameter in network.encoder_parameters()}
        named = {id(p) for n, p in network.named_parameters() if n.startswith("encoder.")}
        assert easy == named
        assert bool(named) == (type(network).__name__ not in {"UNet", "SiameseUNet", "ResidualNet"})

    def test_a_forward_takes_nothing_from_the_host(self, network: Network) -> None:
        """A CUDA graph can hold no copy from there: tensors of Python numbers, lists as indexes."""
        with torch.inference_mode(), NothingFromTheHost():
            network.eval()(torch.randn(1, network.dates * len(BANDS), 64, 64))

    def test_an_image_scores_the_same_in_any_company(self, network: Network) -> None:
        images = torch.randn(3, network.dates * len(BANDS), 64, 64)
        with torch.inference_mode():
            together = network.eval()(images)
            alone = torch.cat([network(image[None]) for image in images])
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_any_number_of_bands_and_classes(architecture: str) -> None:
    light = {"unet": {"widths": [4, 4]}, "segnet": {"widths": [4], "depths": [1]},
             "residual": {"width": 4}, "siamese_unet": {"widths": [4, 4]}}  # fmt: skip
    hyperparameters = light.get(architecture, {"encoder": "resnet18"})
    for bands, classes in ((1, 2), (13, 1)):
        network = build_model(architecture, bands=bands, classes=classes, **hyperparameters)
        image = torch.zeros(1, network.dates * bands, 64, 96)
        assert network.eval()(image).shape == (1, classes, 64, 96)


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
        ("residual", {"blocks": 0}, "must be positive"),
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
    of_all = ("relative", "band_sets")
    assert hyperparameters_of("segnet") == ("widths", "depths", *of_all)
    assert hyperparameters_of("unet", "resnet34") == ("encoder", "decoder_widths", *of_all)


def test_a_card_does_not_lie_about_dates() -> None:
    told: Any = {
        "name": "sly", "architecture": "siamese_unet", "hyperparameters": {"widths": [4]},
        "bands": BANDS, "mean": (0.0,) * 4, "stddev": (1.0,) * 4, "legend": grey_legend(2),
        "units": "stored", "chip_px": 64, "halo_px": 0, "stride": 16, "exact": False,
    }  # fmt: skip
    with pytest.raises(ModelError, match="says 1 dates, siamese_unet sees 2"):
        scoring_network(make_card(**told), {})
    for more in ({"dates": 2}, {"unchanged": 0}, {"dates": 2, "unchanged": 7}):
        with pytest.raises(ModelError, match="geoseg:unchanged"):
            make_card(**told, **more)


def test_a_card_names_no_file() -> None:
    """Else a bundle could make us open a path that it chooses."""
    card = make_card(
        name="sly", architecture="unet", hyperparameters={"pretrained": "/etc/passwd"},
        bands=BANDS, mean=(0.0,) * 4, stddev=(1.0,) * 4, legend=grey_legend(2), units="stored",
        chip_px=64, halo_px=0, stride=16, exact=False,
    )  # fmt: skip
    with pytest.raises(ModelError, match="pretrained are no hyperparameters"):
        scoring_network(card, {})


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


@torch.inference_mode()
def test_relative_planes_know_no_light() -> None:
    """The same ground under another sun, through haze, beside nothing: the same planes."""
    ground = 100 * torch.randn(1, 2, 32, 32)  # the floor under the deviation is far below
    gain, haze = torch.tensor([3.0, 0.5])[:, None, None], torch.tensor([-1.0, 2.0])[:, None, None]
    seen = _relative(ground)
    torch.testing.assert_close(_relative(ground * gain + haze), seen, atol=0.02, rtol=0.02)
    image = torch.cat([ground, torch.zeros_like(ground)], dim=3)
    apart = _relative(image)
    known = ground.numpy().reshape(2, -1)
    expected = (known - known.mean(1, keepdims=True)) / (known.std(1, keepdims=True) + 0.1)
    assert np.allclose(apart[..., :32].reshape(2, -1), expected, atol=1e-4)
    assert not apart[..., 32:].any()
    network = build_model("unet", bands=2, classes=3, widths=[8, 12], relative=True).eval()
    assert network.reach_px is None
    assert (network(ground) - network(ground + 50)).abs().max() > 1e-3  # it still sees brightness


@pytest.mark.parametrize("plus", [0.02, 1e-5])
@pytest.mark.parametrize(("factor", "tolerance"), [(20, 1e-4), (100, 4e-3)])
def test_the_graph_takes_logarithms_as_torch_does(
    plus: float, factor: float, tolerance: float
) -> None:
    """Of values however far from the usual, 0 and less included."""
    torch.manual_seed(0)
    network = build_model("unet", bands=2, classes=2, widths=[8]).eval()
    card = make_card(
        name="logarithmic", architecture="unet", hyperparameters={"widths": [8]}, bands=BANDS[:2],
        mean=(-2.0, -1.5), stddev=(0.5, 0.7), legend=grey_legend(2), units="reflectance",
        chip_px=32, halo_px=0, stride=1, exact=False, logarithm=plus,
    )  # fmt: skip
    usual = np.exp(card.mean)[:, None, None]
    values = usual * np.geomspace(1 / factor, factor, 32 * 32).reshape(32, 32) - plus
    values[:, :2], values[:, 2] = 0, -1
    chip = values.astype(np.float32)[None]
    graph, numbers = export_graph(network, card)
    core = openvino.Core()
    read = core.read_model(graph, openvino.Tensor(np.frombuffer(numbers, dtype=np.uint8)))
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.inference_mode():
        expected = scoring_network(card, network.state_dict())(torch.from_numpy(chip))
    assert expected.std() > 0.01
    np.testing.assert_allclose(compiled(chip)[0], expected, atol=tolerance)


def test_a_missing_band_is_told_not_guessed() -> None:
    """NaN is known from the mean, in torch and in the graph, and from every band that is there."""
    torch.manual_seed(0)
    told: dict[str, Any] = {"widths": [6, 8], "band_sets": [[0, 2]]}
    network = build_model("unet", bands=3, classes=2, **told).eval()
    card = make_card(
        name="gaps", architecture="unet", hyperparameters=told, bands=BANDS[:3], mean=(2.0,) * 3,
        stddev=(0.5,) * 3, legend=grey_legend(2), units="stored", chip_px=32, halo_px=0, stride=2,
        exact=False,
    )  # fmt: skip
    scoring = scoring_network(card, network.state_dict())
    values = 2 + torch.randn(1, 3, 32, 32)
    missing, mean = values.clone(), values.clone()
    missing[:, 1], mean[:, 1] = torch.nan, 2.0
    with torch.inference_mode():
        expected = scoring(missing)
        assert expected.isfinite().all()
        assert (expected - scoring(mean)).abs().max() > 1e-3
    graph, numbers = export_graph(scoring.network, card)
    core = openvino.Core()
    read = core.read_model(graph, openvino.Tensor(np.frombuffer(numbers, dtype=np.uint8)))
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(missing.numpy())[0], expected, atol=1e-4)
    with pytest.raises(ModelError, match="go one at a time"):
        build_model("unet", bands=3, classes=2, relative=True, **told)
    for wrong in ([[]], [[3]], [[0, 1, 2]]):
        with pytest.raises(ModelError, match="not some of 3 bands"):
            build_model("unet", bands=3, classes=2, band_sets=wrong)
