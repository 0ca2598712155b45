"""True areas and lengths anywhere on a grid, without asking the map projection each time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from geoseg.grid import NODE_SPACING_M, Grid

__all__ = ["Ground"]


@dataclass(frozen=True, slots=True)
class Ground:
    """The size of pixels, known at nodes at most 5 km apart and interpolated between them.

    Nodes lie on pixel centres where pixels are that large. Without a CRS that has a place on the
    Earth a pixel is a unit square.
    """

    spacing: tuple[float, float]
    """Pixels from node to node, down and across; the first node is the first pixel's centre."""
    areas: npt.NDArray[np.float64]
    """(R, C): true area of a pixel there, square metres."""
    metric: npt.NDArray[np.float64]
    """(R, C, 3): g_cc, g_cr and g_rr, square metres; a step of dc columns and dr rows is
    sqrt(g_cc dc dc + 2 g_cr dc dr + g_rr dr dr) long."""

    @classmethod
    def of(cls, grid: Grid) -> Ground:
        """The ground under a grid."""
        step = max(1.0, NODE_SPACING_M / grid.gsd_m) if grid.gsd_m else math.inf
        row_nodes, col_nodes = (_node_count(size, step) for size in grid.shape)
        spacing = (
            max(1, grid.height - 1) / (row_nodes - 1),
            max(1, grid.width - 1) / (col_nodes - 1),
        )
        rows, cols = np.meshgrid(
            np.arange(row_nodes) * spacing[0] + 0.5,
            np.arange(col_nodes) * spacing[1] + 0.5,
            indexing="ij",
        )
        steps = grid.cell_steps_m_at(rows, cols)
        areas = grid.cell_area_m2_at(rows, cols)
        if grid.gsd_m is None or steps is None or areas is None:
            unit = np.broadcast_to([1.0, 0.0, 1.0], (*rows.shape, 3)).copy()
            return cls(spacing, np.ones(rows.shape), unit)
        across, down = steps
        products = ((across, across), (across, down), (down, down))
        metric = np.stack([(one * other).sum(axis=-1) for one, other in products], axis=-1)
        return cls(spacing, np.nan_to_num(areas), np.nan_to_num(metric))  # 0 off the Earth

    @property
    def longest_side_m(self) -> float:
        """The longest side that a pixel has anywhere, metres."""
        return math.sqrt(float(self.metric[..., (0, 2)].max()))

    def lines(
        self, row: int, count: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """True areas on some rows, at nodes and how to go on from them.

        Pixel (i, j) has lines[i, at[j]] * (1 - part[j]) + lines[i, at[j] + 1] * part[j].

        Args:
            row: the first row.
            count: how many rows.

        Returns:
            lines (count, C), and for each column of the grid `at` and `part`.
        """
        row_at, row_part = _between(np.arange(row, row + count), self.spacing[0], len(self.areas))
        part = row_part[:, None]
        lines = self.areas[row_at] * (1 - part) + self.areas[row_at + 1] * part
        width = round(self.spacing[1] * (self.areas.shape[1] - 1)) + 1
        return (lines, *_between(np.arange(width), self.spacing[1], self.areas.shape[1]))


def _node_count(size: int, step: float) -> int:
    return max(1, math.ceil((size - 1) / step)) + 1


def _between(
    places: npt.NDArray[np.intp], spacing: float, nodes: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The node before each place, and the part of the way to the next."""
    place = places / spacing
    at = np.minimum(place.astype(np.intp), nodes - 2)
    return at, place - at
