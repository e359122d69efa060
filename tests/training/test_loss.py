"""A batch in pieces of unequal numbers of tokens is worth what the whole one is, also where a method adds a loss."""

from itertools import count

import pytest
import torch

from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from autopeft.tasks.token_classification import TokenClassification
from autopeft.training.batches import cut
from autopeft.training.loss import loss_of
from autopeft.training.model import TaskModel
from tests.methods.by_hand import disturbed
from tests.tiny import WIDTH, batch, tiny

CPU = torch.device("cpu")


def words() -> dict[str, torch.Tensor]:
    """Rows with 9, 1, 4 and 6 words to learn from."""
    given = batch(rows=4)
    labels = torch.full(given["input_ids"].shape, -100)
    for row, learned in enumerate((9, 1, 4, 6)):
        labels[row, :learned] = torch.arange(learned) % 3
    given["attention_mask"][:] = 1
    return {**given, "labels": labels}


@pytest.mark.parametrize("name", ["adamix", "lora", "adalora"])
@pytest.mark.parametrize("size", [1, 3])
def test_pieces_weigh_by_what_is_learned_of_them(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given, passes = words(), count()
    attached = disturbed(attach(tiny("bert"), method(name)))
    # AdaMix draws once in each of two layers: expert 0 in the first pass over a piece, and 1 in the second.
    monkeypatch.setattr("autopeft.methods.adamix.torch.randint", lambda *_, **__: torch.tensor([next(passes) // 2 % 2]))
    task = TokenClassification.sized(3)
    torch.manual_seed(2)
    model = TaskModel(attached.model, task.new_head(WIDTH, None), attached)  # type: ignore[arg-type]
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    monkeypatch.setattr("autopeft.training.precision.has_bf16", lambda _: False)
    gradients, losses = [], []
    for pieces in ([given], cut(given, size)):
        total = torch.zeros(())
        for piece in pieces:
            loss = loss_of(model, piece, CPU, model.head.count(given))
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        losses.append(total)
        gradients.append([each.grad.clone() for each in attached.parameters() if each.grad is not None])
        model.zero_grad()
        for each in attached.parameters():
            each.grad = None
    assert losses[0] == pytest.approx(float(losses[1]), rel=1e-4)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*gradients, strict=True))
