"""The command line: parse, call one verb, print.

Results go to standard output, everything else to standard error. Exit status: 0 done, 2 what was
given cannot be used, 3 a result could not be written, 1 a bug; `geoseg job run` has its own.
Verbs are imported when called, so that `geoseg --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import click

from geoseg import printing
from geoseg.commands import INTERRUPTED
from geoseg.commands.accuracy import accuracy, evaluate, sample
from geoseg.commands.jobs import job
from geoseg.commands.maps import change, predict, vectorize
from geoseg.commands.models import info, models, quantize, train
from geoseg.errors import GeosegError

VERBS = accuracy, change, evaluate, info, job, models, predict, quantize, sample, train, vectorize

STANDARD_ERROR = 2
CLOSED_PIPE = 141


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        with _libraries_quiet():
            status = cli(standalone_mode=False)
    except GeosegError as error:
        printing.complain(error)
        status = error.exit_status
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("geoseg: interrupted", err=True)
        status = INTERRUPTED
    except BrokenPipeError:  # whoever was reading has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = CLOSED_PIPE
    sys.exit(status)


@contextmanager
def _libraries_quiet() -> Iterator[None]:
    """Keep what C libraries print by themselves off the terminal, unless there is a bug.

    libtiff says "_tiffWriteProc: No space left on device" line upon line; we say it once.
    """
    try:
        sys.stderr.flush()
        terminal = os.dup(STANDARD_ERROR)
    except (OSError, AttributeError):  # there is no standard error to keep clean
        yield
        return
    python_stderr = sys.stderr
    with tempfile.TemporaryFile() as noise, os.fdopen(terminal, "w", buffering=1) as ours:
        os.dup2(noise.fileno(), STANDARD_ERROR)
        sys.stderr = ours
        try:
            yield
        except (GeosegError, click.ClickException, click.Abort, KeyboardInterrupt, BrokenPipeError):
            raise
        except BaseException:
            noise.seek(0)
            ours.write(noise.read().decode(errors="replace"))
            raise
        finally:
            ours.flush()
            sys.stderr = python_stderr
            os.dup2(terminal, STANDARD_ERROR)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="geoseg")
def cli() -> None:
    """Satellite and aerial scenes in, maps out."""


for verb in VERBS:
    cli.add_command(verb)


if __name__ == "__main__":
    main()
