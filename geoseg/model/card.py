"""The card of a bundle: what a model eats, what it says, and how far to trust it.

Written in the words of the STAC Machine Learning Model extension 1.5 (`mlm:`), with `geoseg:` for
what it lacks. The card is the single source of truth: the network is rebuilt from it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geoseg.bands import COMMON_NAMES
from geoseg.errors import ModelError
from geoseg.legend import Legend, LegendClass
from geoseg.raster.level import Level

__all__ = ["Card", "ModelInput", "ModelOutput", "OutputClass", "ZScore", "make_card"]

GRAPH_NOTE = ("geoseg", "function_sha256")
"""Where in an exported graph's notes `Card.function_sha256` stands."""

EXTENSION = "https://stac-extensions.github.io/mlm/v1.5.0/schema.json"

Px = Annotated[int, Field(gt=0, le=1 << 14)]


class _Words(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False
    )


class ZScore(_Words):
    """(value - mean) / stddev, for one band."""

    type: Literal["z-score"] = "z-score"
    mean: float
    stddev: Annotated[float, Field(gt=0)]


class LogZScore(_Words):
    """(log(max(value, 0) + plus) - mean) / stddev, for one band."""

    type: Literal["processing"] = "processing"
    format: Literal["geoseg"] = "geoseg"
    expression: Literal["(log(max(value, 0) + plus) - mean) / stddev"] = (
        "(log(max(value, 0) + plus) - mean) / stddev"
    )
    plus: Annotated[float, Field(gt=0)]
    mean: float
    """Of the logarithms, and so the deviation."""
    stddev: Annotated[float, Field(gt=0)]


class TensorShape(_Words):
    """A tensor; -1 stands for any size."""

    shape: tuple[int, int, int, int]
    dim_order: tuple[str, str, str, str]
    data_type: str = "float32"


class ModelInput(_Words):
    """What the network eats."""

    name: str = "scene"
    bands: Annotated[tuple[str, ...], Field(min_length=1)]
    """Common names, in order; of each date, where there are two."""
    input: TensorShape
    """Of all dates stacked, the earlier one's bands first."""
    value_scaling: tuple[ZScore, ...] | tuple[LogZScore, ...]
    """One a band, all with the same `plus`; part of the exported graph, so that it takes values in
    `geoseg:units`."""
    resize_type: None = None


class OutputClass(_Words):
    """One class."""

    value: int
    name: str
    color_hint: str
    """'RRGGBB'."""


class ModelOutput(_Words):
    """What the network says: probabilities, a plane for each class."""

    name: str = "classes"
    tasks: tuple[Literal["semantic-segmentation"]] = ("semantic-segmentation",)
    result: TensorShape
    classes: tuple[OutputClass, ...] = Field(alias="classification:classes")


class Card(_Words):
    """Everything about a model but its weights."""

    stac_extensions: tuple[str, ...] = (EXTENSION,)
    description: str = ""
    license: str = "proprietary"
    name: str = Field(alias="mlm:name")
    architecture: str = Field(alias="mlm:architecture")
    """A name in `geoseg.nets.zoo`."""
    hyperparameters: dict[str, Any] = Field(alias="mlm:hyperparameters", default_factory=dict)
    """What the network is built with, besides its bands and classes."""
    tasks: tuple[Literal["semantic-segmentation"]] = Field(
        alias="mlm:tasks", default=("semantic-segmentation",)
    )
    framework: Literal["pytorch"] = Field(alias="mlm:framework", default="pytorch")
    total_parameters: int = Field(alias="mlm:total_parameters", ge=0, default=0)
    inputs: tuple[ModelInput] = Field(alias="mlm:input")
    outputs: tuple[ModelOutput] = Field(alias="mlm:output")

    format: Literal[1] = Field(alias="geoseg:format", default=1)
    units: Literal["reflectance", "stored"] = Field(alias="geoseg:units")
    """What input values mean: reflectance 0-1, or the scene's values as stored."""
    stored_type: Literal["uint8", "uint16", "int16", "float32"] | None = Field(
        alias="geoseg:stored_type", default=None
    )
    """With units "stored": the data type of the scenes it was trained on."""
    gsd_m: tuple[float, float] | None = Field(alias="geoseg:gsd_m", default=None)
    """Finest and coarsest ground sample distance it was trained at, in metres; None: any."""
    chip_px: Px = Field(alias="geoseg:chip_px")
    halo_px: Annotated[int, Field(ge=0)] = Field(alias="geoseg:halo_px")
    stride: Px = Field(alias="geoseg:stride")
    exact: bool = Field(alias="geoseg:exact")
    """Whether the network reaches no further than the halo, so that chips join without a trace."""
    dates: Literal[1, 2] = Field(alias="geoseg:dates", default=1)
    """How many scenes of a place it compares; with 2, its classes are kinds of change."""
    unchanged: int | None = Field(alias="geoseg:unchanged", default=None)
    """With two dates: the code of the class that says that nothing changed."""
    band_sets: tuple[tuple[str, ...], ...] = Field(alias="geoseg:band_sets", default=())
    """Bands that it also manages with alone; empty: it needs them all."""
    levels: tuple[Level, ...] = Field(alias="geoseg:levels", default=())
    """Levels of reflectance that it was trained on, the first one more than the others; empty: not
    known, and taken as they come."""
    temperature: Annotated[float, Field(gt=0)] = Field(alias="geoseg:temperature", default=1.0)
    """Logits are divided by it, so that a confidence is the chance to be right."""
    value_ranges: tuple[tuple[float, float], ...] = Field(alias="geoseg:value_ranges", default=())
    """Lowest and highest value that is usual where it was trained, for each band."""
    bf16: bool | None = Field(alias="geoseg:bf16", default=None)
    """Whether computing in bf16 leaves the classes as they are; None: as the architecture is known
    for."""
    sha256: dict[str, str] = Field(alias="geoseg:sha256", default_factory=dict)
    """Of each other file of the bundle."""
    training: dict[str, Any] = Field(alias="geoseg:training", default_factory=dict)
    """Data, teacher, date, seed: how it was made."""
    figures: dict[str, Any] = Field(alias="geoseg:figures", default_factory=dict)
    """How good it was on what it had not seen."""
    limits: tuple[str, ...] = Field(alias="geoseg:limits", default=())
    """What it is known to get wrong."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        unknown = [band for band in self.bands if band not in COMMON_NAMES]
        if unknown:
            raise ValueError(f"band {unknown[0]!r} is no common name")
        if len(self.inputs[0].value_scaling) != len(self.bands):
            raise ValueError("value_scaling needs one entry a band")
        if len({getattr(each, "plus", None) for each in self.inputs[0].value_scaling}) > 1:
            raise ValueError("value_scaling adds something else to each band")
        if self.inputs[0].input.shape[1] != self.planes:
            raise ValueError("the input's shape has another number of bands")
        if len(self.value_ranges) not in (0, len(self.bands)):
            raise ValueError("geoseg:value_ranges needs one entry a band")
        if any(low >= high for low, high in self.value_ranges):
            raise ValueError("geoseg:value_ranges must be (lowest, highest)")
        if any(not chosen or set(chosen) - set(self.bands) for chosen in self.band_sets):
            raise ValueError("geoseg:band_sets must be some of the bands")
        if (self.dates == 2) != (self.unchanged is not None):
            raise ValueError("geoseg:unchanged is needed with two dates, and only then")
        if self.outputs[0].result.shape[1] != len(self.outputs[0].classes):
            raise ValueError("the result's shape has another number of classes")
        if self.gsd_m is not None and not 0 < self.gsd_m[0] <= self.gsd_m[1]:
            raise ValueError("geoseg:gsd_m must be (finest, coarsest), both above 0")
        if self.chip_px % self.stride or self.halo_px % self.stride:
            raise ValueError("chip and halo must be multiples of the stride")
        if self.chip_px <= 2 * self.halo_px:
            raise ValueError("the halo leaves nothing of a chip")
        if self.unchanged is not None and self.unchanged not in self.legend.codes:
            raise ValueError("geoseg:unchanged is the code of no class")
        _ = self.legend
        return self

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of the input bands, in order."""
        return self.inputs[0].bands

    @property
    def planes(self) -> int:
        """How many planes of pixels go in: the bands of every date."""
        return self.dates * len(self.bands)

    @property
    def legend(self) -> Legend:
        """The classes, in the order of the score planes."""
        return Legend(
            tuple(
                LegendClass(c.value, c.name, f"#{c.color_hint.lower()}")
                for c in self.outputs[0].classes
            )
        )

    @property
    def logarithm(self) -> float | None:
        """What is added to values before their logarithm is taken; None: it is not."""
        first = self.inputs[0].value_scaling[0]
        return first.plus if isinstance(first, LogZScore) else None

    @property
    def neutral(self) -> npt.NDArray[np.float32]:
        """(planes,), the value of each that the network takes for nothing special."""
        plus = self.logarithm
        return self.mean if plus is None else np.maximum(np.exp(self.mean) - np.float32(plus), 0)

    @property
    def mean(self) -> npt.NDArray[np.float32]:
        """(planes,), of values, or of their logarithms."""
        means = [each.mean for each in self.inputs[0].value_scaling]
        return np.array(means * self.dates, np.float32)

    @property
    def stddev(self) -> npt.NDArray[np.float32]:
        """(planes,), as the mean."""
        deviations = [each.stddev for each in self.inputs[0].value_scaling]
        return np.array(deviations * self.dates, np.float32)

    @property
    def allows_bf16(self) -> bool:
        """Whether to compute in bf16 unasked.

        SegNet's unpooling puts a block where the largest of near equals was: rounding moves it.
        """
        return self.architecture != "segnet" if self.bf16 is None else self.bf16

    @property
    def function_sha256(self) -> str:
        """A hash of all that decides what is computed: network, weights, bands and scaling.

        The exported graph carries it, so that a graph is only used with the card it was made by.
        """
        decisive = {
            "architecture": self.architecture,
            "hyperparameters": self.hyperparameters,
            "input": self.inputs[0].model_dump(mode="json"),
            "classes": [each.value for each in self.outputs[0].classes],
            "stride": self.stride,
            "weights": self.sha256.get("weights.safetensors"),
        }
        if self.temperature != 1:  # graphs are older than temperatures
            decisive["temperature"] = self.temperature
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """The card as text, the same for the same card."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> Card:
        """Read a card.

        Raises:
            ModelError: naming `where` and the first thing that is wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "card"
            raise ModelError(f"{where}: {place}: {first['msg']}") from error


def make_card(
    *,
    name: str,
    architecture: str,
    hyperparameters: dict[str, Any],
    bands: tuple[str, ...],
    mean: tuple[float, ...],
    stddev: tuple[float, ...],
    legend: Legend,
    chip_px: int,
    dates: Literal[1, 2] = 1,
    logarithm: float | None = None,
    **more: Any,
) -> Card:
    """A card from plain values; `more` are further fields of Card by their Python names.

    Raises:
        ModelError: if they do not fit together.
    """
    dims = ("batch", "bands", "height", "width")
    each_band = list(zip(mean, stddev, strict=True))
    scaling: tuple[ZScore, ...] | tuple[LogZScore, ...]
    if logarithm is None:
        scaling = tuple(ZScore(mean=m, stddev=s) for m, s in each_band)
    else:
        scaling = tuple(LogZScore(plus=logarithm, mean=m, stddev=s) for m, s in each_band)
    classes = tuple(
        OutputClass(value=c.code, name=c.name, color_hint=c.colour[1:].upper()) for c in legend
    )
    planes = dates * len(bands)
    tensor_in = TensorShape(shape=(-1, planes, chip_px, chip_px), dim_order=dims)
    tensor_out = TensorShape(
        shape=(-1, len(legend), chip_px, chip_px),
        dim_order=("batch", "classes", "height", "width"),
    )
    try:
        return Card(
            name=name,
            architecture=architecture,
            hyperparameters=hyperparameters,
            inputs=(ModelInput(bands=bands, input=tensor_in, value_scaling=scaling),),
            outputs=(ModelOutput(result=tensor_out, classes=classes),),
            chip_px=chip_px,
            dates=dates,
            **more,
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ModelError(f"card of {name}: {first['loc']}: {first['msg']}") from error
