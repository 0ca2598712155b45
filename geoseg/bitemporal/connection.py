"""Which pixels belong to changed patches: rims count where they hang together with a core.

Pixels hang together by their sides and corners, so that a road one pixel wide stays whole where it
runs diagonally. The findings are gone through twice: once to number the pieces of each strip and
learn which of them meet, and once to keep those that belong to a patch with a core.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import scipy.sparse
import scipy.sparse.csgraph

from geoseg.bitemporal.draft import Differences, Findings

__all__ = ["ConnectedChange"]

BY_SIDES_AND_CORNERS = np.ones((3, 3), np.bool_)

Numbers = npt.NDArray[np.int64]


class ConnectedChange:
    """Findings with what counts as changed.

    Args:
        findings: gone through once now, and once each time they are asked for.
    """

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._kept = _kept_pieces(findings)

    def strips(self) -> Iterator[tuple[Differences, npt.NDArray[np.bool_]]]:
        """The findings, each strip with the pixels (H, W) that count as changed."""
        first = 0
        for strip in self._findings.strips():
            labels, count = scipy.ndimage.label(strip.rim, BY_SIDES_AND_CORNERS)
            keep = np.concatenate(([False], self._kept[first : first + count]))
            first += count
            yield strip, keep[labels]


def _kept_pieces(findings: Findings) -> npt.NDArray[np.bool_]:
    """For every piece of every strip, whether it belongs to a patch with a core."""
    has_core: list[npt.NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    meeting: list[Numbers] = [np.empty((2, 0), np.int64)]
    above: Numbers | None = None
    first = 0
    for strip in findings.strips():
        labels, count = scipy.ndimage.label(strip.rim, BY_SIDES_AND_CORNERS)
        cores = np.zeros(count + 1, np.bool_)
        cores[labels[strip.core & strip.rim]] = True
        has_core.append(cores[1:])
        if above is not None:
            meeting.append(_meeting(above, _numbers(labels[0], first)))
        above = _numbers(labels[-1], first)
        first += count
    cores, pairs = np.concatenate(has_core), np.concatenate(meeting, axis=1)
    links = scipy.sparse.coo_array((np.ones(pairs.shape[1], np.bool_), pairs), (first, first))
    patches, patch_of = scipy.sparse.csgraph.connected_components(links, directed=False)
    with_core = np.bincount(patch_of, cores, minlength=patches) > 0
    return np.asarray(with_core[patch_of])


def _numbers(labels: npt.NDArray[np.int32], first: int) -> Numbers:
    """Numbers of pieces that hold beyond the strip; -1 where there is none."""
    return np.where(labels > 0, labels.astype(np.int64) - 1 + first, -1)


def _meeting(above: Numbers, below: Numbers) -> Numbers:
    """(2, N): pieces that touch across the seam, by sides or corners."""
    width = len(above)
    pairs = [
        (above[max(0, -step) : width - max(0, step)], below[max(0, step) : width - max(0, -step)])
        for step in (-1, 0, 1)
    ]
    both = np.stack([np.concatenate(each) for each in zip(*pairs, strict=True)])
    touching: Numbers = both[:, (both >= 0).all(axis=0)]
    return np.unique(touching, axis=1)
