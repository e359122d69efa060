"""VeRA against its formula; what its layers share is made from a seed, and never shipped."""

import torch
from safetensors.torch import load_file

from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from tests.methods.by_hand import disturbed
from tests.tiny import batch, tiny


def test_a_projection_computes_w_x_plus_b_times_b_of_d_times_a_x():
    model = tiny("bert")
    attached = disturbed(attach(model, method("vera", rank=5, sites=["q", "ffn.down"])))
    query, plain = model.encoder.layer[1].attention.self.query, tiny("bert").encoder.layer[1].attention.self.query
    named = attached.parts[0].trainable()
    lengths = {
        where: next(t for name, t in named.items() if f"layer.1.attention.self.query.vera_lambda_{where}" in name)
        for where in ("b", "d")
    }
    a, b = query.vera_A["autopeft0"], query.vera_B["autopeft0"]
    x = torch.randn(2, 3, 48)
    with torch.no_grad():
        added = lengths["b"] * ((lengths["d"] * (x @ a[:, :48].T)) @ b[:48].T)
        assert torch.allclose(query(x), plain(x) + added, atol=1e-5)


def test_all_layers_share_the_same_random_matrices_and_no_one_trains_them():
    model = tiny("bert")
    attached = attach(model, method("vera", rank=5, sites=["q", "v"]))
    shared = [each.attention.self for each in model.encoder.layer]
    assert len({id(getattr(each, site).vera_A["autopeft0"]) for each in shared for site in ("query", "value")}) == 1
    assert len({id(getattr(each, site).vera_B["autopeft0"]) for each in shared for site in ("query", "value")}) == 1
    assert {tuple(t.shape) for t in attached.parameters()} == {(5,), (48,)}


def test_the_vectors_begin_at_0_1_and_0_and_are_not_decayed():
    attached = attach(tiny("bert"), method("vera", rank=5))
    for each in attached.tensors():
        assert not each.decay
        assert set(each.tensor.tolist()) == ({0.0} if "lambda_b" in each.name else {torch.tensor(0.1).item()})


def test_only_the_vectors_are_shipped_and_other_random_numbers_do_not_matter(tmp_path):
    torch.manual_seed(1)
    attached = disturbed(attach(tiny("bert"), method("vera", rank=5)))
    attached.save(tmp_path)
    assert sum(each.numel() for each in load_file(tmp_path / "adapter_model.safetensors").values()) == attached.count
    torch.manual_seed(2)
    again = attach_saved(tiny("bert"), tmp_path)
    with torch.no_grad():
        expected = attached.model(**batch()).last_hidden_state
        assert torch.equal(again.model(**batch()).last_hidden_state, expected)
