"""What the codes of a map mean: class codes, names and colours."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from geoseg.errors import InputError, LegendError

__all__ = [
    "NODATA",
    "NO_CLASS",
    "UNCERTAIN",
    "UNCERTAIN_COLOUR",
    "UNCERTAIN_NAME",
    "Legend",
    "LegendClass",
    "Meanings",
    "rgb_of",
]

NODATA = 255
"""The code of pixels without data in every class raster."""

NO_CLASS = -(2**31)
"""Stands for no data where class codes are 32-bit numbers, whatever the raster says it with."""

UNCERTAIN = 254
"""The code kept for pixels that a model declines to name."""

UNCERTAIN_NAME, UNCERTAIN_COLOUR = "uncertain", "#808080"


@dataclass(frozen=True, slots=True)
class LegendClass:
    """One class of a legend.

    Raises:
        LegendError: if the code, name or colour makes no sense.
    """

    code: int
    """Value in the class raster, 0 to 253."""
    name: str
    """What people call it."""
    colour: str
    """'#rrggbb'."""

    def __post_init__(self) -> None:
        if not 0 <= self.code < UNCERTAIN:
            raise LegendError(f"class code {self.code} of {self.name!r} is not in 0-253")
        if not self.name.strip():
            raise LegendError(f"class {self.code} has no name")
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", self.colour):
            raise LegendError(f"colour {self.colour!r} of {self.name!r} is not of the form #rrggbb")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        return rgb_of(self.colour)


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of '#rrggbb', 0 to 255."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


@dataclass(frozen=True, slots=True)
class Legend:
    """Classes in the order of a network's score planes.

    Raises:
        LegendError: if there are none, or two share a code or a name.
    """

    classes: tuple[LegendClass, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise LegendError("a legend needs at least one class")
        for what, values in (("code", self.codes), ("name", self.names)):
            twice = {value for value in values if values.count(value) > 1}
            if twice:
                raise LegendError(f"two classes share the {what} {sorted(twice)[0]!r}")

    def __iter__(self) -> Iterator[LegendClass]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def codes(self) -> tuple[int, ...]:
        """The code of each class, in order."""
        return tuple(each.code for each in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each class, in order."""
        return tuple(each.name for each in self.classes)

    def by_code(self, code: int) -> LegendClass:
        """The class with this code.

        Raises:
            LegendError: if there is none.
        """
        for each in self.classes:
            if each.code == code:
                return each
        raise LegendError(f"no class has the code {code}; the legend has {list(self.codes)}")


GOLDEN_ANGLE = 0.381966
"""Part of a turn; steps of it around the colour circle never come close to each other soon."""


@dataclass(frozen=True, slots=True)
class Meanings:
    """What a class raster says of its codes, which may be any whole numbers and need no names."""

    names: Mapping[int, str]
    """Names of the codes that have one."""
    colours: Mapping[int, str]
    """'#rrggbb' of the codes that have one."""

    @classmethod
    def of(cls, legend: Legend) -> Meanings:
        """What a legend says, and what pixels without one of its classes are called."""
        return cls(
            {each.code: each.name for each in legend} | {UNCERTAIN: UNCERTAIN_NAME},
            {each.code: each.colour for each in legend} | {UNCERTAIN: UNCERTAIN_COLOUR},
        )

    def name(self, code: int) -> str:
        """What to call a code."""
        return self.names.get(code) or f"class {code}"

    def colour(self, code: int) -> str:
        """How to draw a code: its own colour, else one that neither changes nor repeats soon."""
        if code in self.colours:
            return self.colours[code]
        red, green, blue = colorsys.hsv_to_rgb(code * GOLDEN_ANGLE % 1.0, 0.55, 0.85)
        return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"

    def codes_of(self, wanted: Iterable[str]) -> frozenset[int]:
        """The codes of classes given by name or by code.

        Raises:
            InputError: if one is neither a name nor a whole number.
        """
        by_name = {name.casefold(): code for code, name in self.names.items()}
        codes = set()
        for each in wanted:
            if each.strip().casefold() in by_name:
                codes.add(by_name[each.strip().casefold()])
            elif re.fullmatch(r"-?\d+", each.strip()):
                codes.add(int(each))
            else:
                known = ", ".join(self.names.values()) or "none; give codes"
                raise InputError(f"no class is called {each.strip()!r}; the map names {known}")
        return frozenset(codes)
