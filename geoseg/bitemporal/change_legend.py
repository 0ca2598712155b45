"""What the codes of a change map mean: classes of both dates, or kinds of change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from geoseg.errors import InputError
from geoseg.legend import Legend, LegendClass

__all__ = ["CHANGED", "CHANGE_COLOUR", "YES_OR_NO", "ChangeLegend"]

CHANGED = 1
"""The code of change of which no more is known."""

CHANGE_COLOUR = "#d7191c"
"""Of such change."""

ARROW = " -> "
"""A kind of change that is called "trees -> built" says from what to what."""


@dataclass(frozen=True, slots=True)
class ChangeLegend:
    """The legend of a change map."""

    legend: Legend
    """Classes that a place has on each date; or kinds of change, and the class that says none."""
    unchanged: int | None = None
    """With kinds of change: the code that says that nothing changed. None: there are classes."""

    @property
    def kinds(self) -> tuple[LegendClass, ...]:
        """The kinds of change; none where there are classes."""
        if self.unchanged is None:
            return ()
        return tuple(each for each in self.legend if each.code != self.unchanged)

    @property
    def tells_ends(self) -> bool:
        """Whether it is known from what to what things changed."""
        return all(ARROW in kind.name for kind in self.kinds)

    def ends(self, kind: LegendClass) -> tuple[str, str]:
        """From what and to what, of a kind whose name tells it."""
        before, _, after = kind.name.partition(ARROW)
        return before, after

    def wanted_kinds(
        self, before: Iterable[str | int] | None = None, after: Iterable[str | int] | None = None
    ) -> tuple[int, ...]:
        """Codes of the kinds of change that count; all when None.

        Args:
            before: names of what something may have been.
            after: names of what it may have become.

        Raises:
            InputError: if kinds do not tell it, or none of them is left.
        """
        if before is None and after is None:
            return tuple(kind.code for kind in self.kinds)
        if not self.tells_ends:
            names = ", ".join(kind.name for kind in self.kinds)
            raise InputError(
                f"the model does not say from what to what things changed, only: {names}; leave "
                "--from and --to away"
            )
        known = [{self.ends(kind)[side] for kind in self.kinds} for side in (0, 1)]
        wanted = [
            names if chosen is None else _chosen(chosen, names)
            for chosen, names in zip((before, after), known, strict=True)
        ]
        codes = tuple(
            kind.code
            for kind in self.kinds
            if all(end in names for end, names in zip(self.ends(kind), wanted, strict=True))
        )
        if not codes:
            raise InputError("the model knows no such change: give other --from or --to")
        return codes


def _chosen(chosen: Iterable[str | int], names: Iterable[str]) -> set[str]:
    by_name = {name.casefold(): name for name in names}
    told = [str(each) for each in chosen]
    unknown = [each for each in told if each.casefold() not in by_name]
    if unknown:
        raise InputError(f"the model does not know {unknown[0]!r}, only {', '.join(sorted(names))}")
    return {by_name[each.casefold()] for each in told}


YES_OR_NO = ChangeLegend(
    Legend(
        (LegendClass(0, "unchanged", "#d9d9d9"), LegendClass(CHANGED, "changed", CHANGE_COLOUR))
    ),
    unchanged=0,
)
"""The legend of change that has no class."""
