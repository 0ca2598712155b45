"""From what was found to what is written: changed patches, none smaller than asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoseg.bitemporal.connection import ConnectedChange
from geoseg.bitemporal.draft import Findings
from geoseg.bitemporal.transitions import CODES, UNCHANGED, transition_codes
from geoseg.grid import Grid, Window
from geoseg.legend import NO_CLASS
from geoseg.vector.polygons import ClassStrip
from geoseg.vector.sieve import MinArea, plan_sieve

__all__ = ["ChangeStrip", "settled"]

Codes = npt.NDArray[np.uint8]
NO_CONFIDENCE = np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True)
class ChangeStrip:
    """Finished rows of a change map, as wide as its grid; arrays are (H, W)."""

    window: Window
    before: Codes
    """Class code of the earlier date, 255 without data."""
    after: Codes
    """Class code of the later date, the same where nothing changed."""
    probability: Codes
    """Of change, in percent, 255 without data."""


def settled(findings: Findings, grid: Grid, minimum: MinArea | None) -> Iterator[ChangeStrip]:
    """Decide what changed: rims that hang together with a core, of a minimum size if wanted.

    Patches of a transition that are smaller go to the neighbour with the longest shared border,
    be that another transition or what did not change; so do small islands within a patch.
    """
    change = ConnectedChange(findings)
    if minimum is None:
        yield from _strips(change)
        return
    sieve = plan_sieve(_class_strips(change, grid), grid, minimum)
    sieved = sieve.apply(_class_strips(change, grid))
    for (found, _), strip, kept in zip(change.strips(), _strips(change), sieved, strict=True):
        yield _with_codes(strip, found.stable, kept.codes)


def _strips(change: ConnectedChange) -> Iterator[ChangeStrip]:
    for found, changed in change.strips():
        yield ChangeStrip(
            found.window,
            np.where(changed, found.before, found.stable),
            np.where(changed, found.after, found.stable),
            found.probability,
        )


def _class_strips(change: ConnectedChange, grid: Grid) -> Iterator[ClassStrip]:
    for strip in _strips(change):
        codes = transition_codes(strip.before, strip.after)
        yield ClassStrip(codes, NO_CONFIDENCE, strip.window.row_stop == grid.height)


def _with_codes(strip: ChangeStrip, stable: Codes, codes: npt.NDArray[np.int32]) -> ChangeStrip:
    """The strip with other transitions."""
    before, after = ((codes // CODES).astype(np.uint8), (codes % CODES).astype(np.uint8))
    same = (codes == UNCHANGED) | (codes == NO_CLASS)
    return ChangeStrip(
        strip.window,
        np.where(same, stable, before),
        np.where(same, stable, after),
        strip.probability,
    )
