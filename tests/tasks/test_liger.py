"""Liger's kernel computes losses where it can, and what it computes is what our own loss is.

The kernel itself runs on GPUs only; elsewhere a stand-in shows what it is given.
"""

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy

from autopeft.backbone.output import OutputEmbedding
from autopeft.tasks import liger
from autopeft.tasks.language_head import linear_cross_entropy

WIDTH, TOKENS, POSITIONS = 16, 50, 40


class StandIn(nn.Module):
    """Has the interface of Liger's class, and all logits at once."""

    def __init__(self, reduction: str = "mean", softcap: float | None = None) -> None:
        super().__init__()
        self.reduction, self.cap = reduction, softcap

    def forward(self, lin_weight: Tensor, _input: Tensor, target: Tensor, bias: Tensor | None = None) -> Tensor:
        logits = nn.functional.linear(_input, lin_weight, bias)
        logits = logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)
        return cross_entropy(logits, target, reduction=self.reduction)


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    liger.kernel.cache_clear()
    yield
    liger.kernel.cache_clear()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("liger_kernel.transformers")
    module.LigerFusedLinearCrossEntropyLoss = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", module)


def losses(embedding: OutputEmbedding, device: str = "cpu") -> list[Tensor]:
    """The loss of the same states each time, and its gradients."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(POSITIONS, WIDTH, generator=generator).to(device).requires_grad_()
    targets = (torch.arange(POSITIONS) % TOKENS).to(device)
    loss = linear_cross_entropy(states, targets, embedding)
    (loss / 3).backward()
    assert states.grad is not None
    found = [loss.detach(), states.grad, *(each.grad.clone() for each in embedding.parameters() if each.requires_grad)]
    embedding.zero_grad()
    return found


@pytest.mark.parametrize(
    ("device", "scale", "positions", "real", "taken"),
    [
        ("cuda", 1.0, 4, True, True),
        ("cpu", 1.0, 4, True, False),
        ("cuda", 0.5, 4, True, False),
        ("cuda", 1.0, 0, True, False),
        ("cuda", 1.0, 4, False, False),
    ],
)
def test_it_takes_real_states_on_a_gpu_whose_logits_are_not_scaled(
    device: str, scale: float, positions: int, real: bool, taken: bool
) -> None:
    assert liger.takes(device, scale, positions, real=real) is taken


def test_it_is_not_there_where_it_is_not_installed_or_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", None)
    monkeypatch.setattr(liger, "takes", lambda *_, **__: True)
    assert not liger.may_take(torch.zeros(2, WIDTH), OutputEmbedding(nn.Linear(WIDTH, TOKENS)))


@pytest.mark.usefixtures("stand_in")
def test_on_a_cpu_and_in_simulations_it_is_not_asked() -> None:
    embedding = OutputEmbedding(nn.Linear(WIDTH, TOKENS))
    assert not liger.may_take(torch.zeros(2, WIDTH), embedding)
    with FakeTensorMode():
        assert not liger.may_take(torch.zeros(2, WIDTH, device="cuda"), embedding)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("frozen", [False, True])
def test_it_is_given_what_our_own_loss_is_made_of(
    bias: bool, cap: float | None, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = OutputEmbedding(nn.Linear(WIDTH, TOKENS, bias=bias).requires_grad_(not frozen), cap=cap)
    ours = losses(embedding)
    monkeypatch.setattr(liger, "takes", lambda *_, **__: True)
    for one, other in zip(ours, losses(embedding), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.skipif(
    not torch.cuda.is_available() or find_spec("liger_kernel") is None, reason="needs a GPU and liger-kernel"
)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("cap", [None, 2.0])
def test_the_kernel_computes_the_same_loss_and_gradients(
    bias: bool, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = OutputEmbedding(nn.Linear(WIDTH, TOKENS, bias=bias, device="cuda"), cap=cap)
    assert liger.may_take(torch.zeros(2, WIDTH, device="cuda"), embedding)
    found = losses(embedding, "cuda")
    monkeypatch.setattr(liger, "takes", lambda *_, **__: False)
    for one, other in zip(found, losses(embedding, "cuda"), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
