"""Scenes that arrive as items of a STAC collection, on disk or over HTTP."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import requests
import shapely

from geoseg.errors import InputError, JobError, OutputError
from geoseg.jobs.arrivals import Arrival, MissingAssetError, NotThereError
from geoseg.raster.cloud_rule import CloudRule
from geoseg.raster.stack import stack_bands

__all__ = ["StacArrivals"]

TIMEOUT_S = (10, 60)
CHUNK_BYTES = 1 << 20
MAX_DOCUMENT_BYTES = 64 << 20
MAX_DOCUMENTS = 100_000
FOLLOWED = ("item", "child", "items", "next")
"""Relations of the links that lead to items."""


class StacArrivals:
    """Scenes as STAC items.

    Args:
        catalogue: a collection, catalogue or item collection (a path or an address), or a folder
            of items. Pages of an API are followed.
        assets: keys of the assets that are the scene: one, or one for each band.
        cache: where assets that are not on this disk, and stacked bands, are kept.
        area: items whose bounding box does not meet this shape (longitudes and latitudes) are
            no scenes of the job.
        quality: key of the asset that says where clouds are, and what in it are clouds.

    Raises:
        InputError: if a catalogue on disk does not exist.
    """

    def __init__(
        self,
        catalogue: str,
        assets: Sequence[str],
        cache: Path,
        *,
        area: Any | None = None,
        quality: tuple[str, CloudRule] | None = None,
    ) -> None:
        if not _is_remote(catalogue) and not Path(catalogue).exists():
            raise InputError(f"stac: {catalogue} does not exist")
        self._catalogue, self._assets, self._cache, self._area = catalogue, assets, cache, area
        self._quality = quality
        self._keys = [*assets, *([] if quality is None else [quality[0]])]
        self._session = requests.Session()
        self.notes: list[str] = []

    def arrivals(self) -> Iterator[Arrival]:
        """See ArrivalSource."""
        seen: set[str] = set()
        for place, item in self._items():
            name = str(item.get("id"))
            bbox = item.get("bbox")
            if name in seen or not self._meets_area(bbox):
                continue
            seen.add(name)
            try:
                properties = item.get("properties") or {}
                date = _date(properties)
                hrefs = [self._href(place, item, key) for key in self._keys]
            except (KeyError, TypeError, ValueError) as error:
                self.notes.append(f"item {name} is no scene: {error}")
                continue
            fingerprint = _fingerprint(item, self._keys, hrefs, self._quality)
            # of a part of a scene, what is said of all of it says nothing
            cover = None if self._area is not None else _cloud_cover(properties)
            yield Arrival(name, date, json.dumps(hrefs), fingerprint, cloud_cover=cover)

    def _meets_area(self, bbox: Any) -> bool:
        if self._area is None or not isinstance(bbox, list) or len(bbox) not in (4, 6):
            return True
        west, south, east, north = (*bbox[:2], *bbox[len(bbox) // 2 :][:2])
        return bool(shapely.intersects(self._area, shapely.box(west, south, east, north)))

    def _href(self, place: str, item: dict[str, Any], key: str) -> str:
        try:
            href = str(item["assets"][key]["href"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"it has no asset {key!r}") from error
        whole = _joined(place, href)
        if _is_remote(place) and not _is_remote(whole):
            raise ValueError(f"its asset {key!r} points to a file, from another machine")
        return whole

    def _items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every item with the place of the document that holds it."""
        folder = not _is_remote(self._catalogue) and Path(self._catalogue).is_dir()
        waiting = (
            sorted(str(path) for path in Path(self._catalogue).rglob("*.json"))
            if folder
            else [self._catalogue]
        )
        known = set(waiting)
        while waiting:
            if len(known) > MAX_DOCUMENTS:
                raise JobError(f"{self._catalogue} leads to more than {MAX_DOCUMENTS} documents")
            place = waiting.pop(0)
            document = self._document(place)
            kind = document.get("type")
            if kind == "Feature":
                yield place, document
            for item in document.get("features") or ():
                yield _self_of(item) or place, item
            if folder or kind == "Feature":
                continue
            for link in _links(document):
                following = _joined(place, link)
                if following not in known and not (_is_remote(place) > _is_remote(following)):
                    known.add(following)
                    waiting.append(following)

    def _document(self, place: str) -> dict[str, Any]:
        try:
            if _is_remote(place):
                with self._session.get(place, timeout=TIMEOUT_S, stream=True) as answer:
                    answer.raise_for_status()
                    text = b"".join(_limited(answer.iter_content(CHUNK_BYTES)))
            else:
                with Path(place).open("rb") as file:
                    text = file.read(MAX_DOCUMENT_BYTES + 1)
            if len(text) > MAX_DOCUMENT_BYTES:
                raise JobError(f"{_shown(place)} is no STAC document: it is far too large")
            document = json.loads(text)
        except (requests.RequestException, OSError, ValueError) as error:
            reason = _reason(error)
            raise JobError(f"{_shown(place)} cannot be read as STAC: {reason}") from error
        return document if isinstance(document, dict) else {}

    def fetch(self, arrival: Arrival) -> Path:
        """See ArrivalSource."""
        try:
            hrefs = json.loads(arrival.source)
        except ValueError as error:  # it arrived in a folder, before the job file said stac
            raise NotThereError(f"{arrival.name} is no STAC item") from error
        stacked = self._place(arrival, "bands", ".tif")
        if stacked.exists():
            return stacked
        paths = [self._local(href, arrival) for href in hrefs]
        bands, quality = paths[: len(self._assets)], paths[len(self._assets) :]
        if len(bands) == 1 and not quality:
            return bands[0]
        stacked.parent.mkdir(parents=True, exist_ok=True)
        told = None
        if quality and self._quality is not None:
            told = quality[0], self._quality[1]
        stack_bands(bands, self._assets, stacked, quality=told)
        for href, path in zip(hrefs, paths, strict=True):
            if _is_remote(href):
                path.unlink(missing_ok=True)
        return stacked

    def _local(self, href: str, arrival: Arrival) -> Path:
        if not _is_remote(href):
            path = Path(href)
            if not path.is_file():
                raise MissingAssetError(f"{path} of item {arrival.name} is not there")
            return path
        path = self._place(arrival, hashlib.sha256(_stable(href).encode()).hexdigest()[:8],
                           PurePosixPath(unquote(urlsplit(href).path)).suffix)  # fmt: skip
        if not path.exists():
            self._download(href, path, arrival.name)
        return path

    def _place(self, arrival: Arrival, what: str, ending: str) -> Path:
        name = re.sub(r"[^\w.-]", "_", arrival.name, flags=re.ASCII)[:80]
        return self._cache / f"{name}_{arrival.fingerprint[:12]}_{what}{ending}"

    def _download(self, href: str, path: Path, item: str) -> None:
        partial = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._session.get(href, timeout=TIMEOUT_S, stream=True) as answer:
                if answer.status_code in (404, 410):
                    raise MissingAssetError(f"{_shown(href)} of item {item} is not there")
                answer.raise_for_status()
                with partial.open("wb") as file:
                    for chunk in answer.iter_content(CHUNK_BYTES):
                        file.write(chunk)
            partial.replace(path)
        except requests.RequestException as error:  # of the server's, not of the scene's making
            partial.unlink(missing_ok=True)
            raise NotThereError(f"{_shown(href)} cannot be fetched: {_reason(error)}") from error
        except OSError as error:
            partial.unlink(missing_ok=True)
            reason = error.strerror or error
            raise OutputError(f"could not write into {path.parent}: {reason}") from error


def _limited(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Chunks until they are more than a document may hold."""
    size = 0
    for chunk in chunks:
        yield chunk
        size += len(chunk)
        if size > MAX_DOCUMENT_BYTES:
            return


def _is_remote(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _joined(place: str, href: str) -> str:
    """Where a link of a document leads."""
    if _is_remote(href):
        return href
    if _is_remote(place):
        return urljoin(place, href)
    if href.startswith("file://"):
        return unquote(urlsplit(href).path)
    return os.path.normpath(Path(place).parent / href)


def _links(document: dict[str, Any]) -> Iterator[str]:
    links = [each for each in document.get("links") or () if isinstance(each, dict)]
    for link in links:
        if link.get("rel") in FOLLOWED and str(link.get("method", "GET")) == "GET":
            yield str(link.get("href"))


def _self_of(item: dict[str, Any]) -> str | None:
    """The address of an item that came within a collection of items."""
    links = [each for each in item.get("links") or () if isinstance(each, dict)]
    return next((str(each["href"]) for each in links if each.get("rel") == "self"), None)


def _date(properties: dict[str, Any]) -> datetime:
    text = properties.get("datetime") or properties.get("start_datetime")
    if not text:
        raise ValueError("it has no datetime")
    date = datetime.fromisoformat(str(text))
    date = date.replace(microsecond=date.microsecond // 1000 * 1000)  # as the ledger keeps it
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)


def _cloud_cover(properties: dict[str, Any]) -> float | None:
    """The share of clouds that an item states, 0 to 1, of all of its scene."""
    percent = properties.get("eo:cloud_cover")
    if isinstance(percent, int | float) and 0 <= percent <= 100:
        return percent / 100
    return None


def _fingerprint(
    item: dict[str, Any],
    keys: Sequence[str],
    hrefs: Sequence[str],
    quality: tuple[str, CloudRule] | None,
) -> str:
    """What is known of the content without fetching it; signatures in addresses come and go."""
    assets = [item["assets"][key] for key in keys]
    facts = [
        [_stable(href), asset.get("file:checksum"), asset.get("file:size")]
        for href, asset in zip(hrefs, assets, strict=True)
    ]
    facts.append([item["properties"].get("updated")])
    if quality is not None:
        facts.append([list(quality[1].codes), list(quality[1].bits)])
    for href in hrefs:
        if not _is_remote(href):
            with suppress(OSError):
                stat = Path(href).stat()
                facts.append([stat.st_size, stat.st_mtime_ns])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _stable(href: str) -> str:
    return href.partition("?")[0]


def _shown(place: str) -> str:
    """An address without what may be a secret."""
    return _stable(place).partition("://")[2].rpartition("@")[2] if _is_remote(place) else place


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"status {error.response.status_code}"
    if isinstance(error, requests.RequestException):
        return f"no answer ({type(error).__name__})"
    return str(error)
