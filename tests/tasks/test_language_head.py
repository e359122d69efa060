"""The loss of a few tokens at a time is the model's own, and so are its gradients."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from autopeft.backbone.output import OutputEmbedding
from autopeft.tasks import language_head
from autopeft.tasks.language_head import LanguageModelHead, linear_cross_entropy

WIDTH, TOKENS = 8, 30


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_head, "CHUNK", 7)


def head_of(embedding: OutputEmbedding) -> LanguageModelHead:
    head = LanguageModelHead()
    head.borrow(embedding)
    return head


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def batch() -> dict[str, Tensor]:
    """Three rows: a prompt before what is learned, padding behind it, and nothing to learn."""
    ids = torch.arange(36).reshape(3, 12) % TOKENS
    labels = ids.clone()
    labels[0, :5], labels[1, 9:], labels[2] = -100, -100, -100
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("scale", "cap"), [(1.0, None), (0.25, None), (1.0, 2.0), (3.0, 2.0)])
def test_loss_and_gradients_are_those_of_all_logits_at_once(bias: bool, scale: float, cap: float | None) -> None:
    embedding = OutputEmbedding(nn.Linear(WIDTH, TOKENS, bias=bias), scale, cap)
    targets = torch.arange(40) % TOKENS
    found = []
    for loss_of in (linear_cross_entropy, lambda s, t, e: cross_entropy(e(s), t, reduction="sum")):
        states = drawn(0, 40, WIDTH).requires_grad_()
        loss = loss_of(states, targets, embedding)
        (loss / 3).backward()
        found.append([loss.detach(), states.grad, *(each.grad.clone() for each in embedding.parameters())])
        embedding.zero_grad()
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_a_frozen_embedding_gets_no_gradient_and_nothing_is_kept_where_none_is_wanted() -> None:
    embedding = OutputEmbedding(nn.Linear(WIDTH, TOKENS).requires_grad_(False))
    states = drawn(0, 9, WIDTH).requires_grad_()
    linear_cross_entropy(states, torch.arange(9), embedding).backward()
    assert states.grad is not None
    assert all(each.grad is None for each in embedding.parameters())
    with torch.no_grad():
        assert not linear_cross_entropy(states, torch.arange(9), embedding).requires_grad


def test_learned_are_labels_one_place_ahead_and_nothing_else() -> None:
    head, given = head_of(OutputEmbedding(nn.Linear(WIDTH, TOKENS))), batch()
    states = drawn(1, 3, 12, WIDTH)
    logits = head.embedding(states)[:, :-1].flatten(0, 1)
    expected = cross_entropy(logits, given["labels"][:, 1:].flatten(), reduction="sum")
    assert torch.allclose(head.loss(head(states, given), given), expected)
    assert int(head.count(given)) == 7 + 8
    total, statistics = head.evaluated(states, given)
    assert total == pytest.approx(float(expected.detach()), rel=1e-5)
    assert statistics[:, 1].tolist() == [7, 8, 0]
    right = head.embedding(states)[0, 4:11].argmax(-1) == given["labels"][0, 5:]
    assert statistics[0, 2] == int(right.sum())


def test_what_is_told_of_a_row_are_the_logits_of_the_token_after_it() -> None:
    head, given = head_of(OutputEmbedding(nn.Linear(WIDTH, TOKENS))), batch()
    states = drawn(1, 3, 12, WIDTH)
    told = head.told(states, given)
    assert torch.equal(told, head.embedding(torch.stack([states[0, 11], states[1, 8], states[2, 11]])))


def test_states_that_were_cut_are_judged_by_the_labels_that_they_have() -> None:
    head, given = head_of(OutputEmbedding(nn.Linear(WIDTH, TOKENS))), batch()
    assert head.statistics(drawn(1, 3, 8, WIDTH), given)[:, 1].tolist() == [3, 7, 0]


def test_the_head_has_no_weights_of_its_own() -> None:
    head = head_of(OutputEmbedding(nn.Linear(WIDTH, TOKENS)))
    assert not [*head.parameters()]
    assert not head.state_dict()
