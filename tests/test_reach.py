"""How far a pixel sees: poke pixels of an image and look how far away the map changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from geoseg.nets import fcn
from geoseg.nets.network import Network
from geoseg.nets.vgg import VGG
from geoseg.nets.zoo import build_model

LITE = "efficientnet-lite0"


def positive(network: Network) -> Network:
    """Nothing cancels out, and a blank image scores zero."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.fill_(1 if parameter.dim() == 1 else 0.1)
    return network.eval()


def farthest_change(network: Network, *, blank: bool = True) -> int:
    """Rows between a poked pixel and the farthest that changes, over all places in a stride."""
    assert network.reach_px is not None
    stride = network.stride
    middle = (network.reach_px // stride + 2) * stride
    shape = (1, 1, 2 * middle + stride, stride if blank else 4 * stride)
    image = (torch.zeros if blank else torch.rand)(shape)
    poked = image.repeat(stride, 1, 1, 1)
    for i in range(stride):
        poked[i, :, middle + i] += 1
    with torch.inference_mode():
        still, changed = network(image.expand_as(poked)), network(poked)
    rows = [(c != s).any(0).any(1).nonzero() for c, s in zip(changed, still, strict=True)]
    return max(int((r - (middle + i)).abs().max()) for i, r in enumerate(rows))


@pytest.mark.parametrize(
    ("name", "hyperparameters"),
    [
        ("unet", {"widths": [2, 2, 2, 2]}),
        ("unet", {"encoder": "resnet18", "decoder_widths": [8, 4, 2]}),
        ("residual", {"stem": 2, "width": 2, "blocks": 3}),
        ("unet", {"encoder": "resnet50d", "decoder_widths": [8, 4]}),
        ("unet", {"encoder": "vgg11_bn", "decoder_widths": [8, 4, 2]}),
        ("fcn", {"encoder": "resnet18", "variant": "16s"}),
        pytest.param("unet", {"encoder": LITE}, marks=pytest.mark.slow),
        pytest.param("fcn", {"encoder": LITE, "variant": "32s"}, marks=pytest.mark.slow),
    ],
)
def test_reach(name: str, hyperparameters: dict[str, Any]) -> None:
    network = positive(build_model(name, bands=1, classes=1, **hyperparameters))
    assert farthest_change(network) == network.reach_px


@pytest.mark.parametrize("variant", ["8s", "16s", "32s"])
def test_reach_of_fcn_with_vgg(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG16 with two channels a stage sees as far as with hundreds."""
    monkeypatch.setattr(fcn, "build_encoder", lambda _, bands: VGG(bands, widths=(2,) * 5))
    network = positive(build_model("fcn", bands=1, classes=1, variant=variant, fc_width=2))
    assert farthest_change(network) == network.reach_px


def test_reach_of_segnet() -> None:
    """Where values are put depends on the image, so it takes several to see the farthest."""
    torch.manual_seed(0)
    network = build_model("segnet", bands=1, classes=1, widths=[2, 2, 2], depths=[2, 2, 3])
    for parameter in positive(network).parameters():
        if parameter.dim() > 1:
            torch.nn.init.uniform_(parameter)
    seen = 0
    for _ in range(100):
        seen = max(seen, farthest_change(network, blank=False))
        if seen >= network.reach_px:
            break
    assert seen == network.reach_px


@pytest.mark.parametrize("name", ["deeplabv3", "deeplabv3plus", "pspnet"])
def test_what_looks_at_the_whole_image_has_no_reach(name: str) -> None:
    network = positive(build_model(name, bands=1, classes=2, encoder="resnet18"))
    assert network.reach_px is None
    far = torch.zeros(1, 1, 64, 1024)
    far[..., -1] = 100
    with torch.inference_mode():
        change = network(far) - network(torch.zeros_like(far))
    assert change[..., 0].abs().max() > 0


@pytest.mark.parametrize("encoder", ["efficientnet_b0", "resnet50_gn"])
def test_encoders_that_may_see_everything_have_no_reach(encoder: str) -> None:
    """Squeeze-and-excitation and group norm average over the whole image."""
    with torch.device("meta"):
        assert build_model("unet", bands=1, classes=2, encoder=encoder).reach_px is None
