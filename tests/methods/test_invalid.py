"""Combinations that are wrong, by the numbers of the rules V1 to V21, are refused with the reason; others are not.

Two rules have nothing to refuse here: no method mixes experts of low-rank factors (V5), and prefixes never shift the
positions of real tokens (V10).
"""

import pytest
import torch
from torch import nn
from transformers import BertForMaskedLM

from autopeft.backbone.find import find_sites
from autopeft.backbone.load import load_skeleton
from autopeft.costs.predict import Predictor
from autopeft.errors import AutopeftError, CannotAttach, CannotMerge
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from autopeft.space.cards import load_cards
from autopeft.space.space import load_space
from autopeft.tasks.text_classification import TextClassification
from tests.backbone.architectures import new
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, batch, tiny

DORA = method("lora", dora=True)
BOTH = "both change {}: what one learns cannot be told from the other's"
QUERY = BOTH.format(r"encoder\.layer\.\d\.attention\.self\.query\.weight")
TOGETHER = [
    ("V1 full+lora", "bert", ["full", "lora"], QUERY),
    ("V1 top_layers+lora", "bert", ["top_layers", "lora"], QUERY),
    ("V1 vera+top_layers", "bert", ["vera", "top_layers"], QUERY),
    (
        "V1 top_layers+ia3",
        "bert",
        ["top_layers", "ia3"],
        BOTH.format(r"encoder\.layer\.1\.attention\.self\.key\.weight"),
    ),
    ("V1 full+krona", "t5", ["full", method("krona", sites=["o"])], BOTH.format(r"encoder\.block\.0\S+\.o\.weight")),
    ("V1 bitfit+beft", "bert", ["bitfit", "beft"], BOTH.format(r"encoder\.layer\.0\.attention\.self\.value\.bias")),
    ("V1 norm_tuning+ln_tuning", "llama", ["norm_tuning", "ln_tuning"], "both change .*norm.*weight"),
    ("V1 vera+dora", "bert", ["vera", DORA], QUERY),
    ("V1 krona+dora", "bert", ["krona", DORA], QUERY),
    ("V1 ia3+dora", "bert", ["ia3", DORA], BOTH.format(r"encoder\.layer\.0\.attention\.self\.value\.weight")),
    ("V1 dora+dora", "bert", [DORA, DORA], "two methods of the same kind cannot share encoder"),
    ("V1 lora+hra", "bert", ["lora", "hra"], "peft's hra does not go around its lora: it would leave that out"),
    ("V3 rank", "bert", [method("lora", rank=64)], "a change of a weight of 48 x 48 has a rank of 48 at most, not 64"),
    ("V3 rank of a value", "llama", [method("lora", rank=32)], "of 24 x 48 has a rank of 24 at most, not 32"),
    ("V3 initial rank", "bert", [method("adalora", initial_rank=64)], "has a rank of 48 at most, not 64"),
    ("V3 factor", "bert", [method("compacter", factor=5, bottleneck=10)], "5"),
    ("V3 block", "bert", [method("boft", block=10)], "peft refuses BOFTConfig"),
    ("V3 reduction", "bert", [method("ladder", reduction=5)], "reduction 5 does not divide the"),
    (
        "V7 adalora+lora",
        "bert",
        ["adalora", method("lora", sites=["k"])],
        "peft's adalora and lora call their weights alike",
    ),
    (
        "V7 lora+adalora",
        "bert",
        [method("lora", sites=["k"]), "adalora"],
        "peft's adalora and lora call their weights alike",
    ),
    ("V8 ladder+lora", "bert", ["ladder", "lora"], "'ladder' cannot go together with"),
    ("V8 bitfit+ladder", "bert", ["bitfit", "ladder"], "'ladder' cannot go together with"),
    ("V8 ladder+prompts", "bert", ["ladder", "prompt_tuning"], "'ladder' cannot go together with"),
    ("V9 prefixes", "deberta-v2", ["prefix_tuning"], "DebertaV2Model"),
    ("V11 no biases", "llama", ["bitfit"], "finds no biases to train in LlamaModel"),
    *(
        (f"V19 said+{name}", "bert", ["said", name], BOTH.format(r"\S+"))
        for name in ("lora", "ia3", "bitfit", "norm_tuning", "top_layers", "full", "fishmask", "far", "oft", "said")
    ),
]


@pytest.mark.parametrize(("architecture", "parts", "reason"), [e[1:] for e in TOGETHER], ids=[e[0] for e in TOGETHER])
def test_what_does_not_go_together_is_refused_and_nothing_stays_on_the_model(architecture, parts, reason):
    model = tiny(architecture) if architecture in CONFIGS else new(architecture)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CannotAttach, match=reason):
        attach(model, parts)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    "parts",
    [
        ["lora", "ia3"],
        ["vera", "lora"],
        ["bitfit", "lora"],
        [DORA, "bitfit"],
        [DORA, method("vera", sites=["k", "o"])],
        [method("lora", layers=[0]), "top_layers"],
        ["said", "adapter", "prefix_tuning"],
        ["fishmask", "lora"],
        ["far", method("lora", sites=["q", "ffn.up"])],
        ["prefix_tuning", "prompt_tuning"],
    ],
    ids=lambda parts: "+".join(each if isinstance(each, str) else each.name for each in parts),
)
def test_what_acts_on_other_weights_or_only_adds_goes_together_and_comes_off(parts):
    model, untouched = tiny("bert"), tiny("bert")
    with attach(model, parts) as attached:
        disturbed(attached).model(**batch()).last_hidden_state.pow(2).sum().backward()
        for number in range(len(parts)):
            assert any(each.tensor.grad is not None for each in attached.tensors() if each.part == number)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), untouched.parameters(), strict=True))


@pytest.mark.parametrize(
    "what",
    [
        "unipelt",
        ["lora", "adapter"],
        method("adapter", placement="parallel", activation="linear"),
        "krona_b",
        "lily",
    ],
    ids=["V2 gates", "V15 one part", "V21 parallel, linear", "V21 krona_b", "V2 routed"],
)
def test_what_is_no_change_of_one_weight_is_not_merged(what):
    attached = attach(tiny("bert"), what)
    with torch.no_grad():
        before = attached.model(**batch()).last_hidden_state
        with pytest.raises(CannotMerge, match="cannot be merged into the weights"):
            attached.merge()
        assert torch.equal(attached.model(**batch()).last_hidden_state, before)


def test_v4_what_is_pruned_by_its_weights_begins_with_none_that_are_zero():
    factors = [each.tensor for each in attach(tiny("bert"), "sparse_adapter").tensors() if each.decay]
    assert factors
    assert all(factor.all() for factor in factors)


def test_v6_one_expert_has_nothing_to_be_consistent_with():
    with pytest.raises(AutopeftError, match="one expert has nothing to be consistent with"):
        method("adamix", experts=1)


def test_v11_a_bias_that_beft_adds_where_there_is_none_is_not_merged():
    assert attach(tiny("bert"), "beft").parts[0].mergeable
    with pytest.raises(CannotMerge, match="'beft' cannot be merged"):
        attach(tiny("llama"), "beft").merge()


@pytest.mark.parametrize(
    "name", ["bitfit", "ia3", "vera", "norm_tuning", "ln_tuning", "beft", "unipelt", "lora", "adalora"]
)
def test_v13_scales_gates_norms_and_biases_are_never_decayed(name):
    attached = attach(tiny("bert"), DORA if name == "lora" else name)
    vectors = ("bias", "ia3_l", "vera_lambda", "LayerNorm", "magnitude", "gate", "lora_E")
    assert not [each.name for each in attached.tensors() if each.decay and any(word in each.name for word in vectors)]


def test_v14_on_a_gated_feed_forward_ia3_scales_the_product():
    model = tiny("llama")
    attached = disturbed(attach(model, method("ia3", sites=["ffn.down"])))
    feed_forward, plain = model.layers[0].mlp, tiny("llama").layers[0].mlp
    (scale,) = [each.tensor for each in attached.tensors() if "layers.0" in each.name]
    x = torch.randn(2, 48)
    with torch.no_grad():
        product = plain.act_fn(plain.gate_proj(x)) * plain.up_proj(x)
        assert torch.allclose(feed_forward(x), plain.down_proj(product * scale.flatten()), atol=1e-5)


def test_v16_packed_weights_are_not_selected():
    model = tiny("bert")
    sites, packed = find_sites(model), model.encoder.layer[1].output.dense
    packed.weight = nn.Parameter(packed.weight.detach().to(torch.int8), requires_grad=False)
    for name in ("full", "top_layers", "fishmask", "said", "far"):
        with attach(model, name, sites) as attached:
            assert id(packed.weight) not in {id(each.tensor) for each in attached.tensors()}
            assert all(
                id(packed.weight) != id(each) for part in attached.parts for each in (*part.selects(), *part.moves())
            )


def test_v17_tied_weights_are_trained_and_counted_once():
    model = BertForMaskedLM(CONFIGS["bert"]()).eval()
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    with attach(model, "full") as attached:
        tensors = [each.tensor for each in attached.tensors()]
        assert len({id(tensor) for tensor in tensors}) == len(tensors)
        assert attached.count == sum(parameter.numel() for parameter in model.bert.parameters())


def test_v20_what_bitfit_and_norm_tuning_both_train_is_counted_once():
    names = ("bitfit", "norm_tuning")
    one, other = (attach(tiny("bert"), name).count for name in names)
    assert attach(tiny("bert"), list(names)).count == one + other - 5 * 48


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(each, marks=() if each == "llama" else pytest.mark.grid) for each in CONFIGS],
)
def test_the_default_space_mixes_no_two_methods_that_are_refused(architecture):
    predictor = Predictor(load_skeleton(CONFIGS[architecture]()), load_cards(), TextClassification.sized(2), 8)
    space = load_space("default").fitted(predictor.refusal)
    assert space.pairs is not None
    for pair in (
        {"said", "lora"},
        {"full", "lora"},
        {"lora", "adalora"},
        {"ladder", "adapter"},
        {"top_layers", "vera"},
    ):
        assert frozenset(pair) not in space.pairs
    assert frozenset({"adapter", "lora"}) in space.pairs
