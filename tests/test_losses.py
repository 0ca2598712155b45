"""Losses against slow obvious versions, published properties, and every numerical trap."""

from __future__ import annotations

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from geoseg.errors import InputError
from geoseg.legend import NODATA
from geoseg.training.losses import (
    LOSSES,
    CrossEntropy,
    Dice,
    Focal,
    Lovasz,
    SoftCrossEntropy,
    Tversky,
    WeightedSum,
    make_loss,
)

WEIGHTS = torch.tensor([0.5, 1.0, 2.0, 4.0])
EVERY = {
    "cross_entropy": CrossEntropy(WEIGHTS, label_smoothing=0.1),
    "focal": Focal(WEIGHTS),
    "focal of gamma 0.5": Focal(gamma=0.5),
    "dice": Dice(),
    "tversky": Tversky(),
    "lovasz": Lovasz(),
    "sum": make_loss({"cross_entropy": 1.0, "dice": 0.5}, class_weights=WEIGHTS),
}
every_loss = pytest.mark.parametrize("loss", EVERY.values(), ids=EVERY.keys())


def batch(seed: int = 0, classes: int = 4, present: int | None = None) -> tuple[Tensor, Tensor]:
    """Logits and labels, a fifth of them missing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, present or classes, (3, 6, 7))
    labels[rng.random(labels.shape) < 0.2] = NODATA
    logits = rng.normal(0, 2, (3, classes, 6, 7)).astype(np.float32)
    return torch.from_numpy(logits), torch.from_numpy(labels)


def flat(logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (P, K) and labels (P,) of the labelled pixels, in float64."""
    planes = logits.double().numpy()
    exps = np.exp(planes - planes.max(axis=1, keepdims=True))
    probabilities = (exps / exps.sum(axis=1, keepdims=True)).transpose(0, 2, 3, 1)
    known = labels.numpy() != NODATA
    return probabilities[known], labels.numpy()[known]


def test_cross_entropy_is_the_weighted_sum_over_the_number_of_pixels() -> None:
    logits, labels = batch()
    p, y = flat(logits, labels)
    expected = sum(WEIGHTS[k].item() * -math.log(p[i, k]) for i, k in enumerate(y)) / len(y)
    assert CrossEntropy(WEIGHTS)(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    plain = F.cross_entropy(logits, labels, ignore_index=NODATA, label_smoothing=0.2)
    found = CrossEntropy(label_smoothing=0.2)(logits, labels)
    assert found.item() == pytest.approx(plain.item(), rel=1e-5)


def test_weights_do_not_vanish_in_a_batch_of_one_class() -> None:
    logits, labels = batch()
    labels = torch.where(labels == NODATA, NODATA, 3)
    plain = CrossEntropy()(logits, labels).item()
    torchs = F.cross_entropy(logits, labels, WEIGHTS, ignore_index=NODATA).item()
    assert torchs == pytest.approx(plain, rel=1e-5)  # the trap
    for made in (CrossEntropy, Focal):
        weighted = made(WEIGHTS)(logits, labels).item()
        assert weighted == pytest.approx(4 * made()(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_cross_entropy_times_what_is_missing(gamma: float) -> None:
    logits, labels = batch()
    p, y = flat(logits, labels)
    right = p[np.arange(len(y)), y]
    expected = (WEIGHTS.numpy()[y] * (1 - right) ** gamma * -np.log(right)).mean()
    assert Focal(WEIGHTS, gamma=gamma)(logits, labels).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.3, 0.7), (1.0, 1.0), (0.0, 1.0)])
def test_tversky_by_its_formula_over_the_batch(alpha: float, beta: float) -> None:
    logits, labels = batch()
    p, y = flat(logits, labels)
    each = []
    for k in range(4):
        agreed, over, missed = p[y == k, k].sum(), p[y != k, k].sum(), (1 - p[y == k, k]).sum()
        each.append(1 - agreed / (agreed + alpha * over + beta * missed))
    found = Tversky(alpha=alpha, beta=beta)(logits, labels).item()
    assert found == pytest.approx(np.mean(each), rel=1e-5)


def test_dice_by_its_formula_over_the_batch() -> None:
    logits, labels = batch()
    p, y = flat(logits, labels)
    each = [2 * p[y == k, k].sum() / (p[:, k].sum() + (y == k).sum()) for k in range(4)]
    assert Dice()(logits, labels).item() == pytest.approx(1 - np.mean(each), rel=1e-5)
    by_image = [Dice()(logits[[i]], labels[[i]]).item() for i in range(3)]
    assert Dice()(logits, labels).item() != pytest.approx(np.mean(by_image), rel=1e-4)


@pytest.mark.parametrize("name", ["dice", "tversky", "lovasz"])
def test_how_the_ground_is_cut_into_images_changes_nothing(name: str) -> None:
    """Three images of 6 x 7 are one of 18 x 7."""
    logits, labels = batch()
    tall = logits.movedim(1, 0).reshape(1, 4, 18, 7)
    loss = make_loss(name)
    one = loss(tall, labels.reshape(1, 18, 7))
    assert loss(logits, labels).item() == pytest.approx(one.item(), rel=1e-5)


def choquet(p: np.ndarray, y: np.ndarray) -> float:
    """The Lovasz extension as the mean of 1 - IoU over all thresholds of the error."""
    each = []
    for k in sorted(set(y.tolist())):
        errors = np.where(y == k, 1 - p[:, k], p[:, k])
        levels, total = [0.0, *sorted(errors)], 0.0
        for low, high in pairwise(levels):
            wrong = errors >= high
            lost = wrong.sum() / ((y == k) | wrong).sum()
            total += (high - low) * lost
        each.append(total)
    return float(np.mean(each))


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_lovasz_is_the_mean_over_all_thresholds(seed: int, present: int) -> None:
    logits, labels = batch(seed, present=present)
    expected = choquet(*flat(logits, labels))
    assert Lovasz()(logits, labels).item() == pytest.approx(expected, rel=1e-4)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_lovasz_of_hard_decisions_is_one_minus_iou(seed: int) -> None:
    """Berman et al. 2018: the extension agrees with the set function at the corners."""
    rng = np.random.default_rng(seed)
    _, labels = batch(seed)
    mapped = torch.from_numpy(rng.integers(0, 4, labels.shape))
    logits = 1000.0 * F.one_hot(mapped, 4).movedim(-1, 1).float()
    known = labels != NODATA
    ious = [
        ((mapped == k) & (labels == k)).sum() / (known & ((mapped == k) | (labels == k))).sum()
        for k in labels[known].unique()
    ]
    assert Lovasz()(logits, labels).item() == pytest.approx(1 - np.mean(ious), abs=1e-6)


def test_lovasz_of_a_million_pixels_does_not_drown_in_rounding() -> None:
    """Errors all alike: their weights must add up to what 1 - IoU is when all is wrong."""
    labels = torch.zeros(1, 1024, 1024, dtype=torch.int64)
    labels[:, :, ::2] = 1
    logits = torch.zeros(1, 2, 1024, 1024)
    assert Lovasz()(logits, labels).item() == pytest.approx(0.5, abs=1e-6)


def test_where_all_is_labelled_smp_agrees() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        smp = pytest.importorskip("segmentation_models_pytorch")
    logits, labels = batch()
    labels = labels.clamp(max=3)
    theirs = {
        "dice": smp.losses.DiceLoss("multiclass", smooth=0.0),
        "lovasz": smp.losses.LovaszLoss("multiclass"),
    }
    for name, loss in theirs.items():  # their focal loss is a sigmoid for each class
        expected = loss(logits, labels).item()
        assert make_loss(name)(logits, labels).item() == pytest.approx(expected, rel=1e-4)


@every_loss
def test_nothing_labelled_is_zero_with_zero_gradients(loss: nn.Module) -> None:
    logits, labels = batch()
    logits.requires_grad_()
    found = loss(logits, torch.full_like(labels, NODATA))
    assert found.shape == ()
    assert found.item() == 0
    found.backward()
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@every_loss
@pytest.mark.parametrize("garbage", [1e30, -1e30, float("inf"), float("nan")])
def test_what_is_not_labelled_counts_nowhere(loss: nn.Module, garbage: float) -> None:
    logits, labels = batch()
    ignored = (labels == NODATA)[:, None]
    results = []
    for filled in (0.0, garbage):
        given = torch.where(ignored, filled, logits).requires_grad_()
        found = loss(given, labels)
        found.backward()
        assert given.grad is not None
        assert given.grad.isfinite().all()
        assert (given.grad[ignored.expand_as(logits)] == 0).all()
        results.append((found.item(), given.grad))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


@every_loss
def test_more_pixels_without_labels_change_nothing(loss: nn.Module) -> None:
    logits, labels = batch()
    wider = F.pad(logits, (0, 5, 0, 4), value=3.0)
    found = loss(wider, F.pad(labels, (0, 5, 0, 4), value=NODATA)).item()
    assert found == pytest.approx(loss(logits, labels).item(), rel=1e-6)


@pytest.mark.parametrize("name", ["dice", "tversky", "lovasz"])
def test_absent_classes_are_in_no_mean(name: str) -> None:
    """A perfect map of two classes out of four has no loss, a wrong one has all of it."""
    _, labels = batch(present=2)
    known = labels.clamp(max=1)
    right = 100.0 * F.one_hot(known, 4).movedim(-1, 1).float()
    wrong = 100.0 * F.one_hot(1 - known, 4).movedim(-1, 1).float()
    assert make_loss(name)(right, labels).item() == pytest.approx(0, abs=1e-6)
    assert make_loss(name)(wrong, labels).item() == pytest.approx(1, abs=1e-6)


@every_loss
def test_autocast_does_not_lower_the_precision(loss: nn.Module) -> None:
    """Sums of many pixels lose all but three digits in bfloat16."""
    labels = torch.zeros(1, 200, 200, dtype=torch.int64)
    labels[:, :3] = 1
    logits = torch.randn(1, 4, 200, 200, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = loss(logits.float(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(logits, labels)
    assert found.dtype == torch.float32
    assert found.item() == exact.item()


@every_loss
def test_gradients_are_those_of_finite_differences(loss: nn.Module) -> None:
    logits, labels = batch()
    logits.requires_grad_()
    loss(logits, labels).backward()
    assert logits.grad is not None
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    step = 1e-3
    with torch.no_grad():
        ahead, behind = (loss(logits + s * direction, labels).item() for s in (step, -step))
    slope = (logits.grad * direction).sum().item()
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=0.02, abs=2e-3)


@every_loss
def test_certainty_gives_no_nan(loss: nn.Module) -> None:
    """Probabilities of exactly 0 and 1, right and wrong, have gradients too."""
    _, labels = batch()
    for sign in (1, -1):
        logits = sign * 1e4 * F.one_hot(labels.clamp(max=3), 4).movedim(-1, 1).float()
        logits.requires_grad_()
        found = loss(logits, labels)
        found.backward()
        assert math.isfinite(found.item())
        assert logits.grad is not None
        assert logits.grad.isfinite().all()


@every_loss
def test_the_loss_can_be_learned(loss: nn.Module) -> None:
    logits, labels = batch()
    logits.requires_grad_()
    optimizer = torch.optim.Adam([logits], 0.3)
    first = loss(logits, labels).item()
    for _ in range(60):
        optimizer.zero_grad()
        found = loss(logits, labels)
        found.backward()
        optimizer.step()
    assert found.item() < 0.5 * first
    known = labels != NODATA
    assert (logits.argmax(1)[known] == labels[known]).float().mean() > 0.99


def test_a_sum_is_the_sum_of_its_parts() -> None:
    logits, labels = batch()
    parts = {"cross_entropy": 0.7, "dice": 2.0, "lovasz": 0.3}
    expected = sum(
        weight * make_loss(name)(logits, labels).item() for name, weight in parts.items()
    )
    made = make_loss(parts)
    assert isinstance(made, WeightedSum)
    assert made(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_parameters_reach_the_loss_that_they_are_about() -> None:
    made = make_loss({"focal": 1.0, "tversky": 1.0}, class_weights=WEIGHTS, gamma=3.0, beta=0.9)
    assert isinstance(made, WeightedSum)
    focal, tversky = made.losses["focal"], made.losses["tversky"]
    assert isinstance(focal, Focal)
    assert isinstance(tversky, Tversky)
    assert (focal.gamma, tversky.alpha, tversky.beta) == (3.0, 0.3, 0.9)
    assert focal.weights is not None
    assert torch.equal(focal.weights, WEIGHTS)
    assert made.state_dict() == {}  # a network's weights are all that a checkpoint holds


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_made_by_its_name(name: str) -> None:
    assert type(make_loss(name)) is LOSSES[name][0]


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("cross_entrpy", {}, "did you mean cross_entropy?"),
        ({"lovas": 1.0}, {}, "did you mean lovasz?"),
        ("xyz", {}, "there are cross_entropy, dice, focal"),
        ({}, {}, "no loss is given"),
        ({"dice": 0.0, "focal": 1.0}, {}, "dice cannot weigh 0"),
        ({"dice": math.nan}, {}, "dice cannot weigh nan"),
        ("dice", {"gamma": 2.0}, "gamma says nothing about the loss dice"),
        ("focal", {"gama": 2.0}, "did you mean gamma?"),
        ("focal", {"gamma": -1.0}, "gamma of -1"),
        ("cross_entropy", {"label_smoothing": 1.0}, "label_smoothing of 1"),
        ("tversky", {"alpha": 0.0, "beta": 0.0}, "must be positive"),
        ("cross_entropy", {"class_weights": torch.tensor([1.0, math.inf])}, "not negative"),
        ("cross_entropy", {"class_weights": torch.tensor([[1.0]])}, r"are \(K,\)"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(spec: object, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        make_loss(spec, **options)  # type: ignore[arg-type]


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    logits, labels = batch()
    with pytest.raises(ValueError, match="do not belong together"):
        Dice()(logits, labels[:, :-1])


def shares_of(logits: Tensor, seed: int) -> Tensor:
    return torch.randn(logits.shape, generator=torch.Generator().manual_seed(seed)).softmax(1)


def test_soft_cross_entropy_of_certain_shares_is_cross_entropy() -> None:
    logits, labels = batch()
    certain = F.one_hot(labels.masked_fill(labels == NODATA, 0), 4).movedim(-1, 1).float()
    found = SoftCrossEntropy(WEIGHTS, sharpness=1)(logits, labels, certain)
    assert found.item() == pytest.approx(CrossEntropy(WEIGHTS)(logits, labels).item(), rel=1e-5)


def test_soft_cross_entropy_is_least_where_probabilities_are_the_shares() -> None:
    logits, labels = batch()
    shares = shares_of(logits, 1)
    loss = SoftCrossEntropy(WEIGHTS, sharpness=3)
    at_best = (shares.log() + 5).requires_grad_()
    best = loss(at_best, labels, 7 * shares)  # only their proportions count
    best.backward()
    assert at_best.grad is not None
    assert at_best.grad.abs().max() < 1e-6
    for seed in range(5):
        elsewhere = shares.log() + 0.1 * torch.randn(
            logits.shape, generator=torch.Generator().manual_seed(seed)
        )
        assert loss(elsewhere, labels, shares) > best


def test_soft_cross_entropy_passes_over_what_is_unlabelled() -> None:
    logits, labels = batch()
    shares = shares_of(logits, 2)
    spoilt, doubtful = logits.clone(), shares.clone()
    spoilt.movedim(1, -1)[labels == NODATA] = math.nan
    doubtful.movedim(1, -1)[labels == NODATA] = 0
    loss = SoftCrossEntropy()
    spoilt.requires_grad_()
    value = loss(spoilt, labels, doubtful)
    assert value.item() == pytest.approx(loss(logits, labels, shares).item(), rel=1e-6)
    value.backward()
    assert spoilt.grad is not None
    assert spoilt.grad.isfinite().all()
    nothing = torch.full_like(labels, NODATA)
    assert loss(logits, nothing, shares) == 0
    with pytest.raises(InputError, match="labels_are: probabilities"):
        loss(logits, labels)
    with pytest.raises(InputError, match="a sharpness of 0"):
        SoftCrossEntropy(sharpness=0.5)
    summed = make_loss({"soft_cross_entropy": 1.0, "dice": 1.0}, sharpness=2.0)
    assert summed(logits, labels, shares) > 0
