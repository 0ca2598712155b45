"""What a recipe comes to: ground, split, network, loss, and the batches of each epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningDataModule

from geoseg.errors import InputError
from geoseg.nets.network import Network
from geoseg.nets.zoo import NETWORKS, build_model
from geoseg.raster.source import RasterSource
from geoseg.recipe import Recipe
from geoseg.training.augment import Variation
from geoseg.training.beginning import Beginning, begin_with
from geoseg.training.class_weights import class_weights
from geoseg.training.datasets import AheadLoader, LabelledGround
from geoseg.training.ground import Ground, find_pairs, open_grounds
from geoseg.training.losses import make_loss
from geoseg.training.samplers import (
    GriddedChips,
    RandomChips,
    RareClassChips,
    countable,
    covering_chips,
)
from geoseg.training.splits import Area, Split, split_grounds
from geoseg.training.survey import GroundSurvey, band_statistics, survey_grounds
from geoseg.training.task import Schedule, SegmentationTask

__all__ = ["Lesson", "Tiling", "prepare"]

HALO_PART = 8
"""Networks that see further than a quarter of a chip keep all but an eighth of it on each side."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How the network's chips are cut when it predicts."""

    chip_px: int
    halo_px: int
    exact: bool
    """Whether the halo covers all that the network sees."""


class Lesson(LightningDataModule):
    """Everything that a training needs, made from a recipe.

    Args:
        recipe: what to learn from what.
        grounds: scenes with labels.
        surveys: what they hold.
        split: which of them for what.
        network: what learns.
        statistics: mean and standard deviation of each band, (C,) both.
        stored_type: of all scenes, None if they differ.
        beginning: of the model that the network has its weights from, if it has.
    """

    allow_zero_length_dataloader_with_multiple_devices = True
    """There may be fewer chips to validate on than devices."""

    def __init__(
        self,
        recipe: Recipe,
        grounds: Sequence[Ground],
        surveys: Sequence[GroundSurvey],
        split: Split,
        network: Network,
        statistics: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
        stored_type: str | None,
        beginning: Beginning | None = None,
    ) -> None:
        super().__init__()
        self.recipe, self.grounds, self.surveys = recipe, grounds, surveys
        self.split, self.network, self.statistics = split, network, statistics
        self.stored_type, self.beginning = stored_type, beginning
        self.stride = network.stride
        self.counts = countable(split.train, surveys)
        """(N, K), pixels of each class in each ground that is learnt from, and in its part."""
        self.length = recipe.chips_per_epoch or max(
            recipe.batch, covering_chips(split.train, surveys, recipe.chip_px)
        )
        """Chips in an epoch."""
        self.tiling = _tiling(recipe, network)
        variation = _variation(recipe)
        mean, stddev = (np.tile(each, recipe.dates) for each in statistics)
        self._chips = LabelledGround(
            grounds, mean, stddev, chip_px=recipe.chip_px, variation=variation
        )
        self._whole = LabelledGround(grounds, mean, stddev)
        self._sampler = self._make_sampler()
        if not len(self.train_dataloader()):
            raise InputError(
                f"an epoch of {self.length} chips has no batch of {recipe.batch}; make batch "
                "smaller or chips_per_epoch larger"
            )

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What the network is built with as it predicts: no head that only helps to learn."""
        told = _hyperparameters(self.recipe)
        return {key: value for key, value in told.items() if key != "auxiliary"}

    @property
    def seen(self) -> list[str]:
        """The scenes that were learnt from, or that the best epoch was chosen by."""
        areas = (*self.split.train, *self.split.validation)
        return sorted({self.grounds[area.ground].name for area in areas})

    @property
    def assumed(self) -> list[str]:
        """What was taken for granted of the scenes, said once."""
        return sorted({said for ground in self.grounds for said in ground.assumed})

    def task(self) -> SegmentationTask:
        """The network with its loss and schedule, on a first step."""
        recipe = self.recipe
        weights = class_weights(self.counts, recipe.class_weights, cap=recipe.weight_cap)
        loss = make_loss(
            recipe.loss,
            class_weights=torch.from_numpy(weights).float(),
            **recipe.loss_options,
        )
        schedule = Schedule(
            optimizer=recipe.optimizer,
            lr=recipe.lr,
            encoder_lr=recipe.encoder_lr,
            weight_decay=recipe.weight_decay,
            warmup=recipe.warmup,
            steps=recipe.epochs * len(self.train_dataloader()),
            average=recipe.average,
            auxiliary=recipe.auxiliary,
        )
        names = recipe.legend.names
        return SegmentationTask(
            self.network, loss, names, schedule, self._chips.name_of, recipe.seed
        )

    def train_dataloader(self) -> AheadLoader:
        """The batches of the epoch that the trainer is at."""
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        sampler = self._sampler.at(epoch, self._share)
        return AheadLoader(self._chips, sampler, self.recipe.batch, train=True)

    def _make_sampler(self) -> RandomChips:
        recipe, areas = self.recipe, self.split.train
        told: dict[str, Any] = {
            "chip_px": recipe.chip_px,
            "length": self.length,
            "seed": recipe.seed,
            "zoom": recipe.zoom_range,
            "zoomed": recipe.zoomed,
            "align_px": recipe.align_px,
        }
        if recipe.sampler == "random":
            return RandomChips(areas, self.surveys, **told)
        told |= {"temperature": recipe.temperature, "min_class_px": recipe.min_class_px}
        return RareClassChips(areas, self.surveys, **told)

    def val_dataloader(self) -> AheadLoader | list[Any]:
        """The chips of validation, side by side."""
        if not self.split.validation:
            return []
        return self.gridded(self.split.validation, self._share)

    def gridded(self, areas: Sequence[Area], share: tuple[int, int] = (0, 1)) -> AheadLoader:
        """Chips side by side over areas, as the network's chips are cut when it predicts."""
        sampler = GriddedChips(
            areas,
            self.surveys,
            chip_px=self.tiling.chip_px,
            halo_px=self.tiling.halo_px,
            stride=self.stride,
            share=share,
        )
        return AheadLoader(self._whole, sampler, 1, train=False)

    @property
    def _share(self) -> tuple[int, int]:
        trainer = self.trainer
        if trainer is None:  # the schedule is made before processes know of each other
            return 0, self.recipe.devices
        return trainer.global_rank, trainer.world_size

    def split_json(self) -> str:
        """Which windows of which scenes are for what."""
        told = {
            purpose: [
                {
                    "scene": self.grounds[area.ground].name,
                    "window": _numbers(area.window),
                    **({"without": [_numbers(w) for w in area.without]} if area.without else {}),
                }
                for area in getattr(self.split, purpose)
            ]
            for purpose in ("train", "validation", "test")
        }
        return json.dumps(told, indent=1) + "\n"


@contextmanager
def prepare(recipe: Recipe) -> Iterator[Lesson]:
    """Open what a recipe learns from, and build what learns.

    Raises:
        InputError: if files are missing or do not fit, or there is too little to divide.
    """
    pairs = find_pairs(recipe)
    torch.manual_seed(recipe.seed)
    network = build_model(
        recipe.architecture,
        bands=recipe.bands,
        classes=len(recipe.legend),
        pretrained=recipe.pretrained,
        **_hyperparameters(recipe),
    )
    _refuse_other_dates(recipe, network)
    stride = network.stride
    if recipe.chip_px % stride:
        raise InputError(f"chip_px {recipe.chip_px} is no multiple of the network's {stride}")
    beginning = None
    if recipe.begin_with is not None:
        beginning = begin_with(recipe.begin_with, network, recipe)
    with open_grounds(recipe, pairs) as grounds:
        surveys = survey_grounds(recipe, pairs, grounds)
        split = split_grounds(recipe, pairs, grounds, surveys, network.reach_px or recipe.chip_px)
        learnt = [surveys[area.ground] for area in split.train]
        if beginning is None:
            statistics = band_statistics(learnt, len(recipe.bands))
        else:
            statistics = beginning.statistics
        flat = np.flatnonzero(statistics[1] == 0)
        if len(flat):
            raise InputError(f"band {recipe.bands[flat[0]]} has one value everywhere")
        scenes = [path for pair in pairs for path in (pair.scene, pair.after) if path is not None]
        stored = _stored_type(recipe, scenes)
        yield Lesson(recipe, grounds, surveys, split, network, statistics, stored, beginning)


def _hyperparameters(recipe: Recipe) -> dict[str, Any]:
    sets = [list(chosen) for chosen in _band_places(recipe)]
    return {**recipe.network, **({"band_sets": sets} if sets else {})}


def _band_places(recipe: Recipe) -> tuple[tuple[int, ...], ...]:
    """The recipe's sets of bands, by the places of the bands."""
    return tuple(tuple(map(recipe.bands.index, chosen)) for chosen in recipe.band_sets)


def _variation(recipe: Recipe) -> Variation:
    if recipe.dates == 1:
        return Variation(
            recipe.flips,
            recipe.rotate,
            recipe.jitter,
            band_sets=_band_places(recipe),
            fewer_bands=recipe.fewer_bands,
        )
    unchanged = recipe.legend.codes.index(recipe.unchanged)
    return Variation(recipe.flips, recipe.rotate, recipe.jitter, 2, recipe.same_date, unchanged)


def _refuse_other_dates(recipe: Recipe, network: Network) -> None:
    """One scene at a time, or two."""
    if network.dates == recipe.dates:
        return
    if network.dates == 2:
        raise InputError(
            f"{recipe.architecture} compares two dates: give the later scenes as scenes_after"
        )
    two = ", ".join(name for name, kind in NETWORKS.items() if kind.dates == 2)
    raise InputError(f"{recipe.architecture} takes no scenes_after; networks that do are {two}")


def _tiling(recipe: Recipe, network: Network) -> Tiling:
    stride, reach = network.stride, network.reach_px
    chip = recipe.predict_chip_px
    if chip is None:
        chip = recipe.chip_px if reach is None else max(512, recipe.chip_px)
    chip = -(-chip // stride) * stride
    if recipe.halo_px is not None:
        halo = -(-recipe.halo_px // stride) * stride
    elif reach is not None and reach <= chip // 4:
        halo = -(-reach // stride) * stride
    else:
        halo = max(stride, chip // HALO_PART // stride * stride)
    return Tiling(chip, halo, reach is not None and reach <= halo)


def _stored_type(recipe: Recipe, scenes: Sequence[Any]) -> str | None:
    """The data type that stored values must have; none where a scale was told."""
    if recipe.units != "stored" or recipe.scale is not None or recipe.offset is not None:
        return None
    types = set()
    for path in scenes:
        source = RasterSource(path)
        types.add(source.header.dtype.name)
        source.close()
    known = types & {"uint8", "uint16", "int16", "float32"}
    return known.pop() if len(types) == len(known) == 1 else None


def _numbers(window: Any) -> list[int]:
    return [window.row, window.col, window.height, window.width]
