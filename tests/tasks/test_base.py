"""What every task keeps, and what a new one is tested by: it is found by its file."""

import json

import numpy as np
import pytest
import torch

from autopeft.backbone.output import OutputEmbedding
from autopeft.errors import AutopeftError
from autopeft.space.candidate import Training
from autopeft.tasks.base import Task
from autopeft.tasks.heads import Head
from autopeft.tasks.named import read_task, task_named, tasks
from autopeft.tasks.texts import TextTask

LABELS, WIDTH, LENGTH = 3, 8, 6


@pytest.fixture(params=tasks().values(), ids=tasks())
def task(request: pytest.FixtureRequest) -> Task:
    return request.param.sized(LABELS)


def head_of(task: Task) -> Head:
    """Always the same; one that borrows its weights has some."""
    torch.manual_seed(0)
    head = task.new_head(WIDTH, Training())
    if task.causal:
        head.borrow(OutputEmbedding(torch.nn.Linear(WIDTH, 7).requires_grad_(False)))
    return head


def batch(task: Task, rows: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Whatever may be of these shapes, padded at the end of all rows but the first."""
    random = np.random.default_rng(seed)
    made = {}
    for name, (dtype, shape) in task.shapes(LENGTH).items():
        most = LABELS if name == "labels" and dtype == torch.long else 2
        made[name] = torch.from_numpy(random.integers(0, most, (rows, *shape))).to(dtype)
    if "attention_mask" in made:
        made["attention_mask"][:] = 1
        made["attention_mask"][1:, -2:] = 0
    return made


def states(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_a_task_is_plain_values_that_are_read_back(task):
    plain = json.loads(json.dumps(task.to_dict()))
    assert plain["name"] == task.name
    assert read_task(plain) == task
    assert task_named(task.name) is type(task)
    assert all(task_named(each) is type(task) for each in task.aliases)
    for name in plain:
        if name != "name":
            with pytest.raises(AutopeftError, match=f"no values of a task '{task.name}'"):
                read_task({**plain, name: [[]]})
            with pytest.raises(AutopeftError, match=f"no values of a task '{task.name}'"):
                read_task({other: value for other, value in plain.items() if other != name})


def test_a_loss_of_pieces_adds_up_to_that_of_the_whole(task):
    head, whole = head_of(task).eval(), batch(task, 7)
    output = head(states(7), whole)
    losses, counts = [], []
    for start, end in ((0, 3), (3, 7)):
        piece = {name: tensor[start:end] for name, tensor in whole.items()}
        losses.append(head.loss(head(states(7)[start:end], piece), piece))
        counts.append(int(head.count(piece)))
    assert torch.allclose(sum(losses), head.loss(output, whole), atol=1e-4)
    assert sum(counts) == int(head.count(whole))
    if not task.causal:
        head.loss(output, whole).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters())


def test_statistics_of_rows_alone_are_those_of_rows_together_and_every_metric_is_made_of_them(task):
    head, whole = head_of(task).eval(), batch(task, 9)
    with torch.no_grad():
        together = head.statistics(head(states(9), whole), whole)
        for row in range(9):
            one = {name: tensor[row : row + 1] for name, tensor in whole.items()}
            assert np.allclose(head.statistics(head(states(9)[row : row + 1], one), one), together[row], atol=1e-5)
    assert together.shape[0] == 9
    for metric in task.metrics:
        score, values = metric.of(together), metric.values(together)
        assert np.isfinite(score)
        assert values.shape == (9,)
        assert values.mean() == pytest.approx(score, abs=1e-6)
        assert task.metric(metric.name) == metric
    assert task.metric("auto") == task.metrics[0]
    with pytest.raises(AutopeftError, match="unknown metric 'acuracy'"):
        task.metric("acuracy")


def test_two_passes_that_agree_do_not_diverge_and_others_do(task):
    head, whole = head_of(task).eval(), batch(task, 5)
    with torch.no_grad():
        one, other = head(states(5), whole), head(states(5, 1), whole)
    assert float(head.divergence(one, one, whole)) == pytest.approx(0, abs=1e-5)
    assert float(head.divergence(one, other, whole)) > 0


def test_padding_is_neither_learned_from_nor_judged(task):
    """Whatever states stand at padded places."""
    head, whole = head_of(task).eval(), batch(task, 4)
    if "attention_mask" not in whole:
        pytest.skip("nothing is padded")
    if whole["labels"].shape[1:] == (LENGTH,):
        whole["labels"][1:, -2:] = -100
    some, others = states(4), states(4)
    others[1:, -2:] = 1e3
    assert torch.allclose(head.loss(head(some, whole), whole), head.loss(head(others, whole), whole))
    with torch.no_grad():
        found = [head.statistics(head(each, whole), whole) for each in (some, others)]
    assert np.allclose(*found)


def test_a_probe_is_fitted_to_features_and_is_better_than_chance(task):
    if task.causal:
        pytest.skip("the head has no weights of its own")
    head, whole = head_of(task), batch(task, 60)
    features, targets, rows = head.features(states(60), whole)
    assert len(features) == len(targets) == len(rows)
    assert features.shape[1] == WIDTH
    before = float(head.loss(head(states(60), whole), whole).detach())
    task.fit(head, features.numpy(), targets.numpy())
    assert all(torch.isfinite(parameter).all() for parameter in head.parameters())
    assert float(head.loss(head(states(60), whole), whole).detach()) < before * 1.05


def test_an_unknown_task_is_answered_with_the_nearest():
    with pytest.raises(
        AutopeftError, match=r"unknown task 'text-clasification'\. Did you mean 'text-classification'\?"
    ):
        task_named("text-clasification")


def test_what_other_tools_call_a_task_is_known():
    assert task_named("SEQ_CLS").name == "text-classification"


@pytest.mark.parametrize("kind", [each for each in tasks().values() if issubclass(each, TextTask)])
def test_every_text_task_says_what_it_is_asked(kind):
    assert kind.sized(2).asked("a text") == ([("a text",)], True)
