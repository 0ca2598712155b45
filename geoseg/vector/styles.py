"""Styles: what makes QGIS open a layer in the legend's colours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

__all__ = ["add_layer_style", "qgis_style", "register_table"]

TABLE = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256),
    f_table_schema TEXT(256),
    f_table_name TEXT(256),
    f_geometry_column TEXT(256),
    styleName TEXT(30),
    styleQML TEXT,
    styleSLD TEXT,
    useAsDefault BOOLEAN,
    description TEXT,
    owner TEXT(30),
    ui TEXT(30),
    update_time DATETIME DEFAULT CURRENT_TIMESTAMP
)
"""


def qgis_style(field: str, values: Iterable[tuple[str, str]]) -> str:
    """QGIS's own XML for polygons without outlines, drawn by the value of a text field.

    Args:
        field: its name.
        values: each value and its colour, "#rrggbb".
    """
    root = ElementTree.Element("qgis", version="3.28", styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=field, symbollevels="0"
    )
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for number, (value, colour) in enumerate(values):
        ElementTree.SubElement(
            categories, "category",
            symbol=str(number), value=value, label=value, type="string", render="true",
        )  # fmt: skip
        symbols.append(_fill(number, colour))
    ElementTree.SubElement(root, "layerGeometryType").text = "2"
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return doctype + ElementTree.tostring(root, encoding="unicode")


def add_layer_style(
    geopackage: Path, layer: str, geometry: str, style: str, *, name: str, description: str
) -> None:
    """Store a style as the default of a layer, in the table where QGIS looks for it.

    Raises:
        sqlite3.Error: if the file cannot be written.
    """
    with closing(sqlite3.connect(geopackage)) as database, database:
        database.execute(TABLE)
        register_table(database, "layer_styles", "")
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, "
            "f_geometry_column, styleName, styleQML, useAsDefault, description) "
            "VALUES ('', '', ?, ?, ?, ?, 1, ?)",
            (layer, geometry, name, style, description),
        )


def register_table(database: sqlite3.Connection, table: str, description: str) -> None:
    """Tell a GeoPackage of a table without geometry."""
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, srs_id) "
        "VALUES (?, 'attributes', ?, ?, 0)",
        (table, table, description),
    )


def _fill(number: int, colour: str) -> ElementTree.Element:
    rgba = ",".join(str(part) for part in (*bytes.fromhex(colour[1:]), 255))
    symbol = ElementTree.Element("symbol", type="fill", name=str(number), alpha="1")
    layer = ElementTree.SubElement(symbol, "layer", {"class": "SimpleFill"}, enabled="1")
    options = ElementTree.SubElement(layer, "Option", type="Map")
    for key, value in (("color", rgba), ("style", "solid"), ("outline_style", "no")):
        ElementTree.SubElement(options, "Option", type="QString", name=key, value=value)
        ElementTree.SubElement(layer, "prop", k=key, v=value)  # what QGIS before 3.26 reads
    return symbol
