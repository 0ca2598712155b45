"""A job in a process of its own, to be killed: killed_job.py JOB LOG PAUSE|real WAIT."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from made_jobs import counting, log_line

from geoseg.jobs.run import run_job


def start(
    job: Path, log: Path, pause_s: float | str = 0, wait_s: float = 0
) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, job, log, str(pause_s), str(wait_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def storm(
    job: Path,
    arrivals: list[Path],
    log: Path,
    *,
    kills: int,
    longest_s: float,
    seed: int,
    pause_s: float | str = 0.05,
) -> int:
    """Run a job as scenes arrive one by one, killed at random moments of its work.

    Returns:
        How many runs were killed before they came to their end.
    """
    dice, killed, waiting = random.Random(seed), 0, list(arrivals)
    while waiting or killed < kills:
        if waiting:
            shutil.copy2(waiting.pop(0), job.parent / "in")
        process = start(job, log, pause_s, wait_s=10)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with suppress(subprocess.TimeoutExpired):
            left = kills - killed
            process.wait(dice.uniform(0, longest_s) if left else None)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        _, errors = process.communicate(timeout=60)
        assert process.returncode in (0, -signal.SIGKILL), errors.decode()
    return killed


def main() -> None:
    job, log, pause_s, wait_s = sys.argv[1:]
    change: Any = real(Path(log)) if pause_s == "real" else counting(Path(log), float(pause_s))
    print("ready", flush=True)
    run_job(job, change=change, wait_s=float(wait_s))


def real(log: Path) -> Any:
    """`geoseg.change`, which notes what it was asked."""
    from geoseg.change_detection import change

    def noted(before: Path, after: Path, **options: Any) -> Any:
        log_line(log, options["name"])
        return change(before, after, **options)

    return noted


if __name__ == "__main__":
    main()
