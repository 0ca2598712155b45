"""Everything that geoseg raises on purpose.

    GeosegError
    ├── InputError (ValueError)          exit status 2: what was given cannot be used
    │   ├── SceneError                   a scene cannot be read or holds nothing to map
    │   ├── BandError                    its bands are not, or not clearly, the model's
    │   ├── GridError                    a grid or window makes no sense
    │   ├── LegendError                  codes, names or colours make no sense
    │   ├── ModelError                   a bundle is missing, damaged or does not fit its card
    │   └── TrainingError                a training cannot go on; its best network is kept
    ├── OutputError (OSError)            exit status 3: a result could not be written
    └── JobError (RuntimeError)          exit status 1: an unattended job cannot go on

A message says what was found, where, and what to do about it, in one line.
Anything else that escapes is a bug: exit status 1, with a traceback.
"""

from __future__ import annotations

__all__ = [
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
]


class GeosegError(Exception):
    """The root of the tree; catch it to catch all that geoseg raises on purpose."""

    exit_status = 1


class InputError(GeosegError, ValueError):
    """What was given cannot be used."""

    exit_status = 2


class SceneError(InputError):
    """A scene cannot be read, or holds nothing to map."""


class BandError(InputError):
    """The bands of a scene are not, or not clearly, those of the model."""


class GridError(InputError):
    """A grid or a window makes no sense."""


class LegendError(InputError):
    """The codes, names or colours of a legend make no sense."""


class ModelError(InputError):
    """A bundle is missing, damaged, or does not fit its card."""


class TrainingError(InputError):
    """A training cannot go on; the best network so far is kept."""


class OutputError(GeosegError, OSError):
    """A result could not be written; nothing is left under its final name."""

    exit_status = 3


class JobError(GeosegError, RuntimeError):
    """An unattended job cannot go on: its ledger or its catalogue does not answer."""
