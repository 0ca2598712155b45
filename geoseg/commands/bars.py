"""How far a command is, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from geoseg.training.callbacks import Progress

__all__ = ["progress_bar", "training_bar"]


@contextmanager
def training_bar(*, show: bool) -> Iterator[Callable[[Progress], None] | None]:
    """How far a training is: a line that moves on a terminal, a line an epoch elsewhere."""
    if not show:
        yield None
        return
    moving = sys.stderr.isatty()

    def tell(now: Progress) -> None:
        if not (moving or now.ended):
            return
        done = round(20 * now.step / now.steps)
        bar = f" [{'#' * done}{'-' * (20 - done)}]" if moving else ""
        scores = f"  mIoU {now.miou:.4f}, best {now.best:.4f}" if now.miou == now.miou else ""
        line = f"epoch {now.epoch}/{now.epochs}{bar}  loss {now.loss:.4f}{scores}"
        click.echo(f"\r{line:<78}" if moving else line, nl=not moving, err=True)

    try:
        yield tell
    finally:
        if moving:
            click.echo(err=True)


@contextmanager
def progress_bar(name: str, *, show: bool) -> Iterator[Callable[[float], None] | None]:
    """A bar on a terminal, nothing when piped."""
    if not (show and sys.stderr.isatty()):
        yield None
        return
    with click.progressbar(length=1000, label=name, file=sys.stderr) as bar:

        def advance(share: float) -> None:
            bar.update(round(share * 1000) - bar.pos)

        yield advance
