"""A model and labelled scenes in; how good its maps are there, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg.accuracy.score import SceneScore, Score, WorstChip
from geoseg.accuracy.score_page import to_html
from geoseg.accuracy.score_report import to_csv, to_json
from geoseg.errors import GeosegError, InputError
from geoseg.labels import LabelledScene, Paths, find_files, pair_up
from geoseg.limits import MAX_PIXELS
from geoseg.map_making import Progress
from geoseg.model.card import Card
from geoseg.model.loading import Model, load_model
from geoseg.model.runtime import Precision, RuntimeName
from geoseg.outputs import staged
from geoseg.raster.level import Level
from geoseg.raster.scene import Reading
from geoseg.raster.worst_chips import MOST_CHIPS
from geoseg.scene_scoring import Scoring, score_scene

__all__ = ["Evaluation", "evaluate", "score_scenes"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A scored model."""

    files: Mapping[str, Path]
    """What was written: page, table and figures."""
    figures: Score
    """What they hold."""


def evaluate(
    model: str | Path | Model,
    scenes: Paths,
    labels: Paths,
    *,
    scenes_after: Paths | None = None,
    output: str | Path = ".",
    bands: str | Mapping[str, int] | None = None,
    sensor: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    level: Level | None = None,
    gsd: float | None = None,
    keep_clouds: bool = False,
    max_pixels: int = MAX_PIXELS,
    label_field: str = "class",
    unlabelled: Sequence[int] = (),
    boundary_tolerance: float | None = None,
    overwrite: bool = False,
    runtime: RuntimeName = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Score a model on labelled scenes, as it would map them.

    Writes evaluation.html, evaluation.csv and evaluation.json. All figures come from one error
    matrix of all pixels of all scenes. The score is honest where the model has seen neither the
    scenes nor their neighbourhood; that is for who chooses them to know.

    Args:
        model: an installed model's name, a bundle's path, or a loaded model.
        scenes: raster files, or patterns such as "scenes/*.tif".
        labels: of each scene, a raster of class codes or polygons in a file of the same stem; or
            one vector file for all.
        scenes_after: for a model of two dates: the later scene of each, in a file of the same
            stem; labels tell what changed.
        output: the folder for the results.
        bands: see `predict`, as for `sensor`, `scale`, `offset`, `nodata`, `level`, `gsd` and
            `max_pixels`.
        sensor: whose own band names or customary band order the scenes use.
        scale: value in the model's units = stored value * scale + offset.
        offset: see scale.
        nodata: the stored value that stands for no data in the scenes.
        level: of the scenes' reflectance, "toa" or "surface".
        gsd: read the scenes at this ground sample distance in metres; 0 reads them as they are.
        keep_clouds: score what a product's quality bands call cloud, shadow or saturated, too.
        max_pixels: scenes with more pixels are refused.
        label_field: the field of a vector file that holds class names or codes.
        unlabelled: codes of label rasters that say nothing about a pixel.
        boundary_tolerance: how far a boundary may be off, in metres; two pixels by default.
        overwrite: replace results that exist.
        runtime: "auto", "openvino" or "torch"; this and the next two as for `load_model`.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: "auto", "float32", "bf16" or "int8".
        progress: called with the share that is done, 0 to 1.

    Raises:
        InputError: if there are no such files, scenes and labels do not pair up, nothing is
            labelled, results exist, or an option makes no sense.
        SceneError: if a scene or its labels cannot be read, or do not overlap.
        BandError: if a scene's bands are not, or not clearly, the model's.
        LegendError: if labels hold a class that the model does not know.
        ModelError: if the model cannot be loaded.
        OutputError: if the results cannot be written; nothing is left then.
    """
    loaded = model
    if not isinstance(loaded, Model):
        loaded = load_model(loaded, runtime=runtime, device=device, precision=precision)
    _refuse_other_dates(loaded.card, scenes_after)
    later = None if scenes_after is None else find_files(scenes_after, "later scenes")
    pairs = pair_up(find_files(scenes, "scenes"), find_files(labels, "labels"), later)
    how = Scoring(
        Reading(bands, sensor, scale, offset, nodata, max_pixels, level, keep_clouds),
        gsd,
        label_field,
        tuple(unlabelled),
        boundary_tolerance,
    )
    names = {what: f"evaluation.{what}" for what in ("html", "csv", "json")}
    with staged(Path(output), "evaluation", list(names.values()), overwrite=overwrite) as staging:
        score = score_scenes(loaded, pairs, how, progress=progress)
        for what, write in (("html", to_html), ("csv", to_csv), ("json", to_json)):
            staging.path(names[what]).write_text(write(score), encoding="utf-8")
        paths = staging.put_in_place(list(names.values()))
    return Evaluation(dict(zip(names, paths, strict=True)), score)


def score_scenes(
    model: Model,
    pairs: Sequence[LabelledScene],
    how: Scoring | None = None,
    *,
    progress: Progress | None = None,
) -> Score:
    """Map scenes and compare the maps with labels, in memory that does not grow with them.

    Args:
        model: what maps them.
        pairs: scenes and their labels.
        how: how both are read and compared.
        progress: called with the share that is done, 0 to 1.

    Raises:
        GeosegError: as `evaluate`, about the first scene that fails: a score without it would be
            of other ground than was asked for.
    """
    how = how or Scoring()
    scores: list[SceneScore] = []
    worst: tuple[WorstChip, ...] = ()
    for number, pair in enumerate(pairs):

        def advance(share: float, done: int = number) -> None:
            if progress is not None:
                progress((done + share) / len(pairs))

        try:
            scored, chips = score_scene(pair, model, how, _bar(worst), advance)
        except GeosegError as error:
            if pair.scene.name in str(error):
                raise
            raise type(error)(f"{pair.name}: {error}") from error
        scores.append(scored)
        ranked = sorted([*worst, *chips], key=lambda chip: chip.agreement)
        worst = tuple(ranked[:MOST_CHIPS])
    score = Score(
        model.card.name,
        model.sha256,
        model.runtime.label,
        model.card.legend,
        tuple(scores),
        worst,
        tuple(str(pair.scene) for pair in pairs if pair.name in _trained_with(model.card)),
    )
    if not score.matrix.total:
        raise InputError(
            f"nothing to score by: none of {len(pairs)} scenes has a pixel with data and a label"
        )
    return score


def _refuse_other_dates(card: Card, scenes_after: Paths | None) -> None:
    if card.dates == 2 and scenes_after is None:
        raise InputError(
            f"{card.name} compares two scenes: give the later ones, too, with --scenes-after"
        )
    if card.dates == 1 and scenes_after is not None:
        raise InputError(f"{card.name} maps one scene at a time: leave --scenes-after away")


def _trained_with(card: Card) -> frozenset[str]:
    """File names of scenes that the card tells of."""
    told = card.training.get("scenes", ())
    return frozenset(map(str, told)) if isinstance(told, list | tuple) else frozenset()


def _bar(worst: tuple[WorstChip, ...]) -> float:
    """The agreement below which a chip is among the worst."""
    return worst[-1].agreement if len(worst) == MOST_CHIPS else 1.0
