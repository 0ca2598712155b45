"""One network learning: steps, schedule, and the running average that is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningModule
from timm.optim.muon import Muon
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from geoseg.accuracy.matrix import ErrorMatrix
from geoseg.errors import TrainingError
from geoseg.legend import NODATA
from geoseg.training.datasets import Sample

__all__ = ["Schedule", "SegmentationTask", "count_classes"]


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "muon": partial(Muon, nesterov=True),
}
"""What moves the weights. Muon brings the step of every convolution that is a matrix of some size
to singular values of 1, and its length to that of an AdamW step, so that the same rates fit; what
is no such matrix goes by NAdamW.

Reference:
    Jordan et al.: "Muon: An optimizer for hidden layers in neural networks", 2024.
    https://kellerjordan.github.io/posts/muon/. The length: Liu et al.: "Muon is Scalable for LLM
    Training", 2025. https://arxiv.org/abs/2502.16982
"""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the weights move."""

    optimizer: str
    """A key of OPTIMIZERS."""
    lr: float
    """Highest learning rate, reached after the warm-up; then it falls as a cosine."""
    encoder_lr: float
    """The encoder's rate as a part of it."""
    weight_decay: float
    """On everything but biases and norms."""
    warmup: float
    """Share of the steps over which the rate rises."""
    steps: int
    """In all."""
    average: float
    """Decay of the running average of the weights; 0: the weights themselves are kept."""
    auxiliary: float
    """Weight of the loss of an auxiliary head."""


class SegmentationTask(LightningModule):
    """A network, its loss and its schedule.

    Args:
        network: takes scaled bands (N, C, S, S), gives logits (N, K, S, S), or in training a pair
            of those with an auxiliary head's.
        loss: of logits, class places (N, S, S), 255 where not labelled, and soft labels or None.
        names: the classes.
        schedule: how the weights move.
        name_of: what to call a chip.
        seed: of dropout; the same epoch meets the same chance, however often it is begun.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        names: Sequence[str],
        schedule: Schedule,
        name_of: Callable[[Any], str] = str,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.loss, self.names = loss, tuple(names)
        self.schedule, self._name_of, self._seed = schedule, name_of, seed
        self.average = (
            AveragedModel(network, multi_avg_fn=_averaging(schedule.average), use_buffers=True)
            if schedule.average
            else None
        )
        if self.average is not None:
            self.average.requires_grad_(False)  # or several processes wait for its gradients
        self.matrix = torch.zeros(len(names), len(names), dtype=torch.float64)
        self.losses: list[float] = []

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and kept: the average, if there is one."""
        if self.average is None:
            return self.network
        averaged: nn.Module = self.average.module
        return averaged

    def transfer_batch_to_device(self, batch: Sample, device: torch.device, _: int) -> Sample:
        """Pixels move, in the order that convolutions are quickest with; places stay."""
        image = batch["image"].to(device, memory_format=torch.channels_last)
        moved: Sample = {"image": image}
        moved |= {key: batch[key].to(device) for key in ("mask", "soft") if key in batch}
        return batch | moved

    def on_train_epoch_start(self) -> None:
        """Begin an epoch with its own chance."""
        torch.manual_seed(self._seed * 100_003 + self.current_epoch)
        self.losses = []

    def training_step(self, batch: Sample, _: int) -> Tensor:
        """The loss of a batch.

        Raises:
            TrainingError: if it is not a number, naming the chips.
        """
        given = self.network(batch["image"])
        logits, auxiliary = given if isinstance(given, tuple) else (given, None)
        labels = batch["mask"], batch.get("soft")
        loss: Tensor = self.loss(logits.float(), *labels)
        if auxiliary is not None:
            loss = loss + self.schedule.auxiliary * self.loss(auxiliary.float(), *labels)
        value = float(loss.detach())
        self._refuse_no_number(value, batch["place"])
        self.losses.append(value)
        return loss

    def _refuse_no_number(self, loss: float, places: Sequence[Any]) -> None:
        """End the training in every process, or the others would wait for ever."""
        wrong = anywhere = not math.isfinite(loss)
        several = torch.distributed.is_initialized()
        if several:
            anywhere = self.trainer.strategy.reduce_boolean_decision(wrong, all=False)
        if not anywhere:
            return
        chips = [self._name_of(place) for place in places] if wrong else []
        if several:
            found: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(found, chips)
            chips = [chip for each in found for chip in each]
        raise TrainingError(
            f"the loss is no number at epoch {self.current_epoch + 1}; look at the chips "
            f"{'; '.join(chips)}, or learn slower: --set lr=..."
        )

    def on_train_batch_end(self, *_: Any) -> None:
        """Average the weights."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    def on_validation_epoch_start(self) -> None:
        """Count from nothing."""
        self.matrix.zero_()

    def validation_step(self, batch: Sample, _: int) -> None:
        """Count mapped and labelled classes."""
        self.matrix += count_classes(self.kept(batch["image"]), batch["mask"]).cpu()

    def on_validation_epoch_end(self) -> None:
        """Sum over all processes."""
        matrix = self.matrix.to(self.device)
        self.matrix = self.trainer.strategy.reduce(matrix, reduce_op="sum").cpu()
        self.log("validation_miou", self.error_matrix.mean_iou, sync_dist=False)

    @property
    def error_matrix(self) -> ErrorMatrix:
        """Of the last validation: one matrix of all pixels."""
        entries: npt.NDArray[np.float64] = self.matrix.numpy()
        return ErrorMatrix(self.names, entries.copy())

    def configure_optimizers(self) -> Any:
        """The optimizer with warm-up and cosine, step by step."""
        optimizer = OPTIMIZERS[self.schedule.optimizer](self._groups())
        warm = max(1, round(self.schedule.warmup * self.schedule.steps))

        def rate(step: int) -> float:
            if step < warm:
                return (step + 1) / warm
            done = (step - warm) / max(1, self.schedule.steps - warm)
            return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _groups(self) -> list[dict[str, Any]]:
        encoder = {id(each) for each in self.network.encoder_parameters()}  # type: ignore[operator]
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.network.parameters():
            key = id(parameter) in encoder, parameter.ndim > 1
            groups.setdefault(key, []).append(parameter)
        s = self.schedule
        return [
            {
                "params": parameters,
                "lr": s.lr * (s.encoder_lr if in_encoder else 1.0),
                "weight_decay": s.weight_decay if decays else 0.0,
            }
            for (in_encoder, decays), parameters in groups.items()
        ]


def count_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """(K, K) float64: how often each class mapped (rows) is each class labelled (columns)."""
    classes = logits.shape[1]
    labelled = labels != NODATA
    pairs = logits.argmax(dim=1)[labelled] * classes + labels[labelled]
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes).double()


def _averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential average that forgets the first weights sooner: (1 + n) / (10 + n) at most."""

    @torch.no_grad()
    def average(averaged: Any, weights: Any, count: Any) -> None:
        n = float(count)
        keep = min(decay, (1 + n) / (10 + n))
        for mean, now in zip(averaged, weights, strict=True):
            if mean.is_floating_point():
                mean.lerp_(now.to(mean.dtype), 1 - keep)
            else:
                mean.copy_(now)

    return average
