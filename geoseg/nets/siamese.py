"""Networks that see two dates: one encoder for both, and a decoder of what it found in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from geoseg.nets.unet import DECODER_WIDTHS, EncoderUNet, UNet

__all__ = ["EncoderSiameseUNet", "FCSiamConc", "FCSiamDiff", "SiameseUNet"]


class SiameseUNet(UNet):
    """A U-Net of how far the features of two dates differ, whichever way.

    Both dates pass through the same encoder; the decoder sees the absolute difference of their
    features at every level, so that the map is the same when the dates are swapped, and that of a
    place that looks the same on both does not depend on what is there.

    Args:
        bands: Bands of the image of one date.
        classes: Classes of the map.
        widths, batch_norm: See UNet.

    Shape:
        - Input: (N, 2 * bands, H, W), the earlier date's bands first; H and W multiples of
          ``stride``.
        - Output: (N, classes, H, W), the logits.

    Reference:
        The Siamese-difference shape is of Caye Daudt, Le Saux, Boulch: "Fully Convolutional
        Siamese Networks for Change Detection", ICIP 2018. https://arxiv.org/abs/1810.08462
        There, only the skips are differences; here, the coarsest level is one, too.
    """

    dates = 2

    def score(self, image: Tensor) -> Tensor:
        """The logits."""
        return self.decode([(one - two).abs() for one, two in _of_both(self.encode, image)])


class EncoderSiameseUNet(EncoderUNet):
    """SiameseUNet around an encoder made for classification.

    Args:
        bands: Bands of the image of one date.
        classes: Classes of the map.
        encoder, decoder_widths: See EncoderUNet.

    Shape:
        As SiameseUNet.
    """

    dates = 2

    def score(self, image: Tensor) -> Tensor:
        """The logits."""
        return self.decode([(one - two).abs() for one, two in _of_both(self.encoder, image)])


class FCSiamDiff(EncoderUNet):
    """FC-Siam-diff as torchgeo has it: differences, later less earlier, at every level.

    Signs are kept, so that it can tell what appeared from what vanished.

    Args:
        bands: Bands of the image of one date.
        classes: Classes of the map.
        encoder, decoder_widths: See EncoderUNet.

    Shape:
        As SiameseUNet.

    Reference:
        Caye Daudt et al. (see SiameseUNet), where differences are absolute; torchgeo's FCSiamDiff.
    """

    dates = 2

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        encoder: str = "resnet34",
        decoder_widths: Sequence[int] = DECODER_WIDTHS,
    ) -> None:
        super().__init__(bands, classes, encoder=encoder, decoder_widths=decoder_widths)

    def score(self, image: Tensor) -> Tensor:
        """The logits."""
        return self.decode([after - before for before, after in _of_both(self.encoder, image)])


class FCSiamConc(EncoderUNet):
    """FC-Siam-conc as torchgeo has it: the features of both dates side by side at every level.

    Args:
        bands: Bands of the image of one date.
        classes: Classes of the map.
        encoder, decoder_widths: See EncoderUNet.

    Shape:
        As SiameseUNet.

    Reference:
        Caye Daudt et al. (see SiameseUNet), where the coarsest level is the later date's alone;
        torchgeo's FCSiamConc.
    """

    dates = 2

    def __init__(
        self,
        bands: int,
        classes: int,
        *,
        encoder: str = "resnet34",
        decoder_widths: Sequence[int] = DECODER_WIDTHS,
    ) -> None:
        super().__init__(bands, classes, encoder=encoder, decoder_widths=decoder_widths)
        from segmentation_models_pytorch.base.initialization import initialize_decoder
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        image, *levels = self.encoder.out_channels
        self.decoder = UnetDecoder(
            encoder_channels=[image, *(2 * channels for channels in levels)],
            decoder_channels=tuple(decoder_widths),
            n_blocks=len(decoder_widths),
            add_center_block=False,
        )
        initialize_decoder(self.decoder)

    def score(self, image: Tensor) -> Tensor:
        """The logits."""
        both = _of_both(self.encoder, image)
        return self.decode([torch.cat([after, before], dim=1) for before, after in both])


def _of_both(
    encode: Callable[[Tensor], Sequence[Tensor]], image: Tensor
) -> list[tuple[Tensor, ...]]:
    """The features of the earlier and of the later date, level by level.

    Both pass as one batch, so that batch norm takes them by the same measure in training, too.
    """
    found = encode(torch.cat(image.chunk(2, dim=1)))
    return [level.chunk(2) for level in found]
