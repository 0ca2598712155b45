"""The pace of models' networks alone: chips in memory in, decisions out, nothing read or written.

    python tests/benchmarks/pace.py landcover [MODEL ...] [--precision bf16] [--chips 60]

All take turns within one run. What is printed is the median of megapixels of map a second, the halo
taken off, and how many times as fast as the first one each is.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from itertools import islice

import numpy as np

import geoseg

ROUNDS = 5


def mapped_px(model: geoseg.Model, chips: int) -> float:
    """Pixels of map a second."""
    card = model.card
    rng = np.random.default_rng(0)
    values = rng.random((4, card.planes, card.chip_px, card.chip_px), dtype=np.float32)

    def stream() -> Iterator[np.ndarray]:
        while True:
            yield from values

    began = time.perf_counter()
    done = sum(1 for _ in model.runtime.decisions(islice(stream(), chips)))
    return done * (card.chip_px - 2 * card.halo_px) ** 2 / (time.perf_counter() - began)


def main() -> None:
    """Print the paces."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL", help="name or path of a bundle")
    parser.add_argument("--precision", default="auto", choices=["auto", "bf16", "float32"])
    parser.add_argument("--chips", type=int, default=60, help="of a round")
    told = parser.parse_args()
    models = {name: geoseg.load_model(name, precision=told.precision) for name in told.models}
    for model in models.values():
        mapped_px(model, 8)
    rounds = [
        {name: mapped_px(model, told.chips) for name, model in models.items()}
        for _ in range(ROUNDS)
    ]
    paces = {name: statistics.median(each[name] for each in rounds) for name in models}
    first = paces[told.models[0]]
    for name, pace in paces.items():
        label = models[name].runtime.label
        print(f"{name:40} {label:20} {pace / 1e6:6.2f} Mpx/s {pace / first:6.2f} x")


if __name__ == "__main__":
    main()
