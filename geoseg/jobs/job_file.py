"""job.yaml: what a person writes about an unattended run, checked before anything is touched."""

from __future__ import annotations

import datetime
import difflib
import os
import re
from collections.abc import Hashable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geoseg.errors import InputError
from geoseg.jobs.name_pattern import NamePattern
from geoseg.model.bundle import DEFAULT_MODEL
from geoseg.vector.database_address import is_database_url

__all__ = ["Job", "job_schema", "load_job"]

NAME = re.compile(r"[\w][\w.-]{0,63}", re.ASCII)

Share = Annotated[float, Field(ge=0, le=1)]
Strings = tuple[str, ...]

ONE_OR_MORE = ("assets", "exclude", "from", "to", "feed")
"""Keys of lists that one entry may stand for by itself."""


class Job(BaseModel):
    """A job file. Paths are relative to it; text that begins with $ is an environment variable."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        title="geoseg job",
    )

    name: str = Field("", description="What the ledger calls the job. Default: the file's name.")
    scenes: str | None = Field(None, description="The folder where scenes arrive.")
    pattern: str | None = Field(
        None, description="How their names carry the date: lake_{date:%Y%m%d}.tif; * and ** match."
    )
    stac: str | None = Field(
        None, description="Instead of a folder: a STAC collection, item search or folder of items."
    )
    assets: Strings = Field((), description="Keys of the item's assets: one, or one a band.")
    quality: str | None = Field(
        None, description="With stac: key of the asset that says where clouds are: scl, qa_pixel."
    )
    cloudy: tuple[int, ...] = Field(
        (), description="Its values that are no clear ground: [3, 8, 9, 10] of Sentinel-2's SCL."
    )
    cloudy_bits: tuple[Annotated[int, Field(ge=0, le=31)], ...] = Field(
        (), description="Or its bits, from 0: [1, 2, 3, 4] of Landsat's QA_PIXEL."
    )
    exclude: Strings = Field(
        (), description="Scenes that are none, by name: wrong or misdated ones. * and ? match."
    )
    settle_seconds: float = Field(
        60, ge=0, description="A file that was written to more recently is still arriving."
    )
    area: str | None = Field(None, description="File with the polygons that matter.")
    method: Literal["model", "irmad", "cva"] = Field("model", description="How to compare.")
    model: str = Field(DEFAULT_MODEL, description="An installed model's name, or a bundle's path.")
    compare_with: Literal["previous", "same_season", "baseline"] = Field(
        "previous",
        description="The clear scene before, that of the same season last year, or a fixed one.",
    )
    season_days: int = Field(45, ge=0, le=182, description="How far a season reaches, days.")
    baseline: str | None = Field(None, description="The fixed scene to compare with.")
    baseline_date: datetime.date | None = Field(None, description="When it was taken.")
    min_area: str | None = Field(None, description="Smaller changes are left out: 5000, 0.5ha, 9px")
    from_classes: Strings = Field((), alias="from", description="Only changes from these classes.")
    to_classes: Strings = Field((), alias="to", description="Only changes to these classes.")
    coregister: bool = Field(False, description="Correct a shift between the scenes.")
    force: bool = Field(False, description="Compare scenes that lie too far apart to match.")
    bands: str | dict[str, int] | None = Field(None, description="Which band is which: red=3,...")
    sensor: str | None = Field(None, description="Whose band order the scenes use: naip, ...")
    scale: float | None = Field(None, description="Reflectance = stored value x scale + offset.")
    offset: float | None = Field(None, description="See scale.")
    nodata: float | None = Field(None, description="The stored value that stands for no data.")
    level: Literal["toa", "surface"] | None = Field(None, description="Of their reflectance.")
    gsd: float | None = Field(None, description="Read at this ground sample distance, metres.")
    runtime: Literal["auto", "openvino", "torch"] = Field("auto", description="As for predict.")
    max_pixels: int | None = Field(None, gt=0, description="Refuse scenes with more pixels.")
    max_cloud: Share = Field(
        0.5, description="A scene with a larger share of invalid pixels in the area is skipped."
    )
    output: str = Field(description="Folder for the results.")
    ledger: str = Field(
        "", description="GeoPackage, or postgresql://... Default: ledger.gpkg in the output folder."
    )
    retries: int = Field(3, ge=0, description="So often a failing scene is tried again.")
    alert_area_ha: float | None = Field(
        None, ge=0, description="Alert when at least this much changed, hectares."
    )
    webhook: str | None = Field(None, description="Where alerts are posted.")
    feed: Strings = Field((), description="Feeds of alerts to write: .xml (Atom) or .json.")

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {k: [v] if k in ONE_OR_MORE and isinstance(v, str) else v for k, v in given.items()}

    def excludes(self, name: str) -> bool:
        """Whether the job file says that a scene is none."""
        return any(fnmatchcase(name, pattern) for pattern in self.exclude)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.scenes is None) == (self.stac is None):
            raise ValueError("say where scenes arrive: either scenes with pattern, or stac")
        if self.scenes is not None:
            if self.pattern is None:
                raise ValueError("scenes needs pattern, such as lake_{date:%Y%m%d}.tif")
            NamePattern(self.pattern)
        elif not self.assets:
            raise ValueError("stac needs assets, the keys of the assets to compare")
        if (self.quality is not None) != bool(self.cloudy or self.cloudy_bits):
            raise ValueError("quality, and cloudy or cloudy_bits, belong together")
        if self.quality is not None and self.stac is None:
            raise ValueError(
                "quality is an asset of stac; files in a folder bring masks of their own"
            )
        told = (self.compare_with == "baseline", self.baseline is not None,
                self.baseline_date is not None)  # fmt: skip
        if len(set(told)) > 1:
            raise ValueError(
                "compare_with: baseline, baseline: FILE and baseline_date belong together"
            )
        if self.method != "model" and (self.from_classes or self.to_classes):
            raise ValueError(f"from and to need classes, and {self.method} knows none")
        if self.name and not NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r} may hold letters, digits, '.', '_' and '-' only")
        if self.webhook is not None and not self.webhook.startswith(("http://", "https://", "$")):
            raise ValueError("webhook must be an http:// or https:// address")
        for feed in self.feed:
            if Path(feed).suffix not in (".xml", ".atom", ".json"):
                raise ValueError(f"feed {feed!r} must end in .xml, .atom or .json")
        return self


def load_job(path: str | Path) -> Job:
    """Read a job file; paths in it come back absolute.

    Raises:
        InputError: if it cannot be read, or holds what makes no sense; the message is one line.
    """
    path = Path(path)
    try:
        given = yaml.load(path.read_text(encoding="utf-8"), _OneOfEachLoader)  # noqa: S506 (is safe)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeError as error:
        raise InputError(f"{path} is not text in UTF-8") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except ValueError as error:  # what only looks like a date
        raise InputError(f"{path} holds what is no value: {error}") from error
    if not isinstance(given, dict):
        raise InputError(f"{path} holds no keys; a job file has lines such as 'output: changes'")
    try:
        job = Job.model_validate(given)
    except ValidationError as error:
        raise InputError(f"{path}: {_first(error)}") from error
    return _placed(job, path)


def job_schema() -> dict[str, Any]:
    """The JSON schema of job files, for editors."""
    schema = Job.model_json_schema(by_alias=True)
    for key in ONE_OR_MORE:
        listed = schema["properties"][key]
        schema["properties"][key] = {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            **{word: listed[word] for word in ("title", "description") if word in listed},
        }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class _OneOfEachLoader(yaml.SafeLoader):
    """Refuses a key that stands there twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for at, key in enumerate(keys):
            if key in keys[:at]:
                line = node.value[at][0].start_mark.line + 1
                raise yaml.YAMLError(f"line {line} says {key!r} a second time")
        return super().construct_mapping(node, deep)


def _first(error: ValidationError) -> str:
    """The first thing that is wrong, in a line."""
    wrong = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in wrong["loc"][:1])
    if wrong["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in Job.model_fields.items()]
        nearest = difflib.get_close_matches(place, known, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"
        return f"unknown key {place!r}; {hint}"
    if wrong["type"] == "missing":
        return f"the key {place!r} is missing"
    what = wrong["msg"].removeprefix("Value error, ")
    return f"{place}: {what}" if place else what


def _placed(job: Job, path: Path) -> Job:
    """The job with its defaults, absolute paths and what the environment says."""
    folder = path.parent.absolute()

    def absolute(value: str | None) -> str | None:
        return None if value is None else str(folder / Path(value).expanduser())

    def place(value: str) -> str:
        remote = is_database_url(value) or value.startswith(("http://", "https://"))
        return value if remote else str(absolute(value))

    output = str(absolute(job.output))
    name = job.name or re.sub(r"[^\w.-]", "_", path.stem, flags=re.ASCII)
    if not NAME.fullmatch(name):
        raise InputError(f"{path}: the file's name is no name for a job; give one with name:")
    if job.ledger and not job.name:
        raise InputError(f"{path}: name: is missing; with ledger:, other jobs may share it")
    bundle = folder / job.model
    is_bundle = bundle.is_file() or (bundle / "card.json").is_file()
    return job.model_copy(
        update={
            "name": name,
            "output": output,
            "scenes": absolute(job.scenes),
            "stac": None if job.stac is None else place(_told(job.stac, path)),
            "area": absolute(job.area),
            "baseline": absolute(job.baseline),
            "model": str(bundle) if is_bundle else job.model,
            "ledger": place(_told(job.ledger, path)) if job.ledger else f"{output}/ledger.gpkg",
            "webhook": None if job.webhook is None else _told(job.webhook, path),
            "feed": tuple(str(absolute(each)) for each in job.feed),
        }
    )


def _told(value: str, path: Path) -> str:
    """What the environment says, where it is asked: addresses may hold secrets."""
    if not value.startswith("$"):
        return value
    told = os.environ.get(value[1:])
    if not told:
        raise InputError(f"{path}: the environment variable {value[1:]} is not set")
    return told
