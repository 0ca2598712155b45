"""How much a network overstates its case, learnt on what was kept apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from geoseg.accuracy.calibration import PERCENT, Calibration, count_confidences

__all__ = ["calibration_at", "fit_temperature"]

RANGE = 0.05, 20.0


def fit_temperature(logits: npt.NDArray[np.float32], classes: npt.NDArray[np.integer]) -> float:
    """The temperature that makes the right classes most probable.

    Logits are divided by it before the softmax: above 1 it makes a network more modest, below 1
    more confident. No pixel changes its class.

    Args:
        logits: (N, K).
        classes: (N,), the right class's place, 0 to K - 1.

    Returns:
        The temperature, 0.05 to 20; 1 without pixels.

    Reference:
        Guo, Pleiss, Sun, Weinberger: "On Calibration of Modern Neural Networks", ICML 2017,
        section 4.2. https://arxiv.org/abs/1706.04599
    """
    if not len(logits):
        return 1.0
    each = np.arange(len(classes))

    def loss(log_temperature: float) -> float:
        scores = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scores[each, classes].mean())

    found = minimize_scalar(loss, bounds=np.log(RANGE), method="bounded")
    return float(np.exp(found.x))


def calibration_at(
    temperature: float, logits: npt.NDArray[np.float32], classes: npt.NDArray[np.integer]
) -> Calibration:
    """How far confidences can be believed at a temperature; arguments as above."""
    scores = softmax(logits / temperature, axis=1)
    percent = np.rint(scores.max(axis=1) * PERCENT).astype(np.int64)
    return count_confidences(percent, scores.argmax(axis=1) == classes)
