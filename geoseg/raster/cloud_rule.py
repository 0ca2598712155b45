"""What in a product's quality band hides the ground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CloudRule"]


@dataclass(frozen=True, slots=True)
class CloudRule:
    """What in a quality band is no clear ground."""

    codes: tuple[int, ...] = ()
    """Values, such as 3, 8, 9 and 10 of Sentinel-2's scene classification."""
    bits: tuple[int, ...] = ()
    """Bits from 0, any of which is enough, such as 1 to 4 of Landsat's QA_PIXEL."""

    def clear(self, quality: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Where the ground is seen."""
        flags = sum(1 << bit for bit in self.bits)
        flagged = (quality.astype(np.int64) & flags) != 0
        return np.asarray(~(np.isin(quality, self.codes) | flagged))
