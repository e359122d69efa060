"""UniPELT: three methods whose sum it is where its gates are open, and what opens a gate."""

import pytest
import torch

from autopeft.errors import AutopeftError, CannotAttach
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from tests.backbone.architectures import new
from tests.methods.by_hand import disturbed
from tests.tiny import CONFIGS, batch, tiny

SMALL = method("unipelt", rank=3, length=4, hidden=0, bottleneck=6)
GATES = ("gate_q", "gate_v", "gate_prefix", "gate_adapter")


def states(model, inputs=None):
    with torch.no_grad():
        return model(**(inputs or batch())).last_hidden_state


def small(architecture="bert"):
    return disturbed(attach(tiny(architecture), SMALL))


def turned(attached, bias, gates=GATES):
    """All gates open (large bias) or closed (small), whatever they read."""
    with torch.no_grad():
        for name, tensor in attached.parts[0].trainable().items():
            if any(f".{gate}." in name for gate in gates):
                tensor.fill_(bias) if name.endswith("bias") else tensor.zero_()
    return attached


def fill(attached, values):
    """Sets the tensors of prefix tuning, LoRA (where it is) and a Pfeiffer adapter from those of UniPELT."""
    with torch.no_grad():
        for each in attached.tensors():
            if each.name.startswith(("keys", "values")):
                each.tensor.copy_(values[f"prefixes.{each.name}"])
            elif "_ffn." in each.name:
                each.tensor.copy_(values[each.name.replace("_ffn.", ".adapter.")])
            else:
                number = next(
                    number for number in "01" if f"layers.{number}." in each.name.replace("layer.", "layers.")
                )
                site = "q" if "q_proj" in each.name or "query" in each.name else "v"
                each.tensor.copy_(values[f"{number}.{site}.{'a' if 'lora_A' in each.name else 'b'}.weight"])
    return attached


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_with_open_gates_it_is_lora_at_scale_1_with_prefixes_and_an_adapter(architecture):
    attached = turned(small(architecture), 1e4)
    parts = [
        method("lora", rank=3, alpha=3, sites=["q", "v"]),
        method("prefix_tuning", length=4),
        method("adapter", bottleneck=6, activation="relu"),
    ]
    together = fill(attach(tiny(architecture), parts), attached.parts[0].trainable())
    assert torch.allclose(states(attached.model), states(together.model), atol=1e-4)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_with_closed_gates_a_prefix_of_zeros_is_left(architecture):
    attached = turned(small(architecture), -1e4)
    zeros = attach(tiny(architecture), method("prefix_tuning", length=4))
    with torch.no_grad():
        for tensor in zeros.parameters():
            tensor.zero_()
    assert torch.allclose(states(attached.model), states(zeros.model), atol=1e-5)
    assert not torch.allclose(states(attached.model), states(tiny(architecture)), atol=1e-3)


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("gate", GATES)
def test_every_gate_opens_a_part(architecture, gate):
    closed = states(turned(small(architecture), -1e4).model)
    opened = states(turned(turned(small(architecture), -1e4), 1e4, [gate]).model)
    assert not torch.allclose(opened, closed, atol=1e-3)


def test_of_a_fused_projection_q_and_v_change_and_k_does_not():
    model = tiny("gpt2")
    x = torch.randn(2, 5, 48)
    with torch.no_grad():
        plain = model.h[0].attn.c_attn(x)
        disturbed(attach(model, SMALL))
        changed = (model.h[0].attn.c_attn(x) - plain).abs().amax((0, 1)) > 1e-6
    assert changed[:48].all()
    assert not changed[48:96].any()
    assert changed[96:].all()


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_a_gate_is_open_as_far_as_the_real_tokens_of_a_text_say_on_average(padding_side):
    attached, inputs = small(), batch(padding_side=padding_side)
    x, gate = torch.randn(3, 10, 48), attached.modules[0]["0"].gate_q
    with torch.no_grad():
        attached.model(**inputs)
        opening = attached.parts[0]._opening(gate, x)
        for row, real in enumerate(inputs["attention_mask"].bool()):
            each = torch.sigmoid(x[row, real] @ gate.weight[0] + gate.bias)
            assert torch.allclose(opening[row], each.mean(), atol=1e-6)
        attached.model(input_ids=inputs["input_ids"])
        everything = torch.sigmoid(x @ gate.weight[0] + gate.bias).mean(1)
        assert torch.allclose(attached.parts[0]._opening(gate, x).flatten(), everything, atol=1e-6)
    assert opening.shape == (3, 1, 1)
    assert ((opening > 0) & (opening < 1)).all()


@pytest.mark.parametrize("architecture", CONFIGS)
def test_a_text_s_result_does_not_depend_on_the_others_in_its_batch(architecture):
    attached, inputs = small(architecture), batch()
    together = states(attached.model, inputs)
    for row, length in ((0, 10), (2, 8)):
        alone = {name: tensor[row : row + 1, :length] for name, tensor in inputs.items()}
        assert torch.allclose(states(attached.model, alone)[0], together[row, :length], atol=1e-5)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_it_is_saved_without_the_mlp_of_its_prefixes(architecture, tmp_path):
    attached = disturbed(attach(tiny(architecture), method("unipelt", length=4, hidden=7)))
    attached.save(tmp_path)
    again = attach_saved(tiny(architecture), tmp_path)
    assert torch.equal(states(again.model), states(attached.model))
    assert again.count == sum(tensor.numel() for tensor in attached.parts[0].shipped().values()) < attached.count
    assert set(again.parts[0].trainable()) == set(attached.parts[0].shipped())


def test_gates_and_biases_are_not_decayed():
    for each in attach(tiny("bert"), SMALL).tensors():
        assert each.decay == (not each.name.endswith("bias") and ".gate_" not in each.name)


@pytest.mark.parametrize("order", [("unipelt", "lora"), ("lora", "unipelt"), ("prefix_tuning", "adapter", "unipelt")])
@pytest.mark.parametrize("architecture", CONFIGS)
def test_it_goes_with_other_methods(order, architecture):
    model = tiny(architecture)
    bare = states(model)
    attached = disturbed(attach(model, list(order)))
    attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
    assert all(parameter.grad.any() for parameter in attached.parameters())
    attached.detach()
    assert torch.equal(states(model), bare)


@pytest.mark.parametrize("name", ["albert", "gemma3", "mobilebert", "modernbert", "opt", "phi3", "qwen3", "t5"])
def test_it_trains_where_q_v_and_the_feed_forward_have_widths_of_their_own(name):
    model = new(name)
    bare = states(model)
    with disturbed(attach(model, SMALL)) as attached:
        attached.model(**batch()).last_hidden_state.pow(2).sum().backward()
        assert all(parameter.grad.any() for parameter in attached.parameters())
    assert torch.equal(states(model), bare)


def test_a_projection_that_mixes_the_rows_of_q_and_v_is_refused():
    with pytest.raises(CannotAttach, match="GPTNeoXModel mixes the rows of q and v"):
        attach(new("gpt_neox"), SMALL)


@pytest.mark.parametrize("name", ["rank", "length", "bottleneck", "hidden"])
def test_a_setting_that_makes_no_sense_is_answered(name):
    with pytest.raises(AutopeftError, match=f"{name} of unipelt must "):
        method("unipelt", **{name: -1})
