"""Where the seconds went."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["Stopwatch"]

T = TypeVar("T")


class _Running(threading.local):
    """The stages that one thread is in, innermost last."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.since = time.perf_counter()


class Stopwatch:
    """Seconds spent in each stage of a run; a stage inside another is not counted twice.

    Stages in several threads run at the same time, so theirs may sum up to more than `elapsed`.
    """

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._guard = threading.Lock()
        self._running = _Running()
        self._began = time.perf_counter()

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, in the order they first ended."""
        return {stage: round(spent, 3) for stage, spent in self._seconds.items()}

    @property
    def elapsed(self) -> float:
        """Since it was made."""
        return round(time.perf_counter() - self._began, 3)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside this block for a stage."""
        self._turn()
        self._running.stages.append(name)
        try:
            yield
        finally:
            self._turn()
            self._running.stages.pop()

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Pass items on, counting the time it takes to get them for a stage."""
        stream = iter(items)
        try:
            while True:
                with self.stage(name):
                    try:
                        item = next(stream)
                    except StopIteration:
                        return
                yield item
        finally:
            if isinstance(stream, Generator):
                stream.close()

    def _turn(self) -> None:
        now, running = time.perf_counter(), self._running
        if running.stages:
            with self._guard:
                self._seconds[running.stages[-1]] += now - running.since
        running.since = now
