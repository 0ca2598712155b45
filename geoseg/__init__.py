"""Satellite and aerial scenes in, maps out.

    import geoseg

    prediction = geoseg.predict("scene.tif")      # writes the map beside you, returns where
    classes = geoseg.predict(array)               # an xarray.DataArray in, a DataArray out

Names are imported when first used, so that `import geoseg` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version as _version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geoseg.accuracy.estimate import estimate, estimate_strata
    from geoseg.accuracy.matrix import ErrorMatrix
    from geoseg.assessment import Assessment, assess_accuracy
    from geoseg.bands import match_bands
    from geoseg.change_detection import Change, change
    from geoseg.errors import (
        BandError,
        GeosegError,
        GridError,
        InputError,
        JobError,
        LegendError,
        ModelError,
        OutputError,
        SceneError,
        TrainingError,
    )
    from geoseg.evaluation import Evaluation, evaluate
    from geoseg.grid import Grid, Window
    from geoseg.jobs.job_file import Job, load_job
    from geoseg.jobs.run import JobRun, run_job
    from geoseg.jobs.status import job_status
    from geoseg.learning import Training, train
    from geoseg.legend import Legend, LegendClass
    from geoseg.map_making import Prediction
    from geoseg.model.bundle import Bundle, list_models, load_bundle, save_bundle
    from geoseg.model.card import Card, make_card
    from geoseg.model.loading import Model, load_model
    from geoseg.prediction import predict, predict_scenes
    from geoseg.quantization import Quantization, quantize
    from geoseg.raster.opening import open_scene
    from geoseg.raster.scene import Chip, Scene
    from geoseg.recipe import Recipe, read_recipe
    from geoseg.sampling import ReferenceSample, sample
    from geoseg.vectorization import Vectorization, vectorize

_HOMES = {
    "geoseg.accuracy.estimate": ("estimate", "estimate_strata"),
    "geoseg.accuracy.matrix": ("ErrorMatrix",),
    "geoseg.assessment": ("Assessment", "assess_accuracy"),
    "geoseg.bands": ("match_bands",),
    "geoseg.change_detection": ("Change", "change"),
    "geoseg.errors": (
        "BandError",
        "GeosegError",
        "GridError",
        "InputError",
        "JobError",
        "LegendError",
        "ModelError",
        "OutputError",
        "SceneError",
        "TrainingError",
    ),
    "geoseg.evaluation": ("Evaluation", "evaluate"),
    "geoseg.grid": ("Grid", "Window"),
    "geoseg.learning": ("Training", "train"),
    "geoseg.jobs.job_file": ("Job", "load_job"),
    "geoseg.jobs.run": ("JobRun", "run_job"),
    "geoseg.jobs.status": ("job_status",),
    "geoseg.legend": ("Legend", "LegendClass"),
    "geoseg.model.bundle": ("Bundle", "list_models", "load_bundle", "save_bundle"),
    "geoseg.model.card": ("Card", "make_card"),
    "geoseg.model.loading": ("Model", "load_model"),
    "geoseg.map_making": ("Prediction",),
    "geoseg.prediction": ("predict", "predict_scenes"),
    "geoseg.quantization": ("Quantization", "quantize"),
    "geoseg.raster.opening": ("open_scene",),
    "geoseg.raster.scene": ("Chip", "Scene"),
    "geoseg.recipe": ("Recipe", "read_recipe"),
    "geoseg.sampling": ("ReferenceSample", "sample"),
    "geoseg.vectorization": ("Vectorization", "vectorize"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Assessment",
    "BandError",
    "Bundle",
    "Card",
    "Change",
    "Chip",
    "ErrorMatrix",
    "Evaluation",
    "GeosegError",
    "Grid",
    "GridError",
    "InputError",
    "Job",
    "JobError",
    "JobRun",
    "Legend",
    "LegendClass",
    "LegendError",
    "Model",
    "ModelError",
    "OutputError",
    "Prediction",
    "Quantization",
    "Recipe",
    "ReferenceSample",
    "Scene",
    "SceneError",
    "Training",
    "TrainingError",
    "Vectorization",
    "Window",
    "assess_accuracy",
    "change",
    "estimate",
    "estimate_strata",
    "evaluate",
    "job_status",
    "list_models",
    "load_bundle",
    "load_job",
    "load_model",
    "make_card",
    "match_bands",
    "open_scene",
    "predict",
    "predict_scenes",
    "quantize",
    "read_recipe",
    "run_job",
    "sample",
    "save_bundle",
    "train",
    "vectorize",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version("geoseg")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'geoseg' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
