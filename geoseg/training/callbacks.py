"""What happens around the steps of a training: history, the best network, progress, Ctrl-C."""

from __future__ import annotations

import csv
import io
import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities import rank_zero_only

from geoseg.outputs import replace_file
from geoseg.training.task import SegmentationTask

__all__ = [
    "BestNetwork",
    "History",
    "Interruption",
    "Patience",
    "Progress",
    "ProgressCall",
    "TrainingStopped",
]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a training is."""

    epoch: int
    """From 1."""
    epochs: int
    step: int
    """Within the epoch, from 1."""
    steps: int
    """Of each epoch."""
    loss: float
    """Of the last batch."""
    miou: float
    """Of the last validation, NaN before the first."""
    best: float
    """Of the best one."""
    ended: bool = False
    """Whether the epoch is over, its validation too."""


class History(Callback):
    """history.csv: one row an epoch. It is part of the checkpoint, so a resumed run has all rows.

    Args:
        path: the file; replaced after each epoch.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[dict[str, float]] = []
        """Of each epoch so far."""

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Add the epoch's row."""
        assert isinstance(task, SegmentationTask)  # noqa: S101  (lightning hands over any)
        matrix = task.error_matrix
        row: dict[str, float] = {
            "epoch": trainer.current_epoch + 1,
            "loss": sum(task.losses) / max(1, len(task.losses)),
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
        }
        if matrix.total:
            row |= {"miou": matrix.mean_iou, "accuracy": matrix.overall}
            named = zip(matrix.names, matrix.iou.tolist(), strict=True)
            row |= {f"iou_{name}": value for name, value in named}
        self.rows.append(row)
        self._write()

    @rank_zero_only
    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[-1]), restval="", lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({k: "" if math.isnan(v) else f"{v:.6g}" for k, v in row.items()})
        replace_file(self._path, text.getvalue().encode())

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.rows = state_dict["rows"]


class BestNetwork(Callback):
    """best.safetensors: the network of the best epoch; of the last one if none is validated.

    Args:
        path: the file; replaced when an epoch is better.
        last: keep the last epoch's in any case.
    """

    def __init__(self, path: Path, *, last: bool = False) -> None:
        self._path, self._last = path, last
        self.miou, self.epoch = float("nan"), 0
        """The mean IoU of the validation of what is kept, and when it was."""

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Keep the network if it is the best so far."""
        assert isinstance(task, SegmentationTask)  # noqa: S101  (lightning hands over any)
        miou = task.error_matrix.mean_iou if task.matrix.any() else float("nan")
        if self._last or math.isnan(miou) or math.isnan(self.miou) or miou > self.miou:
            self.miou, self.epoch = miou, trainer.current_epoch + 1
            self._save(task)

    @rank_zero_only
    def _save(self, task: SegmentationTask) -> None:
        from geoseg.model.export import weight_bytes

        replace_file(self._path, weight_bytes(task.kept))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"miou": self.miou, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.miou, self.epoch = state_dict["miou"], state_dict["epoch"]


class ProgressCall(Callback):
    """Tells a function how far the training is.

    Args:
        tell: the function.
        best: what keeps the best network.
    """

    def __init__(self, tell: Callable[[Progress], None], best: BestNetwork) -> None:
        self._tell, self._best = tell, best
        self._miou = float("nan")

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell of a step."""
        self._say(trainer, task, batch_idx + 1, ended=False)

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """Tell of an epoch."""
        assert isinstance(task, SegmentationTask)  # noqa: S101
        self._miou = task.error_matrix.mean_iou
        self._say(trainer, task, int(trainer.num_training_batches), ended=True)

    def _say(self, trainer: Trainer, task: LightningModule, step: int, *, ended: bool) -> None:
        assert isinstance(task, SegmentationTask)  # noqa: S101
        epochs, steps = trainer.max_epochs or 0, int(trainer.num_training_batches)
        loss, best = task.losses[-1], self._best.miou
        self._tell(
            Progress(trainer.current_epoch + 1, epochs, step, steps, loss, self._miou, best, ended)
        )


class TrainingStopped(Exception):  # noqa: N818  (nothing went wrong)
    """Ends a fit between two steps; the epoch that was begun is not kept."""


class Patience(EarlyStopping):
    """Stops when epochs get no better; a run that was cut off after that goes on with nothing."""

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Stop at once if the last run had."""
        trainer.should_stop = self.wait_count >= self.patience


class Interruption(Callback):
    """Ctrl-C ends the training after the step that is running, instead of tearing it down."""

    def __init__(self) -> None:
        self.interrupted = False
        """Whether it was."""

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take Ctrl-C from now on; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _note(self, *_: Any) -> None:
        if self.interrupted:  # the second time it is meant
            raise KeyboardInterrupt
        self.interrupted = True

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop if asked to."""
        if trainer.strategy.reduce_boolean_decision(self.interrupted, all=False):
            raise TrainingStopped  # in every process, or those that go on would wait for ever
