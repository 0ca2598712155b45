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
from geoseg.bitemporal.change_legend import CHANGED
from geoseg.bitemporal.context import REACH_PX, in_context, with_halo
from geoseg.bitemporal.draft import Differences, Draft
from geoseg.bitemporal.mixture import Verdict, judge
from geoseg.bitemporal.pair import PairChip, ScenePair
from geoseg.bitemporal.transitions import UNCHANGED
from geoseg.errors import SceneError
from geoseg.grid import Grid, Window
from geoseg.legend import NODATA
from geoseg.raster.stitch import PERCENT

__all__ = ["SpectralFindings", "compare_values"]

MOST_SAMPLES = 1 << 20
"""Pixels that IR-MAD is fitted to: all, or every n-th of every n-th row. Of a million pixels, a
correlation has a standard error below 0.001."""

STRIP_PX = 1 << 20
"""Pixels read together."""

RIM = 50
"""Probability of change, in percent, from which a pixel belongs to a patch that has a core."""

VALUES_PER_UNIT, MOST_VALUE, NO_VALUE = 1000, 65_534, 65_535
"""Cube roots of the statistic are kept in thousandths."""

Progress = Callable[[float], None]
See = Callable[[int, Window, npt.NDArray[np.float32]], None]
"""Shown the pixels of the earlier (0) and of the later scene (1) at a window."""


@dataclass(frozen=True, slots=True)
class SpectralFindings:
    """How unlike two scenes are, and what of that is change."""

    draft: Draft
    """Probabilities of change in percent, and where a core is."""
    verdict: Verdict
    alteration: Alteration
    sampled: int
    """Pixels that the comparison was fitted to."""

    def strips(self) -> Iterator[Differences]:
        """See Findings."""
        for window, (probability, core) in self.draft.strips():
            known = probability != NODATA
            nothing, something = (
                np.where(known, np.uint8(code), np.uint8(NODATA)) for code in (UNCHANGED, CHANGED)
            )
            yield Differences(
                window,
                probability,
                rim=known & (probability >= RIM),
                core=core.astype(np.bool_),
                stable=nothing,
                before=nothing,
                after=something,
            )

    def facts(self) -> dict[str, Any]:
        """What the summary says of it."""
        verdict, alteration = self.verdict, self.alteration
        return {
            "statistic": "cube root of chi-square",
            "rim": RIM / PERCENT,
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
    see: See,
    progress: Progress,
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
    sample = _sample(pair, progress)
    alteration = fit_alteration(*sample, pair.ranges, comparison)
    values = Draft(draft_path, pair.grid, 1, np.uint16)
    counts = np.zeros(NO_VALUE + 1, np.int64)
    for chip in pair.strips(STRIP_PX):
        plane = _values(alteration, chip)
        counts += np.bincount(plane.ravel(), minlength=len(counts))
        values.write(chip.window, plane[None])
        see(0, chip.window, chip.before)
        see(1, chip.window, chip.after)
        progress(0.3 + 0.7 * chip.window.row_stop / pair.grid.height)
    verdict = judge(counts[:NO_VALUE], np.arange(NO_VALUE) / VALUES_PER_UNIT, alteration.variates)
    draft = _judged(values, verdict, draft_path.with_suffix(".judged"), pair.grid)
    values.remove()
    return SpectralFindings(draft, verdict, alteration, sample[0].shape[1])


def _sample(
    pair: ScenePair, progress: Progress
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Valid pixels of both, (C, N): all, or those on a lattice."""
    height, width = pair.grid.shape
    step = max(1, math.ceil(math.sqrt(height * width / MOST_SAMPLES)))
    rows = (Window(row, 0, 1, width) for row in range(0, height, step))
    before, after = [], []
    for chip in pair.strips(STRIP_PX) if step == 1 else pair.read_ahead(rows):
        valid = chip.valid[:, ::step]
        before.append(chip.before[:, :, ::step][:, valid])
        after.append(chip.after[:, :, ::step][:, valid])
        progress(0.3 * chip.window.row_stop / height)
    if not any(each.size for each in before):
        raise SceneError(
            f"{pair.before.name} and {pair.after.name} share no valid pixel: nothing to compare"
        )
    return np.concatenate(before, axis=1), np.concatenate(after, axis=1)


def _values(alteration: Alteration, chip: PairChip) -> npt.NDArray[np.uint16]:
    """Cube roots of the statistic in thousandths, (H, W)."""
    bands = len(chip.before)
    unlike = alteration.statistic(chip.before.reshape(bands, -1), chip.after.reshape(bands, -1))
    values = np.minimum(np.rint(np.cbrt(unlike) * VALUES_PER_UNIT), MOST_VALUE)
    return np.where(chip.valid, values.reshape(chip.valid.shape), NO_VALUE).astype(np.uint16)


def _judged(values: Draft, verdict: Verdict, path: Path, grid: Grid) -> Draft:
    """Each pixel's probability of change among its neighbours, and whether it is a core."""
    odds = np.append(verdict.log_odds, 0).astype(np.float32)
    core = math.ceil(verdict.core * VALUES_PER_UNIT)
    draft = Draft(path, grid, 2, np.uint8)
    planes = ((window, plane) for window, (plane,) in values.strips())
    inner = slice(REACH_PX, -REACH_PX)
    for window, plane in with_halo(planes, REACH_PX, NO_VALUE):
        probable = in_context(odds[plane], plane != NO_VALUE)
        own = plane[inner, inner]
        known = own != NO_VALUE
        percent = np.where(known, np.rint(probable * PERCENT), NODATA).astype(np.uint8)
        draft.write(window, np.stack((percent, (known & (own >= core)).astype(np.uint8))))
    return draft
