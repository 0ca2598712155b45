"""The recipe of a training: one flat YAML file that a person writes."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from geoseg.bands import COMMON_NAMES
from geoseg.errors import InputError, LegendError
from geoseg.legend import Legend, LegendClass, Meanings
from geoseg.raster.level import Level

__all__ = ["Recipe", "read_recipe", "recipe_schema"]

MAX_BYTES = 1 << 20
"""No person writes more; and a file of nested aliases would fill the memory."""

Share: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
Zoom: TypeAlias = Annotated[float, Field(ge=0.25, le=4)]
Px: TypeAlias = Annotated[int, Field(gt=0, le=4096)]
Files: TypeAlias = str | tuple[str, ...]


class ClassName(BaseModel):
    """A class with a colour of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    colour: Annotated[str, Field(pattern="^#[0-9a-fA-F]{6}$")]


class Recipe(BaseModel):
    """Everything that decides what is learnt from what, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        description="What the model will be called."
    )
    description: str = Field("", description="What it is for, in a sentence.")
    license: str = Field("proprietary", description="Of the model, an SPDX name.")
    sources: tuple[str, ...] = Field(
        (), description="Whose imagery and labels they are, for the model's card."
    )
    limits: tuple[str, ...] = Field(
        (), description="What the model is known to get wrong, for its card."
    )

    data: str = Field(".", description="Folder that scenes and labels lie in; relative to here.")
    scenes: Files = Field(description="Files or patterns such as images/*.tif.")
    scenes_after: Files | None = Field(
        None,
        description="To learn change: the later scene of each, called as the earlier one is; "
        "labels tell what changed.",
    )
    labels: Files = Field(
        description="Files called as their scenes are, or one file of polygons for all."
    )
    validation_scenes: Files | None = Field(
        None, description="Scenes kept apart to choose the best epoch by, instead of a share."
    )
    validation_scenes_after: Files | None = Field(None, description="The later scene of each.")
    validation_labels: Files | None = Field(None, description="Their labels.")
    test_scenes: Files | None = Field(
        None, description="Scenes kept apart that nothing is chosen by, instead of a share."
    )
    test_scenes_after: Files | None = Field(None, description="The later scene of each.")
    test_labels: Files | None = Field(None, description="Their labels.")
    labels_are: Literal["classes", "probabilities"] = Field(
        "classes",
        description="Label rasters hold classes, or a band a class of how probable it is.",
    )
    label_field: str = Field("class", description="Of polygons: the field that holds the class.")
    classes: dict[int, str | ClassName] = Field(
        description="Code: name, or code: {name: ..., colour: '#rrggbb'}.", min_length=2
    )
    unlabelled: tuple[int, ...] = Field((), description="Codes that say nothing about a pixel.")
    unchanged: int = Field(
        0, description="With scenes_after: the code of the class where nothing changed."
    )
    bands: tuple[str, ...] = Field(description="Common names, in order: [red, green, blue, nir].")
    band_sets: tuple[tuple[str, ...], ...] = Field(
        (),
        description="Bands that the model must also manage with alone: [[red, green, blue]].",
    )
    band_numbers: dict[str, int] | None = Field(
        None, description="Which band is which, if the scenes do not say: {red: 3, green: 2}."
    )
    sensor: str | None = Field(None, description="Whose band names or order the scenes use.")
    units: Literal["reflectance", "stored"] = Field(
        "stored", description="Learn from values as stored, or from reflectance 0-1."
    )
    scale: float | None = Field(None, description="Units = stored value x scale + offset.")
    offset: float | None = Field(None, description="See scale.")
    nodata: float | None = Field(None, description="The stored value that stands for no data.")
    keep_clouds: bool = Field(
        False, description="Learn from what products' quality bands call cloud or shadow, too."
    )
    max_pixels: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Refuse scenes with more pixels. Default: 10,000,000,000."
    )
    levels: tuple[Level, ...] = Field(
        (),
        description="Levels of reflectance learnt from: [toa], [surface] or both; scenes of "
        "another are brought to the first.",
    )
    logarithm: Annotated[float, Field(gt=0)] | None = Field(
        None,
        description="Learn from log(value + this): 0.02 suits reflectance, where dark things are "
        "as different as bright ones; null: from values.",
    )
    gsd_m: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Read every scene at this ground sample distance; null: as it is."
    )

    split: Literal["scenes", "blocks"] = Field(
        "scenes", description="What is kept apart: whole scenes, or blocks of ground in each."
    )
    validation: Share = Field(0.2, description="Share kept apart to choose the best epoch by.")
    test: Share = Field(0.0, description="Share kept apart that nothing is chosen by.")
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Cross-validation: keep one of so many parts apart for validation."
    )
    fold: Annotated[int, Field(ge=0)] = Field(0, description="Which part, from 0.")
    block_px: Px = Field(512, description="Side of the blocks, if split by them.")
    buffer_px: Annotated[int, Field(ge=0)] | None = Field(
        None, description="Width left unused around blocks; null: a chip."
    )
    split_seed: int = Field(0, description="Another keeps others apart.")

    architecture: str = Field(
        "unet",
        description="unet, fcn, segnet, deeplabv3(plus), pspnet, residual; with scenes_after: "
        "siamese_unet, fcsiam_diff, fcsiam_conc.",
    )
    network: dict[str, Any] = Field(
        {}, description="What else the network is built with: {encoder: resnet34}."
    )
    pretrained: str | None = Field(
        None, description="Weights to begin the encoder with: imagenet, a file, a torchgeo name."
    )
    begin_with: str | None = Field(
        None,
        description="A bundle, or an installed model, to learn on from: the same network and "
        "bands; its scaling is kept.",
    )
    chip_px: Px = Field(256, description="Side of the chips that are learnt from.")
    predict_chip_px: Px | None = Field(
        None, description="Side of the chips that are predicted; null: the network's need."
    )
    halo_px: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="Rim of a predicted chip that is not kept; null: what the network sees, or an "
        "eighth of the chip where that is more than a quarter of it or not known.",
    )

    sampler: Literal["random", "rare_class"] = Field(
        "random", description="Where chips are drawn: anywhere, or more where classes are rare."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        0.1, description="Of rare_class: the lower, the more often the rarest class is drawn."
    )
    min_class_px: Annotated[int, Field(ge=1)] = Field(
        50, description="Of rare_class: pixels of the drawn class in a chip at least."
    )
    chips_per_epoch: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Chips in an epoch; null: as many as cover what is labelled once."
    )
    flips: bool = Field(True, description="Learn from chips mirrored and turned by 90 degrees.")
    rotate: Share = Field(0.0, description="Share of the chips that are turned by any angle.")
    zoom: Zoom | tuple[Zoom, Zoom] = Field(
        1.0,
        description="Chips are enlarged or shrunk up to this factor; or from one to another: "
        "[1, 3] learns 10 m scenes at 10 to 30 m.",
    )
    zoomed: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Share of the chips that are enlarged or shrunk."
    )
    align_px: Px = Field(
        1,
        description="Chips begin at multiples of so many pixels, as those that are predicted do; "
        "where a teacher gave the labels, its own stride.",
    )
    jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="How far brightness and contrast of chips vary, in standard deviations."
    )
    fewer_bands: Share = Field(
        0.5, description="With band_sets: share of the chips that show one of them alone."
    )
    same_date: Share = Field(
        0.1, description="With scenes_after: share of chips of one date twice, so unchanged."
    )

    loss: dict[str, float] | str = Field(
        {"cross_entropy": 1.0, "dice": 1.0}, description="A loss, or losses by weight."
    )
    loss_options: dict[str, float] = Field(
        {}, description="gamma, alpha, beta, label_smoothing, sharpness."
    )
    class_weights: Literal[
        "none", "inverse", "sqrt_inverse", "median_frequency", "enet", "effective_number"
    ] = Field("sqrt_inverse", description="How much more rare classes count.")
    weight_cap: Annotated[float, Field(ge=1)] = Field(10.0, description="But no more than this.")

    epochs: Annotated[int, Field(ge=1)] = Field(50, description="Times through the chips.")
    batch: Annotated[int, Field(ge=1)] = Field(8, description="Chips in a step, on each device.")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        description="What moves the weights: adamw; muon, which turns the step of a whole "
        "convolution at once, for networks that learn from nothing.",
    )
    lr: Annotated[float, Field(gt=0)] = Field(1e-3, description="Highest learning rate.")
    encoder_lr: Annotated[float, Field(ge=0)] = Field(
        1.0, description="The encoder's rate as a part of lr."
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        0.01, description="Of the weights, not of biases and norms."
    )
    warmup: Share = Field(0.05, description="Share of the steps over which the rate rises.")
    clip: Annotated[float, Field(gt=0)] | None = Field(
        1.0, description="Longest gradient; null: any."
    )
    average: Share = Field(
        0.99, description="Decay of the running average of the weights that is kept; 0: none."
    )
    auxiliary: Annotated[float, Field(ge=0)] = Field(
        0.4, description="Weight of the loss of an auxiliary head, in networks that have one."
    )
    keep: Literal["best", "last"] = Field(
        "best",
        description="Which epoch's network the model is: best by the mean IoU of the validation, "
        "or last, where that says too little.",
    )
    patience: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Stop after so many epochs without a better one."
    )

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to learn.")
    devices: Annotated[int, Field(ge=1)] = Field(1, description="How many of them.")
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="bf16 where the machine is quick at it, else float32."
    )
    cache_mb: Annotated[int, Field(ge=0)] = Field(
        2048, description="Scenes that fit into this memory are read once."
    )
    seed: int = Field(0, description="Another gives another network.")

    @property
    def zoom_range(self) -> tuple[float, float]:
        """How much finer and how much coarser chips are read than their scenes are."""
        return self.zoom if isinstance(self.zoom, tuple) else (1 / self.zoom, self.zoom)

    @field_validator("zoom")
    @classmethod
    def _zoom_in_order(cls, zoom: float | tuple[float, float]) -> float | tuple[float, float]:
        if isinstance(zoom, tuple) and zoom[0] > zoom[1]:
            raise ValueError("zoom goes from the finer to the coarser: [1, 3]")
        if not isinstance(zoom, tuple) and zoom < 1:
            raise ValueError("zoom is at least 1")
        return zoom

    @field_validator("bands")
    @classmethod
    def _known_bands(cls, bands: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [band for band in bands if band not in COMMON_NAMES]
        if unknown:
            near = difflib.get_close_matches(unknown[0], COMMON_NAMES, 1)
            hint = (
                f"; did you mean {near[0]}?" if near else f"; there are {', '.join(COMMON_NAMES)}"
            )
            raise ValueError(f"{unknown[0]!r} is no common band name{hint}")
        if not bands or len(set(bands)) != len(bands):
            raise ValueError("give each band once")
        return bands

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}: folds count from 0")
        if self.validation + self.test >= 1:
            raise ValueError("validation and test leave nothing to learn from")
        for purpose in ("validation", "test"):
            told = [getattr(self, f"{purpose}_{what}") is None for what in ("scenes", "labels")]
            if any(told) and not all(told):
                raise ValueError(f"{purpose}_scenes and {purpose}_labels go together")
            later = getattr(self, f"{purpose}_scenes_after") is not None
            if later != (self.scenes_after is not None and not any(told)):
                raise ValueError(
                    f"scenes_after, {purpose}_scenes and {purpose}_scenes_after: give each scene "
                    "its later one, or none"
                )
        if self.scenes_after is not None and self.unchanged not in self.classes:
            raise ValueError(
                f"unchanged: {self.unchanged} is no class; say which one means that nothing changed"
            )
        for chosen in self.band_sets:
            if not chosen or len(set(chosen)) < len(chosen) or set(chosen) - set(self.bands):
                raise ValueError(f"band_sets: [{', '.join(chosen)}] are not some of the bands")
        if self.levels and (self.units == "stored" or self.dates == 2):
            raise ValueError("levels are of single scenes with units: reflectance")
        if self.dates == 2 and (self.band_sets or self.labels_are == "probabilities"):
            raise ValueError("scenes_after goes with neither band_sets nor probabilities")
        if self.begin_with is not None and self.pretrained is not None:
            raise ValueError("begin_with brings all weights; leave pretrained out")
        losses = {self.loss} if isinstance(self.loss, str) else set(self.loss)
        if "soft_cross_entropy" in losses and self.labels_are == "classes":
            raise ValueError("soft_cross_entropy needs labels_are: probabilities")
        both = set(self.unlabelled) & set(self.classes)
        if both:
            raise ValueError(f"code {min(both)} is a class and unlabelled")
        try:
            _ = self.legend
        except LegendError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def dates(self) -> Literal[1, 2]:
        """How many scenes of a place are learnt from at a time."""
        return 1 if self.scenes_after is None else 2

    @property
    def validates(self) -> bool:
        """Whether something is kept apart to choose the best epoch by."""
        return bool(self.validation or self.folds or self.validation_scenes)

    @property
    def legend(self) -> Legend:
        """The classes, by code."""
        drawn = Meanings({}, {})
        return Legend(
            tuple(
                LegendClass(code, each, drawn.colour(code))
                if isinstance(each, str)
                else LegendClass(code, each.name, each.colour)
                for code, each in sorted(self.classes.items())
            )
        )

    def to_yaml(self) -> str:
        """The recipe in full, as read again."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_recipe(path: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe; its data folder is taken relative to the file.

    Args:
        path: a YAML file.
        settings: "key=value", values as YAML, that replace what the file says;
            "network.encoder=resnet18" reaches into a mapping.

    Raises:
        InputError: naming the file, the first key that is wrong and, for a typo, the right one.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MiB; this is no recipe")
        told = _mapping(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InputError(f"the recipe {path} cannot be read: {reason}") from error
    for setting in settings:
        _set(told, setting)
    recipe = make_recipe(told, str(path))
    data = Path(recipe.data)
    return recipe.model_copy(update={"data": str((path.parent / data).resolve())})


def make_recipe(told: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """A recipe from what a person told, keys as in the file.

    Raises:
        InputError: as `read_recipe`.
    """
    try:
        return Recipe.model_validate(told)
    except ValidationError as error:
        raise InputError(f"{where}: {_first(error)}") from error


def recipe_schema() -> str:
    """The JSON schema that editors check and complete recipes by."""
    schema = Recipe.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2)


def _mapping(text: str, where: str) -> dict[str, Any]:
    try:
        if "&" in text and any(isinstance(each, yaml.AliasToken) for each in yaml.scan(text)):
            raise InputError(f"{where}: aliases (*name) are not part of a recipe")
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = str(error).replace("\n", " ")
        raise InputError(f"{where} is no YAML: {said}") from error
    if not isinstance(told, dict):
        raise InputError(f"{where} is no recipe: it holds no 'key: value' lines")
    return told


def _set(told: dict[str, Any], setting: str) -> None:
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise InputError(f"--set {setting}: write key=value, for example lr=3e-4")
    *outer, last = key.strip().split(".")
    for name in outer:
        inner = told.get(name)
        told[name] = dict(inner) if isinstance(inner, dict) else {}
        told = told[name]
    try:
        told[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {setting}: the value is no YAML") from error


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, in words; a typo comes with the nearest right key."""
    found = sorted(
        error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden"
    )[0]
    place = ".".join(str(part) for part in found["loc"] if part not in ("str", "ClassName"))
    if found["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place, Recipe.model_fields, 1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "geoseg train --schema lists the keys"
        return f"there is no key {place!r}; {hint}"
    message = found["msg"].removeprefix("Value error, ")
    if found["type"] == "missing":
        return f"the key {place!r} is missing"
    return f"{place}: {message}" if place else message
