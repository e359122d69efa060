"""Methods on backbones whose weights are held in half of fp32: over every card, what is trained is fp32."""

import pytest
import torch

from autopeft.errors import CannotAttach
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from autopeft.space.cards import load_cards, load_hybrids
from tests.sampled import sampled
from tests.tiny import batch, tiny

NAMES = (*load_cards(), *load_hybrids(load_cards()))


def half(architecture, name="lora", dtype=torch.bfloat16):
    return tiny(architecture, layers=6 if name == "s4" else 2).to(dtype)


def attached_or_skipped(model, name):
    try:
        return attach(model, method(name))
    except CannotAttach as refusal:
        pytest.skip(f"refused: {refusal}")


def states(attached, dtype=torch.bfloat16):
    with torch.autocast("cpu", dtype):
        return attached.model(**batch()).last_hidden_state


def trained(attached, dtype=torch.bfloat16):
    attached.model.train()
    optimizer = torch.optim.AdamW(attached.parameters(), lr=0.01)
    for _ in range(2):
        states(attached, dtype).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    attached.model.eval()
    return attached


def made_of_themselves(attached):
    """What an MLP makes in bf16 while it is trained is saved in fp32."""
    return not any(part.settings.get("hidden") for part in attached.chosen)


def bits(model):
    return {name: each.detach().clone() for name, each in (*model.named_parameters(), *model.named_buffers())}


@pytest.mark.parametrize(("architecture", "name"), sampled(("bert", "llama"), NAMES))
def test_on_a_backbone_in_bf16_what_is_trained_is_fp32_and_detaching_leaves_it_bit_for_bit(
    name, architecture, tmp_path
):
    model = half(architecture, name)
    before = bits(model)
    attached = trained(attached_or_skipped(model, name))
    assert {each.dtype for each in attached.parameters()} == {torch.float32}
    with torch.no_grad():
        expected = states(attached)
    assert expected.dtype == torch.bfloat16
    attached.save(tmp_path)
    attached.detach()
    after = bits(model)
    assert before.keys() == after.keys()
    assert all(before[each].dtype == after[each].dtype and before[each].equal(after[each]) for each in before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    again = attach_saved(half(architecture, name), tmp_path)
    with torch.no_grad():
        assert torch.allclose(states(again), expected, atol=0.0 if made_of_themselves(again) else 0.1)


@pytest.mark.parametrize("name", ["adapter", "unipelt", "adamix", "norm_tuning", "lora", "ia3", "far", "fishmask"])
def test_a_method_goes_on_a_backbone_in_half_also_where_nothing_autocasts(name):
    attached = attach(half("bert"), method(name))
    output = attached.model(**batch()).last_hidden_state
    output.float().square().mean().backward()
    assert output.dtype == torch.bfloat16
    assert any(each.grad is not None and each.grad.any() for each in attached.parameters())


@pytest.mark.parametrize("name", ["lora", "norm_tuning", "fishmask", "far"])
def test_merged_into_weights_in_half_a_method_gives_nearly_the_same(name):
    attached = trained(attach(half("llama"), method(name)))
    with torch.no_grad():
        expected = states(attached).float()
        merged = attached.merge()
        found = merged(**batch()).last_hidden_state.float()
    assert {each.dtype for each in merged.parameters()} == {torch.bfloat16}
    assert torch.allclose(found, expected, atol=0.1)


@pytest.mark.parametrize("name", ["lora", "adapter", "full", "prefix_tuning", "ladder"])
def test_fp16_is_trained_in_too(name):
    attached = trained(attach(half("llama", dtype=torch.float16), method(name)), torch.float16)
    assert {each.dtype for each in attached.parameters()} == {torch.float32}
    assert torch.isfinite(states(attached, torch.float16)).all()


def test_a_bias_is_trained_beside_the_weight_of_a_norm_that_an_adapter_applies_again():
    attached = attach(half("bert"), [method("bitfit"), method("adapter")])
    states(attached).float().square().mean().backward()
    norms = [each for each in attached.tensors() if each.name.endswith("output.LayerNorm.bias")]
    assert len(norms) == 4
    assert all(each.tensor.grad.any() for each in norms)


def test_what_is_no_weight_stays_exact_in_half(tmp_path):
    from autopeft.backbone.load import load_backbone
    from tests.saved import saved

    folder = str(saved(tmp_path, "llama", model=half("llama")))
    one, other = (load_backbone(folder, dtype) for dtype in (torch.bfloat16, torch.float32))
    assert (one.dtype, other.dtype) == (torch.bfloat16, torch.float32)
    assert one.fingerprint == other.fingerprint
    frequencies = [dict(each.model.named_buffers())["rotary_emb.inv_freq"] for each in (one, other)]
    assert frequencies[0].dtype == torch.float32
    assert frequencies[0].equal(frequencies[1])
