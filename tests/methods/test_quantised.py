"""The capability `quantised`, over every card: a method computes on packed matrices what it does on these, unpacked."""

import pytest
import torch
from torch import nn

from autopeft.backbone.quantised import FORMATS, Packed, pack
from autopeft.errors import CannotAttach, CannotMerge
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from autopeft.space.cards import load_cards, load_hybrids
from tests.tiny import batch, tiny

pytest.importorskip("bitsandbytes")

CARDS = load_cards()
NAMES = (*CARDS, *load_hybrids(CARDS))
CHANGE_MATRICES = {"full", "top_layers", "fishmask", "far", "said", "ladder", "glora"}
OFTEN = {"llama": "nf4", "gpt2": "int8"}
"""The others are tried by `make grids`."""


def cases():
    for architecture in ("llama", "gpt2", "bert"):
        for name in NAMES:
            for packed in FORMATS:
                often = OFTEN.get(architecture) == packed and (architecture == "llama" or name in CHANGE_MATRICES)
                yield pytest.param(architecture, name, packed, marks=() if often else pytest.mark.grid)


def quantised(architecture, packed, name="lora"):
    model = tiny(architecture, layers=6 if name == "s4" else 2).to(torch.bfloat16)
    pack(model, packed)
    return model


def unpacked(model):
    """A model of plain linear maps with the values that matrices have when they are unpacked."""
    for owner in [*model.modules()]:
        for name, module in [*owner.named_children()]:
            if isinstance(module, Packed):
                plain = nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
                plain.weight, plain.bias = nn.Parameter(module.weight), module.bias
                setattr(owner, name, plain.train(module.training))
    return model


def bits(model):
    return {name: each.detach().clone() for name, each in (*model.named_parameters(), *model.named_buffers())}


def disturbed(attached):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in attached.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return attached


def states(attached):
    with torch.autocast("cpu", torch.bfloat16):
        return attached.model(**batch()).last_hidden_state[:, attached.prepended :]


def seen(model, name):
    """What a method's tensors are called, what the model puts out with it, and the gradients of what is trained."""
    torch.manual_seed(0)
    attached = disturbed(attach(model, method(name)))
    output = states(attached)
    output.float().square().mean().backward()
    return attached, output, {each.name: each.tensor.grad for each in attached.tensors()}


@pytest.mark.parametrize(("architecture", "name", "packed"), [*cases()])
def test_it_computes_on_packed_matrices_what_it_does_on_the_same_unpacked_or_is_refused_with_the_reason(
    architecture, name, packed
):
    model = quantised(architecture, packed, name)
    before = bits(model)
    if any("quantised" in part.method.lacks for part in getattr(method(name), "parts", [method(name)])):
        assert name in CHANGE_MATRICES
        with pytest.raises(CannotAttach, match=rf"'{name}' cannot stand on a backbone in {packed}: \w+"):
            attach(model, method(name))
        return
    try:
        expected = seen(unpacked(quantised(architecture, packed, name)), name)
    except CannotAttach as refusal:
        pytest.skip(f"refused on any backbone: {refusal}")
    attached, output, gradients = seen(model, name)
    assert torch.equal(output, expected[1])
    assert gradients.keys() == expected[2].keys()
    for each, gradient in gradients.items():
        assert (gradient is None and expected[2][each] is None) or torch.equal(gradient, expected[2][each])
    assert [part.mergeable for part in attached.parts] == [part.mergeable for part in expected[0].parts]
    with pytest.raises(CannotMerge):
        attached.merge()
    attached.detach()
    after = bits(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[each], after[each]) for each in before)


@pytest.mark.parametrize("packed", FORMATS)
def test_a_method_that_is_saved_on_packed_matrices_goes_on_them_again_and_on_the_unquantised_model(packed, tmp_path):
    attached = disturbed(attach(quantised("gpt2", packed), method("lora", sites=["q", "v", "ffn.up"])))
    attached.save(tmp_path)
    with torch.no_grad():
        expected = states(attached)
        assert torch.equal(states(attach_saved(quantised("gpt2", packed), tmp_path)), expected)
        plain = attach_saved(tiny("gpt2"), tmp_path)
        assert torch.allclose(states(plain).float(), expected.float(), atol=0.5)
        merged = plain.merge()
    assert not any(isinstance(each, Packed) for each in merged.modules())


@pytest.mark.parametrize("packed", FORMATS)
def test_a_lora_that_begins_with_directions_of_the_matrices_is_refused(packed):
    with pytest.raises(CannotAttach, match=f"takes something off the matrices, which {packed} packs"):
        attach(quantised("llama", packed), method("lora", start="pissa_niter_4"))
