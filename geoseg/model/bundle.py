"""A trained model on disk: a folder, or a zip of one.

    card.json              what it is (`geoseg.model.card`), with the sha256 of the others
    weights.safetensors    the network's parameters and running statistics
    graph.xml, graph.bin   the same network for CPU runtimes (OpenVINO), scaling and softmax inside
    graph_int8.xml, .bin   if it was quantized: nearly the same, in whole numbers of eight bits

Nothing in it is code and nothing is unpickled. The card names the hash of every other file, so
the hash of the card is the hash of the model.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from geoseg.errors import ModelError, OutputError
from geoseg.model.card import Card

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "DEFAULT_MODEL",
    "Bundle",
    "list_models",
    "load_bundle",
    "refuse_bundle",
    "save_bundle",
    "write_bundle",
]

DEFAULT_MODEL = "landcover"
CARD, WEIGHTS, GRAPH, GRAPH_WEIGHTS = "card.json", "weights.safetensors", "graph.xml", "graph.bin"
INT8, INT8_WEIGHTS = "graph_int8.xml", "graph_int8.bin"
PARTS = (WEIGHTS, GRAPH, GRAPH_WEIGHTS, INT8, INT8_WEIGHTS)

MAX_CARD_BYTES = 1 << 20
MAX_PART_BYTES = 4 << 30
DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError)

Reader: TypeAlias = Callable[[str, int], bytes]
"""Reads a file of a bundle by name, refusing more bytes than the limit."""

SHIPPED = Path(__file__).parent / "shipped"
"""The models that come with the package."""

SEARCH_PATH = "GEOSEG_MODELS"
"""Environment variable: folders with bundles, as PATH lists programs."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files were checked against its card."""

    card: Card
    sha256: str
    """Of the card, which holds those of the other files."""
    path: Path
    parts: Mapping[str, bytes]
    """The other files' contents by name."""

    @property
    def label(self) -> str:
        """What outputs call the model: its name and the start of its hash."""
        return f"{self.card.name} {self.sha256[:12]}"


def load_bundle(model: str | Path) -> Bundle:
    """Load a bundle by path, or by the name of an installed model.

    Raises:
        ModelError: if there is none, a file is missing or damaged, or they do not fit the card.
    """
    path = _find(model)
    read = _zip_reader(path) if path.is_file() else _folder_reader(path)
    text = read(CARD, MAX_CARD_BYTES)
    card = Card.from_json(text, f"{path}: {CARD}")
    unknown = set(card.sha256) - set(PARTS)
    if unknown or WEIGHTS not in card.sha256:
        raise ModelError(f"{path}: {CARD}: geoseg:sha256 must name {', '.join(PARTS)}")

    def read_part(name: str) -> bytes:
        content = read(name, MAX_PART_BYTES)
        if hashlib.sha256(content).hexdigest() != card.sha256[name]:
            raise ModelError(
                f"{path}: {name} is not the file that the card describes (its sha256 differs); "
                "fetch or export the bundle again"
            )
        return content

    with ThreadPoolExecutor() as pool:
        parts = dict(zip(card.sha256, pool.map(read_part, card.sha256), strict=True))
    _check_weights(path, card, parts[WEIGHTS])
    return Bundle(card, hashlib.sha256(text).hexdigest(), path, parts)


def save_bundle(folder: str | Path, card: Card, network: nn.Module) -> Bundle:
    """Write a network and its card as a bundle, export its graph, and load it back.

    Args:
        folder: made when missing; must not hold a bundle already.
        card: its sha256 and number of parameters are filled in here.
        network: the plain network that the card describes (scaled values in, logits out).

    Raises:
        ModelError: if the network does not fit the card.
        OutputError: if the folder cannot be written or holds a bundle.
    """
    from geoseg.model.export import export_graph, weight_bytes, weights_of

    folder = Path(folder)
    refuse_bundle(folder)
    weights = weight_bytes(network)
    contents = {WEIGHTS: weights}
    hashes = {WEIGHTS: hashlib.sha256(weights).hexdigest()}
    parameters = sum(  # with those that never learn, as STAC's words have it
        tensor.numel() for name, tensor in weights_of(network).items() if ".running_" not in name
    )
    card = card.model_copy(update={"sha256": hashes, "total_parameters": parameters})
    contents[GRAPH], contents[GRAPH_WEIGHTS] = export_graph(network, card)
    return write_bundle(folder, card, contents)


def refuse_bundle(folder: Path) -> None:
    """Before what is to be written there is made.

    Raises:
        OutputError: if the folder holds a bundle.
    """
    if (folder / CARD).exists():
        raise OutputError(f"{folder} holds a bundle already; choose another folder")


def write_bundle(folder: Path, card: Card, parts: Mapping[str, bytes]) -> Bundle:
    """Write a card with the files that it describes, and load them back.

    Raises:
        OutputError: if the folder cannot be written or holds a bundle.
    """
    refuse_bundle(folder)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}
    card = card.model_copy(update={"sha256": hashes})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in parts.items():
            (folder / name).write_bytes(content)
        partial = folder / f".{CARD}"
        partial.write_text(card.to_json(), encoding="utf-8")
        partial.replace(folder / CARD)  # last: a folder without a card is no bundle
    except OSError as error:
        raise OutputError(f"could not write the bundle {folder}: {error.strerror}") from error
    return load_bundle(folder)


def list_models() -> dict[str, Path]:
    """Installed models by name: those on GEOSEG_MODELS, then those of the package."""
    folders = [Path(p) for p in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if p]
    found: dict[str, Path] = {}
    for folder in (*folders, SHIPPED):
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if (path / CARD).is_file() or path.suffix == ".zip":
                    found.setdefault(path.stem if path.is_file() else path.name, path)
    return found


def _find(model: str | Path) -> Path:
    path = Path(model)
    installed = list_models()
    try:
        if (path / CARD).is_file() or path.is_file():
            return path
        if str(model) in installed:
            return installed[str(model)]
        if path.exists():
            raise ModelError(f"{path} is no bundle: it holds no {CARD}")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    known = ", ".join(installed) or "none"
    raise ModelError(
        f"no model at {model}, and none of that name is installed (there are: {known})"
    )


def _folder_reader(path: Path) -> Reader:
    def read(name: str, limit: int) -> bytes:
        file = path / name
        try:
            if file.stat().st_size > limit:
                raise ModelError(f"{file} is larger than {limit >> 20} MiB; this is no bundle")
            return file.read_bytes()
        except OSError as error:
            raise ModelError(f"{path} is no bundle: {name}: {error.strerror or error}") from error

    return read


def _zip_reader(path: Path) -> Reader:
    """The bundle lies at the top of the zip, or in the one folder that holds a card."""

    def read(name: str, limit: int) -> bytes:
        try:
            with zipfile.ZipFile(path) as archive:
                inside = [n for n in archive.namelist() if n == name or n.endswith(f"/{name}")]
                if len(inside) != 1:
                    raise ModelError(f"{path} is no bundle: it holds {len(inside)} files {name}")
                if archive.getinfo(inside[0]).file_size > limit:
                    raise ModelError(f"{path}: {name} is larger than {limit >> 20} MiB")
                return archive.read(inside[0])
        except (OSError, EOFError, NotImplementedError, RuntimeError, *DAMAGED) as error:
            raise ModelError(f"{path} is no bundle: {error}") from error

    return read


def _check_weights(path: Path, card: Card, content: bytes) -> None:
    """The header must describe the file to its end, and the card's number of parameters."""
    try:
        size = int.from_bytes(content[:8], "little")
        if size > MAX_CARD_BYTES * 16:
            raise ValueError("a header that large describes no network")
        header = json.loads(content[8 : 8 + size])
        tensors = {name: each for name, each in header.items() if name != "__metadata__"}
        end = max((each["data_offsets"][1] for each in tensors.values()), default=0)
        parameters = sum(
            math.prod(each["shape"]) for name, each in tensors.items() if ".running_" not in name
        )
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise ModelError(f"{path}: {WEIGHTS} is no safetensors file") from error
    if 8 + size + end != len(content):
        raise ModelError(f"{path}: {WEIGHTS} is cut short or has something added to it")
    if parameters != card.total_parameters:
        raise ModelError(
            f"{path}: {WEIGHTS} holds {parameters} parameters, the card says "
            f"{card.total_parameters}: they are not of one model"
        )
