"""What is said of how far a score may lie off is right: for every metric of every task, found by its file.

A model that is right as often as not answers many rows, from which validation sets are drawn. Of classes there is a
rare one, of which a set holds more than 20 rows all the same.
"""

from functools import cache
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autopeft.backbone.output import OutputEmbedding
from autopeft.confirmed import LEVEL, sign_flips
from autopeft.data.store import LABELS
from autopeft.space.candidate import Training
from autopeft.tasks.linear_probe import fit_classes
from autopeft.tasks.metrics import Array, Metric, WholeMetric
from autopeft.tasks.named import tasks

CLASSES, WIDTH, LENGTH = 3, 16, 6
SHARES = (0.6, 0.3, 0.1)
ROWS, EVERY, SETS, COMPARISONS = 500, 10_000, 2_000, 4_000
METRICS = {f"{name}-{metric.name}": (name, metric) for name, task in tasks().items() for metric in task.metrics}

ONCE = {metric.name: (name, metric) for name, metric in METRICS.values()}
"""Each metric on the last of the tasks that have it."""

every_metric = pytest.mark.parametrize(("task", "metric"), METRICS.values(), ids=METRICS)


def labels_of(dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Numbers, sets of classes, or classes of rows or of their places, with a rare one among them."""
    random = np.random.default_rng(0)
    if shape == (1,):
        return torch.from_numpy(random.normal(size=(EVERY, 1))).to(dtype)
    if shape == (CLASSES,):
        return torch.from_numpy(random.random((EVERY, CLASSES)) < SHARES).to(dtype)
    return torch.from_numpy(random.choice(CLASSES, (EVERY, *shape), p=SHARES)).to(dtype)


@cache
def answered(task: str) -> tuple[Array, Array]:
    """(rows, k) statistics of two models that are equally good, and that find the same rows difficult."""
    learned = tasks()[task].sized(CLASSES)
    labels = labels_of(*learned.shapes(LENGTH)[LABELS])
    of_places = labels.shape[1:] == (LENGTH,)
    random = torch.Generator().manual_seed(0)

    def noise(scale: float) -> Tensor:
        """Of each place where these are learned, else the same at all places of a row."""
        return scale * torch.randn((EVERY, LENGTH if of_places else 1, WIDTH), generator=random)

    seen = labels[:, :, None] if of_places else labels.reshape(EVERY, 1, -1)
    common = seen.float() @ torch.randn((seen.shape[-1], WIDTH), generator=random) + noise(1.5)
    states = [(common + noise(0.5)).expand(-1, LENGTH, -1) for _ in range(2)]
    head, few = learned.new_head(WIDTH, Training()), {LABELS: labels[:2000]}
    if learned.causal:
        # What a state tells is the token after it; the output embedding is fitted as a head would be.
        embedding = nn.Linear(WIDTH, CLASSES)
        fit_classes(embedding, states[0][:2000, :1].flatten(0, 1).numpy(), labels[:2000, :1].flatten().numpy())
        states = [each.roll(-1, 1) for each in states]
        head.borrow(OutputEmbedding(embedding))
    else:
        features, targets, _ = head.features(states[0][:2000], few)
        learned.fit(head, features.numpy(), targets.numpy())
    with torch.no_grad():
        one, other = (head.statistics(head(each, {LABELS: labels}), {LABELS: labels}) for each in states)
    return one.astype(np.float64), other.astype(np.float64)


def scores(metric: Metric, rows: Array, sets: Array) -> Array:
    """The score of each set, of its rows' numbers."""
    if isinstance(metric, WholeMetric):
        return np.array([metric.of(rows[each]) for each in sets])
    sums = np.concatenate([rows[some].sum(1) for some in np.array_split(sets, 20)])
    return np.array([metric.value(each) for each in sums])


@every_metric
def test_an_error_is_the_spread_over_validation_sets(task: str, metric: Metric) -> None:
    """Over sets of other rows, what their errors say on average; over one set's own rows, what its own says."""
    rows, random = answered(task)[0], np.random.default_rng(1)
    sets = random.integers(0, len(rows), (SETS, ROWS))
    stated = np.mean([metric.error(rows[each]) for each in sets[:8]])
    assert stated == pytest.approx(np.std(scores(metric, rows, sets)), rel=0.1)
    own = rows[sets[0]]
    again = scores(metric, own, random.integers(0, ROWS, (SETS, ROWS)))
    assert metric.error(own) == pytest.approx(np.std(again), rel=0.1)


@pytest.mark.long
@pytest.mark.parametrize(("task", "metric"), ONCE.values(), ids=ONCE)
def test_models_that_are_alike_are_told_apart_no_more_often_than_allowed(task: str, metric: Metric) -> None:
    """Each row is there twice, the models exchanged: neither is better. `test_confirmed.py` tries three metrics too."""
    one, other = (np.concatenate(each) for each in permutations(answered(task)))
    random, told = np.random.default_rng(2), 0
    rows = ROWS // 5 if isinstance(metric, WholeMetric) else ROWS
    for _ in range(COMPARISONS):
        some = random.integers(0, len(one), rows)
        told += sign_flips(metric.values(one[some]) - metric.values(other[some])) < LEVEL
    assert 0.01 < told / COMPARISONS <= 0.065


@every_metric
def test_the_models_are_neither_perfect_nor_hopeless(task: str, metric: Metric) -> None:
    """Or nothing above would say much."""
    scores = [metric.of(rows) for rows in answered(task)]
    # A perplexity of 1 is a loss of 0.
    assert all(0.2 < abs(np.log(each) if metric.name == "perplexity" else each) < 0.97 for each in scores)
