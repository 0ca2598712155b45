"""What a command has made, on standard output."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

__all__ = ["echo_json", "echo_paths"]


def echo_json(facts: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    """One JSON object: facts, and where the files are."""
    click.echo(json.dumps({**facts, "files": {what: str(path) for what, path in files.items()}}))


def echo_paths(paths: Iterable[str | Path]) -> None:
    """Where results are, a line each."""
    for path in paths:
        click.echo(f"  {path}")
