"""KronA^B and KronA^B_res against their formula, with the Kronecker product written out."""

import pytest
import torch

from autopeft.backbone.find import find_sites
from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.krona_b import KroneckerAdapter
from autopeft.methods.registry import method
from tests.methods.by_hand import Changes, bert_by_hand, disturbed
from tests.tiny import batch, tiny


@pytest.mark.parametrize("width", [48, 64, 7])
def test_an_adapter_multiplies_its_input_with_a_kronecker_product(width):
    adapter = KroneckerAdapter(width, 3.0, residual=False)
    torch.nn.init.normal_(adapter.b)
    x = torch.randn(2, 5, width)
    with torch.no_grad():
        assert torch.allclose(adapter(x), 3.0 * x @ torch.kron(adapter.a, adapter.b), atol=1e-4)
    assert adapter.a.numel() + adapter.b.numel() == 2 * width


@pytest.mark.parametrize("residual", [False, True])
def test_it_stands_beside_the_feed_forward(residual):
    attached = disturbed(attach(tiny("bert"), method("krona_b", residual=residual, scale=2)))
    adapters = attached.modules[0]

    def added(number, x):
        own = adapters[str(number)]
        y = 2 * x @ torch.kron(own.a, own.b)
        return y + own.residual * x if residual else y

    paper = Changes(feed_forward=lambda i, f, h1: f + added(i, h1))
    real = batch()["attention_mask"].bool()
    with torch.no_grad():
        states = attached.model(**batch()).last_hidden_state[real]
        assert torch.allclose(states, bert_by_hand(tiny("bert"), batch(), paper)[real], atol=1e-5)


def test_the_output_is_the_backbone_s_exactly_at_first():
    model = tiny("bert")
    with torch.no_grad():
        bare = model(**batch()).last_hidden_state
        attached = attach(model, method("krona_b", residual=True))
        assert torch.equal(attached.model(**batch()).last_hidden_state, bare)
    assert [each.name.split(".")[1] for each in attached.tensors() if each.tensor.any()] == ["a", "a"]


def test_the_learned_factor_is_not_decayed_and_matrices_are():
    attached = attach(tiny("bert"), method("krona_b", residual=True))
    assert all(each.decay != each.name.endswith("residual") for each in attached.tensors())


def test_where_the_feed_forward_is_unknown_it_is_refused():
    model = tiny("bert")
    by_hand = find_sites(model, {"layer": "encoder.layer.*", "ffn.down": "encoder.layer.*.output.dense"})
    with pytest.raises(CannotAttach, match="BertModel has no site 'ffn'"):
        attach(model, "krona_b", by_hand)
    assert not any(module._forward_hooks for module in model.modules())
