import numpy as np
import pytest
import torch

from autopeft.data.rows import TASKS
from autopeft.errors import AutopeftError
from autopeft.tasks.base import task_named


@pytest.mark.parametrize("name", TASKS)
def test_every_task_keeps_the_contract(name):
    task = task_named(name, ["a", "b", "c"])
    assert task.name == name
    assert task.labels == ("a", "b", "c")
    head = task.new_head(8)
    features = np.random.default_rng(0).normal(size=(30, 8)).astype(np.float32)
    labels = np.arange(30) % 3
    logits = head(torch.from_numpy(features))
    assert torch.isfinite(task.loss(logits, torch.from_numpy(labels)))
    assert 0 <= task.metric(logits, torch.from_numpy(labels)) <= 1
    assert 0 <= task.majority(labels, labels) <= 1
    before = task.metric(logits, torch.from_numpy(labels))
    task.fit_head(head, features, labels)
    assert task.metric(head(torch.from_numpy(features)), torch.from_numpy(labels)) >= before


def test_an_unknown_task_is_answered_with_the_nearest():
    with pytest.raises(
        AutopeftError, match=r"unknown task 'text-clasification'\. Did you mean 'text-classification'\?"
    ):
        task_named("text-clasification", ["a", "b"])
