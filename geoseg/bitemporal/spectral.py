"""Two scenes compared by their pixels' values alone, without a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geoseg.bitemporal.alteration import Alteration, Comparison, fit_alteration
from geoseg.bitemporal.draft import Differences, Draft
from geoseg.bitemporal.mixture import Verdict, judge
from geoseg.bitemporal.pair import PairChip, ScenePair
from geoseg.errors import SceneError
from geoseg.grid import Window
from geoseg.legend import NODATA

__all__ = ["SpectralFindings", "compare_values"]

MOST_SAMPLES = 1 << 20
"""Pixels that IR-MAD is fitted to: all, or every n-th of every n-th row. Of a million pixels, a
correlation has a standard error below 0.001."""

STRIP_ROWS = 256

NEIGHBOURS = (0.25, 0.5, 0.25)
"""Weights along each axis when averaging over neighbours: as if pixels were twice as large."""

VALUES_PER_UNIT, MOST_VALUE, NO_VALUE = 1000, 65_534, 65_535
"""Cube roots of the statistic are kept in thousandths."""

Progress = Callable[[float], None]
See = Callable[[int, Window, npt.NDArray[np.float32]], None]
"""Shown the pixels of the earlier (0) and of the later scene (1) at a window."""


@dataclass(frozen=True, slots=True)
class SpectralFindings:
    """How unlike two scenes are, and what of that is change."""

    draft: Draft
    verdict: Verdict
    alteration: Alteration
    sampled: int
    """Pixels that the comparison was fitted to."""

    def strips(self) -> Iterator[Differences]:
        """See Findings."""
        percent = np.append(np.rint(self.verdict.probabilities * 100), NODATA).astype(np.uint8)
        rim, core = (math.ceil(v * VALUES_PER_UNIT) for v in (self.verdict.rim, self.verdict.core))
        something = self.verdict.changed_share > 0
        for window, (values,) in self.draft.strips():
            known = values != NO_VALUE
            probability = percent[values]
            nothing = np.where(known, np.uint8(0), np.uint8(NODATA))
            yield Differences(
                window,
                probability,
                known & (values >= rim) & something,
                known & (values >= core) & something,
                stable=nothing,
                before=nothing,
                after=np.where(known, np.uint8(1), np.uint8(NODATA)),
            )

    def facts(self) -> dict[str, Any]:
        """What the summary says of it."""
        verdict, alteration = self.verdict, self.alteration
        return {
            "statistic": "cube root of chi-square, mean over neighbours",
            "rim": round(verdict.rim, 3),
            "core": round(verdict.core, 3),
            "unchanged_mean": round(verdict.unchanged[0], 3),
            "unchanged_deviation": round(verdict.unchanged[1], 3),
            "changed_mean": round(verdict.changed[0], 3),
            "changed_deviation": round(verdict.changed[1], 3),
            "mixture_share": round(verdict.changed_share, 4),
            "correlations": [round(float(each), 4) for each in alteration.correlations],
            "scale": round(alteration.scale, 4),
            "rounds": alteration.rounds,
            "converged": alteration.converged,
            "sampled_pixels": self.sampled,
        }


def compare_values(
    pair: ScenePair,
    comparison: Comparison,
    draft_path: Path,
    see: See | None = None,
    progress: Progress | None = None,
) -> SpectralFindings:
    """Compare the values of two scenes at every pixel, in two readings of both.

    Args:
        pair: the scenes.
        comparison: how.
        draft_path: where to keep what was found.
        see: shown the scenes as they are read.
        progress: called with the share that is done, 0 to 1.

    Raises:
        SceneError: if they share too few valid pixels.
    """
    sample = _sample(pair, see, progress)
    alteration = fit_alteration(*sample, pair.steps, comparison)
    draft = Draft(draft_path, pair.grid, 1, np.uint16)
    counts = np.zeros(NO_VALUE + 1, np.int64)
    for window, chip in pair.strips(STRIP_ROWS, halo_px=1):
        values = _values(alteration, chip)
        counts += np.bincount(values.ravel(), minlength=len(counts))
        draft.write(window, values[None])
        if progress is not None:
            progress(0.5 + window.row_stop / pair.grid.height / 2)
    bins = np.arange(NO_VALUE) / VALUES_PER_UNIT
    spread = sum(each**2 for each in NEIGHBOURS)
    verdict = judge(counts[:NO_VALUE], bins, alteration.variates, spread)
    return SpectralFindings(draft, verdict, alteration, sample[0].shape[1])


def _sample(
    pair: ScenePair, see: See | None, progress: Progress | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Valid pixels of both, (C, N): all, or those on a lattice."""
    height, width = pair.grid.shape
    step = max(1, math.ceil(math.sqrt(height * width / MOST_SAMPLES)))
    before, after = [], []
    for window, chip in pair.strips(STRIP_ROWS):
        places = slice(-window.row % step, None, step), slice(None, None, step)
        valid = chip.valid[places]
        before.append(chip.before[:, *places][:, valid])
        after.append(chip.after[:, *places][:, valid])
        if see is not None:
            see(0, window, chip.before)
            see(1, window, chip.after)
        if progress is not None:
            progress(window.row_stop / height / 2)
    if not any(each.size for each in before):
        raise SceneError(
            f"{pair.before.name} and {pair.after.name} share no valid pixel: nothing to compare"
        )
    return np.concatenate(before, axis=1), np.concatenate(after, axis=1)


def _values(alteration: Alteration, chip: PairChip) -> npt.NDArray[np.uint16]:
    """Cube roots of the statistic, averaged over valid neighbours, in thousandths; (h, W).

    Args:
        alteration: what is usual.
        chip: the strip, with one pixel more on each side.
    """
    bands, rows, cols = chip.before.shape
    unlike = alteration.statistic(
        chip.before.reshape(bands, -1), chip.after.reshape(bands, -1)
    ).reshape(rows, cols)
    weights = chip.valid.astype(np.float32)
    total = _over_neighbours(np.cbrt(unlike) * weights)
    mean = total / np.maximum(_over_neighbours(weights), np.float32(1e-6))
    values = np.minimum(np.rint(mean * VALUES_PER_UNIT), MOST_VALUE).astype(np.uint16)
    return np.where(chip.valid[1:-1, 1:-1], values, np.uint16(NO_VALUE))


def _over_neighbours(plane: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Weighted sums over 3 x 3 pixels, without the rim of the plane."""
    low, middle, high = (np.float32(each) for each in NEIGHBOURS)
    rows = plane[:-2] * low + plane[1:-1] * middle + plane[2:] * high
    return np.asarray(rows[:, :-2] * low + rows[:, 1:-1] * middle + rows[:, 2:] * high)
