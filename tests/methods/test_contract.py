"""What every method must keep, tested over every card on every tiny architecture: a new card is tested by existing."""

import contextlib
import copy
from itertools import product

import peft
import pytest
import torch

from autopeft.backbone.sites import Sites
from autopeft.errors import CannotAttach, CannotMerge
from autopeft.methods.attached import attach, attach_saved
from autopeft.methods.registry import method
from autopeft.space.cards import load_cards, load_hybrids
from tests.tiny import CONFIGS, batch, tiny

NAMES = (*load_cards(), *load_hybrids(load_cards()))
IDENTITY_AT_STEP_0 = {
    "lora",
    "vera",
    "krona",
    "adalora",
    "compacter",
    "said",
    "krona_b",
    "ia3",
    "adapter",
    "adamix",
    "bitfit",
    "lora_parallel",
    "norm_tuning",
    "top_layers",
    "full",
    "fishmask",
    "far",
    "adamss",
    "beft",
    "boft",
    "c3a",
    "deft",
    "delora",
    "fourierft",
    "frod",
    "glora",
    "gralora",
    "hira",
    "hra",
    "lily",
    "ln_tuning",
    "loha",
    "lokr",
    "miss",
    "oft",
    "osf",
    "peanut",
    "psoft",
    "pvera",
    "randlora",
    "road",
    "shira",
    "supertuning",
    "tinylora",
    "waveft",
}
WRITTEN_INTO_THE_MODEL = {"fishmask", "far"}
"""Methods whose trained tensors stand for that many entries of the model's own ones."""
MIX_THE_TEXTS_OF_A_BATCH = {"lily"}
"""peft's Lily weighs its shared B by what its router says on average of all tokens of a batch, padding too."""
ROUNDED = {"randlora": 1e-3}
"""How far merged weights may be off: RandLoRA's default alpha makes much of rounding errors."""


def cases():
    """Every method on one architecture in turn; `make grids` tries all on all."""
    for (at, architecture), (place, name) in product(enumerate(CONFIGS), enumerate(NAMES)):
        yield pytest.param(architecture, name, marks=() if place % len(CONFIGS) == at else pytest.mark.grid)


pytestmark = pytest.mark.parametrize(("architecture", "name"), [*cases()])


def model_for(name, architecture):
    """S4 needs four groups of layers."""
    return tiny(architecture, layers=6 if name == "s4" else 2)


def attached_or_skipped(model, name):
    """A method that refuses an architecture says why; that it says so is tested below."""
    try:
        return attach(model, method(name))
    except CannotAttach as refusal:
        pytest.skip(f"refused: {refusal}")


def hidden(attached, inputs=None):
    output = attached.model(**(inputs or batch()))
    return output.last_hidden_state[:, attached.prepended :]


def loss_of(attached):
    generator = torch.Generator().manual_seed(5)
    states = hidden(attached)
    target = torch.randn(states.shape, generator=generator)
    return ((states - target) ** 2).mean()


def trained(attached, steps=3):
    optimizer = torch.optim.AdamW(attached.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(attached).backward()
        optimizer.step()
    return attached


def values(model):
    return {name: tensor.detach().clone() for name, tensor in [*model.named_parameters(), *model.named_buffers()]}


def test_detaching_after_training_leaves_the_model_as_it_was_bit_for_bit(name, architecture):
    model = model_for(name, architecture)
    before, attributes = values(model), set(vars(model))
    flags = {n: p.requires_grad for n, p in model.named_parameters()}
    modules = [type(module) for module in model.modules()]
    with torch.no_grad():
        output = model(**batch()).last_hidden_state
    trained(attached_or_skipped(model, name)).detach()
    after = values(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert [type(module) for module in model.modules()] == modules
    assert {n: p.requires_grad for n, p in model.named_parameters()} == flags
    assert set(vars(model)) == attributes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with torch.no_grad():
        assert torch.equal(model(**batch()).last_hidden_state, output)


def test_nothing_but_the_declared_tensors_is_trained_even_with_weight_decay(name, architecture):
    model = model_for(name, architecture)
    attached = attached_or_skipped(model, name)
    declared = {id(tensor) for tensor in attached.parameters()}
    before = {id(p): p.detach().clone() for p in model.parameters() if id(p) not in declared}
    trained(attached)
    changed = sum(int((p != before[id(p)]).sum()) for p in model.parameters() if id(p) in before)
    assert changed <= (attached.count if name in WRITTEN_INTO_THE_MODEL else 0)
    assert {id(p) for p in model.parameters() if p.requires_grad} <= declared


def test_every_trained_tensor_that_is_used_receives_a_gradient(name, architecture):
    attached = trained(attached_or_skipped(model_for(name, architecture), name), steps=2)
    loss_of(attached).backward()
    silent = [each.name for each in attached.tensors() if each.tensor.grad is None or not each.tensor.grad.any()]
    unused = {"pooler.dense.bias", "pooler.dense.weight"}
    key_biases = {each for each in silent if "key.bias" in each or "c_attn.bias" in each}
    assert set(silent) - unused - key_biases == set()


def test_the_output_is_unchanged_at_step_0_where_the_method_promises_it(name, architecture):
    model = model_for(name, architecture)
    with torch.no_grad():
        bare = model(**batch()).last_hidden_state
        attached = attached_or_skipped(model, name)
        same = torch.allclose(hidden(attached), bare, atol=1e-5)
    assert same == (name in IDENTITY_AT_STEP_0)


def test_training_changes_the_output(name, architecture):
    attached = attached_or_skipped(model_for(name, architecture), name)
    with torch.no_grad():
        before = hidden(attached)
    trained(attached)
    with torch.no_grad():
        assert not torch.allclose(hidden(attached), before, atol=1e-4)


def test_saved_and_loaded_again_gives_equal_output(name, architecture, tmp_path):
    attached = trained(attached_or_skipped(model_for(name, architecture), name))
    with torch.no_grad():
        expected = hidden(attached)
    attached.save(tmp_path)
    again = attach_saved(model_for(name, architecture), tmp_path)
    assert again.stored == attached.stored
    with torch.no_grad():
        assert torch.equal(hidden(again), expected)


def test_peft_itself_loads_what_is_peft_s(name, architecture, tmp_path):
    attached = trained(attached_or_skipped(model_for(name, architecture), name))
    attached.save(tmp_path)
    if not (tmp_path / "adapter_config.json").exists():
        assert not all(each.implementation.startswith("peft.") for each in attached.chosen) or len(attached.chosen) > 1
        return
    theirs = peft.PeftModel.from_pretrained(model_for(name, architecture), str(tmp_path)).eval()
    with torch.no_grad():
        output = theirs(**batch()).last_hidden_state[:, attached.prepended :]
        assert torch.allclose(output, hidden(attached), atol=1e-5)


def test_merged_weights_give_equal_output_or_a_clear_refusal(name, architecture):
    model = model_for(name, architecture)
    attached = trained(attached_or_skipped(model, name))
    with torch.no_grad():
        expected = hidden(attached)
    if not all(part.mergeable for part in attached.parts):
        with pytest.raises(CannotMerge, match="cannot be merged"):
            attached.merge()
        with torch.no_grad():
            assert torch.equal(hidden(attached), expected)
        return
    merged = attached.merge()
    assert merged is model
    with torch.no_grad():
        assert torch.allclose(merged(**batch()).last_hidden_state, expected, atol=ROUNDED.get(name, 1e-5))


def test_gradients_are_the_same_with_gradient_checkpointing(name, architecture):
    plain = attached_or_skipped(model_for(name, architecture), name)
    checkpointed = attached_or_skipped(model_for(name, architecture), name)
    checkpointed.modules.load_state_dict(plain.modules.state_dict())
    with torch.no_grad():
        for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
            one.add_(0.05 * torch.randn(one.shape, generator=torch.Generator().manual_seed(3)))
            other.copy_(one)
    model = checkpointed._bare
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for each in (plain, checkpointed):
        for module in each.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        each.model.train()
        torch.manual_seed(0)
        loss_of(each).backward()
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        if one.grad is not None:
            assert torch.allclose(one.grad, other.grad, atol=1e-6)


def test_it_works_under_bf16_autocast(name, architecture):
    attached = attached_or_skipped(model_for(name, architecture), name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(attached)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in attached.parameters() if p.grad is not None)


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_padding_tokens_do_not_change_real_ones(name, architecture, padding_side):
    attached = trained(attached_or_skipped(model_for(name, architecture), name))
    inputs = batch(padding_side=padding_side)
    real = inputs["attention_mask"].bool()

    def states(padding):
        changed = copy.deepcopy(inputs)
        changed["input_ids"][~real] = padding
        with torch.no_grad():
            return hidden(attached, changed)[real]

    with torch.no_grad():
        before = hidden(attached, inputs)[real]
    if name in MIX_THE_TEXTS_OF_A_BATCH:
        assert any(not torch.equal(before, states(padding)) for padding in range(3, 23))
    else:
        assert torch.allclose(before, states(7), atol=1e-5)


def test_two_attachments_under_one_seed_are_equal(name, architecture):
    def parameters():
        torch.manual_seed(11)
        return [p.detach().clone() for p in attached_or_skipped(model_for(name, architecture), name).parameters()]

    assert all(torch.equal(one, other) for one, other in zip(parameters(), parameters(), strict=True))


def test_a_refused_method_leaves_the_model_as_it_was(name, architecture):
    model = model_for(name, architecture)
    before = values(model)
    nowhere = Sites("Nothing", 48, (), {})
    with contextlib.suppress(CannotAttach):
        attach(model, method(name), nowhere).detach()
    assert all(torch.equal(before[key], value) for key, value in values(model).items())
    assert all(p.requires_grad for p in model.parameters())
