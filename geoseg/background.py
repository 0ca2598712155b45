"""Stages of a run at the same time, joined by short queues."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

__all__ = ["ahead"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Drawn(Generic[T]):
    item: T


@dataclass(frozen=True, slots=True)
class _Ended:
    error: BaseException | None


def ahead(items: Iterable[T], most: int, name: str) -> Generator[T, None, None]:
    """Draw items in a thread of their own while earlier ones are worked on.

    What goes wrong there is raised here, in the place of the item. When this iterator is closed,
    by an error or Ctrl-C of whoever draws from it, `items` are closed and their thread has ended
    before the error goes on.

    Args:
        items: drawn in order, by that thread alone.
        most: items that may wait to be taken.
        name: of the thread.
    """
    outcomes: SimpleQueue[_Drawn[T] | _Ended] = SimpleQueue()
    room, left = threading.Semaphore(most), threading.Event()
    thread = threading.Thread(
        target=_draw, args=(iter(items), outcomes, room, left), name=name, daemon=True
    )
    thread.start()
    try:
        while isinstance(outcome := outcomes.get(), _Drawn):
            room.release()
            yield outcome.item
        if outcome.error is not None:
            raise outcome.error
    finally:
        left.set()
        room.release()
        thread.join()


def _draw(
    stream: Iterator[T],
    outcomes: SimpleQueue[_Drawn[T] | _Ended],
    room: threading.Semaphore,
    left: threading.Event,
) -> None:
    error: BaseException | None = None
    try:
        while room.acquire() and not left.is_set():
            outcomes.put(_Drawn(next(stream)))
    except StopIteration:
        pass
    except BaseException as raised:  # whatever it is, it belongs to whoever waits for the item
        error = raised
    try:
        if isinstance(stream, Generator):
            stream.close()
    except BaseException as raised:
        error = error or raised
    outcomes.put(_Ended(error))
