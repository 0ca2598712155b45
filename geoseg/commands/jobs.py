"""`geoseg job`: run a job, ask how it stands, and what a job file may say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from geoseg import printing
from geoseg.errors import OutputError

if TYPE_CHECKING:
    from geoseg.jobs.outcome import SceneOutcome

__all__ = ["job"]

DONE, FAILED, ALERT = 0, 1, 10


@click.group()
def job() -> None:
    """Compare the scenes that arrived since, unattended, as often as called."""


@job.command()
@click.argument("job_file", metavar="JOB.yaml")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--retry", is_flag=True, help="Give what was set aside another chance.")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for another process that runs this job.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print JSON and errors only.")
def run(job_file: str, dry_run: bool, retry: bool, wait_s: float, quiet: bool) -> int:
    """Take in what arrived, compare it, and enter it in the ledger.

    One JSON line a scene on standard output, the same for people on standard error. Exit status:
    0 done, 10 done and there are new alerts, 2 the job file makes no sense, 1 failed.
    """
    from geoseg.jobs.ledger import AtWorkError
    from geoseg.jobs.run import run_job

    def tell(outcome: SceneOutcome) -> None:
        click.echo(outcome.to_json())
        note(str(outcome))

    def note(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    try:
        done = run_job(job_file, dry_run=dry_run, retry=retry, wait_s=wait_s, tell=tell, note=note)
    except AtWorkError as error:
        note(f"{error}; there is nothing to do here")
        return DONE
    except OutputError as error:
        click.echo(f"geoseg: error: {error}", err=True)
        return FAILED
    if not done.outcomes:
        note("nothing new")
    if done.alerts:
        note(f"{done.alerts} new alert{'s' if done.alerts > 1 else ''}")
    return ALERT if done.alerts else DONE


@job.command()
@click.argument("job_file", metavar="JOB.yaml")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(job_file: str, as_json: bool) -> None:
    """Show what the ledger says, scene by scene."""
    from geoseg.jobs.status import job_status

    found = job_status(job_file)
    if as_json:
        click.echo(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        printing.print_job_status(found)


@job.command()
def schema() -> None:
    """Print the JSON schema of job files, for editors."""
    from geoseg.jobs.job_file import job_schema

    click.echo(json.dumps(job_schema(), indent=2))
