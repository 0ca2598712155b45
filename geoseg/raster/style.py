"""Styles of rasters of several bands: what makes QGIS open the right one, coloured.

GeoTIFF has a colour table for a single band only; QGIS looks for NAME.qml beside NAME.tif.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

from geoseg.legend import LegendClass

__all__ = ["palette_style", "ramp_style"]

OPAQUE, CLEAR = "255", "0"


def palette_style(band: int, classes: Iterable[LegendClass], *, clear: int | None = None) -> str:
    """QGIS's own XML: a band of class codes in the colours of its classes.

    Args:
        band: 1-based.
        classes: their codes, names and colours.
        clear: the code that is drawn as nothing.
    """
    root, renderer = _renderer("paletted", band)
    palette = ElementTree.SubElement(renderer, "colorPalette")
    for each in classes:
        alpha = CLEAR if each.code == clear else OPAQUE
        ElementTree.SubElement(
            palette, "paletteEntry",
            value=str(each.code), color=each.colour, label=each.name, alpha=alpha,
        )  # fmt: skip
    return _text(root)


def ramp_style(band: int, stops: Sequence[tuple[float, str, str]]) -> str:
    """QGIS's own XML: a band of shares, coloured between stops; what is below is clear.

    Args:
        band: 1-based.
        stops: physical value, colour "#rrggbb" and label of each, in rising order.
    """
    low, high = str(stops[0][0]), str(stops[-1][0])
    root, renderer = _renderer("singlebandpseudocolor", band)
    renderer.set("classificationMin", low)
    renderer.set("classificationMax", high)
    outer = ElementTree.SubElement(renderer, "rastershader")
    shader = ElementTree.SubElement(
        outer, "colorrampshader",
        colorRampType="INTERPOLATED", clip="1", minimumValue=low, maximumValue=high,
    )  # fmt: skip
    for value, colour, label in stops:
        ElementTree.SubElement(
            shader, "item", value=str(value), color=colour, label=label, alpha=OPAQUE
        )
    return _text(root)


def _renderer(kind: str, band: int) -> tuple[ElementTree.Element, ElementTree.Element]:
    root = ElementTree.Element("qgis", version="3.22", styleCategories="Symbology")
    pipe = ElementTree.SubElement(root, "pipe")
    renderer = ElementTree.SubElement(
        pipe, "rasterrenderer", type=kind, band=str(band), opacity="1", alphaBand="-1"
    )
    return root, renderer


def _text(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    doctype = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return doctype + ElementTree.tostring(root, encoding="unicode") + "\n"
