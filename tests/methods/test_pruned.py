"""Narrow layers: their sizes, which features they keep, and that they start as exactly these weights."""

import copy

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from autopeft.backbone.find import find_sites
from autopeft.errors import CannotAttach
from autopeft.methods.pruned import Narrowing, Sizes, narrowed, select, summed
from tests.backbone.architectures import new
from tests.tiny import CONFIGS, tiny

BERT_BASE = Sizes(768, 12, 12, 64, 3072)
SMOL = Sizes(576, 9, 3, 64, 1536, rotary=64)


def magnitude(linear):
    return summed(linear, linear.weight.detach().abs())


def narrowing(model, reduction, rotary=0, layers=(0, 1)):
    return Narrowing(model, find_sites(model), layers, reduction, rotary)


@pytest.mark.parametrize(
    ("full", "reduction", "expected"),
    [
        (BERT_BASE, 1, BERT_BASE),
        (BERT_BASE, 8, Sizes(96, 12, 12, 8, 384)),
        (BERT_BASE, 64, Sizes(12, 12, 12, 1, 48)),
        (BERT_BASE, 128, Sizes(6, 6, 6, 1, 24)),
        (SMOL, 8, Sizes(72, 9, 3, 8, 192, rotary=8)),
        (Sizes(4096, 32, 8, 128, 14336, rotary=128), 16, Sizes(256, 32, 8, 8, 896, rotary=8)),
        # An odd number of features cannot be turned in pairs, so there are fewer heads.
        (Sizes(48, 4, 2, 12, 96, rotary=12), 8, Sizes(6, 1, 1, 6, 12, rotary=6)),
        (Sizes(48, 4, 4, 12, 96, rotary=6), 4, Sizes(12, 1, 1, 12, 24, rotary=6)),
        (Sizes(48, 4, 4, 12, 96), 8, Sizes(6, 2, 2, 3, 12)),
    ],
)
def test_all_widths_are_divided_and_heads_only_where_their_features_leave_a_rest(full, reduction, expected):
    assert narrowed(full, reduction) == expected


@pytest.mark.parametrize(
    ("full", "reduction", "reason"),
    [
        (BERT_BASE, 7, "reduction 7 does not divide the 768 features of the states"),
        (Sizes(64, 3, 3, 20, 128), 8, "reduction 8 does not divide the 60 features of the attention"),
        (Sizes(64, 4, 4, 16, 100), 8, "reduction 8 does not divide the 100 features of the feed-forward"),
        (Sizes(48, 4, 4, 12, 96, rotary=12), 16, "leaves 3 features of attention, which are no whole heads"),
    ],
)
def test_a_reduction_that_leaves_a_rest_is_refused(full, reduction, reason):
    with pytest.raises(CannotAttach, match=reason):
        narrowed(full, reduction)


def test_features_with_the_highest_scores_are_kept_by_the_product_of_q_k_and_v():
    full, narrow = Sizes(4, 2, 2, 2, 3), Sizes(2, 2, 2, 1, 1)
    scores = {
        "q": torch.tensor([1.0, 5.0, 2.0, 2.0]),
        "k": torch.tensor([9.0, 1.0, 1.0, 3.0]),
        "v": torch.tensor([1.0, 1.0, 1.0, 1.0]),
        "ffn.up": torch.tensor([1.0, 4.0, 3.0]),
        "ffn.gate": torch.tensor([1.0, 1.0, 2.0]),
    }
    kept = select(scores, torch.tensor([0, 3]), full, narrow)
    assert kept.queries.tolist() == kept.keys.tolist() == [0, 3]
    assert kept.heads.tolist() == [0, 1]
    assert kept.wide.tolist() == [2]


def test_heads_of_queries_are_kept_with_the_heads_of_keys_that_they_share():
    full, narrow = Sizes(8, 4, 2, 2, 4), Sizes(2, 1, 1, 2, 1)
    scores = {"q": torch.tensor([1.0, 1, 1, 1, 1, 1, 3, 3]), "k": torch.ones(4), "v": torch.tensor([1.0, 1, 2, 2])}
    kept = select({**scores, "ffn.up": torch.arange(4.0)}, torch.tensor([1, 2]), full, narrow)
    assert (kept.heads.tolist(), kept.queries.tolist(), kept.keys.tolist()) == ([3], [6, 7], [2, 3])


def test_turned_features_are_kept_in_pairs_and_the_same_ones_in_every_head():
    full, narrow = Sizes(16, 2, 2, 8, 4, rotary=4), Sizes(8, 2, 2, 4, 2, rotary=2)
    q = torch.tensor([0.0, 2, 0, 2, 9, 0, 1, 8, 3, 0, 3, 0, 0, 7, 6, 1])
    kept = select({"q": q, "k": torch.ones(16), "v": torch.ones(16), "ffn.up": torch.ones(4)}, q, full, narrow)
    assert kept.turned.tolist() == [0, 2]
    assert kept.queries.tolist() == [0, 2, 4, 7, 8, 10, 12, 15]


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_narrow_layer_holds_exactly_the_chosen_weights(architecture):
    model = tiny(architecture)
    own = narrowing(model, 4)
    kept = own.kept(magnitude)
    states = kept[0].states
    assert torch.equal(states, kept[1].states)
    values = own.layer(1, kept[1])
    path = find_sites(model).layers[1]
    whole = dict(model.get_submodule(path).named_parameters())
    queries, wide = kept[1].queries, kept[1].wide
    names = {
        "bert": ("attention.self.query.weight", "attention.output.dense.weight", "output.dense.weight"),
        "llama": ("self_attn.q_proj.weight", "self_attn.o_proj.weight", "mlp.down_proj.weight"),
        "t5": ("layer.0.SelfAttention.q.weight", "layer.0.SelfAttention.o.weight", "layer.1.DenseReluDense.wo.weight"),
        "gpt2": ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_proj.weight"),
    }[architecture]
    q, o, down = ((whole[name].T if architecture == "gpt2" else whole[name]) for name in names)
    narrow_q, narrow_o, narrow_down = ((values[n].T if architecture == "gpt2" else values[n]) for n in names)
    assert torch.equal(narrow_q[: len(queries)], q[queries][:, states])
    assert torch.equal(narrow_o, o[states][:, queries])
    assert torch.equal(narrow_down, down[states][:, wide])
    if architecture == "gpt2":
        assert torch.equal(narrow_q[len(queries) :], q[torch.cat([48 + queries, 96 + queries])][:, states])
        assert torch.equal(values["attn.c_attn.bias"][: len(queries)], whole["attn.c_attn.bias"][queries])
    norms = [name for name in whole if "norm" in name.lower() or ".ln_" in f".{name}"]
    assert norms
    assert all(torch.equal(values[name], whole[name][states]) for name in norms)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_undivided_a_layer_is_its_own_counterpart(architecture):
    model = tiny(architecture)
    own = narrowing(model, 1)
    kept = own.kept(magnitude)
    for number, path in enumerate(find_sites(model).layers):
        whole = dict(model.get_submodule(path).named_parameters())
        values = own.layer(number, kept[number])
        assert values.keys() == whole.keys()
        assert all(torch.equal(values[name], whole[name]) for name in whole)


def test_the_stream_keeps_the_features_that_all_layers_together_write_most_to():
    model = tiny("bert")
    with torch.no_grad():
        for number, layer in enumerate(model.encoder.layer):
            layer.attention.output.dense.weight[[3, 30 + number]] += 1.0
            layer.output.dense.weight[[3, 40]] += 1.0
    states = narrowing(model, 12).kept(magnitude)[0].states
    assert {3, 40} <= set(states.tolist())


def test_narrow_heads_see_positions_as_whole_heads_do_in_the_features_kept():
    """With the other features of q and k at zero, a whole head's scores are a narrow head's."""
    model = tiny("llama")
    own = narrowing(model, 2, rotary=12)
    assert own.narrow == Sizes(24, 4, 2, 6, 48, rotary=6)
    kept = own.kept(magnitude)[0]
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, heads, 5, 12, generator=generator) for heads in (4, 2))
    dropped = [number for number in range(12) if number not in kept.turned.tolist()]
    q[..., dropped] = k[..., dropped] = 0
    cosines, sines = model.rotary_emb(q, torch.arange(5)[None])
    whole_q, whole_k = apply_rotary_pos_emb(q, k, cosines, sines)
    turned = kept.turned
    narrow_q, narrow_k = apply_rotary_pos_emb(q[..., turned], k[..., turned], cosines[..., turned], sines[..., turned])
    whole = whole_q[:, :2] @ whole_k.transpose(2, 3)
    assert torch.allclose(whole, narrow_q[:, :2] @ narrow_k.transpose(2, 3), atol=1e-5)
    assert kept.queries.view(4, 6).remainder(12).tolist() == [turned.tolist()] * 4


def test_the_model_and_its_configuration_are_left_as_they_were():
    model = tiny("llama")
    config = copy.deepcopy(model.config.to_dict())
    own = narrowing(model, 4, rotary=12)
    own.layer(0, own.kept(magnitude)[0])
    assert model.config.to_dict() == config
    assert all(tensor.is_meta for tensor in own.part("layers.0").parameters())


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("gptj", "layers of GPTJModel hold buffers"),
        ("gpt_neox", "GPTNeoXModel mixes the rows of q, k and v"),
        ("mobilebert", "'v' of MobileBertModel is not as wide as what it reads or gives"),
    ],
)
def test_layers_that_cannot_be_narrowed_are_refused_with_the_reason(architecture, reason):
    with pytest.raises(CannotAttach, match=reason):
        narrowing(new(architecture), 2)
