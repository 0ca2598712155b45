"""From a recipe to a bundle: the verb `train`.

The folder of a run holds

    recipe.yaml            the recipe in full
    split.json             what was learnt from and what was kept apart
    history.csv            one row an epoch
    checkpoint.ckpt        all that is needed to go on, replaced after each epoch
    best.safetensors       the network of the best epoch so far
    model/                 the bundle
    summary.json           what came of it; its presence says that the run is finished
    curves.png, matrix.png, examples.png

A run that was killed goes on where its last epoch ended, to the same network as if nothing had
happened.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from geoseg.errors import GeosegError, InputError, OutputError, TrainingError
from geoseg.model.bundle import Bundle
from geoseg.outputs import replace_file
from geoseg.recipe import Recipe, read_recipe
from geoseg.training.callbacks import (
    BestNetwork,
    History,
    Interruption,
    Patience,
    Progress,
    ProgressCall,
    TrainingStopped,
)
from geoseg.training.lesson import Lesson, prepare
from geoseg.training.outcome import conclude
from geoseg.training.task import SegmentationTask

__all__ = ["Training", "train"]

RECIPE, HISTORY, CHECKPOINT = "recipe.yaml", "history.csv", "checkpoint.ckpt"
BEST, SUMMARY = "best.safetensors", "summary.json"

MACHINE_KEYS = ("device", "precision", "cache_mb")
"""Keys of a recipe that say where to learn, not what: they may change when a run goes on."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a training left."""

    folder: Path
    """Of the run."""
    bundle: Bundle
    """The best network."""
    summary: dict[str, Any]
    """Figures, epochs, seconds, what was assumed."""
    interrupted: bool
    """Whether it was stopped by a person; the same call goes on with it."""


def train(
    recipe: str | Path | Recipe,
    *,
    output: str | Path | None = None,
    settings: Sequence[str] = (),
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Training:
    """Learn a network from scenes and labels.

    Args:
        recipe: a YAML file, or a recipe.
        output: the folder of the run, runs/NAME by default. A run in it that was cut off goes on.
        settings: "key=value", replacing what the recipe's file says.
        overwrite: begin anew even if the folder holds a run.
        progress: told after each step.

    With several devices, this is called again in as many processes; those end here, but for the
    first.

    Raises:
        InputError: if the recipe is wrong, the run is finished, or it was begun by another recipe.
        SceneError: if a scene or its labels cannot be read, or do not overlap.
        TrainingError: if the loss is no number; the best network so far is in the folder.
        OutputError: if the folder cannot be written.
    """
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe, settings)
    folder = Path(output) if output is not None else Path("runs") / recipe.name
    with _run_folder(folder, recipe, overwrite), prepare(recipe) as lesson, _quiet():
        began = time.monotonic()
        if _is_first():
            _write_once(folder / "split.json", lesson.split_json())
        task = lesson.task()
        history = History(folder / HISTORY)
        best = BestNetwork(folder / BEST, last=recipe.keep == "last")
        stopping = Interruption()
        trainer = _trainer(recipe, folder, history, best, stopping, progress)
        with stopping.listening():
            ended = _fit(trainer, task, lesson, folder)
        if not trainer.is_global_zero:
            raise SystemExit(0)  # the first process concludes
        if ended is not None and not (folder / BEST).exists():
            raise ended  # nothing was learnt that could be kept
        seconds = round(time.monotonic() - began, 1)
        bundle, summary = conclude(
            folder, lesson, history.rows, (best.epoch, best.miou), seconds, _machine(trainer)
        )
        if isinstance(ended, TrainingError):
            raise ended
        if ended is None:
            text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            replace_file(folder / SUMMARY, text.encode())
    return Training(folder, bundle, summary, interrupted=ended is not None)


def _machine(trainer: Trainer) -> str:
    """Where a training ran, in words."""
    device = trainer.strategy.root_device.type
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return f"torch {torch.__version__}, {trainer.world_size} x {name}, {trainer.precision}"


def _fit(
    trainer: Trainer, task: SegmentationTask, lesson: Lesson, folder: Path
) -> TrainingError | KeyboardInterrupt | None:
    """Learn, from the checkpoint on if there is one; what ended it early, if anything did."""
    checkpoint = folder / CHECKPOINT
    try:
        trainer.fit(
            task,
            datamodule=lesson,
            ckpt_path=checkpoint if checkpoint.exists() else None,
            weights_only=True,
        )
    except TrainingStopped:
        return KeyboardInterrupt()
    except TrainingError as error:
        return error
    except torch.OutOfMemoryError:
        return TrainingError(
            "the GPU's memory does not hold a batch; make batch or chip_px smaller"
        )
    return None


def _trainer(
    recipe: Recipe,
    folder: Path,
    history: History,
    best: BestNetwork,
    stopping: Interruption,
    progress: Callable[[Progress], None] | None,
) -> Trainer:
    callbacks: list[Any] = [history, best, stopping]
    if progress is not None:
        callbacks.append(ProgressCall(progress, best))
    if recipe.patience is not None and recipe.validates:
        callbacks.append(
            Patience("validation_miou", mode="max", patience=recipe.patience, strict=False)
        )
    callbacks.append(
        ModelCheckpoint(
            folder,
            filename=CHECKPOINT.removesuffix(".ckpt"),
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )
    )
    device = _device(recipe)
    return Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=recipe.devices,
        strategy="ddp" if recipe.devices > 1 else "auto",
        precision="bf16-mixed" if _bf16(recipe, device) else "32-true",
        max_epochs=recipe.epochs,
        gradient_clip_val=recipe.clip,
        callbacks=callbacks,
        logger=_tensorboard(folder),
        default_root_dir=folder,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def _device(recipe: Recipe) -> str:
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda, but torch finds no GPU here; take auto or cpu")
    if recipe.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return recipe.device


def _bf16(recipe: Recipe, device: str) -> bool:
    """As told, else where bf16 is quick: on GPUs since Ampere, on CPUs with AMX."""
    if recipe.precision != "auto":
        return recipe.precision == "bf16"
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def _tensorboard(folder: Path) -> Any:
    """A TensorBoard logger where TensorBoard is installed; history.csv is written in any case."""
    from importlib.util import find_spec

    if find_spec("tensorboard") is None and find_spec("tensorboardX") is None:
        return False
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="", version="tensorboard")


@contextmanager
def _run_folder(folder: Path, recipe: Recipe, overwrite: bool) -> Iterator[None]:
    """Make or take up the folder of a run, for this process alone."""
    if not _is_first():
        yield
        return
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout as error:
        raise OutputError(f"another geoseg is training in {folder}") from error
    except OSError as error:
        raise OutputError(f"cannot write into {folder}: {error.strerror}") from error
    try:
        _take_up(folder, recipe, overwrite)
        yield
    except OSError as error:
        if isinstance(error, GeosegError):
            raise
        raise OutputError(f"could not write into {folder}: {error.strerror or error}") from error
    finally:
        (folder / ".lock").unlink(missing_ok=True)
        lock.release()
        if made and not (folder / HISTORY).exists():
            shutil.rmtree(folder, ignore_errors=True)  # nothing was learnt


def _is_first() -> bool:
    """Whether this process looks after the folder; with several devices, others only learn."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def _take_up(folder: Path, recipe: Recipe, overwrite: bool) -> None:
    path = folder / RECIPE
    found = [each for each in folder.iterdir() if each.name != ".lock"]
    if found and not path.exists():
        raise InputError(f"{folder} holds other files; choose another folder with -o")
    if overwrite:
        for old in found:
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink()
    elif (folder / SUMMARY).exists():
        raise InputError(
            f"{folder} holds a finished training; choose another folder with -o, or begin anew "
            "with --overwrite"
        )
    elif path.exists():
        _refuse_change(read_recipe(path), recipe, folder)
    replace_file(path, recipe.to_yaml().encode())


def _refuse_change(before: Recipe, now: Recipe, folder: Path) -> None:
    changed = [
        key
        for key in Recipe.model_fields
        if key not in MACHINE_KEYS and getattr(before, key) != getattr(now, key)
    ]
    if changed:
        key = changed[0]
        more = f" (and {', '.join(changed[1:])})" if changed[1:] else ""
        raise InputError(
            f"{folder} was begun with {key}: {getattr(before, key)}, now it is "
            f"{getattr(now, key)}{more}; go on with the same recipe, choose another folder with "
            "-o, or begin anew with --overwrite"
        )


def _write_once(path: Path, text: str) -> None:
    if not path.exists():
        replace_file(path, text.encode())


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning advertises and advises; what matters here is said by geoseg."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", module=r"torch\..*")
        yield
    log.setLevel(level)
