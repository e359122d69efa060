"""KronA against its formula: Y = X W + X (A ⊗ B) in rows, at whole factors."""

import pytest
import torch

from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from tests.methods.by_hand import disturbed
from tests.tiny import tiny


def factors(attached, where):
    """A and B of the paper, of the projection at `where`."""
    named = attached.parts[0].trainable()
    return [next(t for name, t in named.items() if where in name and kind in name).T for kind in ("w1", "w2")]


@pytest.mark.parametrize("factor", [-1, 2, 8])
@pytest.mark.parametrize(
    ("site", "path", "width"), [("q", "layer.1.attention.self.query", 48), ("ffn.up", "layer.1.intermediate.dense", 48)]
)
def test_a_projection_adds_its_input_times_a_kronecker_product(site, path, width, factor):
    model = tiny("bert")
    attached = disturbed(attach(model, method("krona", sites=[site], factor=factor)))
    module, plain = model.get_submodule(f"encoder.{path}"), tiny("bert").get_submodule(f"encoder.{path}")
    x = torch.randn(2, 3, width)
    with torch.no_grad():
        a, b = factors(attached, path)
        assert a.shape[0] * b.shape[0] == width
        assert torch.allclose(module(x), plain(x) + x @ torch.kron(a, b), atol=1e-4)
        rows = x.unflatten(-1, (a.shape[0], b.shape[0]))
        fast = (a.T @ rows @ b).flatten(-2)
        assert torch.allclose(module(x), plain(x) + fast, atol=1e-4)


def test_the_factor_says_how_large_the_first_matrix_is():
    for factor, shapes in ((-1, ((6, 6), (8, 8))), (2, ((2, 2), (24, 24))), (8, ((8, 8), (6, 6)))):
        attached = attach(tiny("bert"), method("krona", sites=["q"], factor=factor))
        assert tuple(tuple(each.shape) for each in factors(attached, "layer.0.attention.self.query")) == shapes


def test_the_first_factor_begins_at_0_and_the_second_does_not():
    attached = attach(tiny("bert"), method("krona"))
    assert all(each.tensor.any() == ("w2" in each.name) for each in attached.tensors())


def test_the_rank_of_the_change_is_the_product_of_the_factors_ranks():
    model = tiny("bert")
    before = model.encoder.layer[0].attention.self.value.weight.detach().clone()
    attached = disturbed(attach(model, method("krona", sites=["v"])))
    with torch.no_grad():
        a, b = factors(attached, "layer.0.attention.self.value")
        a.copy_(a[:, :1] @ a[:1])
        ranks = [torch.linalg.matrix_rank(each, atol=1e-5).item() for each in (a, b)]
        change = attached.merge().encoder.layer[0].attention.self.value.weight - before
    assert ranks == [1, 8]
    assert torch.linalg.matrix_rank(change, atol=1e-4) == 8


def test_training_draws_no_random_numbers_for_a_dropout_that_is_off():
    model = tiny("bert")
    attached = attach(model, method("krona"))
    attached.model.train()
    query = model.encoder.layer[0].attention.self.query
    state = torch.get_rng_state()
    query(torch.randn(2, 48, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)


def test_where_peft_knows_no_linear_layer_it_says_so():
    with pytest.raises(CannotAttach, match=r"peft refuses LoKrConfig: Target module of type .*Conv1D.* not supported"):
        attach(tiny("gpt2"), "krona")
