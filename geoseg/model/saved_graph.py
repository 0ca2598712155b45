"""An OpenVINO graph as the two files that a bundle holds."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

__all__ = ["graph_bytes"]


def graph_bytes(graph: Any) -> tuple[bytes, bytes]:
    """What a bundle holds of a graph: operations, and weights."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.xml"
        openvino.save_model(graph, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
