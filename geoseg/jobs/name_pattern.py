"""Names that carry a date: lake_{date:%Y%m%d}.tif."""

from __future__ import annotations

import re
from datetime import UTC, datetime

__all__ = ["NamePattern"]

DIGITS = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "j": 3, "y": 2}
"""How many digits each of strptime's directives stands for."""

DATE = re.compile(r"\{date:([^{}]+)\}")
WILD = {"**/": r"(?:[^/]+/)*", "*": r"[^/]*", "?": r"[^/]"}


class NamePattern:
    """A pattern for paths within a folder.

    `*` stands for anything within a name, `?` for one character, `**/` for any subfolders, and
    {date:...} for the date in strptime's words.

    Args:
        pattern: such as lake_{date:%Y%m%d}.tif.

    Raises:
        ValueError: if it holds no date or not exactly one, or one that no day follows from.
    """

    def __init__(self, pattern: str) -> None:
        dates = DATE.findall(pattern)
        if len(dates) != 1:
            raise ValueError(
                f"pattern {pattern!r} must hold one date, such as lake_{{date:%Y%m%d}}.tif"
            )
        self._format = dates[0]
        directives = re.findall(r"%(.)", self._format)
        unknown = [f"%{each}" for each in directives if each not in DIGITS]
        day_known = "j" in directives or {"m", "d"} <= {*directives}
        year_known = len({"Y", "y"} & {*directives}) == 1
        if unknown or not day_known or not year_known:
            raise ValueError(
                f"the date of pattern {pattern!r} must say year, month and day, "
                f"in {' '.join(f'%{each}' for each in DIGITS)}"
            )
        self.deep = "/" in pattern
        """Whether names may lie in subfolders."""
        before, after = DATE.split(pattern)[::2]
        dated = "".join(
            rf"\d{{{DIGITS[part[1]]}}}" if part.startswith("%") else re.escape(part)
            for part in re.findall(r"%.|[^%]+", self._format)
        )
        self._regex = re.compile(f"{_regex(before)}({dated}){_regex(after)}")

    def date_in(self, name: str) -> datetime | None:
        """The date in a path, UTC; None when the path does not fit the pattern.

        Args:
            name: relative to the folder, with forward slashes.

        Raises:
            ValueError: if it fits, but there is no such day.
        """
        found = self._regex.fullmatch(name)
        if found is None:
            return None
        return datetime.strptime(found[1], self._format).replace(tzinfo=UTC)


def _regex(pattern: str) -> str:
    parts = re.split(r"(\*\*/|\*|\?)", pattern)
    return "".join(WILD.get(part, re.escape(part)) for part in parts)
