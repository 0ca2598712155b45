"""Labelled ground as a torchgeo data set, and the loaders that a training takes batches from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import geopandas
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
import torch
from torch.utils.data import DataLoader, Sampler
from torchgeo.datasets import GeoDataset

from geoseg.grid import Grid, Window
from geoseg.legend import NODATA
from geoseg.training.augment import Variation, resize, vary
from geoseg.training.ground import Ground
from geoseg.training.samplers import ChipPlace

__all__ = ["AheadLoader", "LabelledGround", "Sample"]

Sample = dict[str, Any]
"""image: (C, S, S) float32, scaled; mask: (S, S) int64, 255 where not labelled; place: which;
where labels are probabilities, soft: (K, S, S) float32, 0 where not labelled."""


class LabelledGround(GeoDataset):
    """Scenes and their labels, several, of any CRS and resolution.

    Indexed by a ChipPlace it gives that chip to the pixel, which is how geoseg's own samplers ask.
    Indexed by a slice of space and time, as torchgeo's samplers ask, it gives a chip of that size
    in pixels of the scene that lies there.

    Args:
        grounds: the scenes with their labels.
        mean: (C,), of each band.
        stddev: (C,), of each band.
        chip_px: side of the chips; other windows are resized to it. None: as they are.
        variation: what is varied in places that carry a seed.
    """

    def __init__(
        self,
        grounds: Sequence[Ground],
        mean: npt.NDArray[np.floating[Any]],
        stddev: npt.NDArray[np.floating[Any]],
        *,
        chip_px: int | None = None,
        variation: Variation | None = None,
    ) -> None:
        self._grounds, self._chip_px = list(grounds), chip_px
        self._mean, self._stddev = (
            np.asarray(each, np.float32)[:, None, None] for each in (mean, stddev)
        )
        self._variation = variation or Variation(flips=False)
        self.names = [ground.name for ground in grounds]
        self.paths = self.names
        self.index = _index([ground.grid for ground in grounds])
        first = grounds[0].grid.transform
        self._res = abs(first.a) + abs(first.b), abs(first.d) + abs(first.e)

    def __getitem__(self, query: Any) -> Sample:
        """A chip.

        Raises:
            IndexError: if a slice of space touches no scene.
        """
        place = query if isinstance(query, ChipPlace) else self._place(query)
        chip = self._grounds[place.ground].read(place.window)
        labels = chip.labels
        if place.core is not None:
            kept = place.core.within(place.window)
            labels = np.full_like(chip.labels, NODATA)
            labels[kept] = chip.labels[kept]
        scaled = np.where(chip.valid, (chip.pixels - self._mean) / self._stddev, np.float32(0))
        image, mask = torch.from_numpy(scaled), torch.from_numpy(labels).long()
        soft = torch.zeros(0, *mask.shape)
        if chip.soft is not None:
            soft = torch.from_numpy(chip.soft).float() / 255
        if self._chip_px is not None:
            image, mask, soft = resize(image, mask, soft, self._chip_px)
        if place.seed is not None:
            generator = torch.Generator().manual_seed(place.seed)
            image, mask, soft = vary(image, mask, soft, self._variation, generator)
        sample: Sample = {"image": image, "mask": mask, "place": place}
        return sample if chip.soft is None else {**sample, "soft": soft}

    def name_of(self, place: ChipPlace) -> str:
        """What to call a chip: its scene and where it lies in it."""
        window = place.window
        return f"{self.names[place.ground]} at row {window.row}, column {window.col}"

    def _place(self, query: Any) -> ChipPlace:
        """The scene that lies most in a slice of space, and a window there of the slice's size."""
        x, y, _ = self._disambiguate_slice(query)
        box = shapely.box(x.start, y.start, x.stop, y.stop)
        shared = shapely.area(shapely.intersection(self.index.geometry.to_numpy(), box))
        number = int(np.argmax(shared))
        if not shared[number]:
            raise IndexError(f"{query} lies in none of the scenes")
        height = round((y.stop - y.start) / self.res[1])
        width = round((x.stop - x.start) / self.res[0])
        grid, middle = self._grounds[number].grid, box.centroid
        around = Grid(_rasterio_crs(self.index.crs), grid.transform, (1, 1))
        at = around.to_pixels(np.array(middle.x), np.array(middle.y))
        col, row = grid.from_pixels_of(around, *at)
        window = Window(
            round(float(row) - height / 2), round(float(col) - width / 2), height, width
        )
        return ChipPlace(number, window)


class AheadLoader:
    """Batches of a data set, the next ones made by a thread while one is worked on.

    One thread is enough where reading is cheaper than learning, and it leaves chance alone:
    batches come in the sampler's order whatever the timing.
    """

    AHEAD = 3

    def __init__(
        self, dataset: LabelledGround, sampler: Sampler[ChipPlace], batch: int, *, train: bool
    ) -> None:
        self._loader = DataLoader(
            dataset, batch, sampler=sampler, drop_last=train, collate_fn=_collate
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Sample]:
        batches = iter(self._loader)
        with ThreadPoolExecutor(1, "geoseg-read") as reader:
            waiting = [reader.submit(next, batches, None) for _ in range(self.AHEAD)]
            while (batch := waiting.pop(0).result()) is not None:
                waiting.append(reader.submit(next, batches, None))
                yield batch


def _collate(samples: Sequence[Sample]) -> Sample:
    stacked: Sample = {
        key: torch.stack([sample[key] for sample in samples])
        for key in samples[0]
        if key != "place"
    }
    return stacked | {"place": [sample["place"] for sample in samples]}


def _index(grids: Sequence[Grid]) -> geopandas.GeoDataFrame:
    """The outlines in the first scene's CRS, for all time."""
    crs = None if grids[0].crs is None else grids[0].crs.to_wkt()
    outlines = [
        geopandas.GeoSeries(
            [shapely.Polygon(grid.corners)], crs=None if grid.crs is None else grid.crs.to_wkt()
        )
        for grid in grids
    ]
    moved = [each if crs is None or each.crs is None else each.to_crs(crs) for each in outlines]
    times = pd.IntervalIndex.from_tuples(
        [(pd.Timestamp.min, pd.Timestamp.max)] * len(grids), closed="both", name="datetime"
    )
    geometry = [each.iloc[0] for each in moved]
    return geopandas.GeoDataFrame(geometry=geometry, index=times, crs=crs)


def _rasterio_crs(crs: Any) -> Any:
    from rasterio.crs import CRS

    return None if crs is None else CRS.from_wkt(crs.to_wkt())
