"""Scenes mapped by the workers of a dask.distributed cluster, with the bytes of a local run.

A task is some rows of chips of one scene; what comes back are their strips. Workers open scene and
model by the same paths, so these lie where all of them can read. A worker that dies takes nothing
with it: its tasks are given to others.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any

from geoseg.errors import InputError, ModelError
from geoseg.model.card import Card
from geoseg.model.loading import Model, load_model
from geoseg.model.runtime import Precision, RuntimeName
from geoseg.raster.chips import PlannedChip
from geoseg.raster.opening import SceneFiles
from geoseg.raster.scene import Scene
from geoseg.raster.stitch import Strip
from geoseg.scene_mapping import SeeChip, Tiling, predict_strips
from geoseg.scene_opening import Opening

__all__ = ["Cluster", "ModelSource", "Order"]

CHIPS_A_TASK = 64
"""Some seconds of work, so that handing it out costs next to nothing."""

TASKS_A_THREAD = 2
"""Handed out beyond those that are worked on, so that no worker waits."""

ANSWER_SECONDS = 15

_ONE_AT_A_TIME = threading.Lock()
"""A network uses all cores of its process: two at a time would only take more memory."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """How a worker loads the model that the caller loaded."""

    path: str
    sha256: str
    label: str
    """Of the runtime; another could give other bytes."""
    runtime: RuntimeName
    device: str
    precision: Precision


@dataclass(frozen=True, slots=True)
class Order:
    """Rows of chips to be mapped."""

    scene: SceneFiles
    opening: Opening
    model: ModelSource
    tiling: Tiling
    scores: bool
    first: int = 0
    stop: int = 0


class Cluster:
    """The connection to a scheduler.

    Raises:
        InputError: if none answers at the address, or dask.distributed is not installed.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise InputError('--dask needs dask.distributed: pip install "geoseg[dask]"') from error
        try:
            self._client: Any = Client(address, timeout=ANSWER_SECONDS, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise InputError(f"no dask scheduler answers at {address}: {error}") from error
        self.address = address

    @property
    def threads(self) -> int:
        """Of all workers together, at least one."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def strips(
        self, order: Order, scene: Scene, card: Card, see_chip: SeeChip | None
    ) -> Generator[Strip, None, None]:
        """Map the scene of an order; strips come top to bottom.

        Args:
            order: its rows are filled in here.
            scene: the caller's own view of it.
            card: the model's.
            see_chip: shown each chip, which is read here once more.

        Raises:
            InputError: if workers die over and over at the same rows, or the connection breaks.
        """
        plan, _ = order.tiling.plan(scene.grid.shape, card)
        rows = list(plan.rows())
        running: deque[tuple[list[PlannedChip], Any]] = deque()
        step = max(1, CHIPS_A_TASK // len(rows[0]))
        try:
            for first in range(0, len(rows), step):
                part = replace(order, first=first, stop=min(first + step, len(rows)))
                task = self._client.submit(map_rows, part, pure=False)
                running.append((list(chain.from_iterable(rows[first : part.stop])), task))
                if len(running) > TASKS_A_THREAD * self.threads:
                    yield from self._result(*running.popleft(), scene, see_chip)
            while running:
                yield from self._result(*running.popleft(), scene, see_chip)
        finally:
            self._client.cancel([task for _, task in running])

    def close(self) -> None:
        """Let go of the scheduler; what is still asked of it fails."""
        self._client.close()

    def _result(
        self, chips: list[PlannedChip], task: Any, scene: Scene, see_chip: SeeChip | None
    ) -> list[Strip]:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            strips: list[Strip] = task.result()
        except KilledWorker as error:
            raise InputError(f"workers of {self.address} died at the same rows: {error}") from error
        except (FutureCancelledError, OSError) as error:
            raise InputError(f"the connection to {self.address} broke: {error}") from error
        if see_chip is not None:
            for planned in chips:
                see_chip(planned, scene.read(planned.window))
        return strips


def map_rows(order: Order) -> list[Strip]:
    """What a worker does: the strips of some rows of chips."""
    with _ONE_AT_A_TIME:
        model = _load(order.model)
        with order.opening.open(order.scene, model.card) as scene:
            rows = range(order.first, order.stop)
            return list(
                predict_strips(scene, model, tiling=order.tiling, scores=order.scores, rows=rows)
            )


@lru_cache(maxsize=1)
def _load(source: ModelSource) -> Model:
    model = load_model(
        source.path, runtime=source.runtime, device=source.device, precision=source.precision
    )
    if model.sha256 != source.sha256:
        raise ModelError(f"{source.path} is another model for a worker than for the caller")
    if model.runtime.label != source.label:
        raise ModelError(
            f"a worker computes by {model.runtime.label}, not by {source.label}: maps would "
            "differ; give --runtime, --device and --precision, or install the same versions"
        )
    return model
