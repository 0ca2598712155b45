"""What the codes of a map mean: class codes, names and colours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from geoseg.errors import LegendError

__all__ = ["NODATA", "NO_CLASS", "UNCERTAIN", "Legend", "LegendClass"]

NODATA = 255
"""The code of pixels without data in every class raster."""

NO_CLASS = -(2**31)
"""Stands for no data where class codes are 32-bit numbers, whatever the raster says it with."""

UNCERTAIN = 254
"""The code kept for pixels that a model declines to name."""


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
        red, green, blue = bytes.fromhex(self.colour[1:])
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
