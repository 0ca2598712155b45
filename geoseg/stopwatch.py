"""Where the seconds went."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["Stopwatch"]

T = TypeVar("T")


class Stopwatch:
    """Seconds spent in each stage of a run; a stage inside another is not counted twice."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = time.perf_counter()

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, in the order they first ended."""
        return {stage: round(spent, 3) for stage, spent in self._seconds.items()}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside this block for a stage."""
        self._turn()
        self._running.append(name)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def each(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """Pass items on, counting the time it takes to get them for a stage."""
        stream = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(stream)
                except StopIteration:
                    return
            yield item

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._running:
            self._seconds[self._running[-1]] += now - self._since
        self._since = now
