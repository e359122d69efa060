"""Prefix tuning against peft's, against its formula, and on every architecture that can have it."""

import itertools

import peft
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, BertModel

from autopeft.backbone.find import find_sites
from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.prefix_tuning import _PREFIXES, _SWITCHED, attend
from autopeft.methods.registry import method
from tests.backbone.architectures import ARCHITECTURES, new
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, batch, tiny

ATTEND_BY_THEMSELVES = {"mpnet", "deberta", "deberta-v2", "gptj", "codegen", "bloom", "falcon", "falcon-alibi"}
LOOKS_AT_PADDING = {"mobilebert"}
"""Its embeddings hold the tokens to the left and right."""


def states(model, inputs=None, **more):
    with torch.no_grad():
        return model(**(inputs or batch()), **more).last_hidden_state


def implementations(model):
    return [each.config._attn_implementation for each in model.modules() if hasattr(each, "config")]


def as_ours(prompts):
    """peft's weights by our names; it keeps all prefixes in one tensor, (…, layer, key or value, width)."""
    if "transform.0.weight" not in prompts:
        rows = prompts["embedding.weight"].unflatten(1, (2, 2, -1))
        return {f"{kind}.{n}": rows[:, n, i] for i, kind in enumerate(("keys", "values")) for n in (0, 1)}
    inner = {f"inner.{name}": prompts[f"transform.0.{name}"] for name in ("weight", "bias")}
    outer = {
        f"outer.{n}.{name}": prompts[f"transform.2.{name}"].chunk(2)[n] for name in ("weight", "bias") for n in (0, 1)
    }
    return {"embedding": prompts["embedding.weight"], **inner, **outer}


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize(("architecture", "hidden"), [("bert", 0), ("llama", 0), ("gpt2", 0), ("bert", 7), ("gpt2", 7)])
def test_the_output_is_peft_s_where_real_tokens_have_the_positions_that_peft_gives_them(
    architecture, hidden, padding_side
):
    """With an MLP peft's embedding is as wide as the keys, and not as the model: Llama's differ. Of T5 it has none."""
    inputs, length = batch(padding_side=padding_side), 5
    positions = length + torch.arange(10).expand(3, -1)
    config = peft.PrefixTuningConfig(
        task_type="FEATURE_EXTRACTION",
        num_virtual_tokens=length,
        prefix_projection=hidden > 0,
        encoder_hidden_size=hidden or None,
    )
    theirs = peft.get_peft_model(tiny(architecture), config).eval()
    attached = attach(tiny(architecture), method("prefix_tuning", length=length, hidden=hidden))
    values = as_ours(dict(theirs.prompt_encoder.default.named_parameters()))
    with torch.no_grad():
        for name, tensor in attached.parts[0].trainable().items():
            tensor.copy_(values[name])
    expected, real = states(theirs, inputs), inputs["attention_mask"].bool()
    assert torch.allclose(states(attached.model, inputs, position_ids=positions)[real], expected[real], atol=1e-5)
    assert not torch.allclose(states(attached.model, inputs)[real], expected[real], atol=1e-3)


class Attention(nn.Module):
    """What transformers' attention modules say of themselves."""

    def __init__(self, is_causal, groups=1):
        super().__init__()
        self.is_causal = is_causal
        self.num_key_value_groups = groups


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("mask", ["none", "causal", "bool", "float", "single"])
def test_attention_is_shared_between_prefix_and_real_tokens_by_the_mass_of_their_scores(mask, biased, groups):
    """Attn' = (1 - m) Attn + m softmax(q P_K) P_V, m being the prefix's part of the softmax (He et al., equation 5)."""
    torch.manual_seed(0)
    queries = 1 if mask == "single" else 6
    q, k, v = torch.randn(2, 4, queries, 8), torch.randn(2, 4 // groups, 6, 8), torch.randn(2, 4 // groups, 6, 8)
    keys, values = torch.randn(4 // groups, 3, 8), torch.randn(4 // groups, 3, 8)
    bias = torch.randn(1, 4, queries, 6) if biased else None
    allowed = torch.ones(2, 1, queries, 6, dtype=torch.bool)
    if mask == "causal":
        allowed = allowed.tril()
    elif mask in ("bool", "float"):
        allowed = torch.rand(2, 1, 6, 6) < 0.7
        allowed[..., 0] = True
    given = {"bool": allowed, "float": torch.zeros(2, 1, 6, 6).masked_fill(~allowed, -torch.inf)}.get(mask)
    module = Attention(mask in ("causal", "single"), groups)
    plain, _ = attend(module, q, k, v, given, scaling=0.4, position_bias=bias)
    setattr(module, _PREFIXES, (lambda: (keys, values),))
    output, _ = attend(module, q, k, v, given, scaling=0.4, position_bias=bias)

    k, v, keys, values = (each.repeat_interleave(groups, -3) for each in (k, v, keys, values))
    scores = 0.4 * q @ k.transpose(2, 3) + (bias if biased else 0)
    scores = scores.masked_fill(~allowed, -torch.inf)
    virtual = 0.4 * q @ keys.transpose(1, 2)
    mass = virtual.exp().sum(-1, keepdim=True) / (virtual.exp().sum(-1, keepdim=True) + scores.exp().sum(-1, True))
    expected = (1 - mass) * (scores.softmax(-1) @ v) + mass * (virtual.softmax(-1) @ values)
    assert torch.allclose(plain, (scores.softmax(-1) @ v).transpose(1, 2), atol=1e-5)
    assert torch.allclose(output, expected.transpose(1, 2), atol=1e-5)


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - ATTEND_BY_THEMSELVES))
def test_it_goes_on_every_architecture_that_attends_through_transformers_interface(name, padding_side):
    model, inputs = new(name), batch(padding_side=padding_side)
    real, before = inputs["attention_mask"].bool(), implementations(model)
    bare = states(model, inputs)
    changed = {**inputs, "input_ids": inputs["input_ids"].masked_fill(~real, 7)}
    with attach(model, method("prefix_tuning", length=3)) as attached:
        output = states(attached.model, inputs)
        assert output.shape == bare.shape
        assert (output - bare).abs().amax(-1)[real].min() > 1e-4, "every real token attends to the prefix"
        if name not in LOOKS_AT_PADDING:
            assert torch.allclose(states(attached.model, changed)[real], output[real], atol=1e-5)
        attached.model(**inputs).last_hidden_state[real].pow(2).sum().backward()
        assert all(parameter.grad.any() for parameter in attached.parameters())
    assert implementations(model) == before
    assert not any(hasattr(module, _PREFIXES) for module in model.modules())
    assert torch.equal(states(model, inputs), bare)


@pytest.mark.parametrize("name", sorted(ATTEND_BY_THEMSELVES))
def test_an_architecture_that_attends_by_itself_is_refused_and_left_as_it_was(name):
    model = new(name)
    before = implementations(model)
    with pytest.raises(CannotAttach, match=r"^prefix tuning adds keys and values .*, and \w+Model does not use it\.$"):
        attach(model, "prefix_tuning")
    assert implementations(model) == before
    attach(model, "lora").detach()


def test_an_architecture_that_sdpa_cannot_compute_is_refused(monkeypatch):
    monkeypatch.setattr(BertModel, "_supports_sdpa", False)
    with pytest.raises(CannotAttach, match="BertModel does not support SDPA"):
        attach(tiny("bert"), "prefix_tuning")


def test_an_architecture_that_raises_under_another_attention_is_refused_with_what_it_said():
    model = tiny("bert")
    before, sites = implementations(model), find_sites(model)
    own = model.encoder.layer[1].attention.self.forward
    model.encoder.layer[1].attention.self.forward = lambda *a, **k: own(*a, **{**k, "softcap": 30.0})
    with pytest.raises(CannotAttach, match=r"BertModel does not attend through SDPA: .* does not support `softcap`"):
        attach(model, "prefix_tuning", sites)
    assert implementations(model) == before


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_the_attention_implementation_is_afterwards_what_it_was(implementation):
    model = tiny("llama")
    model.set_attn_implementation(implementation)
    bare = states(model)
    first = attach(model, ["prefix_tuning", method("prefix_tuning", length=3)])
    assert set(implementations(model)) == {"sdpa_with_prefixes"}
    first.detach()
    assert set(implementations(model)) == {implementation}
    assert torch.equal(states(model), bare)


@pytest.mark.parametrize("first", [0, 1])
def test_models_that_share_a_config_do_not_disturb_each_other(first):
    config = CONFIGS["bert"]()
    models = [BertModel(config).eval() for _ in range(2)]
    bare = [states(model) for model in models]
    attached = [attach(model, "prefix_tuning") for model in models]
    outputs = [states(model) for model in models]
    attached[first].detach()
    assert torch.equal(states(models[1 - first]), outputs[1 - first])
    assert torch.allclose(states(models[first]), bare[first], atol=1e-6)
    attached[1 - first].detach()
    assert config._attn_implementation == "sdpa"
    assert id(config) not in _SWITCHED


@pytest.mark.parametrize("architecture", CONFIGS)
def test_two_prefixes_are_one_of_both_lengths(architecture):
    both = attach(tiny(architecture), [method("prefix_tuning", length=2), method("prefix_tuning", length=3)])
    one = attach(tiny(architecture), method("prefix_tuning", length=5))
    with torch.no_grad():
        for name, tensor in one.parts[0].trainable().items():
            tensor.copy_(torch.cat([part.trainable()[name] for part in both.parts]))
    assert torch.allclose(states(both.model), states(one.model), atol=1e-5)


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("order", list(itertools.permutations(["lora", "adapter", "prefix_tuning"])), ids="+".join)
def test_it_goes_with_other_methods_in_any_order(architecture, order):
    model = tiny(architecture)
    bare = states(model)
    attached = attach(model, list(order))
    with torch.no_grad():
        for each in attached.tensors():
            generator = torch.Generator().manual_seed(sum(map(ord, each.name)))
            each.tensor.copy_(0.3 * torch.randn(each.tensor.shape, generator=generator))
    together = states(attached.model)
    for part in attached.parts:
        kept = [tensor.detach().clone() for tensor in part.trainable().values()]
        with torch.no_grad():
            for tensor in part.trainable().values():
                tensor.zero_()
            assert not torch.allclose(states(attached.model), together, atol=1e-3), "each part counts"
            for tensor, value in zip(part.trainable().values(), kept, strict=True):
                tensor.copy_(value)
    attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
    assert all(parameter.grad.any() for parameter in attached.parameters())
    attached.detach()
    assert torch.equal(states(model), bare)


def test_a_prompt_before_the_tokens_and_a_prefix_in_the_attention_go_together():
    with attach(tiny("bert"), ["prefix_tuning", "prompt_tuning"]) as attached:
        assert attached.prepended == 10
        attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
        assert all(parameter.grad.any() for parameter in attached.parameters())


def test_every_layer_has_keys_and_values_of_its_own():
    tensors = attach(tiny("llama"), method("prefix_tuning", length=5)).parts[0].trainable()
    assert set(tensors) == {"keys.0", "keys.1", "values.0", "values.1"}
    assert {tuple(tensor.shape) for tensor in tensors.values()} == {(5, 24)}, "as wide as two of four heads"
    assert len({tensor.data_ptr() for tensor in tensors.values()}) == 4


def test_only_chosen_layers_get_a_prefix():
    model = tiny("bert")
    attached = attach(model, method("prefix_tuning", layers="last 1"))
    assert set(attached.parts[0].trainable()) == {"keys.1", "values.1"}
    with torch.no_grad():
        first = attached.model(**batch(), output_hidden_states=True).hidden_states[1]
        assert torch.allclose(first, tiny("bert")(**batch(), output_hidden_states=True).hidden_states[1], atol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_no_token_sees_a_later_one_and_generation_from_a_cache_equals_the_whole_pass(architecture):
    model = AutoModelForCausalLM.from_config(CONFIGS[architecture]()).eval()
    attached, ids = attach(model, method("prefix_tuning", length=4)), batch(rows=1)["input_ids"]
    with torch.no_grad():
        whole = attached.model(input_ids=ids).logits
        assert torch.allclose(attached.model(input_ids=ids[:, :6]).logits, whole[:, :6], atol=1e-5)
        cache, stepwise = None, []
        for start, end in ((0, 4), (4, 5), (5, 10)):
            step = attached.model(input_ids=ids[:, start:end], past_key_values=cache, use_cache=True)
            cache = step.past_key_values
            stepwise.append(step.logits)
        assert cache.get_seq_length() == 10
        assert torch.allclose(torch.cat(stepwise, dim=1), whole, atol=1e-5)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_only_what_the_mlp_made_is_shipped_and_computes_the_same(architecture, tmp_path):
    attached = disturbed(attach(tiny(architecture), method("prefix_tuning", length=4, hidden=7)))
    expected = states(attached.model)
    attached.save(tmp_path)
    again = attach_saved(tiny(architecture), tmp_path)
    assert torch.equal(states(again.model), expected)
    width = 24 if architecture == "llama" else 48
    assert again.count == 2 * 2 * 4 * width == sum(t.numel() for t in attached.parts[0].shipped().values())
    assert attached.count == 4 * 48 + 7 * (48 + 1) + 2 * 2 * width * (7 + 1)
    again.model(**batch()).last_hidden_state.pow(2).sum().backward()
    assert all(parameter.grad.any() for parameter in again.parameters()), "it can be trained on"
    again.save(tmp_path)
    assert torch.equal(states(attach_saved(tiny(architecture), tmp_path).model), expected)


def test_prefixes_of_another_length_are_refused_and_the_mlp_is_kept(tmp_path):
    attach(tiny("bert"), method("prefix_tuning", length=3)).save(tmp_path)
    attached = attach(tiny("bert"), method("prefix_tuning", length=4, hidden=7))
    with pytest.raises(AutopeftError, match=r"'keys\.0' has shape \(3, 48\), here it is \(4, 48\)"):
        attached.load(tmp_path)
    assert attached.count > len(attached.parts[0].shipped()) * 4 * 48 > 0


@pytest.mark.parametrize("architecture", CONFIGS)
def test_gradients_through_the_mlp_are_the_same_with_gradient_checkpointing(architecture):
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        model = tiny(architecture)
        attached = attach(model, method("prefix_tuning", length=4, hidden=7))
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
        attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
        gradients.append([parameter.grad for parameter in attached.parameters()])
    assert all(each.any() for each in gradients[0])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*gradients, strict=True))


def test_only_matrices_are_decayed():
    for hidden in (0, 7):
        for each in attach(tiny("bert"), method("prefix_tuning", hidden=hidden)).tensors():
            assert each.decay != each.name.endswith("bias")


def test_attaching_takes_random_numbers_for_its_weights_only_and_keeps_modes_and_hooks():
    model, called = tiny("bert"), []
    sites = find_sites(model)
    model.train()
    model.encoder.layer[0].eval()
    modes = [module.training for module in model.modules()]
    handle = model.encoder.layer[1].register_forward_hook(lambda *_: called.append(1))
    torch.manual_seed(0)
    attach(model, "prefix_tuning", sites)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    torch.randn(20, 48 * 4)
    assert torch.equal(torch.rand(3), drawn)
    assert [module.training for module in model.modules()] == modes
    assert not called
    model(**batch())
    assert called
    handle.remove()


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"length": 0}, "length of prefix_tuning must be above 0, not 0."),
        ({"hidden": -1}, "hidden of prefix_tuning must not be below 0, not -1."),
        ({"hidden": 1.5}, "hidden of prefix_tuning must be a whole number such as 0, not 1.5."),
    ],
)
def test_a_setting_that_makes_no_sense_is_answered(settings, answer):
    with pytest.raises(AutopeftError) as caught:
        method("prefix_tuning", **settings)
    assert str(caught.value) == answer
