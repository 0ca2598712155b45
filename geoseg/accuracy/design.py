"""The design of a sample: which strata, how many in each, and from which map it was drawn."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

from geoseg.errors import InputError

__all__ = ["Design", "DesignKind", "MappedClass", "Stratum"]

DesignKind: TypeAlias = Literal["stratified", "simple", "systematic"]

VERSION = 1
"""Of the JSON in which a design is stored."""


@dataclass(frozen=True, slots=True)
class MappedClass:
    """A class of the map that was sampled, and how much of it there is by pixel counting."""

    code: int
    name: str
    colour: str
    """'#rrggbb'."""
    pixels: int
    """Within what was sampled from."""
    hectares: float | None
    """True area on the ellipsoid; None when the map has no CRS."""


@dataclass(frozen=True, slots=True)
class Stratum:
    """A part of the map from which samples are drawn with equal chances.

    Raises:
        InputError: if it has no pixel, or more samples than pixels.
    """

    code: int
    """Value in the raster that says which pixels belong to it."""
    name: str
    pixels: int
    """How many pixels it has, N_h."""
    samples: int
    """How many of them are in the sample, n_h."""

    def __post_init__(self) -> None:
        if not 0 <= self.samples <= self.pixels or self.pixels < 1:
            raise InputError(
                f"stratum {self.name!r} cannot have {self.samples} samples of {self.pixels} pixels"
            )

    @property
    def inclusion_probability(self) -> float:
        """The chance of each of its pixels to be in the sample, n_h / N_h."""
        return self.samples / self.pixels


@dataclass(frozen=True, slots=True)
class Design:
    """A declared probability design: what estimates need to know of how a sample was drawn.

    Raises:
        InputError: if there is no stratum, or two share a name.
    """

    kind: DesignKind
    """A systematic sample is drawn on a square grid of pixels with a random start."""
    strata: tuple[Stratum, ...]
    """One that holds the whole map, unless the sample is stratified."""
    classes: tuple[MappedClass, ...]
    """The legend of the map."""
    map_name: str
    """File name of the map."""
    map_sha256: str
    """Of the map's grid and pixels, not of its file."""
    seed: int
    """Gives the same sample from the same map."""
    total_hectares: float | None
    """True area of all that was sampled from; None when the map has no CRS."""
    strata_source: str | None = None
    """File name of the raster of strata, where that is not the map."""
    allocation: str | None = None
    """How the sample was shared out among the strata."""
    size_from: str | None = None
    """Where its size comes from, in words."""
    spacing_px: float | None = None
    """Distance of a systematic sample's rows and columns."""
    plot_px: int | None = None
    """Side of the square plots; None for points."""
    declared_by: str = "geoseg sample"
    """Who says so."""

    def __post_init__(self) -> None:
        names = [each.name for each in self.strata]
        if not names or len(set(names)) < len(names):
            raise InputError(f"a design needs strata of different names, not {names}")

    @property
    def pixels(self) -> int:
        """Pixels in all strata."""
        return sum(each.pixels for each in self.strata)

    @property
    def samples(self) -> int:
        """Samples in all strata."""
        return sum(each.samples for each in self.strata)

    @property
    def weights(self) -> tuple[float, ...]:
        """The share of the pixels in each stratum, W_h."""
        return tuple(each.pixels / self.pixels for each in self.strata)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the weights and inclusion probabilities spelled out."""
        strata = [
            asdict(each) | {"weight": w, "inclusion_probability": each.inclusion_probability}
            for each, w in zip(self.strata, self.weights, strict=True)
        ]
        return {"version": VERSION} | asdict(self) | {"strata": strata, "samples": self.samples}

    def to_json(self) -> str:
        """The design as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Design:
        """Read what `to_json` wrote.

        Raises:
            InputError: if it is damaged, or of a later version.
        """
        try:
            fields = dict(json.loads(text))
            version = fields.pop("version")
            if version != VERSION:
                raise InputError(f"the sample's design has version {version}; expected {VERSION}")
            fields.pop("samples")
            if fields["kind"] not in get_args(DesignKind):
                raise InputError(f"the sample's design is of an unknown kind, {fields['kind']!r}")
            strata = tuple(_stratum(each) for each in fields.pop("strata"))
            classes = tuple(MappedClass(**each) for each in fields.pop("classes"))
            return cls(strata=strata, classes=classes, **fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"the design stored with the samples is damaged ({type(error).__name__}: {error}); "
                "take the file that geoseg sample wrote"
            ) from error


def _stratum(fields: Mapping[str, Any]) -> Stratum:
    return Stratum(
        int(fields["code"]), str(fields["name"]), int(fields["pixels"]), int(fields["samples"])
    )
