"""Polygons as Arrow tables: one row a polygon, the fields that every format gets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from geoseg.legend import Meanings
from geoseg.vector.polygons import PolygonBatch

__all__ = ["GEOMETRY", "Attributes", "ClassAttributes", "PolygonTable", "names_of"]

GEOMETRY = "geometry"

MAX_COLUMN_BYTES = 2**31 - 1
"""Arrow counts the bytes of a binary column in 32 bits."""


class Attributes(Protocol):
    """What the codes of polygons say in a table."""

    @property
    def fields(self) -> Sequence[pa.Field]:
        """The first fields of a row."""
        ...

    def columns(self, codes: npt.NDArray[np.int32]) -> list[pa.Array]:
        """Their values for polygons with these codes, (N,)."""
        ...

    def drawn(self, codes: Collection[int]) -> tuple[str, list[tuple[str, str]]]:
        """The text field that polygons are coloured by, and colours by its values.

        Args:
            codes: those that occur.
        """
        ...


class ClassAttributes:
    """A polygon has a class.

    Args:
        meanings: names and colours of the classes.
    """

    fields = (pa.field("class_id", pa.int32()), pa.field("class", pa.utf8()))

    def __init__(self, meanings: Meanings) -> None:
        self._meanings = meanings

    def columns(self, codes: npt.NDArray[np.int32]) -> list[pa.Array]:
        """See Attributes."""
        return [_column(codes), names_of(codes, self._meanings.name)]

    def drawn(self, codes: Collection[int]) -> tuple[str, list[tuple[str, str]]]:
        """See Attributes."""
        known = sorted({*self._meanings.names, *codes})
        return "class", [(self._meanings.name(c), self._meanings.colour(c)) for c in known]


def names_of(codes: npt.NDArray[np.int32], name: Callable[[int], str]) -> pa.Array:
    """Texts for codes, (N,)."""
    present, which = np.unique(codes, return_inverse=True)
    return _texts([name(int(code)) for code in present]).take(_column(which))


class PolygonTable:
    """Turns batches of polygons into Arrow record batches, and keeps count.

    Args:
        batches: the polygons.
        attributes: what their codes say.
        in_metres: whether areas and lengths are in metres, not pixels.
        with_confidence: whether there are fields for it.
    """

    def __init__(
        self,
        batches: Iterable[PolygonBatch],
        attributes: Attributes,
        *,
        in_metres: bool,
        with_confidence: bool,
    ) -> None:
        self._batches = batches
        self.attributes = attributes
        """What the codes say."""
        self._with_confidence = with_confidence
        area, perimeter = ("area_m2", "perimeter_m") if in_metres else ("area_px", "perimeter_px")
        numbers = [area, perimeter] + ["conf_mean", "conf_min"] * with_confidence
        wkb = pa.field(GEOMETRY, pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})
        self.schema = pa.schema(
            [
                *attributes.fields,
                *(pa.field(name, pa.float64()) for name in numbers),
                wkb,
            ]
        )
        """Names and types of the fields."""
        self.count = 0
        """Polygons handed on so far."""
        self.codes: set[int] = set()
        """The classes they had."""
        self.error: Exception | None = None
        """What went wrong while polygons were made: Arrow passes on words only."""

    def batches(
        self, inspect: Callable[[pa.RecordBatch], None] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The polygons, some at a time; `inspect` sees each batch first and may raise."""
        try:
            for batch in self._batches:
                for piece in self._pieces(batch):
                    if inspect is not None:
                        inspect(piece)
                    yield piece
        except Exception as error:
            self.error = error
            raise

    def reader(
        self,
        names: Sequence[str] | None = None,
        inspect: Callable[[pa.RecordBatch], None] | None = None,
    ) -> pa.RecordBatchReader:
        """The same as a stream that other libraries read, with other field names if wanted."""
        if names is None:
            return pa.RecordBatchReader.from_batches(self.schema, self.batches(inspect))
        fields = zip(self.schema, names, strict=True)
        schema = pa.schema([field.with_name(name) for field, name in fields])
        renamed = (
            pa.RecordBatch.from_arrays(batch.columns, schema=schema)
            for batch in self.batches(inspect)
        )
        return pa.RecordBatchReader.from_batches(schema, renamed)

    def _pieces(self, batch: PolygonBatch) -> Iterator[pa.RecordBatch]:
        """One record batch, or more where the polygons' bytes are too many for one."""
        begin, count = 0, len(batch.codes)
        while begin < count:
            limit = batch.offsets[begin] + MAX_COLUMN_BYTES
            end = int(np.searchsorted(batch.offsets, limit, side="right")) - 1
            rows = slice(begin, max(end, begin + 1))
            self.count += rows.stop - begin
            self.codes.update(np.unique(batch.codes[rows]).tolist())
            yield self._record(batch, rows)
            begin = rows.stop

    def _record(self, batch: PolygonBatch, rows: slice) -> pa.RecordBatch:
        codes = batch.codes[rows]
        columns = [
            *self.attributes.columns(codes),
            _column(batch.areas[rows]),
            _column(batch.perimeters[rows]),
        ]
        if self._with_confidence:
            for values in (batch.confidence_means, batch.confidence_minima):
                known = np.full(len(codes), np.nan) if values is None else values[rows]
                columns.append(pa.array(np.round(known, 4), from_pandas=True))
        offsets = batch.offsets[rows.start : rows.stop + 1]
        wkb = batch.wkb[offsets[0] : offsets[-1]]
        buffers = [None, pa.py_buffer((offsets - offsets[0]).astype(np.int32)), pa.py_buffer(wkb)]
        columns.append(pa.Array.from_buffers(pa.binary(), len(codes), buffers))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _column(values: npt.NDArray[Any]) -> pa.Array:
    """Numbers as they lie in memory; pyarrow.array would import pandas to ask if they are its."""
    content = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, content])


def _texts(texts: Sequence[str]) -> pa.Array:
    """Likewise."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.utf8(), len(texts), buffers)
