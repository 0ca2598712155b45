"""Styles: what makes QGIS open a layer in the legend's colours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

from geoseg.legend import Meanings

__all__ = ["add_layer_style", "outline_style", "qgis_style", "register_table"]

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


def qgis_style(meanings: Meanings, codes: Iterable[int]) -> str:
    """QGIS's own XML for polygons drawn by class, without outlines."""
    root = ElementTree.Element("qgis", version="3.28", styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr="class", symbollevels="0"
    )
    categories = ElementTree.SubElement(renderer, "categories")
    symbols = ElementTree.SubElement(renderer, "symbols")
    for number, code in enumerate(codes):
        name = meanings.name(code)
        ElementTree.SubElement(
            categories, "category",
            symbol=str(number), value=name, label=name, type="string", render="true",
        )  # fmt: skip
        symbols.append(_symbol(number, {"style": "solid", "color": meanings.colour(code)}))
    return _polygon_style(root)


def outline_style(colour: str) -> str:
    """QGIS's own XML for polygons that are outlines of one colour."""
    root = ElementTree.Element("qgis", version="3.28", styleCategories="Symbology")
    renderer = ElementTree.SubElement(root, "renderer-v2", type="singleSymbol", symbollevels="0")
    line = {"outline_color": colour, "outline_width": "0.6", "outline_style": "solid"}
    ElementTree.SubElement(renderer, "symbols").append(_symbol(0, {"style": "no", **line}))
    return _polygon_style(root)


def _polygon_style(root: ElementTree.Element) -> str:
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


def _symbol(number: int, look: dict[str, str]) -> ElementTree.Element:
    symbol = ElementTree.Element("symbol", type="fill", name=str(number), alpha="1")
    layer = ElementTree.SubElement(symbol, "layer", {"class": "SimpleFill"}, enabled="1")
    options = ElementTree.SubElement(layer, "Option", type="Map")
    for key, value in ({"outline_style": "no"} | look).items():
        if value.startswith("#"):
            value = ",".join(str(part) for part in (*bytes.fromhex(value[1:]), 255))
        ElementTree.SubElement(options, "Option", type="QString", name=key, value=value)
        ElementTree.SubElement(layer, "prop", k=key, v=value)  # what QGIS before 3.26 reads
    return symbol
