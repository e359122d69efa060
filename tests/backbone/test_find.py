"""The sites of known architectures, and of unknown ones by a mapping."""

import ast
import copy
import re

import pytest
import torch
import transformers as t

from autopeft.backbone.find import find_sites
from autopeft.backbone.inputs import bare, example
from autopeft.backbone.limits import positions_of, vocabulary_of
from autopeft.backbone.load import load_skeleton, quietly, without_pooler
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import attach
from autopeft.methods.registry import method
from tests.backbone.architectures import ARCHITECTURES, EVERY, IMAGES, Stranger, inputs, new
from tests.sampled import sampled

BERT = {
    "layer": "encoder.layer.*",
    "q": "encoder.layer.*.attention.self.query",
    "k": "encoder.layer.*.attention.self.key",
    "v": "encoder.layer.*.attention.self.value",
    "o": "encoder.layer.*.attention.output.dense",
    "attention": "encoder.layer.*.attention.output.dropout",
    "ffn.up": "encoder.layer.*.intermediate.dense",
    "ffn.down": "encoder.layer.*.output.dense",
    "ffn": "encoder.layer.*.output.dropout",
    "norm": ["embeddings.LayerNorm", "encoder.layer.*.attention.output.LayerNorm", "encoder.layer.*.output.LayerNorm"],
    "embedding": "embeddings.word_embeddings",
}
DISTILBERT = {
    "layer": "transformer.layer.*",
    "q": "transformer.layer.*.attention.q_lin",
    "k": "transformer.layer.*.attention.k_lin",
    "v": "transformer.layer.*.attention.v_lin",
    "o": "transformer.layer.*.attention.out_lin",
    "attention": "transformer.layer.*.attention.out_lin",
    "ffn.up": "transformer.layer.*.ffn.lin1",
    "ffn.down": "transformer.layer.*.ffn.lin2",
    "ffn": "transformer.layer.*.ffn.dropout",
    "norm": ["embeddings.LayerNorm", "transformer.layer.*.sa_layer_norm", "transformer.layer.*.output_layer_norm"],
    "embedding": "embeddings.word_embeddings",
}
T5 = {
    "layer": "encoder.block.*",
    "q": "encoder.block.*.layer.0.SelfAttention.q",
    "k": "encoder.block.*.layer.0.SelfAttention.k",
    "v": "encoder.block.*.layer.0.SelfAttention.v",
    "o": "encoder.block.*.layer.0.SelfAttention.o",
    "attention": "encoder.block.*.layer.0.dropout",
    "ffn.up": "encoder.block.*.layer.1.DenseReluDense.wi",
    "ffn.down": "encoder.block.*.layer.1.DenseReluDense.wo",
    "ffn": "encoder.block.*.layer.1.dropout",
    "norm": ["encoder.block.*.layer.0.layer_norm", "encoder.block.*.layer.1.layer_norm", "encoder.final_layer_norm"],
    "embedding": "encoder.embed_tokens",
}
LLAMA = {
    "layer": "layers.*",
    "q": "layers.*.self_attn.q_proj",
    "k": "layers.*.self_attn.k_proj",
    "v": "layers.*.self_attn.v_proj",
    "o": "layers.*.self_attn.o_proj",
    "attention": "layers.*.self_attn.o_proj",
    "ffn.gate": "layers.*.mlp.gate_proj",
    "ffn.up": "layers.*.mlp.up_proj",
    "ffn.down": "layers.*.mlp.down_proj",
    "ffn": "layers.*.mlp.down_proj",
    "norm": ["layers.*.input_layernorm", "layers.*.post_attention_layernorm", "norm"],
    "embedding": "embed_tokens",
}
MODERNBERT = {
    "layer": "layers.*",
    "q": "layers.*.attn.Wqkv",
    "k": "layers.*.attn.Wqkv",
    "v": "layers.*.attn.Wqkv",
    "o": "layers.*.attn.Wo",
    "attention": "layers.*.attn.Wo",
    "ffn.gate": "layers.*.mlp.Wi",
    "ffn.up": "layers.*.mlp.Wi",
    "ffn.down": "layers.*.mlp.Wo",
    "ffn": "layers.*.mlp.Wo",
    "norm": ["embeddings.norm", "layers.1.attn_norm", "layers.*.mlp_norm", "final_norm"],
    "embedding": "embeddings.tok_embeddings",
}
GPT2 = {
    "layer": "h.*",
    "q": "h.*.attn.c_attn",
    "k": "h.*.attn.c_attn",
    "v": "h.*.attn.c_attn",
    "o": "h.*.attn.c_proj",
    "attention": "h.*.attn.resid_dropout",
    "ffn.up": "h.*.mlp.c_fc",
    "ffn.down": "h.*.mlp.c_proj",
    "ffn": "h.*.mlp.dropout",
    "norm": ["h.*.ln_1", "h.*.ln_2", "ln_f"],
    "embedding": "wte",
}
VIT = {
    "layer": "layers.*",
    "q": "layers.*.attention.q_proj",
    "k": "layers.*.attention.k_proj",
    "v": "layers.*.attention.v_proj",
    "o": "layers.*.attention.o_proj",
    "attention": "layers.*.attention.o_proj",
    "ffn.up": "layers.*.mlp.fc1",
    "ffn.down": "layers.*.mlp.fc2",
    "ffn": "layers.*.mlp.fc2",
    "norm": ["layers.*.layernorm_before", "layers.*.layernorm_after", "layernorm"],
    "embedding": "embeddings.patch_embeddings",
}
DINOV2 = {site: path.replace("layers.", "encoder.layer.") for site, path in VIT.items() if site != "norm"} | {
    "attention": "encoder.layer.*.layer_scale1",
    "ffn": "encoder.layer.*.layer_scale2",
    "norm": ["encoder.layer.*.norm1", "encoder.layer.*.norm2", "layernorm"],
}
_BLOCKS = ("encoder.layers.0.blocks.0", "encoder.layers.1.blocks.0", "encoder.layers.1.blocks.1")
SWIN = {
    site: [path.replace("layers.*", block) for block in _BLOCKS]
    for site, path in VIT.items()
    if site not in ("norm", "embedding")
} | {
    "norm": [
        *(f"{block}.layernorm_{when}" for block in _BLOCKS for when in ("before", "after")),
        *("embeddings.norm", "encoder.layers.0.downsample.norm", "layernorm"),
    ],
    "embedding": "embeddings.patch_embeddings",
}
T5_GATED = {
    "ffn.gate": "encoder.block.*.layer.1.DenseReluDense.wi_0",
    "ffn.up": "encoder.block.*.layer.1.DenseReluDense.wi_1",
}
PATHS = {
    "bert": BERT,
    "roberta": BERT,
    "electra": BERT,
    "distilbert": DISTILBERT,
    "t5": T5,
    "t5-gated": T5 | T5_GATED,
    "modernbert": MODERNBERT,
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "gpt2": GPT2,
    "vit": VIT,
    "dinov2": DINOV2,
    "dinov2-registers": DINOV2,
    "swin": SWIN,
}
"""Module paths, * standing for the layer's number."""

STRANGER = {
    "layer": "stack.*",
    "q": "stack.*.alpha",
    "v": "stack.*.gamma",
    "o": "stack.*.delta",
    "ffn.up": "stack.*.wide",
    "ffn.down": "stack.*.narrow",
    "embedding": "tokens",
}
PLACEMENTS = [method("lora"), *(method("adapter", placement=each) for each in ("parallel", "pfeiffer", "houlsby"))]


def in_every_layer(pattern, count=2):
    return [pattern.replace("*", str(number)) for number in range(count)] if "*" in pattern else [pattern]


def of_one_layer(sites, site, number=1):
    (place,) = sites.at(site, [number])
    return place


@pytest.mark.parametrize("name", PATHS)
def test_known_architectures_have_their_sites_at_these_very_paths(name):
    sites = find_sites(new(name))
    assert sites.places.keys() == PATHS[name].keys()
    for site, pattern in PATHS[name].items():
        patterns = pattern if isinstance(pattern, list) else [pattern]
        expected = [path for each in patterns for path in in_every_layer(each)]
        assert sorted(place.path for place in sites.at(site)) == sorted(expected)
    assert list(sites.layers) == [place.path for place in sites.at("layer")]
    assert sites.width == 48


@pytest.mark.parametrize("name", EVERY)
def test_every_layer_has_every_site_that_methods_attach_to(name):
    sites = find_sites(new(name))
    for site in ("q", "k", "v", "o", "ffn.up", "ffn.down", "attention", "ffn", "layer"):
        assert [place.layer for place in sites.at(site)] == list(range(len(sites.layers)))
    assert len(sites.at("embedding")) == 1
    assert len(sites.at("norm")) > len(sites.layers)


@pytest.mark.parametrize("name", EVERY)
def test_every_place_is_a_module_that_a_forward_pass_calls(name):
    model, called = new(name), set()
    sites = find_sites(model)
    paths = {place.path for places in sites.places.values() for place in places}
    paths |= {place.source for place in (*sites.at("attention"), *sites.at("ffn"))}
    for path in paths:
        model.get_submodule(path).register_forward_hook(lambda *_, path=path: called.add(path))
    model(**inputs(name, 1))
    assert called == paths


@pytest.mark.parametrize("name", sampled(EVERY))
def test_a_skeleton_without_weights_has_the_same_sites(name):
    with quietly():
        skeleton = load_skeleton(EVERY[name]())
    assert all(parameter.is_meta for parameter in skeleton.model.parameters())
    assert skeleton.sites == find_sites(without_pooler(new(name)), states_only=True)


@pytest.mark.parametrize("name", EVERY)
def test_lora_and_adapters_go_on_learn_and_come_off_without_trace(name):
    model = new(name)
    sites = find_sites(model)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    given = inputs(name)
    with torch.no_grad():
        output = model(**given)[0]
    for what in PLACEMENTS:
        with attach(model, what, sites) as attached:
            states = attached.model(**given)[0]
            assert torch.equal(states, output), "an unchanged model at first"
            (states * torch.randn_like(states)).sum().backward()
            silent = [each.name for each in attached.tensors() if each.tensor.grad is None]
            assert not silent
            moved = [each.name for each in attached.tensors() if each.tensor.grad.any()]
            assert len(moved) >= len(sites.layers)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
    with torch.no_grad():
        assert torch.equal(model(**given)[0], output)


@pytest.mark.parametrize(
    ("name", "source", "norm"),
    [
        ("bert", "encoder.layer.1.intermediate.dense", "encoder.layer.1.output.LayerNorm"),
        ("distilbert", "transformer.layer.1.ffn.lin1", "transformer.layer.1.output_layer_norm"),
        ("opt-350m", "decoder.layers.1.fc1", "decoder.layers.1.final_layer_norm"),
        ("opt", "decoder.layers.1.fc1", ""),
        ("llama", "layers.1.mlp.up_proj", ""),
        ("phi3", "layers.1.mlp.gate_up_proj", ""),
        ("t5", "encoder.block.1.layer.1.DenseReluDense.wi", ""),
    ],
)
def test_post_norm_layers_are_told_from_pre_norm_layers(name, source, norm):
    place = of_one_layer(find_sites(new(name)), "ffn")
    assert (place.source, place.norm) == (source, norm)


@pytest.mark.parametrize(
    ("name", "path", "rows"),
    [
        ("gpt2", "h.1.attn.c_attn", [(0, 48), (48, 96), (96, 144)]),
        ("phi3", "layers.1.self_attn.qkv_proj", [(0, 48), (48, 72), (72, 96)]),
        ("modernbert", "layers.1.attn.Wqkv", [(0, 48), (48, 96), (96, 144)]),
        ("gpt_neox", "layers.1.attention.query_key_value", [None, None, None]),
        ("bloom", "h.1.self_attention.query_key_value", [None, None, None]),
        ("falcon", "h.1.self_attention.query_key_value", [None, None, None]),
        ("codegen", "h.1.attn.qkv_proj", [None, None, None]),
        ("deberta", "encoder.layer.1.attention.self.in_proj", [None, None, None]),
    ],
)
def test_fused_projections_are_found_with_the_rows_of_each_part_where_there_are_any(name, path, rows):
    sites = find_sites(new(name))
    places = [of_one_layer(sites, site) for site in ("q", "k", "v")]
    assert [place.path for place in places] == [path] * 3
    assert [place.rows for place in places] == rows


def test_a_fused_gate_and_up_projection_is_both_sites():
    sites = find_sites(new("phi3"))
    gate, up = (of_one_layer(sites, site) for site in ("ffn.gate", "ffn.up"))
    assert gate.path == up.path == "layers.1.mlp.gate_up_proj"
    assert (gate.rows, up.rows) == ((0, 96), (96, 192))


def test_layers_that_share_weights_are_one_layer_and_their_adapter_learns_from_every_pass():
    config = t.AlbertConfig(
        vocab_size=96,
        embedding_size=24,
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
    )
    model = t.AlbertModel(config).eval()
    sites = find_sites(model)
    assert sites.layers == ("encoder.albert_layer_groups.0",)
    passes = []
    with attach(model, method("adapter", placement="parallel"), sites) as attached:
        (adapter,) = attached.modules[0].values()
        adapter.register_forward_hook(lambda *_: passes.append(1))
        attached.model(input_ids=torch.arange(5, 13)[None])
    assert len(passes) == 3


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_backbone_is_called_with_images_as_its_configuration_says(name):
    model = new(name)
    given = example(model, 2, 8)
    assert {key: tuple(tensor.shape) for key, tensor in given.items()} == {"pixel_values": (2, 3, 32, 32)}
    assert bare(model) is model
    assert (vocabulary_of(model), positions_of(model)) == (None, None)
    states = model(**given)[0]
    assert states.shape[-1] == find_sites(model).width


def test_an_image_need_not_be_square_and_is_of_the_model_s_own_precision():
    config = t.ViTConfig(**{**IMAGES["vit"]().to_dict(), "image_size": [16, 32], "num_channels": 1})
    given = example(t.ViTModel(config).to(torch.bfloat16), 3, 8)["pixel_values"]
    assert (tuple(given.shape), given.dtype) == ((3, 1, 16, 32), torch.bfloat16)


def test_what_is_computed_on_fake_tensors_is_not_kept_for_real_ones():
    model = new("dinov3")
    find_sites(model)
    states = model(**inputs("dinov3"))[0]
    assert type(states) is torch.Tensor
    assert torch.isfinite(states).all()


def test_stages_have_widths_of_their_own_and_all_their_layers_count():
    sites = find_sites(new("swin"))
    assert [place.width for place in sites.at("ffn")] == [24, 48, 48]
    assert [place.width for place in sites.at("attention")] == [24, 48, 48]
    assert sites.width == 48
    with attach(new("swin"), method("lora", rank=2, sites=["q"])) as attached:
        assert attached.count == 2 * 2 * (24 + 48 + 48)


def test_a_dropout_that_both_sublayers_share_is_the_end_of_neither():
    sites = find_sites(new("phi"))
    assert of_one_layer(sites, "attention").path == "layers.1.self_attn.dense"
    assert of_one_layer(sites, "ffn").path == "layers.1.mlp.fc2"


def test_width_is_what_a_head_receives_also_where_sublayers_are_wider_or_narrower():
    for name, head, sublayer in [("opt-350m", 24, 48), ("mobilebert", 48, 128), ("electra", 48, 48)]:
        sites = find_sites(new(name))
        assert sites.width == head
        assert {place.width for place in (*sites.at("ffn"), *sites.at("attention"))} == {sublayer}


@pytest.mark.parametrize(("name", "prefix"), [("bert", "bert"), ("gpt2", "transformer"), ("llama", "model")])
def test_a_model_with_a_head_has_the_same_sites_under_its_prefix(name, prefix):
    bare = find_sites(new(name))
    with quietly():
        headed = t.AutoModelForSequenceClassification.from_config(ARCHITECTURES[name]())
    sites = find_sites(headed)
    for site, places in bare.places.items():
        assert [place.path for place in sites.at(site)] == [f"{prefix}.{place.path}" for place in places]


@pytest.mark.parametrize("name", ["bert", "gpt2", "albert", "t5"])
def test_finding_leaves_the_model_and_the_random_numbers_as_they_were(name):
    model = new(name)
    list(model.modules())[-1].train()
    modes = [module.training for module in model.modules()]
    before = {key: (id(tensor), tensor.clone()) for key, tensor in model.state_dict(keep_vars=True).items()}
    attributes, state = set(vars(model)), torch.get_rng_state()
    find_sites(model)
    after = model.state_dict(keep_vars=True)
    assert {key: id(tensor) for key, tensor in after.items()} == {key: each[0] for key, each in before.items()}
    assert all(torch.equal(tensor, before[key][1]) for key, tensor in after.items())
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())
    assert set(vars(model)) == attributes
    assert torch.equal(torch.get_rng_state(), state)


def test_a_skeleton_leaves_the_given_configuration_as_it_was():
    config = ARCHITECTURES["t5"]()
    before = copy.deepcopy(config)
    load_skeleton(config)
    assert config.to_dict() == before.to_dict()
    assert load_skeleton(config).sites == load_skeleton(new("t5").config).sites


@pytest.mark.parametrize("kind", ["T5", "Bart"])
def test_of_an_encoder_decoder_both_are_found_or_the_encoder_alone(kind):
    shape = {"vocab_size": 96, "d_model": 48}
    if kind == "T5":
        whole = t.T5Model(t.T5Config(**shape, d_kv=12, num_heads=4, num_layers=2, d_ff=96)).eval()
    else:
        sides = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
        whole = t.BartModel(t.BartConfig(**shape, **sides, encoder_ffn_dim=96, decoder_ffn_dim=96)).eval()
    sites = find_sites(whole)
    assert [layer.partition(".")[0] for layer in sites.layers] == ["encoder"] * 2 + ["decoder"] * 2
    assert [place.layer for place in sites.places["cross.q"]] == [2, 3]
    with attach(whole, method("lora", rank=8)) as attached:
        assert attached.count == 4 * 2 * 8 * (48 + 48)
    with attach(whole.get_encoder(), method("lora", rank=8)) as attached:
        assert attached.count == 2 * 2 * 8 * (48 + 48)


def test_a_mixture_of_experts_has_attention_sites_only():
    config = t.MixtralConfig(
        vocab_size=96,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    model = t.MixtralModel(config).eval()
    with attach(model, "lora") as attached:
        assert attached.count == 2 * 8 * (48 + 48 + 48 + 24)
    with pytest.raises(CannotAttach, match="MixtralModel has no site 'ffn'; it has attention, "):
        attach(model, "adapter")


def test_an_unknown_architecture_is_answered_with_what_was_found_and_what_to_write():
    with pytest.raises(CannotAttach) as caught:
        attach(Stranger(), "lora")
    answer = str(caught.value)
    assert answer.startswith("the architecture Stranger is not understood: ")
    assert "Linear maps found in stack.0: alpha (24, 24), beta (24, 24)" in answer
    assert "wide (24, 48)" in answer
    (example,) = re.findall(r"autopeft\.attach\(model, method, sites=(\{.*\})\)\.$", answer)
    assert ast.literal_eval(example).keys() <= {"layer", "q", "k", "v", "o", "ffn.up", "ffn.down"}


def test_a_model_without_layers_is_answered_in_the_same_way():
    with pytest.raises(CannotAttach, match=r"Sequential is not understood: no list of equal layers.*0 \(4, 4\)"):
        find_sites(torch.nn.Sequential(torch.nn.Linear(4, 4)))


@pytest.mark.parametrize(
    "what", [*PLACEMENTS, method("ia3", sites=["v", "ffn.down"]), method("bitfit")], ids=lambda what: what.name
)
def test_with_a_mapping_every_method_goes_on_an_unknown_architecture(what):
    model = Stranger()
    before = copy.deepcopy(model.state_dict())
    ids = torch.arange(5, 13)[None]
    with torch.no_grad():
        output = model(ids)
    with attach(model, what, sites=STRANGER) as attached:
        states = attached.model(input_ids=ids)
        assert torch.allclose(states, output)
        (states * torch.randn_like(states)).sum().backward()
        assert all(parameter.grad is not None for parameter in attached.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert torch.equal(model(ids), output)


def test_a_mapping_gives_the_places_that_it_names_and_those_that_follow():
    sites = find_sites(Stranger(), STRANGER)
    assert sites.layers == ("stack.0", "stack.1")
    assert (sites.architecture, sites.width) == ("Stranger", 24)
    assert [place.path for place in sites.at("embedding")] == ["tokens"]
    ffn, attention = of_one_layer(sites, "ffn"), of_one_layer(sites, "attention")
    assert (ffn.path, ffn.source, ffn.norm) == ("stack.1.narrow", "stack.1.wide", "")
    assert (attention.path, attention.source) == ("stack.1.delta", "stack.1.alpha")
    assert [place.path for place in sites.at("norm", [0])] == ["stack.0.before", "stack.0.between"]


@pytest.mark.parametrize(
    ("mapping", "answer"),
    [
        ({}, "a mapping of sites needs 'layer', with \\* for the layer's number, such as \\{'layer'"),
        ({"layer": "stack"}, "a mapping of sites needs 'layer', with \\*"),
        ({"layer": "blocks.*"}, "'blocks.\\*' names no layer of Stranger: blocks.0 is not there."),
        ({"layer": "stack.*", "q": "stack.*.query"}, "site 'q': Stranger has no module 'stack.0.query'."),
        ({"layer": "stack.*", "ffn_down": "stack.*.narrow"}, "unknown site 'ffn_down'. Did you mean 'ffn.down'?"),
        ({"layer": "stack.*.before"}, "stack.0.before of Stranger holds no linear map."),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_with_the_reason(mapping, answer):
    with pytest.raises(AutopeftError, match=answer):
        find_sites(Stranger(), mapping)


def test_a_parallel_adapter_asks_for_the_input_of_the_feed_forward_where_a_mapping_lacks_it():
    mapping = {"layer": "stack.*", "ffn": "stack.*.narrow"}
    with pytest.raises(CannotAttach, match=r"needs to know what enters the feed-forward: map 'ffn\.up'"):
        attach(Stranger(), method("adapter", placement="parallel"), sites=mapping)


def test_a_model_that_reads_neither_token_ids_nor_images_is_refused():
    config = t.Wav2Vec2Config(hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)
    with pytest.raises(CannotAttach, match=r"^Wav2Vec2Model reads 'input_values', neither token ids nor images"):
        find_sites(t.Wav2Vec2Model(config))


def test_a_network_of_convolutions_is_refused_with_what_was_found():
    config = t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    with pytest.raises(CannotAttach, match="ResNetModel is not understood: no list of equal layers"):
        find_sites(t.ResNetModel(config))


def test_a_model_called_as_usual_but_with_names_of_its_own_is_answered_with_what_is_missing():
    class Usual(Stranger):
        def forward(self, input_ids, **_):
            return super().forward(input_ids)

    with pytest.raises(CannotAttach, match=r"Usual is not understood: no q, v\. Linear maps found in stack\.0: alpha"):
        find_sites(Usual())
