"""What is told of a change map: its tags, its title and its summary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from geoseg.bitemporal.alignment import Alignment
from geoseg.bitemporal.dates import SceneDate
from geoseg.bitemporal.draft import Findings
from geoseg.bitemporal.transitions import TransitionCount
from geoseg.comparisons import Comparison
from geoseg.grid import Grid, Window
from geoseg.stopwatch import Stopwatch

__all__ = ["ChangeRecord"]


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """What a run was given, and what it found out before it began to compare."""

    scenes: tuple[str | Path, str | Path]
    comparison: Comparison
    aligned: Alignment
    place: Window
    """Where the map lies on the grid of the pair."""
    dates: Sequence[SceneDate]
    warnings: Sequence[str]
    settings: Mapping[str, Any]
    """Options that decided what counts."""

    @property
    def grid(self) -> Grid:
        """The map's."""
        return self.aligned.pair.grid.crop(self.place)

    @property
    def bands(self) -> Sequence[str]:
        """Names of the bands that are compared."""
        return self.aligned.pair.bands

    @property
    def days(self) -> list[str | None]:
        """Of both scenes, ISO 8601; None where unknown."""
        return [each.day for each in self.dates]

    @property
    def assumed(self) -> list[str]:
        """What was taken for granted, a sentence each."""
        dated = [remark for each in self.dates for remark in each.assumed]
        read = (*self.comparison.assumed, *self.aligned.pair.assumed)
        return list(dict.fromkeys((*dated, *read)))

    def title(self) -> str:
        """A line above the preview."""
        told = [
            Path(path).name + (f" ({each.day})" if each.day else "")
            for path, each in zip(self.scenes, self.dates, strict=True)
        ]
        return f"{told[0]}  ->  {told[1]}   -   {self.comparison.facts()['method']}"

    def tags(self) -> dict[str, str]:
        """What the raster says of its making; no times, so that a rerun gives the same bytes."""
        facts, legend = self.comparison.facts(), self.comparison.legend.legend
        told = {
            "GEOSEG_VERSION": version("geoseg"),
            "GEOSEG_METHOD": facts["method"],
            "GEOSEG_BEFORE": Path(self.scenes[0]).name,
            "GEOSEG_AFTER": Path(self.scenes[1]).name,
            "GEOSEG_BANDS": " ".join(self.bands),
            "GEOSEG_ASSUMED": "; ".join(self.assumed) or "nothing",
            "GEOSEG_LEGEND": json.dumps({each.code: each.name for each in legend}),
        }
        model = facts["model"]
        if model is None:
            return told
        return told | {
            "GEOSEG_MODEL": model["name"],
            "GEOSEG_MODEL_SHA256": model["sha256"],
            "GEOSEG_RUNTIME": model["runtime"],
        }

    def summary(
        self,
        counts: TransitionCount,
        findings: Findings,
        polygons: int,
        files: Mapping[str, str],
        watch: Stopwatch,
    ) -> dict[str, Any]:
        """What the summary file holds."""
        grid, legend, gsd = self.grid, self.comparison.legend, self.grid.gsd_m
        with watch.stage("hash"):
            hashes = [_sha256(path) for path in self.scenes]
        return {
            "geoseg": version("geoseg"),
            **self.comparison.facts(),
            "before": Path(self.scenes[0]).name,
            "after": Path(self.scenes[1]).name,
            "before_sha256": hashes[0],
            "after_sha256": hashes[1],
            "before_date": self.dates[0].day,
            "after_date": self.dates[1].day,
            "bands": list(self.bands),
            "settings": dict(self.settings),
            "crs": None if grid.crs is None else grid.crs.to_string(),
            "shape": list(grid.shape),
            "gsd_m": None if gsd is None else round(gsd, 4),
            **self.aligned.facts(),
            "valid_pixels": counts.valid_pixels,
            "valid_share": counts.valid_pixels / (grid.height * grid.width),
            "changed_pixels": counts.changed_pixels,
            "changed_share": counts.changed_pixels / counts.valid_pixels,
            "changed_area_ha": counts.changed_hectares,
            "polygons": polygons,
            "transitions": [
                {"from": e.before, "to": e.after, "pixels": e.pixels, "area_ha": e.hectares}
                for e in counts.transitions(legend)
            ],
            "kinds": [
                {"change": e.name, "pixels": e.pixels, "area_ha": e.hectares}
                for e in counts.kinds(legend)
            ],
            "threshold": findings.facts(),
            "assumed": self.assumed,
            "warnings": [*self.warnings, *self.aligned.warnings, *_area_warnings(grid)],
            "files": dict(files),
            "seconds": watch.seconds,
        }


def _area_warnings(grid: Grid) -> list[str]:
    if grid.crs is None:
        return ["the scenes have no CRS: areas are in pixels"]
    if grid.gsd_m is None:
        return ["the CRS of the scenes has no place on the Earth: areas are in pixels"]
    return []


def _sha256(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
