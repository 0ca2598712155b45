"""Samples on disk: a GeoPackage that a person labels in QGIS and that remembers its design."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import geopandas
import numpy as np
import numpy.typing as npt
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS

from geoseg.accuracy.design import Design
from geoseg.errors import InputError, OutputError
from geoseg.legend import UNCERTAIN
from geoseg.vector.opening import check_format
from geoseg.vector.sample_style import sample_style
from geoseg.vector.styles import add_layer_style, register_table

__all__ = ["LAYER", "LabelledSamples", "SampleRows", "read_samples", "write_samples"]

LAYER = "samples"
DESIGN_TABLE = "geoseg_design"
OWN_FIELDS = ("sample_id", "stratum", "row", "col")

Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SampleRows:
    """The samples of one draw; the first is number 1."""

    shapes: npt.NDArray[np.object_]
    """(N,), shapely points or squares in map coordinates."""
    rows: Ints
    """(N,), of the drawn pixel."""
    cols: Ints
    """(N,)."""
    strata: npt.NDArray[np.intp]
    """(N,), place of the stratum in the design."""
    map_codes: Ints
    """(N,), what the map says there."""
    map_names: Sequence[str]
    """(N,)."""
    chips: Sequence[str] | None = None
    """(N,), pictures beside the file, if there are any."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSamples:
    """Samples as they come back from a person."""

    shapes: npt.NDArray[np.object_]
    """(N,), in the coordinates of `crs`."""
    crs: str | None
    """As WKT; None when the file has none."""
    labels: tuple[str | None, ...]
    """(N,), the reference class; None where it is not labelled."""
    numbers: tuple[int, ...] | None
    """(N,), numbers within the draw; None in files that geoseg did not write."""
    rows: Ints | None
    """(N,), of the drawn pixel."""
    cols: Ints | None
    strata: tuple[str, ...] | None
    """(N,), names of the strata."""
    design: Design | None
    """None when the file declares none."""


def write_samples(path: Path, samples: SampleRows, design: Design, crs: CRS | None) -> None:
    """Write samples as a GeoPackage with their design and a style for QGIS.

    Fields: sample_id, stratum, map_code, map_class, inclusion_probability, weight (pixels that
    the sample stands for), row, col, chip, and for the person reference and note, both empty.

    Raises:
        OutputError: when the file cannot be written in full.
    """
    plots = design.plot_px is not None
    kind = "Polygon" if plots else "Point"
    names = [each.name for each in design.classes if each.code < UNCERTAIN]
    style = sample_style(names, plots=plots, chips=samples.chips is not None)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")  # it has none
            pyogrio.write_dataframe(
                _frame(samples, design, crs),
                path,
                layer=LAYER,
                driver="GPKG",
                geometry_type=kind,
                VERSION="1.2",  # what QGIS and GDAL of the last years all read without a word
                spatial_index=True,
            )
        with closing(sqlite3.connect(path)) as database, database:
            _add_design(database, design)
        add_layer_style(path, LAYER, "geom", style, name="samples", description="Samples to label")
    except (DataSourceError, DataLayerError, RuntimeError, sqlite3.Error) as error:
        raise OutputError(f"could not write {path.name}: {error}") from error
    found = pyogrio.read_info(path, layer=LAYER, force_feature_count=True)["features"]
    if found != len(samples.shapes):
        raise OutputError(f"{path.name} holds {found} samples of {len(samples.shapes)}")


def _frame(samples: SampleRows, design: Design, crs: CRS | None) -> geopandas.GeoDataFrame:
    probabilities = np.array([each.inclusion_probability for each in design.strata])
    if design.spacing_px is not None:
        probabilities[:] = 1 / design.spacing_px**2
    count = len(samples.shapes)
    fields: dict[str, Any] = {
        "sample_id": np.arange(1, count + 1),
        "reference": np.array([None] * count, dtype=object),
        "note": np.array([None] * count, dtype=object),
        "stratum": [design.strata[place].name for place in samples.strata],
        "map_code": samples.map_codes,
        "map_class": list(samples.map_names),
        "inclusion_probability": probabilities[samples.strata],
        "weight": 1 / probabilities[samples.strata],
        "row": samples.rows,
        "col": samples.cols,
    }
    if samples.chips is not None:
        fields["chip"] = list(samples.chips)
    wkt = None if crs is None else crs.to_wkt()
    return geopandas.GeoDataFrame(fields, geometry=samples.shapes, crs=wkt)


def _add_design(database: sqlite3.Connection, design: Design) -> None:
    database.execute(f"CREATE TABLE {DESIGN_TABLE} (id INTEGER PRIMARY KEY, design TEXT NOT NULL)")
    database.execute(f"INSERT INTO {DESIGN_TABLE} (design) VALUES (?)", (design.to_json(),))  # noqa: S608  (a constant)
    register_table(database, DESIGN_TABLE, "How the samples were drawn; geoseg accuracy needs it")


def read_samples(
    path: str | Path, *, reference_field: str = "reference", option: str = "--reference-field"
) -> LabelledSamples:
    """Read samples, or polygons of classes, from a GeoPackage, Shapefile, FlatGeobuf or GeoJSON.

    Args:
        path: the file.
        reference_field: the field that holds the class, by name or code.
        option: what a person sets that field with, for messages.

    Raises:
        InputError: if the file is missing, of another format, or has no field of that name.
    """
    path = Path(path)
    check_format(path, "labelled samples")
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if not layers:
            raise InputError(f"{path} holds no layer with geometries; give samples or polygons")
        if len(layers) > 1 and LAYER not in layers:
            raise InputError(f"{path} holds the layers {layers}; call the one to read {LAYER!r}")
        frame = pyogrio.read_dataframe(path, layer=LAYER if LAYER in layers else layers[0])
    except (DataSourceError, DataLayerError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if reference_field not in frame.columns:
        fields = [name for name in frame.columns if name != "geometry"]
        raise InputError(
            f"{path.name} has no field {reference_field!r}, only {fields}; "
            f"name the one that holds the class with {option}"
        )
    empty = np.flatnonzero(shapely.is_missing(frame.geometry) | shapely.is_empty(frame.geometry))
    if len(empty):
        raise InputError(f"{path.name} has no geometry in row {empty[0] + 1}; delete that row")
    return _labelled(frame, reference_field, _read_design(path))


def _labelled(
    frame: geopandas.GeoDataFrame, reference_field: str, design: Design | None
) -> LabelledSamples:
    own = set(OWN_FIELDS) <= set(frame.columns)
    if design is not None and not own:
        raise InputError(
            "the samples have lost the fields sample_id, stratum, row or col that their design "
            "needs; take the file that geoseg sample wrote"
        )
    if design is not None:
        added = np.flatnonzero(frame[list(OWN_FIELDS)].isna().any(axis=1))
        if len(added):
            raise InputError(
                f"row {added[0] + 1} of the samples was not drawn: it lacks sample_id, stratum, "
                "row or col; delete it, the design holds for the drawn samples alone"
            )
    labels = tuple(_label(value) for value in frame[reference_field])
    crs = None if frame.crs is None else str(frame.crs.to_wkt())
    shapes = np.asarray(frame.geometry.array, dtype=object)
    if design is None:
        return LabelledSamples(shapes, crs, labels, None, None, None, None, None)
    return LabelledSamples(
        shapes,
        crs,
        labels,
        numbers=tuple(int(number) for number in frame["sample_id"]),
        rows=frame["row"].to_numpy(np.int64),
        cols=frame["col"].to_numpy(np.int64),
        strata=tuple(map(str, frame["stratum"])),
        design=design,
    )


def _label(value: Any) -> str | None:
    """A class name or code as text; whole numbers without their '.0'."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _read_design(path: Path) -> Design | None:
    if path.suffix.lower() != ".gpkg":
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute(f"SELECT design FROM {DESIGN_TABLE}").fetchone()  # noqa: S608
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return None
        raise InputError(f"{path} cannot be read: {error}") from error
    return None if row is None else Design.from_json(str(row[0]))
