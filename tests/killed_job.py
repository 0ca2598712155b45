"""A job in a process of its own, to be killed: python tests/killed_job.py JOB LOG PAUSE WAIT."""

from __future__ import annotations

import sys
from pathlib import Path

from made_jobs import counting

from geoseg.jobs.run import run_job


def main() -> None:
    job, log, pause_s, wait_s = sys.argv[1:]
    run_job(job, change=counting(Path(log), float(pause_s)), wait_s=float(wait_s))


if __name__ == "__main__":
    main()
