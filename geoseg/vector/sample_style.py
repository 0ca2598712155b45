"""How QGIS shows samples: rings that turn green when labelled, and a form with a drop-down."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

__all__ = ["sample_style"]

HIDDEN = ("stratum", "map_code", "map_class", "inclusion_probability", "weight", "row", "col")
"""Fields that the form does not show: who labels should not know what the map says."""

OPEN, DONE = "#e8590c", "#2b8a3e"
"""Colours of samples without and with a label."""

FILTERS = {
    "to be labelled": ('"reference" IS NULL OR "reference" = \'\'', OPEN),
    "labelled": ("ELSE", DONE),
}


def sample_style(classes: Sequence[str], *, plots: bool, chips: bool) -> str:
    """The QML of a layer of samples.

    Args:
        classes: what the drop-down of the `reference` field offers.
        plots: the samples are polygons, not points.
        chips: the field `chip` names a picture.
    """
    root = Element("qgis", version="3.22", styleCategories="Symbology|Fields|Forms")
    root.append(_renderer(plots))
    fields = SubElement(root, "fieldConfiguration")
    _widget(fields, "reference", "ValueMap").append(_value_map(classes))
    for name in HIDDEN:
        _widget(fields, name, "Hidden").append(Element("Option"))
    if chips:
        _widget(fields, "chip", "ExternalResource").append(_picture())
    editable = SubElement(root, "editable")
    for name in ("sample_id", *HIDDEN):
        SubElement(editable, "field", name=name, editable="0")
    text = tostring(root, encoding="unicode")
    return f"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n{text}"


def _widget(fields: Element, name: str, kind: str) -> Element:
    """The `config` element of a field's editor widget."""
    field = SubElement(fields, "field", name=name, configurationFlags="None")
    return SubElement(SubElement(field, "editWidget", type=kind), "config")


def _option(parent: Element, name: str, value: str, kind: str = "QString") -> None:
    SubElement(parent, "Option", name=name, type=kind, value=value)


def _value_map(classes: Sequence[str]) -> Element:
    options = Element("Option", type="Map")
    entries = SubElement(options, "Option", name="map", type="List")
    for name in classes:
        _option(SubElement(entries, "Option", type="Map"), name, name)
    return options


def _picture() -> Element:
    options = Element("Option", type="Map")
    _option(options, "DocumentViewer", "1", "int")  # an image
    _option(options, "RelativeStorage", "1", "int")  # to the project's folder
    _option(options, "StorageMode", "0", "int")  # a file
    _option(options, "FileWidget", "true", "bool")
    return options


def _renderer(plots: bool) -> Element:
    renderer = Element("renderer-v2", type="RuleRenderer", symbollevels="0", forceraster="0")
    rules = SubElement(renderer, "rules", key="samples")
    symbols = SubElement(renderer, "symbols")
    for number, (label, (wanted, colour)) in enumerate(FILTERS.items()):
        SubElement(
            rules, "rule", key=label, symbol=str(number), label=label, filter=wanted
        )  # fmt: skip
        kind = "fill" if plots else "marker"
        symbol = SubElement(symbols, "symbol", type=kind, name=str(number), alpha="1")
        layer = SubElement(symbol, "layer", attrib={"class": "SimpleFill" if plots else
                           "SimpleMarker", "pass": "0", "enabled": "1", "locked": "0"})  # fmt: skip
        options = SubElement(layer, "Option", type="Map")
        red, green, blue = bytes.fromhex(colour[1:])
        for name, value in {
            "name": "circle",
            "size": "4",
            "color": "0,0,0,0",
            "style": "no",
            "outline_color": f"{red},{green},{blue},255",
            "outline_width": "0.6",
            "outline_style": "solid",
        }.items():
            _option(options, name, value)
    return renderer
