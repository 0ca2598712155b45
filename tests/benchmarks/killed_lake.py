"""The NAIP lake series as a job, out of order, killed at random: does the ledger end the same?

    python tests/benchmarks/killed_lake.py SCENES [METHOD] [KILLS] [SEED]

SCENES is a folder of scenes named *_YYYYMMDD.tif. They are dropped into a job's folder one by one
in random order, the job is started after each and killed (SIGKILL) at a random moment of its work,
until it was killed KILLS times; then it is left to finish. What its ledger says and the files that
it leaves are compared with those of a job that nothing disturbed. GEOSEG_TEST_POSTGIS, when set,
is where the disturbed job keeps its ledger.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from killed_job import storm
from made_jobs import contents, difference, write_job

from geoseg.jobs.run import run_job

LONGEST = 1.5
"""A run is killed before it worked for so many times what a pair takes, undisturbed."""


def main() -> int:
    told = dict(enumerate(sys.argv))
    scenes, method = Path(told[1]), told.get(2, "irmad")
    kills, seed = int(told.get(3, 20)), int(told.get(4, 1))
    arrivals = sorted(scenes.glob("*.tif"))
    work = Path(tempfile.mkdtemp(prefix="geoseg-lake-"))
    keys = {"pattern": "*_{date:%Y%m%d}.tif", "method": method, "sensor": "naip", "nodata": 0,
            "min_area": "0.5ha", "alert_area_ha": 50, "retries": 3}  # fmt: skip
    calm = write_job(work / "calm", scenes=str(scenes), **keys)
    began = time.monotonic()
    run_job(calm)
    took = time.monotonic() - began
    print(f"{method}, undisturbed: {len(arrivals)} scenes in {took:.0f} s", flush=True)
    stormy, log = write_job(work / "stormy", ledger=_ledger(), **keys), work / "log"
    random.Random(seed).shuffle(arrivals)
    print("order:", " ".join(path.stem[-8:] for path in arrivals), flush=True)
    killed = storm(
        stormy,
        arrivals,
        log,
        kills=kills,
        longest_s=LONGEST * took / (len(arrivals) - 1),
        seed=seed,
        pause_s="real",
    )
    run_job(stormy)
    wanted, found = contents(calm), contents(stormy)
    begun = Counter(line.split()[1] for line in log.read_text().splitlines())
    print(f"killed {killed} times; {begun.total()} comparisons begun for {len(begun)} pairs, "
          f"of which {len(wanted['runs'])} count in the end")  # fmt: skip
    lines = difference(found, wanted)
    for line in lines:
        print("  ", line)
    counts = {what: len(rows) for what, rows in found.items()}
    print("the same" if not lines else "NOT the same", counts)
    return bool(lines)


def _ledger() -> str:
    url = os.environ.get("GEOSEG_TEST_POSTGIS", "")
    schema = f"geoseg_lake_{os.getpid()}"
    return f"{url}{'&' if '?' in url else '?'}schema={schema}" if url else ""


if __name__ == "__main__":
    sys.exit(main())
