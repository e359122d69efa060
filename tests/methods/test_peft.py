"""What peft implements does what its paper says, at the sites asked for, and comes off without trace."""

import peft
import pytest
import torch
from torch.nn.functional import linear
from transformers import AutoModelForSequenceClassification

from autopeft.errors import AutopeftError, CannotAttach, CannotMerge
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from tests.backbone.architectures import new
from tests.methods.by_hand import Changes, bert_by_hand, disturbed
from tests.tiny import CONFIGS, batch, tiny


def tensor(attached, *words, part=0):
    """The one trained tensor whose name holds all these words."""
    (found,) = [t for name, t in attached.parts[part].trainable().items() if all(word in name for word in words)]
    return found


def test_lora_computes_w_x_plus_b_plus_alpha_over_rank_times_b_a_x():
    model = tiny("bert")
    attached = disturbed(attach(model, method("lora", rank=4, alpha=12, sites=["q", "ffn.down"])))
    x = torch.randn(2, 3, 48)
    query, plain = model.encoder.layer[1].attention.self.query, tiny("bert").encoder.layer[1].attention.self.query
    a, b = (tensor(attached, "layer.1", "query", factor) for factor in ("lora_A", "lora_B"))
    with torch.no_grad():
        assert torch.allclose(query(x), plain(x) + 12 / 4 * linear(linear(x, a), b), atol=1e-5)


def test_a_merged_lora_changes_a_weight_by_a_matrix_of_its_rank_proportional_to_alpha():
    changes = []
    for alpha in (8, 16):
        torch.manual_seed(0)
        model = tiny("bert")
        before = model.encoder.layer[0].attention.self.value.weight.detach().clone()
        merged = disturbed(attach(model, method("lora", rank=3, alpha=alpha, sites=["v"]))).merge()
        change = merged.encoder.layer[0].attention.self.value.weight - before
        changes.append(change.detach())
        assert torch.linalg.matrix_rank(changes[-1], atol=1e-4) == 3
    assert torch.allclose(changes[1], 2 * changes[0], atol=1e-5)


def test_lora_dropout_acts_in_training_only_and_on_its_own_branch_only():
    model = tiny("bert")
    attached = disturbed(attach(model, method("lora", rank=4, dropout=0.5)))
    query = model.encoder.layer[0].attention.self.query
    x = torch.randn(4, 48)
    with torch.no_grad():
        assert torch.equal(query(x), query(x))
        query.train()
        assert not torch.equal(query(x), query(x))
        tensor(attached, "layer.0", "query", "lora_B").zero_()
        assert torch.equal(query(x), query.base_layer(x))


def test_rslora_divides_by_the_root_of_the_rank():
    model = tiny("bert")
    attached = disturbed(attach(model, method("lora", rank=4, alpha=12, rslora=True, sites=["q"])))
    query, plain = model.encoder.layer[1].attention.self.query, tiny("bert").encoder.layer[1].attention.self.query
    a, b = (tensor(attached, "layer.1", "query", factor) for factor in ("lora_A", "lora_B"))
    x = torch.randn(2, 3, 48)
    with torch.no_grad():
        assert torch.allclose(query(x), plain(x) + 12 / 2 * linear(linear(x, a), b), atol=1e-5)


def test_dora_learns_the_length_of_every_row_of_the_changed_weight():
    model = tiny("bert")
    attached = disturbed(attach(model, method("lora", rank=4, alpha=12, dora=True, sites=["q"])))
    query, plain = model.encoder.layer[1].attention.self.query, tiny("bert").encoder.layer[1].attention.self.query
    a, b, length = (tensor(attached, "layer.1", "query", each) for each in ("lora_A", "lora_B", "magnitude"))
    x = torch.randn(2, 3, 48)
    with torch.no_grad():
        changed = plain.weight + 12 / 4 * b @ a
        weight = length[:, None] * changed / changed.norm(dim=1, keepdim=True)
        assert torch.allclose(query(x), linear(x, weight, plain.bias), atol=1e-4)
        merged = attached.merge().encoder.layer[1].attention.self.query.weight
        assert torch.allclose(merged.norm(dim=1), length.abs(), atol=1e-5)


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("options", [{"dora": True}, {"rslora": True}, {"dora": True, "rslora": True}])
def test_lora_s_options_begin_at_the_backbone_and_are_saved_merged_and_taken_off(architecture, options, tmp_path):
    model = tiny(architecture)
    with torch.no_grad():
        bare = model(**batch()).last_hidden_state
        attached = attach(model, method("lora", alpha=2, **options))
        assert torch.allclose(attached.model(**batch()).last_hidden_state, bare, atol=1e-5)
        expected = disturbed(attached).model(**batch()).last_hidden_state
        attached.save(tmp_path)
        again = attach_saved(tiny(architecture), tmp_path)
        assert torch.equal(again.model(**batch()).last_hidden_state, expected)
        attached.detach()
        assert torch.equal(model(**batch()).last_hidden_state, bare)
        assert torch.allclose(again.merge()(**batch()).last_hidden_state, expected, atol=1e-5)


def test_lengths_of_dora_are_not_decayed():
    decays = {each.name: each.decay for each in attach(tiny("bert"), method("lora", dora=True)).tensors()}
    assert all(decay == ("magnitude" not in name) for name, decay in decays.items())


def test_ia3_scales_keys_values_and_what_enters_the_down_projection():
    model = tiny("bert")
    attached = disturbed(attach(model, "ia3"))
    vectors = attached.parts[0].trainable()
    assert len(vectors) == 2 * 3

    def scale(number, where):
        return tensor(attached, f"layer.{number}.{where}").flatten()

    paper = Changes(
        key=lambda i, k: k * scale(i, "attention.self.key"),
        value=lambda i, v: v * scale(i, "attention.self.value"),
        inner=lambda i, g: g * scale(i, "output.dense"),
    )
    real = batch()["attention_mask"].bool()
    with torch.no_grad():
        states = attached.model(**batch()).last_hidden_state[real]
        assert torch.allclose(states, bert_by_hand(tiny("bert"), batch(), paper)[real], atol=1e-5)


def test_ia3_goes_where_the_paper_has_it_and_not_where_peft_has_it_by_default():
    attached = attach(tiny("bert"), "ia3")
    shapes = {name.split("encoder.")[1]: tuple(t.shape) for name, t in attached.parts[0].trainable().items()}
    expected = {}
    for number in (0, 1):
        expected[f"layer.{number}.attention.self.key.ia3_l"] = (48, 1)
        expected[f"layer.{number}.attention.self.value.ia3_l"] = (48, 1)
        expected[f"layer.{number}.output.dense.ia3_l"] = (1, 96)
    assert shapes == expected


def test_prompts_come_before_the_real_tokens_and_are_the_only_thing_trained():
    model = tiny("bert")
    with attach(model, method("prompt_tuning", length=7)) as attached:
        assert attached.prepended == 7
        states = attached.model(**batch(length=10)).last_hidden_state
        assert states.shape == (3, 17, 48)
        states[:, attached.prepended :].pow(2).sum().backward()
        (prompt,) = attached.parameters()
        assert prompt.shape == (7, 48)
        assert prompt.grad.any(1).all(), "every real token attends to every prompt"
        assert [name for name, p in attached.model.named_parameters() if p.requires_grad] == [
            "prompt_encoder.autopeft0.embedding.weight"
        ]


def test_prompts_are_as_wide_as_the_embeddings_where_these_are_narrower_than_the_layers():
    for name, width in (("albert", 24), ("electra", 24), ("opt-350m", 24), ("bert", 48)):
        with attach(new(name), method("prompt_tuning", length=5)) as attached:
            assert attached.count == 5 * width


def test_of_a_fused_projection_the_whole_weight_is_adapted_once():
    for sites in (["q"], ["q", "v"], ["q", "k", "v"]):
        with attach(tiny("gpt2"), method("lora", rank=2, sites=sites)) as attached:
            assert attached.count == 2 * 2 * (48 + 144)


@pytest.mark.parametrize("name", ["lora", "ia3", "prompt_tuning"])
def test_on_a_bf16_model_peft_s_weights_are_fp32_and_the_output_bf16(name):
    model = tiny("bert").to(torch.bfloat16)
    with attach(model, name) as attached:
        states = attached.model(**batch()).last_hidden_state
        states.float().pow(2).sum().backward()
        assert states.dtype == torch.bfloat16
        assert {parameter.dtype for parameter in attached.parameters()} == {torch.float32}
        assert all(torch.isfinite(parameter.grad).all() for parameter in attached.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_two_methods_of_one_kind_share_a_model_and_both_learn():
    model = tiny("bert")
    parts = [method("lora", sites=["q"]), method("lora", sites=["v"], rank=2)]
    torch.manual_seed(0)
    with torch.no_grad():
        expected = disturbed(attach(tiny("bert"), method("lora", sites=["q"]))).model(**batch()).last_hidden_state
    torch.manual_seed(0)
    with attach(model, parts) as attached:
        disturbed(attached)
        attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
        assert all(parameter.grad.any() for parameter in attached.parameters())
        with torch.no_grad():
            for parameter in attached.parts[1].trainable().values():
                parameter.zero_()
            assert torch.equal(attached.model(**batch()).last_hidden_state, expected)


def test_two_methods_of_one_kind_do_not_share_a_module():
    model = tiny("bert")
    with pytest.raises(
        CannotAttach, match=r"two methods of the same kind cannot share encoder\.layer\.0\.\S+query: give"
    ):
        attach(model, [method("lora", sites=["q"]), method("lora", sites=["q", "v"])])
    assert not any("lora" in name for name, _ in model.named_modules())


def test_two_prompt_methods_are_not_combined():
    with pytest.raises(CannotAttach, match="prompt methods cannot be combined with one another"):
        attach(tiny("bert"), ["prompt_tuning", method("prompt_tuning", length=3)])


@pytest.mark.parametrize("order", [("lora", "ia3"), ("ia3", "lora"), ("bitfit", "ia3", "lora")])
def test_methods_on_the_same_weights_merge_into_what_they_computed_together(order):
    model = tiny("bert")
    attached = disturbed(attach(model, list(order)))
    with torch.no_grad():
        expected = attached.model(**batch()).last_hidden_state
        assert torch.allclose(attached.merge()(**batch()).last_hidden_state, expected, atol=1e-5)


def test_a_diverged_method_is_not_merged_and_nothing_is_changed():
    model = tiny("bert")
    attached = attach(model, method("lora", sites=["q"]))
    with torch.no_grad():
        tensor(attached, "layer.1", "lora_B")[0, 0] = float("nan")
    with pytest.raises(CannotMerge, match=r"layer\.1\.attention\.self\.query\.lora_B\.weight' is not finite"):
        attached.merge()
    attached.detach()
    expected = tiny("bert").state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_prompts_cannot_be_merged():
    with pytest.raises(CannotMerge, match="'prompt_tuning' cannot be merged into the weights"):
        attach(tiny("bert"), "prompt_tuning").merge()


def test_hooks_that_peft_adds_for_gradient_checkpointing_come_off_and_the_model_s_own_stay():
    model = tiny("bert")
    model.gradient_checkpointing_enable()
    hooks, own = dict(model.embeddings.word_embeddings._forward_hooks), dict(vars(model))
    with attach(model, "lora"):
        pass
    assert dict(model.embeddings.word_embeddings._forward_hooks) == hooks
    assert set(vars(model)) == set(own)
    model.disable_input_require_grads()
    assert not model.embeddings.word_embeddings._forward_hooks


@pytest.mark.parametrize("name", ["lora", "ia3", "prompt_tuning"])
def test_what_was_trained_under_a_head_is_loaded_by_peft_itself(name, tmp_path):
    def headed():
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_config(CONFIGS["bert"]()).eval()

    attached = disturbed(attach(headed(), name))
    attached.save(tmp_path)
    theirs = peft.PeftModel.from_pretrained(headed(), str(tmp_path))
    with torch.no_grad():
        assert torch.allclose(theirs(**batch()).logits, attached.model(**batch()).logits, atol=1e-6)


def test_weights_of_another_shape_or_of_none_are_refused_in_one_sentence(tmp_path):
    attach(tiny("bert"), method("lora", rank=4)).save(tmp_path)
    attached = attach(tiny("bert"), method("lora", rank=2))
    with pytest.raises(CannotAttach, match=r"has shape \(4, 48\), here it is \(2, 48\)\.$"):
        attached.load(tmp_path)
    with pytest.raises(CannotAttach, match=r"'\S+lora_A.weight' is in one of them only\.$"):
        attach(tiny("bert"), method("lora", sites=["k"])).load(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(AutopeftError, match=r"adapter_model.safetensors' cannot be read: "):
        attached.load(tmp_path)
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(AutopeftError, match=r"adapter_model.safetensors' cannot be read: it is missing") as caught:
        attach_saved(tiny("bert"), tmp_path)
    assert "\n" not in str(caught.value)


def test_what_peft_refuses_is_answered_in_its_words():
    with pytest.raises(CannotAttach, match="peft refuses LoraConfig: dropout probability has to be between 0 and 1"):
        attach(tiny("bert"), method("lora", dropout=1.5))
