"""Feeds of alerts: Atom with GeoRSS for feed readers and GIS, JSON Feed for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from geoseg.errors import OutputError
from geoseg.jobs.alert import Alert
from geoseg.outputs import replace_file

__all__ = ["write_feed"]

ATOM = "http://www.w3.org/2005/Atom"
GEORSS = "http://www.georss.org/georss"
JSON_FEED = "https://jsonfeed.org/version/1.1"
NO_ALERT_YET = "1970-01-01T00:00:00Z"
MOST_ENTRIES = 200


def write_feed(path: Path, job: str, alerts: Sequence[Alert]) -> None:
    """Write the newest alerts as the feed that the ending of the path names.

    The file is replaced in one step, and only when it says something new.

    Args:
        path: ends in .json for a JSON Feed, else the feed is Atom.
        job: the job's name.
        alerts: in the order of time.

    Raises:
        OutputError: if it cannot be written.
    """
    newest = alerts[::-1][:MOST_ENTRIES]
    content = _json_feed(job, newest) if path.suffix == ".json" else _atom(job, newest)
    try:
        if path.exists() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise OutputError(f"could not write {path}: {error.strerror or error}") from error


def _atom(job: str, alerts: Sequence[Alert]) -> bytes:
    ElementTree.register_namespace("", ATOM)
    ElementTree.register_namespace("georss", GEORSS)
    feed = ElementTree.Element(f"{{{ATOM}}}feed")

    def add(parent: ElementTree.Element, name: str, text: str) -> None:
        ElementTree.SubElement(parent, name).text = text

    add(feed, f"{{{ATOM}}}id", f"urn:geoseg:{job}")
    add(feed, f"{{{ATOM}}}title", f"geoseg alerts of {job}")
    add(feed, f"{{{ATOM}}}updated", max((a.raised_at for a in alerts), default=NO_ALERT_YET))
    author = ElementTree.SubElement(feed, f"{{{ATOM}}}author")
    add(author, f"{{{ATOM}}}name", "geoseg")
    for alert in alerts:
        entry = ElementTree.SubElement(feed, f"{{{ATOM}}}entry")
        add(entry, f"{{{ATOM}}}id", alert.urn)
        add(entry, f"{{{ATOM}}}title", alert.title)
        add(entry, f"{{{ATOM}}}updated", alert.raised_at)
        add(entry, f"{{{ATOM}}}content", alert.text)
        if alert.bounds is not None:
            west, south, east, north = alert.bounds
            add(entry, f"{{{GEORSS}}}box", f"{south:.6f} {west:.6f} {north:.6f} {east:.6f}")
    ElementTree.indent(feed)
    text: bytes = ElementTree.tostring(feed, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _json_feed(job: str, alerts: Sequence[Alert]) -> bytes:
    items: list[dict[str, Any]] = [
        {
            "id": alert.urn,
            "title": alert.title,
            "content_text": alert.text,
            "date_published": alert.raised_at,
            "_geoseg": alert.facts,
        }
        for alert in alerts
    ]
    feed = {"version": JSON_FEED, "title": f"geoseg alerts of {job}", "items": items}
    return (json.dumps(feed, indent=2, ensure_ascii=False) + "\n").encode()
