"""How QGIS shows the ledger's changes: outlines, so that the scene below stays visible."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, tostring

__all__ = ["ledger_style"]

OUTLINE = {
    "style": "no",
    "outline_style": "solid",
    "outline_color": "232,89,12,255",
    "outline_width": "0.6",
}


def ledger_style() -> str:
    """The QML of the layer of changes."""
    root = Element("qgis", version="3.22", styleCategories="Symbology")
    renderer = SubElement(root, "renderer-v2", type="singleSymbol", symbollevels="0")
    symbol = SubElement(SubElement(renderer, "symbols"), "symbol", type="fill", name="0", alpha="1")
    layer = SubElement(symbol, "layer", {"class": "SimpleFill"}, enabled="1")
    options = SubElement(layer, "Option", type="Map")
    for name, value in OUTLINE.items():
        SubElement(options, "Option", name=name, type="QString", value=value)
        SubElement(layer, "prop", k=name, v=value)  # what QGIS before 3.26 reads
    SubElement(root, "layerGeometryType").text = "2"
    text = tostring(root, encoding="unicode")
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{text}"
